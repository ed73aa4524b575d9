"""What the checks of notebook 13 compare with: the longer cases, and right answers in plain code.

Written by hand.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llmlib.exercises import Case, case, noise
from llmlib.model.layers import SwiGLU
from llmlib.model.modern import Modern, ModernConfig
from llmlib.model.moe import Expert, Routing, mix_experts


def copied(answer: Callable) -> Callable:
    """Return the function, to be called with copies of its tensors and lists."""

    def called(*args):
        return answer(*copy.deepcopy(args))

    called.__name__ = getattr(answer, "__name__", "answer")
    return called


def without_autograd(answer: Callable) -> Callable:
    """Return the function, to be called where autograd records nothing."""

    def called(*args):
        with torch.inference_mode():
            try:
                return answer(*copy.deepcopy(args))
            except RuntimeError as error:
                if "grad" not in str(error):
                    raise
                raise RuntimeError("autograd is switched off: write the formula") from None

    called.__name__ = getattr(answer, "__name__", "router_gradient")
    return called


def balance_of_texts(
    probs: Tensor, chosen: Tensor, real: Tensor, by_tokens: bool = False
) -> Tensor:
    """Return the mean over texts of the balance loss; with by_tokens, long ones weigh more."""
    losses, sizes = [], []
    for p, c, r in zip(probs, chosen, real):
        if r.any():
            f = c[r].flatten().bincount(minlength=p.shape[-1]) / c[r].numel()
            losses.append(p.shape[-1] * (f * p[r].mean(dim=0)).sum())
            sizes.append(float(r.sum()) if by_tokens else 1.0)
    if not losses:
        return torch.tensor(0.0)
    return (torch.stack(losses) * torch.tensor(sizes)).sum() / sum(sizes)


class Cut:
    """The case of a dense layer, to be cut into n experts."""

    def __init__(self, dense: SwiGLU, n: int, x: Tensor):
        self.dense, self.n, self.x = dense, n, x
        self.before = [p.detach().clone() for p in dense.parameters()]
        with torch.no_grad():
            self.expected = dense(x)

    def of_right_sizes(self, experts: Any) -> bool:
        """Tell whether there are n, with all units among them."""
        widths = [expert.c_proj.weight.shape[1] for expert in experts]
        doubled = [expert.c_fc.weight.shape[0] for expert in experts]
        whole = sum(widths) == self.dense.c_proj.weight.shape[1]
        return len(widths) == self.n and whole and doubled == [2 * width for width in widths]

    def even(self, experts: Any) -> bool:
        """Tell whether the widths differ by at most one."""
        widths = [expert.c_proj.weight.shape[1] for expert in experts]
        return max(widths) - min(widths) <= 1

    def adds_up(self, experts: Any) -> bool:
        """Tell whether the outputs add up to that of the layer."""
        with torch.no_grad():
            return torch.allclose(sum(e(self.x) for e in experts), self.expected, atol=1e-4)

    def apart(self, experts: Any) -> bool:
        """Tell whether the experts share no memory with the layer."""
        own = {p.untyped_storage().data_ptr() for p in self.dense.parameters()}
        found = {p.untyped_storage().data_ptr() for e in experts for p in e.parameters()}
        return not own & found

    def untouched(self, experts: Any = None) -> bool:
        """Tell whether the layer is as it was."""
        return all(torch.equal(a, b) for a, b in zip(self.dense.parameters(), self.before))

    def right(self, experts: Any) -> bool:
        """Tell whether all is as asked for."""
        sized = self.of_right_sizes(experts) and self.even(experts)
        return sized and self.adds_up(experts) and self.apart(experts) and self.untouched()

    def case(self) -> Case:
        """Return the case."""
        units = self.dense.c_proj.weight.shape[1]
        return case(
            self.dense,
            self.n,
            expected=self.right,
            saying=f"{self.n} experts of nearly equal width that add up to the layer",
            mistakes={
                f"there should be {self.n} of them, with {units} units together": lambda e: (
                    not self.of_right_sizes(e)
                ),
                "their widths should differ by at most one": lambda e: not self.even(e),
                "they do not add up: c_fc holds all gates, then all ups": lambda e: (
                    not self.adds_up(e)
                ),
                "an expert shares memory with the layer": lambda e: not self.apart(e),
                "the layer has been changed": lambda e: not self.untouched(),
            },
        )


class Upcycled:
    """The case of a dense model, to be turned into a mixture of experts."""

    def __init__(self, n_experts: int, top_k: int, normalize: bool, seed: int):
        self.given = n_experts, top_k, normalize
        sizes = {"n_kv_heads": 1, "hidden_dim": 12, "tie_weights": seed % 2 == 0}
        self.model = Modern(ModernConfig(11, 16, 8, 2, 2, **sizes)).eval()
        self.model.init_weights(0.3, generator=torch.Generator().manual_seed(seed))
        self.before = {n: t.clone() for n, t in self.model.state_dict().items()}
        self.ids = (noise(2, 9, seed=seed).abs() * 5).long() % 11
        with torch.no_grad():
            self.logits = self.model(self.ids)

    def is_sparse(self, grown: Any) -> bool:
        """Tell whether all layers have the experts that were asked for."""
        n_experts, top_k, normalize = self.given
        layers = [block.mlp for block in grown.h]
        return isinstance(grown, Modern) and all(
            (len(mlp.experts), mlp.top_k, mlp.normalize) == (n_experts, top_k, normalize)
            and all(expert.c_proj.weight.shape == (8, 12) for expert in mlp.experts)
            for mlp in layers
        )

    def same_fields(self, grown: Any) -> bool:
        """Tell whether the configuration differs by the feed-forward layer only."""
        old, new = asdict(self.model.config), asdict(grown.config)
        return all(new[name] == value for name, value in old.items() if name != "feed_forward")

    def says_the_same(self, grown: Any) -> bool:
        """Tell whether the logits are equal."""
        with torch.no_grad():
            return torch.allclose(grown.eval()(self.ids), self.logits, rtol=1e-3, atol=1e-3)

    def can_learn(self, grown: Any) -> bool:
        """Tell whether experts can become different: no shared memory, rows that differ."""
        owners = [p.untyped_storage().data_ptr() for p in grown.parameters()]
        owners += [p.untyped_storage().data_ptr() for p in self.model.parameters()]
        rows = [block.mlp.router.weight for block in grown.h]
        differ = all(len(r.unique(dim=0)) == len(r) for r in rows)
        return (
            len(set(owners)) == len(owners)
            and differ
            and all(p.requires_grad for p in grown.parameters())
        )

    def untouched(self, grown: Any = None) -> bool:
        """Tell whether the dense model is as it was."""
        now = self.model.state_dict()
        return all(torch.equal(now[name], tensor) for name, tensor in self.before.items())

    def right(self, grown: Any) -> bool:
        """Tell whether all is as asked for."""
        tests = self.is_sparse, self.same_fields, self.says_the_same, self.can_learn
        return all(test(grown) for test in tests) and self.untouched()

    def case(self) -> Case:
        """Return the case."""
        n_experts, top_k, normalize = self.given
        return case(
            self.model,
            n_experts,
            top_k,
            normalize,
            expected=self.right,
            saying=f"a model with {n_experts} experts, {top_k} a token, and the same logits",
            mistakes={
                "the model has been changed": lambda grown: not self.untouched(),
                "its layers are not such experts, as wide as the dense layer": lambda grown: (
                    not self.is_sparse(grown)
                ),
                "its configuration differs by more than feed_forward": lambda grown: (
                    not self.same_fields(grown)
                ),
                "its logits are others": lambda grown: not self.says_the_same(grown),
                "its experts cannot become different: memory is shared, or rows of a router are "
                "equal": lambda grown: not self.can_learn(grown),
            },
        )


class Products(TorchDispatchMode):
    """Counts matrix products, and the rows that each expert is multiplied with."""

    NAMES = ("mm", "addmm", "bmm", "baddbmm", "mv", "dot", "_grouped_mm")

    def __init__(self) -> None:
        super().__init__()
        self.count, self.most = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        if name in self.NAMES:
            self.count += 1
            if name == "bmm":
                self.most = max(self.most, min(args[0].shape[1], args[1].shape[2]))
        return func(*args, **(kwargs or {}))


class Counted:
    """The case of experts in stacked weights, whose products are counted."""

    def __init__(self, x: Tensor, chosen: Tensor, weights: Tensor, fc: Tensor, proj: Tensor):
        self.args = x, chosen, weights, fc, proj
        self.n_experts = len(fc)
        counts = chosen.flatten().bincount(minlength=len(fc) + 1)[: len(fc)]
        self.busiest = int(counts.max())
        upstream = noise(*x.shape, seed=99)
        self.upstream = upstream
        self.expected = self.outcome(self.plain)

    def plain(self, x: Tensor, chosen: Tensor, weights: Tensor, fc: Tensor, proj: Tensor) -> Tensor:
        """Return what a loop over modules gives."""
        experts = []
        for first, second in zip(fc, proj):
            expert = Expert(x.shape[1], second.shape[1])
            del expert.c_fc.weight, expert.c_proj.weight
            expert.c_fc.weight, expert.c_proj.weight = first, second
            experts.append(expert)
        kept = weights * (chosen < len(fc))
        return mix_experts(x, Routing(x.new_zeros(len(x), len(fc)), chosen, kept), experts)

    def outcome(self, answer: Callable) -> list[Tensor]:
        """Return the output of an answer and the gradients of its inputs."""
        x, chosen, weights, fc, proj = (part.clone() for part in self.args)
        leaves = [part.requires_grad_() for part in (x, weights, fc, proj)]
        out = answer(x, chosen, weights, fc, proj)
        return [out.detach(), *torch.autograd.grad(out, leaves, self.upstream)]

    def through(self, answer: Callable) -> Callable:
        """Return the answer, called with copies, which returns all that is looked at."""

        def called(*args):
            with Products() as products, torch.no_grad():
                answer(*copy.deepcopy(args))
            try:
                return self.outcome(answer), products.count, products.most
            except RuntimeError as error:
                if "grad" not in str(error):
                    raise
                raise RuntimeError(f"no gradient reaches an input ({error})"[:120]) from None

        called.__name__ = getattr(answer, "__name__", "grouped_products")
        return called

    def right_numbers(self, result: Any, parts: slice = slice(None)) -> bool:
        """Tell whether output and gradients are those of the loop."""
        found = zip(result[0][parts], self.expected[parts])
        return all(a.shape == b.shape and torch.allclose(a, b, atol=1e-4) for a, b in found)

    def case(self) -> Case:
        """Return the case."""

        def right(result):
            few = 0 < result[1] <= 3 and result[2] <= self.busiest
            return few and self.right_numbers(result)

        return case(
            *self.args,
            expected=right,
            saying="what mix_experts gives, with its gradients, in at most three products",
            through=self.through,
            mistakes={
                "the output is another": lambda r: not self.right_numbers(r, slice(1)),
                "a gradient is another": lambda r: not self.right_numbers(r),
                "there are more than three products, or none that could be seen": lambda r: (
                    not 0 < r[1] <= 3
                ),
                f"an expert is multiplied with more than {self.busiest} rows": lambda r: (
                    r[2] > self.busiest
                ),
            },
        )
