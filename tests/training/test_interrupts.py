"""Ctrl-C, or no memory left, at any line of a step or a save: nothing is lost, nothing differs.

LLMLIB_TEST_INTERRUPTS=1 tries all lines that run, for some minutes, and not a sample of them.
"""

import copy
from functools import partial

import pytest
import torch
from interrupter import Interrupter, choose
from torch import nn

from llmlib.data.batches import create_dataloader, create_document_loader
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.training.checkpoint import load_checkpoint, save_checkpoint
from llmlib.training.config import TrainConfig
from llmlib.training.position import random_states
from llmlib.training.trainer import Trainer

DOCUMENTS = [[1 + (3 * i + j) % 18 for j in range(2 + i % 5)] for i in range(14)]
CONFIG = TrainConfig(4, 1e-2, warmup_steps=1, accumulation_steps=2, optimizer="muon")


def make_model(seed=0):
    torch.manual_seed(seed)
    return GPT(GPTConfig(20, 8, emb_dim=8, n_heads=2, n_layers=1, drop_rate=0.2))


def documents():
    """Three batches, two a step, so that epochs end inside steps; with a generator of their own."""
    return create_document_loader(DOCUMENTS, 0, 4, generator=torch.Generator().manual_seed(0))


def windows():
    """Drawn from torch's own generator, as is dropout."""
    return create_dataloader(range(20), 4, batch_size=2)


def state(trainer):
    """All that the next step depends on."""
    return {**trainer.state_dict()["tensors"], **trainer.model.state_dict(), **random_states()}


def assert_equal(found, expected, where):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), f"{name} differs after an interrupt at {where}"


def train_and_save(trainer, loader, folder):
    for report in trainer.run(loader):
        save_checkpoint(folder, trainer.model, trainer.state_dict(), {"step": report.step})


def resume(folder, make_loader):
    """Go on from what is on the disk, in a process that knows nothing; the state at the end."""
    model = make_model(seed=5)
    trainer = Trainer(model, CONFIG)
    checkpoint = load_checkpoint(folder, model)
    trainer.load_state_dict(checkpoint.training)
    list(trainer.run(make_loader()))
    save_checkpoint(folder, model, trainer.state_dict())  # which clears up behind the interrupt
    return state(trainer)


def begin(folder):
    trainer = Trainer(make_model(), CONFIG)
    save_checkpoint(folder, trainer.model, trainer.state_dict(), {"step": 0})
    return trainer


@pytest.fixture(scope="module", params=[documents, windows])
def whole(request, tmp_path_factory):
    """A loader, the end of a run that was never interrupted, and the lines that ran."""
    folder, loader = tmp_path_factory.mktemp("whole"), request.param()
    trainer = begin(folder)
    with Interrupter() as interrupter:
        train_and_save(trainer, loader, folder)
    return request.param, copy.deepcopy(state(trainer)), interrupter.lines


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_any_line_of_a_step_or_a_save_may_be_interrupted(whole, tmp_path, error):
    make_loader, expected, lines = whole
    assert len({place[:2] for place in lines}) > 250
    for number, where in enumerate(choose(lines, 8)):
        folder, loader = tmp_path / str(number), make_loader()
        trainer = begin(folder)
        with pytest.raises(error), Interrupter(where, error):
            train_and_save(trainer, loader, folder)
        assert all(p.grad is None for p in trainer.model.parameters()), where
        if trainer.torn is None:
            train_and_save(trainer, loader, tmp_path / "memory")
            assert_equal(state(trainer), expected, where)
        else:
            assert where[0].endswith("trainer.py"), f"torn by {where}"
            for refused in (trainer.state_dict, partial(next, trainer.run(loader))):
                with pytest.raises(RuntimeError, match="--resume"):
                    refused()
        assert_equal(resume(folder, make_loader), expected, where)
        assert not list(folder.glob("*.part")), where


def half_a_step(optimizer):
    """What an interrupt inside a step leaves: some of the weights are written."""
    for parameter in [p for group in optimizer.param_groups for p in group["params"]][::2]:
        parameter.data.add_(0.01)
    raise KeyboardInterrupt


@pytest.mark.parametrize("which", [0, 1])
def test_a_trainer_with_half_its_weights_written_says_so_until_others_are_loaded(tmp_path, which):
    trainer, loader = begin(tmp_path), documents()
    next(trainer.run(loader))
    save_checkpoint(tmp_path, trainer.model, trainer.state_dict())
    optimizer = trainer.optimizers[which]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(optimizer, "step", lambda: half_a_step(optimizer))
        next(trainer.run(loader))
    for refused in (
        trainer.state_dict,
        lambda: next(trainer.run(loader)),
        lambda: trainer.take_step([next(iter(loader))]),
        lambda: save_checkpoint(tmp_path, trainer.model, trainer.state_dict()),
    ):
        with pytest.raises(RuntimeError, match=r"step 2 was interrupted .* llmlib train --resume"):
            refused()
    saved = load_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="the weights are still torn"):
        trainer.load_state_dict(saved.training)
    saved.load_into(trainer.model)
    trainer.load_state_dict(saved.training)
    list(trainer.run(documents()))
    expected = begin(tmp_path / "other")
    list(expected.run(documents()))
    assert_equal(state(trainer), state(expected), "the optimizer")


def test_an_error_in_a_step_leaves_no_gradients_and_reads_no_batch():
    """A batch of garbage, a loss that is no number, a callback: the same batch comes again."""
    trainer, loader = Trainer(make_model(), CONFIG), documents()
    next(trainer.run(loader))
    before = copy.deepcopy(state(trainer)), trainer.position.batch
    hook = trainer.model.ln_f.register_forward_hook(lambda *given: given[-1] * float("nan"))
    with pytest.raises(FloatingPointError, match="step 2"):
        next(trainer.run(loader))
    hook.remove()
    assert trainer.position.batch == before[1]
    assert_equal(state(trainer), before[0], "a loss that is not finite")


def test_gradients_from_elsewhere_are_not_part_of_a_step():
    ends = []
    for leave_some in (True, False):
        trainer = Trainer(make_model(), CONFIG)
        if leave_some:
            trainer.model(torch.tensor([[1, 2]])).sum().backward()
        torch.manual_seed(0)
        list(trainer.run(documents()))
        assert all(p.grad is None for p in trainer.parameters.values()), "they take memory"
        ends.append(state(trainer))
    assert_equal(*ends, "a backward pass of the caller")


class Counting(nn.Module):
    """A model with a buffer that its forward pass writes, as batch normalization does."""

    def __init__(self):
        super().__init__()
        self.inner = make_model()
        self.register_buffer("n_calls", torch.zeros(1))

    def forward(self, ids):
        self.n_calls += 1
        return self.inner(ids)


def test_a_model_whose_buffers_a_step_has_written_is_torn_by_an_interrupt():
    trainer = Trainer(Counting(), TrainConfig(3, warmup_steps=0))
    inputs, targets = next(iter(documents()))
    trainer.take_step([(inputs, targets)])
    with pytest.raises(TypeError):  # before the model is called
        trainer.take_step([(inputs, None)])
    trainer.take_step([(inputs, targets)])
    with pytest.raises(ValueError):  # after it
        trainer.take_step([(inputs, targets + 20)])
    with pytest.raises(RuntimeError, match="--resume"):
        trainer.take_step([(inputs, targets)])
