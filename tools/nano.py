"""Make gpt2/nano, the small GPT-2 that ships: `python tools/nano.py`, half an hour on one core.

A GPT of half a million parameters reads new stories, none of them twice, as GPT-2 read the web: one
long stream of tokens, `<|endoftext|>` between the stories, cut into windows of its context length.
It is trained by `llmlib.training.trainer` and saved in build/nano now and then; an
interrupted run goes on from there. At the end `llmlib.pretrained.gpt2` writes it in OpenAI's
seven-file layout, and it tells stories that are checked. `--write` skips the training, `--mark` the
writing too.

Threads and machine change the last digits of the weights, so that a second run gives a sibling and
not the same model; its vocabulary is the same each time.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tiktoken
import torch

from llmlib import stories
from llmlib.generation.generate import generate
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.pretrained.gpt2 import load_pretrained, save_openai
from llmlib.tokenization.base import END_OF_TEXT
from llmlib.tokenization.bpe import BPETokenizer
from llmlib.tokenization.folders import load_tokenizer
from llmlib.tokenization.splitting import PATTERNS
from llmlib.tokenization.tiktoken_bpe import TiktokenTokenizer
from llmlib.training.checkpoint import load_checkpoint, save_checkpoint
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import StepReport, Trainer

ROOT = Path(__file__).resolve().parents[1]
WORK, PLACE = ROOT / "build" / "nano", ROOT / "gpt2" / "nano"

MODEL = GPTConfig(512, 256, emb_dim=96, n_heads=4, n_layers=4)
TRAINING = TrainConfig(
    max_steps=10_000,
    learning_rate=4e-3,
    final_fraction=0.0,
    weight_decay=0.01,
    betas=(0.9, 0.99),
    dtype="bfloat16",
    optimizer="muon",
)
INIT_STD = 0.05
BATCH_SIZE = 8
SEED = 7


def make_encoding() -> tiktoken.Encoding:
    """Return the vocabulary: 256 bytes, merges learned from stories, and `<|endoftext|>` last."""
    texts = [story.text for story in stories.tell_many(5_000, seed=1)]
    bpe = BPETokenizer.train(texts, MODEL.vocab_size, special_tokens=[END_OF_TEXT])
    ranks = {token: i for i, token in bpe.tokens.items() if i not in bpe.special_tokens.values()}
    return tiktoken.Encoding(
        "nano", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens=bpe.special_tokens
    )


class StoryWindows:
    """Endless batches of windows from a stream of new stories, always the same for a seed.

    Half of the windows begin with the `<|endoftext|>` before a story, as generated texts do; the
    others anywhere, so that no position of the context is bound to a place in a story.
    """

    POOL = 4_000  # stories told at a time

    def __init__(self, encoding: tiktoken.Encoding, seed: int):
        self.encoding, self.seed = encoding, seed

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        rng = random.Random(self.seed)
        length = MODEL.context_length + 1
        while True:
            told = stories.tell_many(self.POOL, seed=rng.getrandbits(64))
            texts = self.encoding.encode_ordinary_batch([s.text for s in told], num_threads=1)
            stream = np.concatenate([[self.encoding.eot_token, *ids] for ids in texts])
            beginnings = np.flatnonzero(stream == self.encoding.eot_token)
            last = len(stream) - length
            beginnings = beginnings[beginnings <= last].tolist()
            # as many windows as hold the whole stream once
            for _ in range(len(stream) // length // BATCH_SIZE):
                half = BATCH_SIZE // 2
                starts = rng.sample(beginnings, half) + [rng.randint(0, last) for _ in range(half)]
                rows = torch.from_numpy(np.stack([stream[s : s + length] for s in starts]))
                yield rows[:, :-1], rows[:, 1:]


def train(encoding: tiktoken.Encoding) -> GPT:
    """Train the model, from where an earlier run was stopped if there was one."""
    torch.manual_seed(SEED)
    model = GPT(MODEL)
    model.init_weights(INIT_STD)
    trainer = Trainer(model, TRAINING, callbacks=[report_and_save])
    if (WORK / "checkpoint.json").is_file():
        trainer.load_state_dict(load_checkpoint(WORK, model).training)
        print(f"going on after step {trainer.step:,}")
    for _ in trainer.run(StoryWindows(encoding, SEED)):
        pass
    return model.eval()


def report_and_save(trainer: Trainer, report: StepReport) -> None:
    """Print a line now and then, and save less often: a callback of the trainer."""
    if report.step % 100 == 0:
        speed = f"{report.tokens_per_second:,.0f} tokens/s"
        print(f"step {report.step:,}, loss {report.loss:.3f}, {speed}", flush=True)
    if report.step % 500 == 0:
        save_checkpoint(WORK, trainer.model, trainer.state_dict())


def mark(model: GPT, encoding: TiktokenTokenizer, n: int = 500) -> str:
    """Let a model tell n stories at temperature 1, and return how many are good ones."""
    end, generator = encoding.eot_token, torch.Generator().manual_seed(0)
    rows = generate(model, [[end]] * n, MODEL.context_length - 1, stop=end, generator=generator)
    texts = [encoding.decode([token for token in row if token != end]) for row in rows]
    reports = [stories.check(text) for text in texts]
    grammatical = sum(report.grammatical for report in reports) / n
    consistent = sum(report.consistent for report in reports) / n
    return (
        f"{texts[0]}\n\n"
        f"of {n} stories {grammatical:.1%} are grammatical and {consistent:.1%} consistent"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write what build/nano holds")
    parser.add_argument("--mark", action="store_true", help="mark the files of gpt2/nano")
    arguments = parser.parse_args()
    if not arguments.mark:
        encoding = make_encoding()
        if arguments.write:
            model = GPT(MODEL).eval()
            load_checkpoint(WORK, model)
        else:
            model = train(encoding)
        save_openai(model, PLACE, TiktokenTokenizer(encoding))
    print(mark(load_pretrained(PLACE), load_tokenizer(PLACE)))


if __name__ == "__main__":
    main()
