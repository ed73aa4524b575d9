"""Make models/nano-llama, the small chat model that ships: `python tools/make_nano_llama.py`.

A Llama of under two million parameters reads new stories, none of them twice, and between them
conversations in which a user asks for a story and gets it (`llmlib.stories.instructions`), one text
per row, in three stages. It is trained by `llmlib.training.trainer` and saved in build/nano-llama
now and then; an interrupted run goes on from there. At the end it is rounded to bfloat16, written
as a folder of transformers, and what was written is read back and marked. `--write` skips the
training, `--mark` the writing too. On one quiet core it takes about an hour.

The same kind of machine gives the same weights; another changes their last digits, so that a second
run gives a sibling. The vocabulary is the same each time.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from llmlib import files, stories
from llmlib.data.batches import create_document_loader
from llmlib.generation.generate import generate
from llmlib.model.modern import Modern, ModernConfig
from llmlib.pretrained.huggingface import save_pretrained
from llmlib.pretrained.models import load_model
from llmlib.stories.instructions import KINDS, constraints_met, conversation, examples
from llmlib.tokenization.base import END_OF_TEXT, Tokenizer
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.chat_template import CHATML, IM_END, IM_START, render
from llmlib.training.checkpoint import load_checkpoint, save_checkpoint
from llmlib.training.config import TrainConfig
from llmlib.training.loss import IGNORED, next_token_loss
from llmlib.training.trainer import StepReport, Trainer

ROOT = Path(__file__).resolve().parents[1]
WORK, PLACE = ROOT / "build" / "nano-llama", ROOT / "models" / "nano-llama"

MODEL = ModernConfig(
    vocab_size=1024,
    context_length=512,
    emb_dim=192,
    n_heads=6,
    n_kv_heads=2,
    n_layers=4,
    hidden_dim=512,
    tie_weights=True,
)
FIRST = TrainConfig(
    max_steps=14_000,  # by which its rate would be zero; it is left before
    learning_rate=4e-3,
    final_fraction=0.0,
    weight_decay=0.01,
    betas=(0.9, 0.99),
    dtype="bfloat16",
    optimizer="muon",
)
INIT_STD = 0.05
SEED = 11
MAX_NEW = 250  # tokens; the longest story has fewer


@dataclass(frozen=True)
class Stage:
    """A part of the training: its settings, after how many steps it is left, and what it reads."""

    name: str
    training: TrainConfig
    n_steps: int
    chats: float  # conversations, as a share of all rows
    batch_size: int
    seed: int


def later(n_steps: int) -> TrainConfig:
    """Return the settings of a later stage: half the rate, which falls to zero."""
    return replace(FIRST, max_steps=n_steps, learning_rate=2e-3)


# First mostly the world, at a high rate, which is left on its way down. Then more to be asked: what
# a request says is copied only by a model that can copy in a story. At last large batches, since
# what keeps a trained model from the floor is the noise of its steps.
STAGES = (
    Stage("stories", FIRST, 8_000, chats=1 / 8, batch_size=8, seed=SEED),
    Stage("chats", later(7_500), 7_500, chats=1 / 3, batch_size=8, seed=SEED + 1),
    Stage("large", later(1_500), 1_500, chats=1 / 2, batch_size=32, seed=SEED + 2),
)


def make_tokenizer(vocab_size: int = MODEL.vocab_size) -> BPETokenizer:
    """Return the vocabulary: 256 bytes, merges learned from both kinds of text, special tokens."""
    rng = random.Random(SEED)
    texts = [story.text for story in stories.tell_many(8_000, seed=1)]
    texts += [render(conversation(rng)) for _ in range(4_000)]
    return BPETokenizer.train(texts, vocab_size, special_tokens=[END_OF_TEXT, IM_START, IM_END])


class StoriesAndChats:
    """Endless batches of new texts of similar length, always the same for a seed.

    A row is `<|endoftext|>`, a story and `<|endoftext|>`; or a conversation in ChatML, whose last
    token to learn is the end of the answer.
    """

    POOL = 64  # batches that are sorted by length at a time

    def __init__(self, tokenizer: BPETokenizer, stage: Stage):
        self.tokenizer, self.stage = tokenizer, stage

    def row(self, rng: random.Random) -> torch.Tensor:
        """Return the ids of a text."""
        if rng.random() < self.stage.chats:
            text = render(conversation(rng)).removesuffix("\n")
        else:
            text = END_OF_TEXT + stories.tell(rng).text + END_OF_TEXT
        return torch.tensor(self.tokenizer.encode(text, allowed_special="all"))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        rng = random.Random(self.stage.seed)
        size = self.stage.batch_size
        while True:
            rows = sorted((self.row(rng) for _ in range(self.POOL * size)), key=len)
            batches = [rows[i : i + size] for i in range(0, len(rows), size)]
            rng.shuffle(batches)
            for batch in batches:
                inputs = pad_sequence([row[:-1] for row in batch], batch_first=True)
                targets = pad_sequence([row[1:] for row in batch], True, padding_value=IGNORED)
                yield inputs, targets


def train(tokenizer: BPETokenizer) -> Modern:
    """Train the model, from where an earlier run was stopped if there was one."""
    torch.manual_seed(SEED)
    model = Modern(MODEL)
    model.init_weights(INIT_STD)
    for stage in STAGES:
        folder = WORK / stage.name
        trainer = Trainer(model, stage.training, callbacks=[partial(report_and_save, folder)])
        if (folder / "checkpoint.json").is_file():
            trainer.load_state_dict(load_checkpoint(folder, model).training)
            print(f"{stage.name}: going on after step {trainer.step:,}")
        reports = trainer.run(StoriesAndChats(tokenizer, stage))
        for _ in islice(reports, stage.n_steps - trainer.step):
            pass
    return model.eval()


def report_and_save(folder: Path, trainer: Trainer, report: StepReport) -> None:
    """Print a line now and then, and save less often: a callback of the trainer."""
    if report.step % 100 == 0:
        seconds = f"{time.process_time():,.0f} CPU-seconds"
        print(f"{folder.name}: step {report.step:,}, loss {report.loss:.3f}, {seconds}", flush=True)
    if report.step % 500 == 0:
        save_checkpoint(folder, trainer.model, trainer.state_dict())


def write(model: Modern, tokenizer: BPETokenizer, place: Path) -> None:
    """Write a folder of transformers: the weights in bfloat16, and a tokenizer that can chat."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # which takes tokenizer.json as it is
        "model_max_length": MODEL.context_length,
        "clean_up_tokenization_spaces": False,
        "bos_token": END_OF_TEXT,
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "chat_template": CHATML,
    }
    ends = [tokenizer.special_tokens[token] for token in (END_OF_TEXT, IM_END)]
    with files.replacing(place) as part:
        part.mkdir()
        save_pretrained(model, part, eos_token_id=ends, dtype="bfloat16")
        tokenizer.save(part / "tokenizer.json")
        files.write_json(part / "tokenizer_config.json", settings, indent=2)
        files.remove(place)  # an older one: a folder cannot be renamed over it


def tell(model: Modern, tokenizer: Tokenizer, prompts: list[str]) -> list[str]:
    """Return what a model writes after each prompt at temperature 1, without special tokens."""
    ends = [tokenizer.special_tokens[end] for end in (END_OF_TEXT, IM_END)]
    generator, texts = torch.Generator().manual_seed(0), []
    for start in range(0, len(prompts), 250):
        ids = [tokenizer.encode(p, allowed_special="all") for p in prompts[start : start + 250]]
        rows = generate(model, ids, MAX_NEW, stop=ends, generator=generator)
        new = [row[len(prompt) :] for row, prompt in zip(rows, ids)]
        texts += [tokenizer.decode([i for i in row if i not in ends]) for row in new]
    return texts


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of 95 % for a share of hits among n (Wilson 1927)."""
    centre, spread = hits + z * z / 2, z * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return (centre - spread) / (n + z * z), (centre + spread) / (n + z * z)


def share(hits: int, n: int) -> str:
    """Return a share of n with its interval, in percent."""
    low, high = wilson(hits, n)
    return f"{hits / n:.1%} ({low:.1%} to {high:.1%})"


def excess(model: Modern, tokenizer: Tokenizer, n: int = 2_000) -> float:
    """Return by what share the loss on new stories is above the floor, -log p of the world."""
    told = stories.tell_many(n, seed=2_000_000)
    ids = [tokenizer.encode(story.text) for story in told]
    loader = create_document_loader(
        ids, tokenizer.special_tokens[END_OF_TEXT], 50, shuffle=False, drop_last=False
    )
    with torch.inference_mode():
        total = sum(float(next_token_loss(model, *batch)) for batch in loader)
    return total / -sum(story.log_prob for story in told) - 1


def mark(folder: Path, n: int = 1_000) -> None:
    """Let a model tell n stories and answer n requests at temperature 1, and print the marks."""
    model, tokenizer = load_model(folder)
    print(f"above the floor: {excess(model, tokenizer):.2%}")
    told = tell(model, tokenizer, [END_OF_TEXT] * n)
    reports = [stories.check(text) for text in told]
    print(told[0])
    for what in ("grammatical", "consistent"):
        print(f"{what}: {share(sum(getattr(report, what) for report in reports), n)} of {n:,}")
    asked = examples(n, seed=3_000_000)
    prompts = [
        render([{"role": "user", "content": e.request}], add_generation_prompt=True) for e in asked
    ]
    answers = tell(model, tokenizer, prompts)
    met = [constraints_met(text, e.constraints) for text, e in zip(answers, asked)]
    reports = [stories.check(text) for text in answers]
    print(asked[0].request, answers[0], sep="\n")
    print(f"answers grammatical: {share(sum(r.grammatical for r in reports), n)}")
    for kind in KINDS:
        asked_for = [m[kind] for m in met if kind in m]
        print(f"{kind}: {share(sum(asked_for), len(asked_for))} of {len(asked_for)}")
    print(f"all that was asked: {share(sum(all(m.values()) for m in met), n)}")
    full = [all(m.values()) for m in met if len(m) == len(KINDS)]
    print(f"all five, where five were asked: {share(sum(full), len(full))} of {len(full)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write what build/nano-llama holds")
    parser.add_argument("--mark", action="store_true", help="mark the files of models/nano-llama")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # so that the weights are the same on each run
    if not arguments.mark:
        tokenizer = make_tokenizer()
        if arguments.write:
            model = Modern(MODEL).eval()
            load_checkpoint(WORK / STAGES[-1].name, model)
        else:
            model = train(tokenizer)
        write(model, tokenizer, PLACE)
    mark(PLACE)


if __name__ == "__main__":
    main()
