"""For the checks of notebook 11: right answers, and what the usual mistakes give.

Written by hand.
"""

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from llmlib.exercises import Case, case, noise
from llmlib.model.modern import Modern, ModernConfig

State = dict[str, Tensor]


def randomize(model: Modern, seed: int) -> Modern:
    """Give a model random weights, biases and norms, as after some training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = parameter.ndim == 1 and name.endswith("weight")  # of a norm
            parameter.normal_(1.0 if scale else 0.0, 0.3, generator=generator)
    return model.eval()


class WithoutMeans:
    """The tests of a model with RMSNorm that has to be what one with LayerNorm was (11.2)."""

    def __init__(self, seed: int, **sizes: int):
        fields = {"norm": "layer", "positions": "learned", "feed_forward": "gelu"}
        biases = dict.fromkeys(("qkv_bias", "o_bias", "mlp_bias"), True)
        self.model = Modern(ModernConfig(20, 8, 8, 2, 2, **fields, **biases, **sizes))
        randomize(self.model, seed)
        with torch.no_grad():
            self.model.ln_f.bias.zero_()
        self.given = self.model  # the copy that the answer gets
        self.ids = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(0))

    def through(self, answer: Callable) -> Callable:
        """Return the function, to be called with a copy of the class that its notebook knows."""
        known = getattr(inspect.unwrap(answer), "__globals__", {}).get("Modern", Modern)

        def called(_: Modern) -> Modern:
            """Call the answer with a copy, whatever is given."""
            config = known.__init__.__globals__["ModernConfig"](**asdict(self.model.config))
            self.given = known(config).eval()
            self.given.load_state_dict(copy.deepcopy(self.model.state_dict()))
            return answer(self.given)

        called.__name__ = getattr(answer, "__name__", "answer")
        return called

    def kept(self, _: Modern) -> bool:
        """Tell whether the old model is as it was."""
        now, before = self.given.state_dict(), self.model.state_dict()
        same = now.keys() == before.keys() and all(torch.equal(now[n], before[n]) for n in before)
        return same and asdict(self.given.config) == asdict(self.model.config)

    def fits(self, result: Modern) -> bool:
        """Tell whether it is a Modern of the configuration that was asked for."""
        wanted = asdict(replace(self.model.config, norm="rms"))
        found = asdict(result.config)
        no_mean = not any(isinstance(m, torch.nn.LayerNorm) for m in result.modules())
        return type(result).__name__ == "Modern" and found == wanted and no_mean

    @torch.no_grad()
    def same_logits(self, result: Modern) -> bool:
        """Tell whether it scores as the old model did."""
        return torch.allclose(result.eval()(self.ids), self.model(self.ids), atol=1e-3)

    @torch.no_grad()
    def partly(self, result: Modern, centred: bool) -> bool:
        """Tell whether its logits are those of an answer that did one half only."""
        half = centre(self.model) if centred else absorb(self.model)
        return torch.allclose(result.eval()(self.ids), half(self.ids), atol=1e-3)

    def case(self) -> Case:
        """Return the case of one call with the model."""
        tests = {
            "the model that was given has changed": self.kept,
            'it is no Modern of replace(model.config, norm="rms")': self.fits,
        }
        return case(
            copy.deepcopy(self.model),
            expected=lambda r: self.kept(r) and self.fits(r) and self.same_logits(r),
            saying="a Modern without means and with the same logits",
            through=self.through,
            mistakes={
                **{words: lambda r, test=test: not test(r) for words, test in tests.items()},
                "the biases of the norms are lost": lambda r: self.partly(r, True),
                "the stream still has a mean": lambda r: self.partly(r, False),
                "its logits are other ones": lambda r: not self.same_logits(r),
            },
        )


def with_rms(model: Modern, state: State) -> Modern:
    """Return a model with RMSNorm and the weights of a state, as far as it has a place for them."""
    config: Any = model.config
    new = Modern(replace(config, norm="rms")).eval()
    new.load_state_dict({name: state[name] for name in new.state_dict()})
    return new


def centred(state: State) -> State:
    """Return the state with everything that is written into the stream centred."""
    state = dict(state)
    for name in state:
        if name.startswith(("wte", "positions.wpe")) or name.endswith("c_proj.bias"):
            state[name] = state[name] - state[name].mean(-1, keepdim=True)
        elif name.endswith("c_proj.weight"):
            state[name] = state[name] - state[name].mean(0, keepdim=True)  # rows are outputs
    return state


def absorbed(state: State) -> State:
    """Return the state with the biases of norms moved into the layers behind them."""
    state = dict(state)
    for norm, layer in (("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")):
        for name in [name for name in state if name.endswith(f"{norm}.bias")]:
            place = name.replace(f"{norm}.bias", layer)
            moved = state[f"{place}.weight"] @ state[name]
            state[f"{place}.bias"] = state[f"{place}.bias"] + moved
    return state


def centre(model: Modern) -> Modern:
    """Centre the stream and lose the biases of the norms: half of 11.2."""
    return with_rms(model, centred(model.state_dict()))


def absorb(model: Modern) -> Modern:
    """Keep the biases of the norms and do not centre: the other half."""
    return with_rms(model, absorbed(model.state_dict()))


def turned(x: Tensor, positions: Tensor, base: float, width: int | None = None) -> Tensor:
    """Turn the pairs (i, i + D/2) of x (T, D); width: the D of the rates, if it is another."""
    D = x.shape[-1]
    angles = positions[:, None] * base ** (-torch.arange(0, D, 2) / (width or D))
    a, b = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def page(x: Tensor, first: Tensor, second: Tensor, base: float, width: int | None = None) -> Tensor:
    """Turn the first half of the numbers by one position, the second half by another (11.3)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([turned(a, first, base, width), turned(b, second, base, width)], dim=-1)


def dots(x: Tensor, one_sided: bool = False, same_sign: bool = False) -> Tensor:
    """Return what SwiGLU layers give that multiply the halves of x (N, 2n), rightly or not."""
    a, b = x.chunk(2, dim=-1)
    other = 0 if one_sided else F.silu(-a) * (b if same_sign else -b)
    return (F.silu(a) * b + other).sum(-1)


def two_heads(seed: int, first_rank: int | None, rank: int, D: int, C: int) -> tuple[Tensor, ...]:
    """Return w_q and w_k (2, D, C), whose key matrices together have a rank (11.4)."""
    shared, mix = noise(rank, C, seed=seed), noise(2, D, rank, seed=seed + 1)
    if first_rank is not None:
        mix[0, :, first_rank:] = 0
    return noise(2, D, C, seed=seed + 2), mix @ shared


def capped(
    logits: Tensor, targets: Tensor, cap: float, sloped: bool = True, total: bool = False
) -> Tensor:
    """Return the gradient of the loss under a cap, or what is missing a factor."""
    bent = cap * torch.tanh(logits / cap)
    gradient = bent.softmax(-1) - F.one_hot(targets, logits.shape[-1])
    if sloped:
        gradient = gradient * (1 - (bent / cap).square())
    return gradient if total else gradient / len(logits)


def seeds(differences: np.ndarray, smallest: float, normal: bool = False, ddof: int = 1) -> int:
    """Return how many seeds an interval needs: by t, or by the normal distribution."""
    deviation = differences.std(ddof=ddof)
    for m in range(2, 1_000_000):
        t = 1.96 if normal else scipy.stats.t.ppf(0.975, m - 1)
        if t * deviation / math.sqrt(m) < smallest:
            return m
    raise ValueError("no number of seeds that anyone could run")


def neighbours(rows: Tensor, D: int) -> Tensor:
    """Reorder the rows of heads from halves to neighbours."""
    return rows.view(-1, 2, D // 2, rows.shape[-1]).transpose(1, 2).reshape(rows.shape)


NAMES = {
    "ln_1": "attention_norm",
    "attn.c_proj": "attention.wo",
    "ln_2": "ffn_norm",
    "mlp.c_proj": "feed_forward.w2",
}


def to_meta(model: Modern, turned_rows: Callable[..., Tensor] = neighbours) -> State:
    """Return the weights of a model as Meta's file has them (11.8)."""
    config: Any = model.config
    state, D = model.state_dict(), config.head_dim
    tops = {"tok_embeddings": "wte", "norm": "ln_f", "output": "lm_head"}
    meta = {f"{theirs}.weight": state[f"{ours}.weight"] for theirs, ours in tops.items()}
    for layer in range(config.n_layers):
        ours, theirs = f"h.{layer}", f"layers.{layer}"
        for name, place in NAMES.items():
            meta[f"{theirs}.{place}.weight"] = state[f"{ours}.{name}.weight"]
        heads = [n * D for n in (config.n_heads, config.n_kv_heads, config.n_kv_heads)]
        q, k, v = state[f"{ours}.attn.c_attn.weight"].split(heads)
        gate, up = state[f"{ours}.mlp.c_fc.weight"].chunk(2)
        both = {"wq": turned_rows(q, D), "wk": turned_rows(k, D), "wv": v}
        meta |= {f"{theirs}.attention.{name}.weight": rows for name, rows in both.items()}
        for name, rows in {"w1": gate, "w3": up}.items():
            meta[f"{theirs}.feed_forward.{name}.weight"] = rows
    rates = config.rope_base ** (-torch.arange(0, D, 2) / D)
    return {name: tensor.clone() for name, tensor in meta.items()} | {"rope.freqs": rates}


def stacked(meta: State, config: Any, **mistakes: bool) -> State:
    """Return the state of a Modern from Meta's file, or one with a mistake in it."""
    D, turn = config.head_dim, halves
    if mistakes.get("unturned"):
        turn = same_rows
    elif mistakes.get("again"):
        turn = neighbours
    state = {}
    for theirs, ours in {"tok_embeddings": "wte", "norm": "ln_f", "output": "lm_head"}.items():
        state[f"{ours}.weight"] = meta[f"{theirs}.weight"]
    for layer in range(config.n_layers):
        ours, theirs = f"h.{layer}", f"layers.{layer}"
        for name, place in NAMES.items():
            state[f"{ours}.{name}.weight"] = meta[f"{theirs}.{place}.weight"]
        q, k, v = (meta[f"{theirs}.attention.w{x}.weight"] for x in "qkv")
        k = k if mistakes.get("queries_only") else turn(k, D)
        v = turn(v, D) if mistakes.get("values_too") else v
        state[f"{ours}.attn.c_attn.weight"] = torch.cat([turn(q, D), k, v])
        gate, up = (meta[f"{theirs}.feed_forward.w{x}.weight"] for x in (1, 3))
        both = [up, gate] if mistakes.get("exchanged") else [gate, up]
        state[f"{ours}.mlp.c_fc.weight"] = torch.cat(both)
    return state


def halves(rows: Tensor, D: int) -> Tensor:
    """Reorder the rows of heads from neighbours to halves."""
    return rows.view(-1, D // 2, 2, rows.shape[-1]).transpose(1, 2).reshape(rows.shape)


def same_rows(rows: Tensor, D: int) -> Tensor:
    """Return the rows as they are."""
    return rows
