# From notebooks/06_pretraining.ipynb: edit there, then run make export.

"""The training loop: from a model and batches of tokens to a trained model, and nothing lost.

Built in notebook 06. A `Trainer` takes a model of `llmlib.model.protocol` and a loader of batches
`(inputs, targets)` and yields a report for each step, so that the caller decides when to look, save
or stop; functions that it calls after each step do the same for callers that run the loop as a
whole. All that it knows stands in its `state_dict`: training stopped at any step and resumed equals
training that never stopped, bit for bit. What is left out: files (see `checkpoint`), the choice of
data, and loss scaling for float16, which bfloat16 makes unnecessary.

Shapes: B rows in a batch, T tokens each; rows padded to T have targets of -100.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from llmlib import checks
from llmlib.model.protocol import recompiled, unwrapped, wrappers
from llmlib.training.config import TrainConfig
from llmlib.training.loss import IGNORED, NextTokenLoss, split_batch
from llmlib.training.optimizers import (
    learning_rate_at,
    load_optimizer_state,
    make_optimizers,
    optimizer_state,
)
from llmlib.training.position import Position, random_states, restore_random_states


@dataclass(frozen=True)
class StepReport:
    """What one step of training did."""

    step: int  # the number of steps taken, this one included
    loss: float  # nats per token, over all batches of the step, before the update
    learning_rate: float
    grad_norm: float  # length of the gradient, before clipping
    n_tokens: int  # targets that counted
    seconds: float
    aux: dict[str, float] = field(default_factory=dict)  # means of the losses that the model adds

    @property
    def tokens_per_second(self) -> float:
        """The targets learned from per second, by all processes together."""
        return self.n_tokens / max(self.seconds, 1e-9)


def sum_over_processes(value: torch.Tensor, parallel: bool) -> torch.Tensor:
    """Return the sum of a value in all processes, or the value if there is only this one."""
    if parallel:
        dist.all_reduce(value)
    return value


def versions(tensors: Iterable[torch.Tensor]) -> list[int]:
    """Return how often each tensor was written so far, as torch counts."""
    return [tensor._version for tensor in tensors]


def accumulate(
    loss: nn.Module,
    batches: Sequence[Sequence[Any]],
    aux_weights: float | dict[str, float] = 0.0,
    aux: dict[str, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add up the gradient of several batches; return their loss and the number of targets.

    loss: a NextTokenLoss, or one inside DistributedDataParallel, which then adds up over all
    processes too. Each target weighs the same, in whichever batch or process it stands: the losses
    are summed, and divided once by the number of all targets. The loss is in nats per token.
    batches: inputs, targets and, if there are any, segments.
    aux_weights: of the losses that the model adds, one for all or one for each name. A batch gives
    the mean of each, and has a weight by its share of the targets. aux: a dict for these means.
    """
    aux = {} if aux is None else aux
    # known before the first gradient, since batches are ids and take no memory
    counts = torch.stack([(batch[1] != IGNORED).sum() for batch in batches])
    parallel = isinstance(loss, DistributedDataParallel)
    n_tokens = sum_over_processes(counts.sum(), parallel)
    # DistributedDataParallel takes the mean over the processes, where we want the sum
    scale = (dist.get_world_size() if parallel else 1) / n_tokens
    quiet = loss.no_sync if isinstance(loss, DistributedDataParallel) else nullcontext
    total = torch.zeros((), device=counts.device)
    for number, (batch, count) in enumerate(zip(batches, counts), start=1):
        # the processes talk once a step, at its end
        with quiet() if number < len(batches) else nullcontext():
            summed, added = loss(*batch)
            # a batch of half of the targets decides half of the mean, as it does for the loss
            sums = {name: count * value / max(n, 1) for name, (value, n) in added.items()}
            weighted = (checks.aux_weight(name, aux_weights) * sums[name] for name in sums)
            (scale * sum(weighted, start=summed)).backward()
        total += summed.detach()
        for name, part in sums.items():
            aux[name] = aux.get(name, 0.0) + part.detach() / n_tokens
    for name in sorted(aux):  # in the same order in all processes
        aux[name] = sum_over_processes(aux[name], parallel)
    return sum_over_processes(total, parallel) / n_tokens, n_tokens


class Trainer:
    """Trains a model, one step at a time, and can be stopped and resumed after any of them.

    model: as in `llmlib.model.protocol`, or any module that maps ids (B, T) to logits (B, T, V). It
    stays on its device, and batches are brought there. It may be compiled, and is then trained so;
    of a model inside DataParallel or DistributedDataParallel the trainer takes what is inside, and
    puts the latter around the loss. `trainer.model` is the bare model, whose names files know.
    wrap: what to put around the loss before training, such as `torch.compile` or
    DistributedDataParallel; in each process, the loader then gives other batches.
    callbacks: functions of the trainer and a report, called after each step.

        for report in Trainer(model, TrainConfig(max_steps=1000)).run(loader):
            print(report.step, report.loss)
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        *,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        callbacks: Sequence[Callable[["Trainer", StepReport], object]] = (),
    ):
        checks.instance("model", model, nn.Module)
        checks.instance("config", config, TrainConfig)
        self.model, self.config, self.callbacks = unwrapped(model), config, callbacks
        self.optimizers = make_optimizers(self.model, config)
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        loss = NextTokenLoss(recompiled(model), config.dtype)
        if any(isinstance(wrapper, DistributedDataParallel) for wrapper in wrappers(model)):
            wrap = wrap or DistributedDataParallel
        self.loss = wrap(loss) if wrap else loss
        self.step, self.position = 0, Position()
        # set while weights are written, and for good if an error meets the optimizers there: the
        # versions of the weights at that time, which tell when others have been loaded
        self.torn: list[int] | None = None  # not torn; else the counts of the weights, once known

    def take_step(self, batches: Iterable[Sequence[torch.Tensor]]) -> StepReport:
        """Learn from some batches, and report what happened.

        Whatever ends a step early, Ctrl-C and a lack of memory included, leaves everything as it
        was before: weights, position, random states. Only if weights or buffers were being
        written is there no way back; then the trainer is torn, and refuses to go on.
        Raises FloatingPointError if the loss or the gradient is not finite, TypeError or ValueError
        for batches that `split_batch` or the loss refuses, and RuntimeError if it is torn.
        """
        checks.not_torn(self.torn, self.step)
        # buffers are what a layer may write in its forward pass, such as running means
        step, moment, buffers = self.step, self.position.moment(), versions(self.model.buffers())
        try:
            return self.learn(batches)
        except BaseException:
            self.drop_gradients()
            if self.step > step:  # the step was taken, and only its report is lost
                raise
            if self.torn is None and versions(self.model.buffers()) == buffers:
                self.position.return_to(moment)
            else:
                self.torn = versions(self.parameters.values())
            raise

    def drop_gradients(self) -> None:
        """Forget the gradients, which take as much memory as the weights."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def learn(self, batches: Iterable[Sequence[torch.Tensor]]) -> StepReport:
        """Do what `take_step` says, without the way back."""
        start = time.perf_counter()
        self.model.train()  # in each step: the caller may have evaluated in between
        self.drop_gradients()  # or left some of another loss
        parameters, rate = list(self.parameters.values()), learning_rate_at(self.step, self.config)
        parts = [split_batch(batch) for batch in batches]
        checks.some_batches(parts)
        device = parameters[0].device
        parts = [[p.to(device) for p in batch if p is not None] for batch in parts]
        aux: dict[str, torch.Tensor] = {}
        loss, n_tokens = accumulate(self.loss, parts, self.config.aux_weights, aux)
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        # the first look at numbers: only here does Python wait for an accelerator
        value, length, count = loss.item(), norm.item(), int(n_tokens)
        means = {name: mean.item() for name, mean in aux.items()}
        checks.step(self.step + 1, value, length, count)
        self.update(rate, norm)
        self.drop_gradients()
        seconds = time.perf_counter() - start
        return StepReport(self.step, value, rate, length, count, seconds, means)

    def update(self, learning_rate: float, grad_norm: torch.Tensor) -> None:
        """Clip the gradient, whose length is grad_norm, and let the optimizers take their step."""
        if self.config.grad_clip is not None:
            clip_grads_with_norm_(self.parameters.values(), self.config.grad_clip, grad_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
        self.torn = []  # from the first weight to the last
        for optimizer in self.optimizers:
            optimizer.step()
        self.step, self.torn = self.step + 1, None  # the step is taken

    def run(self, loader: Iterable) -> Iterator[StepReport]:
        """Train until `max_steps`, giving a report after each step; leave the loop to stop.

        loader: gives batches `(inputs, targets)` or `(inputs, targets, segments)`, each (B, T), and
        can be read again for each epoch: a DataLoader, or a list. Run again with the same loader,
        training continues where it was. Raises as `Position.batches` and `take_step` do.
        """
        checks.finite_weights(self.model)  # also those that the first batches will not read
        batches = self.position.batches(loader)
        was_training = self.model.training  # left as it was, also if the caller leaves the loop
        try:
            while self.step < self.config.max_steps:
                report = self.take_step(islice(batches, self.config.accumulation_steps))
                for callback in self.callbacks:
                    callback(self, report)
                yield report
        finally:
            self.model.train(was_training)

    def state_dict(self) -> dict:
        """Return all that training remembers beside the weights: plain values and named "tensors".

        As with torch's own, the tensors are the living ones: save them before training goes on.
        Raises RuntimeError if the trainer is torn: there is nothing whole to save.
        """
        checks.not_torn(self.torn, self.step)
        parts = {
            "random": random_states(),
            "epoch_start": self.position.epoch_start,
            "optimizer": optimizer_state(self.optimizers, self.parameters),
        }
        tensors = {f"{kind}.{name}": t for kind, part in parts.items() for name, t in part.items()}
        at = {name: getattr(self.position, name) for name in ("epoch", "batch", "n_batches")}
        return {"config": asdict(self.config), "step": self.step, **at, "tensors": tensors}

    def load_state_dict(self, state: dict) -> None:
        """Go back to what `state_dict` returned, torch's own random generators included.

        With the same configuration, training then continues as if it had never stopped; any other
        configuration is followed from here on, but the optimizer has to be the same. A torn trainer
        is whole again; load the model's weights first. Raises ValueError, and changes nothing, if
        this is not a state, does not fit, or if the weights are still those of a torn trainer.
        """
        checks.trainer_state(state, self.config.optimizer)
        checks.weights_loaded(self.torn, versions(self.parameters.values()))
        parts: dict[str, dict] = {"random": {}, "epoch_start": {}, "optimizer": {}}
        for full_name, tensor in state["tensors"].items():
            kind, _, name = full_name.partition(".")
            parts[kind][name] = tensor.clone()  # or training would write into the state
        load_optimizer_state(self.optimizers, self.parameters, parts["optimizer"])
        self.step, self.position.epoch_start = state["step"], parts["epoch_start"]
        for name in ("epoch", "batch", "n_batches"):
            setattr(self.position, name, state[name])
        restore_random_states(parts["random"])
        self.torn = None


def train(
    model: nn.Module, loader: Iterable, config: TrainConfig, **options: Any
) -> list[StepReport]:
    """Train a model from the first step to the last, and return the reports of all steps.

    options: what Trainer takes beside these. Raises as Trainer and its `run` do.
    """
    return list(Trainer(model, config, **options).run(loader))
