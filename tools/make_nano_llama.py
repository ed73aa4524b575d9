"""Make models/nano-llama, the small chat model that ships: `python tools/make_nano_llama.py`.

A Llama of under two million parameters reads new stories, none of them twice, and between them
conversations in which a user asks for a story and gets it (`llmlib.stories.instructions`), one text
per row, in six stages. It is trained by `llmlib.training.trainer` and saved in build/nano-llama
now and then; an interrupted run goes on from there. At the end it is rounded to bfloat16, written
as a folder of transformers, and what was written is read back and marked. `--write` skips the
training, `--mark` the writing too. On one quiet core it takes about an hour and a half.

The same kind of machine gives the same weights; another changes their last digits, so that a second
run gives a sibling. The vocabulary is the same each time.
"""

import argparse
import gc
import random
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from nano_llama_marks import mark
from nano_llama_texts import PossibleLoss, StoriesAndChats

from llmlib import files, stories
from llmlib.model.modern import Modern, ModernConfig
from llmlib.pretrained.huggingface import save_pretrained
from llmlib.stories.instructions import conversation
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.chat_template import CHATML, IM_END, IM_START, render
from llmlib.training.checkpoint import load_checkpoint, save_checkpoint
from llmlib.training.config import TrainConfig
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
    aux_weights={},
)
INIT_STD = 0.05
SEED = 11


@dataclass(frozen=True)
class Stage:
    """A part of the training: its settings, after how many steps it is left, and what it reads."""

    name: str
    training: TrainConfig
    n_steps: int
    chats: float  # conversations, as a share of all rows
    batch_size: int
    seed: int
    asks: tuple[str, ...] = ()  # what requests ask for, whatever else they do,
    asking: float = 1.0  # in this share of the chats


def later(n_steps: int, **weights: float) -> TrainConfig:
    """Return the settings of a later stage: half the rate, which falls to zero.

    weights: of the losses of `PossibleLoss`; without, there is cross-entropy alone.
    """
    return replace(FIRST, max_steps=n_steps, learning_rate=2e-3, aux_weights=weights)


# First mostly the world, at a high rate, which is left on its way down. Then more to be asked: what
# a request says is copied only by a model that can copy in a story. Then large batches, for less
# noise. What was left after these: a little for each token that cannot come, which adds up to one
# mistake in 25 stories, and requests whose object and ending were not heard. Both have a loss of
# their own from here on; "asked" is left at a high rate. At last what was still not heard: objects
# that help, such as bread, for which someone has to be hungry first.
STAGES = (
    Stage("stories", FIRST, 8_000, chats=1 / 8, batch_size=8, seed=SEED),
    Stage("chats", later(7_500), 7_500, chats=1 / 3, batch_size=8, seed=SEED + 1),
    Stage("large", later(1_500), 1_500, chats=1 / 2, batch_size=32, seed=SEED + 2),
    Stage(
        "asked",
        later(2_400, impossible=5, unasked=2),
        600,
        chats=7 / 8,
        batch_size=32,
        seed=SEED + 3,
        asks=("object", "ending"),
    ),
    Stage(
        "possible",
        later(1_600, impossible=10, unasked=2),
        1_600,
        chats=2 / 3,
        batch_size=32,
        seed=SEED + 4,
        asks=("object", "ending"),
        asking=1 / 2,
    ),
    Stage(
        "needs",
        replace(later(300, impossible=10, unasked=2), learning_rate=1e-3, warmup_steps=30),
        300,
        chats=2 / 3,
        batch_size=32,
        seed=SEED + 5,
        asks=("object",),
    ),
)


def make_tokenizer(vocab_size: int = MODEL.vocab_size) -> BPETokenizer:
    """Return the vocabulary: 256 bytes, merges learned from both kinds of text, special tokens."""
    rng = random.Random(SEED)
    texts = [story.text for story in stories.tell_many(8_000, seed=1)]
    texts += [render(conversation(rng)) for _ in range(4_000)]
    return BPETokenizer.train(texts, vocab_size, special_tokens=[END_OF_TEXT, IM_START, IM_END])


def train(tokenizer: BPETokenizer) -> Modern:
    """Train the model, from where an earlier run was stopped if there was one."""
    torch.manual_seed(SEED)
    model = Modern(MODEL)
    model.init_weights(INIT_STD)
    begun = [n for n, s in enumerate(STAGES) if (WORK / s.name / "checkpoint.json").is_file()]
    gc.freeze()  # nothing of what is here now is looked through again for what could be freed
    for stage in STAGES[max(begun, default=0) :]:
        folder = WORK / stage.name
        texts = StoriesAndChats(
            tokenizer, stage.chats, stage.batch_size, stage.seed, stage.asks, stage.asking
        )
        trainer = Trainer(
            model,
            stage.training,
            wrap=partial(PossibleLoss, texts=texts) if stage.training.aux_weights else None,
            callbacks=[partial(report_and_save, folder)],
        )
        if (folder / "checkpoint.json").is_file():
            trainer.load_state_dict(load_checkpoint(folder, model).training)
            print(f"{stage.name}: going on after step {trainer.step:,}")
        reports = trainer.run(texts)
        for _ in islice(reports, stage.n_steps - trainer.step):
            pass
    return model.eval()


def report_and_save(folder: Path, trainer: Trainer, report: StepReport) -> None:
    """Print a line and save now and then: a callback of the trainer."""
    if report.step % 100 == 0:
        seconds = f"{time.process_time():,.0f} CPU-seconds"
        losses = {"loss": report.loss, **report.aux}
        values = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        print(f"{folder.name}: step {report.step:,}, {values}, {seconds}", flush=True)
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
