"""A model that is compiled or wrapped trains as such, and is saved under the names of the model."""

import pytest
import torch
from models import KINDS, small_model
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from llmlib.evaluation.perplexity import evaluate
from llmlib.training.checkpoint import load_checkpoint, save_checkpoint
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer, train

CONFIG = TrainConfig(3, 1e-2, warmup_steps=0, optimizer="muon")
IDS = torch.arange(40).reshape(4, 10) % 19
BATCHES = [(IDS[:, :-1], IDS[:, 1:])]
runs = []


def backend(graph, inputs):
    """torch.compile's, which notes each run of what it compiled, and computes as it is."""

    def run(*given):
        runs.append(1)
        return graph(*given)

    return run


def make_model(kind="gpt"):
    torch.manual_seed(0)
    return small_model(kind, 20, 12, emb_dim=8, n_heads=2, n_layers=1)


def compiled(model):
    return torch.compile(model, backend=backend)


def compiled_in_place(model):
    model.compile(backend=backend)
    return model


WRAPPERS = {
    "compiled": compiled,
    "compiled in place": compiled_in_place,
    "DataParallel": DataParallel,
    "DDP": DistributedDataParallel,
    "compiled DDP": lambda model: compiled(DistributedDataParallel(model)),
    "DDP of compiled": lambda model: DistributedDataParallel(compiled(model)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_model_trains_alike_and_is_saved_under_its_own_names(
    wrapper, kind, process_group, tmp_path
):
    torch._dynamo.reset()
    runs.clear()
    model = make_model(kind)
    reports = train(model, BATCHES, CONFIG)
    wrapped = WRAPPERS[wrapper](make_model(kind))
    trainer = Trainer(wrapped, CONFIG)
    found = list(trainer.run(BATCHES))
    assert bool(runs) == ("compiled" in wrapper), "compiled is compiled"
    assert isinstance(trainer.loss, DistributedDataParallel) == ("DDP" in wrapper)
    for ours, theirs in zip(found, reports, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, abs=1e-4)
    assert type(trainer.model) is type(model)
    for saved in (wrapped, trainer.model):
        save_checkpoint(tmp_path, saved, trainer.state_dict())
        checkpoint = load_checkpoint(tmp_path)
        assert checkpoint.weights.keys() == model.state_dict().keys()
        assert checkpoint.model_config["emb_dim"] == 8
    for target in (make_model(kind), WRAPPERS[wrapper](make_model(kind))):
        checkpoint = load_checkpoint(tmp_path, target)
        again = Trainer(target, CONFIG)
        again.load_state_dict(checkpoint.training)
        for name, weight in again.model.state_dict().items():
            assert torch.equal(weight, checkpoint.weights[name])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_model_is_evaluated_compiled_and_alike(kind):
    torch._dynamo.reset()
    runs.clear()
    loss = evaluate(make_model(kind), BATCHES).loss
    assert evaluate(compiled(make_model(kind)), BATCHES).loss == pytest.approx(loss, abs=1e-5)
    assert runs


class Shell(nn.Module):
    """A model of one's own around another, under a name that wrappers use as well."""

    def __init__(self):
        super().__init__()
        self.module = make_model()

    def forward(self, ids):
        return self.module(ids) / 2


def test_a_model_with_a_part_named_module_is_not_taken_for_a_wrapper():
    trainer = Trainer(Shell(), CONFIG)
    assert type(trainer.model) is Shell
    assert next(trainer.run(BATCHES)).loss > 0
    assert all(name.startswith("module.") for name in trainer.parameters)
