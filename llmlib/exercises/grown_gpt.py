"""For the checks of notebook 04: small GPTs, and the tests of one that an answer has grown.

Written by hand. Exercises 04.6 and 04.8 take a GPT and return a larger one with the same logits.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F

from llmlib.exercises import Case, case
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT

PARTS = ("attn", "mlp")


def learners_gpt(answer: Callable, model: GPT) -> GPT:
    """Return a copy of a model, of the class that the answer's notebook calls GPT.

    The notebook defines its own GPT, which refuses the package's configurations.
    """
    gpt = getattr(inspect.unwrap(answer), "__globals__", {}).get("GPT", GPT)
    config = gpt.__init__.__globals__["GPTConfig"](**asdict(model.config))
    made = gpt(config)
    made.load_state_dict(model.state_dict())
    return made.eval()


def some_gpt(seed: int, **switches: bool) -> GPT:
    """Return a small GPT in which biases and norms are as after some training."""
    model = GPT(GPTConfig(20, 8, emb_dim=8, n_heads=2, n_layers=2, **switches))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


class Grown:
    """The tests of a GPT that has been grown, and has to give what the old one gave."""

    def __init__(self, model: GPT, config: GPTConfig):
        self.model, self.config = model, config
        self.given = model  # the copy that the answer gets
        self.ids = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(0))

    def through(self, answer: Callable) -> Callable:
        """Return the function, to be called with a copy of the model."""

        def called(_, *args):
            self.given = learners_gpt(answer, self.model)
            return answer(self.given, *args)

        called.__name__ = getattr(answer, "__name__", "answer")
        return called

    def is_new(self, result: GPT) -> bool:
        """Tell whether it shares no parameter with the old model."""
        old = {parameter.data_ptr() for parameter in self.given.parameters()}
        return not old & {parameter.data_ptr() for parameter in result.parameters()}

    def kept(self, _: GPT) -> bool:
        """Tell whether the old model is as it was."""
        now, before = self.given.state_dict(), self.model.state_dict()
        unchanged = now.keys() == before.keys() and all(
            torch.equal(now[name], before[name]) for name in before
        )
        return unchanged and asdict(self.given.config) == asdict(self.model.config)

    def fits(self, result: GPT) -> bool:
        """Tell whether configuration and parts have the sizes that were asked for."""
        with torch.device("meta"):
            wanted = {name: part.shape for name, part in GPT(self.config).state_dict().items()}
        shapes = {name: part.shape for name, part in result.state_dict().items()}
        is_gpt = type(result).__name__ == "GPT" and asdict(result.config) == asdict(self.config)
        return is_gpt and shapes == wanted

    def same_logits(self, result: GPT) -> bool:
        """Tell whether it scores as the old model did."""
        return torch.allclose(result.eval()(self.ids), self.model(self.ids), atol=1e-4)

    def learns(self, result: GPT) -> bool:
        """Tell whether a gradient reaches the last block."""
        logits = result.eval()(self.ids[:, :-1])
        result.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), self.ids[:, 1:].flatten()).backward()
        ends = [result.get_parameter(f"h.{len(result.h) - 1}.{n}.c_proj.weight") for n in PARTS]
        return any(end.grad is not None and bool(end.grad.any()) for end in ends)

    def case(self, *args: int, saying: str) -> Case:
        """Return the case of one call with the model and `args`."""
        tests = {
            "the model that was given has changed": self.kept,
            "its configuration or its parts do not have these sizes": self.fits,
            "it shares parameters with the old model": self.is_new,
            "its logits are other ones": self.same_logits,
            "no gradient reaches the last block: it can never learn": self.learns,
        }
        return case(
            copy.deepcopy(self.model),
            *args,
            expected=lambda result: all(test(result) for test in tests.values()),
            saying=saying,
            through=self.through,
            mistakes={words: lambda r, test=test: not test(r) for words, test in tests.items()},
        )
