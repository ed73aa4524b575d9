# From notebooks/06_pretraining.ipynb: edit there, then run make export.

"""The training loop: from a model and batches of tokens to a trained model, and nothing lost.

Built in notebook 06. A `Trainer` takes a model and a loader of batches `(inputs, targets)` and
gives a report for each step, so that whoever loops over it decides when to look, save or stop. All
that it knows stands in its `state_dict`: training stopped at any step and taken up again equals
training that never stopped, bit for bit. What is left out: files (see `checkpoint`), the choice of
data, and loss scaling for float16, which bfloat16 makes unnecessary.

Shapes: B rows in a batch, T tokens each; rows filled up to T have targets of -100.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.overrides import TorchFunctionMode

from llmlib.training.config import TrainConfig
from llmlib.training.loss import chunked_cross_entropy, cross_entropy
from llmlib.training.optimizers import (
    learning_rate_at,
    make_optimizers,
    optimizer_state,
    set_optimizer_state,
)


class AttentionOnCPU(TorchFunctionMode):
    """Inside this context, attention under autocast is computed in the way that suits a CPU.

    PyTorch's fused kernel gains nothing from bfloat16 there. For texts of up to 512 tokens the two
    products and the softmax one by one are about twice as fast, since each product by itself does
    gain; longer ones, whose T² weights would not fit a cache, go to the fused kernel in float32.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        (*rest, T, head_dim), plain = args[0].shape, {"dropout_p": 0.0, "is_causal": True}
        with torch.autocast("cpu", enabled=False):
            if T > 512 or kwargs != plain:
                return func(*(tensor.float() for tensor in args), **kwargs)
            q, k, v = (tensor.bfloat16().reshape(-1, T, head_dim) for tensor in args)
            future = torch.full((T, T), -math.inf, dtype=q.dtype, device=q.device).triu(1)
            scores = torch.baddbmm(future, q, k.mT, alpha=1 / math.sqrt(head_dim))
            return (scores.softmax(dim=-1) @ v).view(*rest, T, head_dim)


class NextTokenLoss(nn.Module):
    """The loss of a model, summed over the targets of a batch: what the loop differentiates.

    A module of its own, so that `torch.compile` or DistributedDataParallel can be put around it.
    With dtype "bfloat16" the matrix products run under autocast; weights, their gradients and all
    sums stay in float32. A model with `features` and `head_weight` never holds all its logits.
    """

    def __init__(self, model: nn.Module, dtype: str = "float32"):
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Map inputs (B, T) and targets (B, T) to the sum of -log p over targets not -100."""
        with ExitStack() as contexts:
            if self.dtype == "bfloat16":
                contexts.enter_context(torch.autocast(inputs.device.type, torch.bfloat16))
                if inputs.device.type == "cpu":
                    contexts.enter_context(AttentionOnCPU())
            if not hasattr(self.model, "features"):
                return cross_entropy(self.model(inputs).float(), targets, reduction="sum")
            features, weight = self.model.features(inputs), self.model.head_weight
            return chunked_cross_entropy(features, weight, targets, reduction="sum")


def accumulate(loss: nn.Module, batches: Sequence) -> tuple[torch.Tensor, torch.Tensor]:
    """Add up the gradient of several batches; return their loss and the number of targets.

    loss: a NextTokenLoss, or one inside DistributedDataParallel, which then adds up over all
    processes too. Each target weighs the same, in whichever batch or process it stands: the losses
    are summed, and divided once by the number of all targets. The loss is in nats a token.
    """
    n_tokens = torch.stack([(targets != -100).sum() for _, targets in batches]).sum()
    parallel = isinstance(loss, DistributedDataParallel)
    if parallel:
        dist.all_reduce(n_tokens)
    # DistributedDataParallel takes the mean over the processes, where we want the sum
    scale = (dist.get_world_size() if parallel else 1) / n_tokens
    total = torch.zeros((), device=n_tokens.device)
    for number, (inputs, targets) in enumerate(batches, start=1):
        wait = parallel and number < len(batches)  # the processes talk once a step, at its end
        with loss.no_sync() if wait else nullcontext():
            summed = loss(inputs, targets)
            (summed * scale).backward()
        total += summed.detach()
    if parallel:
        dist.all_reduce(total)
    return total / n_tokens, n_tokens


@dataclass(frozen=True)
class StepReport:
    """What one step of training did."""

    step: int  # the number of steps taken, this one included
    loss: float  # nats a token, over all batches of the step, before the update
    learning_rate: float
    grad_norm: float  # length of the gradient, before clipping
    n_tokens: int  # targets that counted
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Targets learned from in a second, of all processes together."""
        return self.n_tokens / max(self.seconds, 1e-9)


def generators_of(loader: Iterable | None) -> list[torch.Generator]:
    """The random generators that a loader draws its order from, found where torch keeps them."""
    found, places = [], [loader]
    for place in places:
        inner = (getattr(place, name, None) for name in ("sampler", "batch_sampler"))
        places += [part for part in inner if part is not None]
        generator = getattr(place, "generator", None)
        if isinstance(generator, torch.Generator) and all(generator is not g for g in found):
            found.append(generator)
    return found


def random_states(loader: Iterable | None = None) -> dict[str, torch.Tensor]:
    """The states of torch's own generators and of a loader's, as tensors of bytes."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda.{n}": state for n, state in enumerate(torch.cuda.get_rng_state_all())}
    return states | {f"loader.{n}": g.get_state() for n, g in enumerate(generators_of(loader))}


def set_random_states(states: dict[str, torch.Tensor], loader: Iterable | None = None) -> None:
    """Put generators back to what `random_states` returned."""
    generators = generators_of(loader)
    for name, state in states.items():
        kind, _, number = name.partition(".")
        if kind == "cpu":
            torch.set_rng_state(state)
        elif kind == "cuda" and int(number) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(number))
        elif kind == "loader" and int(number) < len(generators):
            generators[int(number)].set_state(state)


def checked(batch: object) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch, if it is one: TypeError or ValueError for what is no (inputs, targets)."""
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    if not pair or not all(isinstance(part, torch.Tensor) for part in batch):
        raise TypeError("a loader must give pairs (inputs, targets) of tensors, each (B, T)")
    if not (batch[1] != -100).any():
        raise ValueError("a batch has no targets: all of them are -100")
    return batch[0], batch[1]


class Place:
    """Where training stands in a loader: which epoch, and how many of its batches it has read."""

    def __init__(self):
        self.epoch = self.batch = 0
        self.n_batches: int | None = None  # of an epoch, where the loader knows it
        self.start: dict[str, torch.Tensor] = {}  # random states when the epoch began

    def batches(self, loader: Iterable) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches from here on, epoch after epoch, without an end.

        In the middle of an epoch, its order is drawn once more from the states in which it began,
        and what was read is passed over. Raises TypeError for a loader that can be read only once,
        and ValueError for one that is empty or has another number of batches than before.
        """
        if isinstance(loader, Iterator):
            raise TypeError(
                f"a {type(loader).__name__} can be read only once: give a DataLoader or a list, "
                "which can be read again from its beginning"
            )
        n_batches = len(loader) if hasattr(loader, "__len__") else None
        if self.batch and n_batches != self.n_batches:
            raise ValueError(
                f"training stands in an epoch of {self.n_batches} batches, but this loader has "
                f"{n_batches}: resume with the same data, batch size and number of processes"
            )
        self.n_batches = n_batches
        rest = self.same_epoch(loader) if self.batch else self.new_epoch(loader)
        while True:
            for batch in rest:
                self.batch += 1
                yield checked(batch)
            if self.batch == 0:
                raise ValueError("the loader gives no batches: there is nothing to train on")
            self.epoch, self.batch = self.epoch + 1, 0
            rest = self.new_epoch(loader)

    def new_epoch(self, loader: Iterable) -> Iterator:
        """Begin to read a loader, and note the random states in which it happens."""
        self.start = random_states(loader)
        return iter(loader)

    def same_epoch(self, loader: Iterable) -> Iterator:
        """Read a loader as in the epoch that was interrupted, up to where it was."""
        now = random_states()
        set_random_states(self.start, loader)
        batches = iter(loader)
        deque(islice(batches, self.batch), maxlen=0)
        set_random_states(now)
        return batches


def take_step(
    loss: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    batches: Sequence,
    learning_rate: float,
    grad_clip: float | None = None,
) -> tuple[float, float, int]:
    """Learn from some batches; return their loss, the length of the gradient, and the targets.

    loss: as `accumulate` takes it. The length is that before clipping. Raises FloatingPointError,
    with all weights as they were, where the loss or the gradient is no finite number.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    parameters = [parameter for group in groups for parameter in group["params"]]
    device = parameters[0].device
    batches = [tuple(part.to(device) for part in batch) for batch in batches]
    value, n_tokens = accumulate(loss, batches)
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    finite = bool(value.isfinite() and norm.isfinite())
    if finite and grad_clip is not None:
        clip_grads_with_norm_(parameters, grad_clip, norm)
    for group in groups:
        group["lr"] = learning_rate
    for optimizer in optimizers:
        if finite:
            optimizer.step()
        optimizer.zero_grad()
    if not finite:
        raise FloatingPointError(
            f"the loss is {value.item()}, the gradient's length {norm.item()}: lower the learning "
            "rate, warm up longer, or set grad_clip"
        )
    return value.item(), norm.item(), n_tokens.item()


def parts_of(state: dict) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of a Trainer's state, copied, by what they are; ValueError if it is none."""
    parts = {"random": {}, "epoch_start": {}, "optimizer": {}}
    try:
        for name, tensor in state["tensors"].items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = tensor.clone()
        plain = [state[name] for name in ("step", "epoch", "batch", "n_batches")]
        whole = all(type(value) is int for value in plain[:3]) and "optimizer" in state["config"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not the state of a Trainer: {error!r}") from None
    if not whole:
        raise ValueError(f"this is not the state of a Trainer: it stands at {plain}")
    if state["step"] and not parts["optimizer"]:
        raise ValueError(f"the state of step {state['step']} holds no values of an optimizer")
    return parts


class Trainer:
    """Trains a model, one step at a time, and can be stopped and resumed after any of them.

    model: maps ids (B, T) to logits (B, T, V); with `features` and `head_weight`, as a GPT has
    them, the loss needs less memory. It stays on its device, and batches are brought there.
    wrap: what to put around the loss before training, such as `torch.compile` or
    DistributedDataParallel; in each process, the loader then gives batches of its own.

        for report in Trainer(model, TrainConfig(max_steps=1000)).run(loader):
            print(report.step, report.loss)
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        *,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
    ):
        for name, value, kind in (("model", model, nn.Module), ("config", config, TrainConfig)):
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
        self.model, self.config = model, config
        self.optimizers = make_optimizers(model, config)
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        loss = NextTokenLoss(model, config.dtype)
        self.loss = wrap(loss) if wrap else loss
        self.step, self.place = 0, Place()

    def run(self, loader: Iterable) -> Iterator[StepReport]:
        """Train until `max_steps`, giving a report after each step; leave the loop to stop.

        loader: gives `(inputs, targets)`, each (B, T), and can be read again and again, once for
        each epoch: a DataLoader, or a list. Run again with the same loader, training goes on
        where it was. Raises as `Place.batches` does, and FloatingPointError as `take_step` does.
        """
        batches = self.place.batches(loader)
        was_training = self.model.training
        try:
            while self.step < self.config.max_steps:
                start = time.perf_counter()
                self.model.train()
                rate = learning_rate_at(self.step, self.config)
                several = list(islice(batches, self.config.accumulation_steps))
                done = take_step(self.loss, self.optimizers, several, rate, self.config.grad_clip)
                self.step += 1
                loss, norm, n_tokens = done
                seconds = time.perf_counter() - start
                yield StepReport(self.step, loss, rate, norm, n_tokens, seconds)
        except FloatingPointError as error:
            raise FloatingPointError(f"step {self.step + 1}: {error}") from None
        finally:
            self.model.train(was_training)

    def state_dict(self) -> dict:
        """All that training has to remember beside the weights: plain values and named "tensors".

        As with torch's own, the tensors are the living ones: save them before training goes on.
        """
        parts = {
            "random": random_states(),
            "epoch_start": self.place.start,
            "optimizer": optimizer_state(self.optimizers, self.parameters),
        }
        tensors = {f"{kind}.{name}": t for kind, part in parts.items() for name, t in part.items()}
        place = {name: getattr(self.place, name) for name in ("epoch", "batch", "n_batches")}
        return {"config": asdict(self.config), "step": self.step, **place, "tensors": tensors}

    def load_state_dict(self, state: dict) -> None:
        """Go back to what `state_dict` returned, torch's own random generators included.

        With the same configuration, training then goes on as if it had never stopped; any other
        is taken as a wish, except for another optimizer. Raises ValueError, and changes nothing,
        where the state is none or does not fit.
        """
        parts = parts_of(state)
        if state["config"]["optimizer"] != self.config.optimizer:
            raise ValueError(
                f"the state was saved with optimizer={state['config']['optimizer']!r}, this "
                f"trainer has {self.config.optimizer!r}: make it with the same one"
            )
        set_optimizer_state(self.optimizers, self.parameters, parts["optimizer"])
        self.step, self.place.start = state["step"], parts["epoch_start"]
        for name in ("epoch", "batch", "n_batches"):
            setattr(self.place, name, state[name])
        set_random_states(parts["random"])


def train(model: nn.Module, loader: Iterable, config: TrainConfig) -> list[StepReport]:
    """Train a model from the first step to the last, and return the reports of all steps.

    Raises as Trainer and its `run` do.
    """
    return list(Trainer(model, config).run(loader))
