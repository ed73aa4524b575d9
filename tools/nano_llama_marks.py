"""How good models/nano-llama is: what is printed when `tools/make_nano_llama.py` has written it.

The stories that it tells are marked by the world, and so are its answers. Beside that, its
probabilities are looked at: `leaks` says how much goes to tokens that cannot come, which predicts
the share of stories without a mistake more exactly than a thousand stories do.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from llmlib import stories
from llmlib.generation.generate import generate
from llmlib.model.modern import Modern
from llmlib.pretrained.models import load_model
from llmlib.stories.instructions import KINDS, constraints_met, examples
from llmlib.stories.tokens import NextTokens
from llmlib.stories.world import Reading, World
from llmlib.tokenization.base import END_OF_TEXT, Tokenizer
from llmlib.tokenization.chat_template import IM_END, render

MAX_NEW = 250  # tokens; the longest story has fewer


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


class LooseWorld(World):
    """The same world, in which a word may contradict what was said: what "grammatical" means."""

    def steps(
        self, reading: Reading, loose: bool = True, only: str | None = None
    ) -> Iterator[tuple[str, Reading]]:
        """Yield each way to say one more token that the grammar allows."""
        return super().steps(reading, True, only)


@dataclass
class Leak:
    """How a model does on new stories when its logits are multiplied by a scale."""

    scale: float
    excess: float = 0.0  # of the loss over the floor, -log p of the world, as a share of it
    grammatical: float = 0.0  # the share of stories in which no impossible token would be drawn,
    consistent: float = 0.0  # as far as the grammar says, and as far as the world says


@torch.inference_mode()
def leaks(
    model: Modern,
    tokenizer: Tokenizer,
    scales: Iterable[float] = (1.0,),
    n: int = 300,
    seed: int = 2_000_000,
) -> list[Leak]:
    """Return what a model gives to impossible tokens, along n new stories.

    At each place a token is drawn; the chance that all of them are possible is a product.
    """
    found = [Leak(scale) for scale in scales]
    told, end = stories.tell_many(n, seed), tokenizer.special_tokens[END_OF_TEXT]
    worlds = [NextTokens(world, tokenizer, 200) for world in (LooseWorld(), stories.DEFAULT)]
    floor = -sum(story.log_prob for story in told)
    for story in told:
        ids = [*tokenizer.encode(story.text), end]
        possible = [list(world.possible(ids)) for world in worlds]
        logits = model(torch.tensor([[end, *ids[:-1]]]))[0].double()
        for leak in found:
            p = F.softmax(leak.scale * logits, dim=-1)  # (T, V)
            nats = -p[torch.arange(len(ids)), ids].log().sum()
            masses = [[row[[*some]].sum() for row, some in zip(p, each)] for each in possible]
            grammatical, consistent = (float(torch.stack(mass).prod()) for mass in masses)
            leak.excess += float(nats) / floor
            leak.grammatical += grammatical / n
            leak.consistent += consistent / n
    for leak in found:
        leak.excess -= 1
    return found


def mark(folder: Path, n: int = 1_000) -> None:
    """Let a model tell n stories and answer n requests at temperature 1, and print the marks."""
    model, tokenizer = load_model(folder)
    for leak in leaks(model, tokenizer, (1.0, 1.02, 1.05, 1.1, 1.15)):
        print(
            f"logits × {leak.scale}: {leak.excess:.2%} above the floor, "
            f"expected grammatical {leak.grammatical:.1%}, consistent {leak.consistent:.1%}"
        )
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
