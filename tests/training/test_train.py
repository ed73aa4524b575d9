"""The training loop: equal to its references, equal when resumed, and clear when it is misused."""

import copy
import math
import random
import re

import pytest
import torch
import torch.nn.functional as F
from models import KINDS, small_model
from torch import nn

from llmlib.data.batches import DocumentDataset, create_dataloader, create_document_loader
from llmlib.training.config import TrainConfig
from llmlib.training.loss import NextTokenLoss
from llmlib.training.optimizers import learning_rate_at, make_optimizers
from llmlib.training.position import Position, find_generators
from llmlib.training.trainer import Trainer, accumulate, train

VOCABULARY, END = 48, 0
rng = random.Random(0)
DOCUMENTS = [[rng.randrange(1, VOCABULARY) for _ in range(rng.randrange(2, 20))] for _ in range(42)]


def make_model(seed=0, kind="gpt", **changes):
    torch.manual_seed(seed)
    shape = {"emb_dim": 16, "n_heads": 2, "n_layers": 2, **changes}
    return small_model(kind, VOCABULARY, 24, **shape)


def make_loader(seed=0, batch_size=4, documents=DOCUMENTS, **settings):
    generator = torch.Generator().manual_seed(seed)
    return create_document_loader(documents, END, batch_size, generator=generator, **settings)


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


# Against references -------------------------------------------------------------------------------


def test_adamw_equals_the_published_rule():
    """Five steps with warm-up, cosine and clipping, computed here number by number."""
    config = TrainConfig(5, 1e-2, 0.1, warmup_steps=2, weight_decay=0.3, grad_clip=0.05)
    model, by_hand = make_model(), make_model()
    reports = train(model, make_loader(), config)
    means = {
        name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in by_hand.named_parameters()
    }
    for t, (report, (inputs, targets)) in enumerate(zip(reports, make_loader()), start=1):
        by_hand.zero_grad()
        loss = F.cross_entropy(by_hand(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in by_hand.parameters()))
        assert report.loss == pytest.approx(loss.item(), rel=1e-5)
        assert report.grad_norm == pytest.approx(norm, rel=1e-4) and norm > 0.05
        assert report.n_tokens == (targets != -100).sum() and report.step == t
        with torch.no_grad():
            for name, p in by_hand.named_parameters():
                m, v = means[name]
                grad = p.grad * 0.05 / (norm + 1e-6)
                m.lerp_(grad, 0.1)
                v.lerp_(grad**2, 0.05)
                decay = 0.3 if p.ndim > 1 else 0.0
                p.mul_(1 - report.learning_rate * decay)
                fraction = (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
                p.sub_(report.learning_rate * fraction)
    for a, b in zip(model.parameters(), by_hand.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


def test_muon_takes_a_step_that_is_orthogonal():
    model = make_model()
    before = copy.deepcopy(model)
    config = TrainConfig(1, 0.1, warmup_steps=0, weight_decay=0.0, optimizer="muon")
    train(model, make_loader(), config)
    step = before.h[0].mlp.c_fc.weight - model.h[0].mlp.c_fc.weight
    values = torch.linalg.svdvals(step.detach())
    # those of the gradient fall by orders; one is 0, for the mean that the norm before it removes
    assert values[-2] > 0.5 * values[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_only_matrices_decay_and_every_parameter_is_trained_once(optimizer, kind):
    model = make_model(kind=kind, tie_weights=False)
    config = TrainConfig(10, weight_decay=0.25, optimizer=optimizer, betas=(0.8, 0.9))
    optimizers = make_optimizers(model, config)
    groups = [group for each in optimizers for group in each.param_groups]
    names = {id(p): name for name, p in model.named_parameters()}
    found = [names[id(p)] for group in groups for p in group["params"]]
    assert sorted(found) == sorted(names.values())
    for group in groups:
        assert {p.ndim for p in group["params"]} == ({2} if group["weight_decay"] else {1})
        assert group["weight_decay"] in (0.0, 0.25)
    if optimizer == "muon":
        ours = {names[id(p)] for group in optimizers[1].param_groups for p in group["params"]}
        assert ours == {
            n for n in names.values() if re.search(r"^h\..*(c_(attn|fc|proj)|router)\.weight$", n)
        }
    assert optimizers[0].param_groups[0]["betas"] == (0.8, 0.9)


def test_the_schedule_at_its_corners():
    config = TrainConfig(11, 1.0, 0.2, warmup_steps=4)
    rates = [learning_rate_at(step, config) for step in range(11)]
    assert rates[:5] == [0.0, 0.25, 0.5, 0.75, 1.0] and rates.count(1.0) == 1
    assert rates[7] == pytest.approx(0.6)  # half of the cosine
    assert rates[10] == pytest.approx(0.2) == learning_rate_at(500, config)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert learning_rate_at(0, TrainConfig(1, 1.0, warmup_steps=0)) == 1.0
    assert learning_rate_at(1, TrainConfig(2, 1.0, 0.0, warmup_steps=0)) == pytest.approx(0.0)
    assert learning_rate_at(9, TrainConfig(10, 1.0, warmup_steps=9)) == 1.0
    constant = TrainConfig(50, 1.0, 1.0, warmup_steps=0)
    assert {learning_rate_at(step, constant) for step in range(50)} == {1.0}
    with pytest.raises(ValueError, match="step is -1: it must be an int of at least 0"):
        learning_rate_at(-1, config)


def test_the_schedule_is_that_of_transformers_but_ends_at_the_last_step():
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    # theirs is at 0 one step after the last: ours of 21 steps is theirs of 20
    theirs = transformers.get_cosine_schedule_with_warmup(optimizer, 7, 20)
    config = TrainConfig(21, 1.0, 0.0, warmup_steps=7)
    for step in range(21):
        assert learning_rate_at(step, config) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("max_steps", [1, 2, 3, 9, 10, 50, 100])
@pytest.mark.parametrize("warmup_steps", [0, 1, 50, 100, 10_000])
def test_every_run_reaches_its_learning_rate_once(max_steps, warmup_steps):
    config = TrainConfig(max_steps, 1.0, warmup_steps=warmup_steps)
    rates = [learning_rate_at(step, config) for step in range(max_steps)]
    assert max(rates) == 1.0 and rates.count(1.0) == 1
    expected = warmup_steps if warmup_steps < max_steps else max_steps // 10
    assert rates.index(1.0) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_gradients_equal_those_of_the_big_batch_with_padding_too(kind):
    dataset = DocumentDataset(DOCUMENTS, END)
    order = dataset.lengths.argsort()
    parts = [dataset[order[:3]], dataset[order[3:20]], dataset[order[20:]]]
    gradients = {}
    for name, batches in {"parts": parts, "whole": [dataset[order]]}.items():
        model = make_model(kind=kind).double()
        loss, n_tokens = accumulate(NextTokenLoss(model), batches)
        assert n_tokens == dataset.lengths.sum()
        gradients[name] = [loss.detach(), *(p.grad for p in model.parameters())]
    for a, b in zip(gradients["parts"], gradients["whole"]):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9, check_dtype=False)


def test_accumulation_in_the_loop_reads_as_many_batches_and_gives_one_step():
    config = TrainConfig(6, accumulation_steps=3, warmup_steps=0)
    trainer = Trainer(make_model(), config)
    reports = list(trainer.run(make_loader()))
    assert trainer.step == 6 and (trainer.position.epoch, trainer.position.batch) == (1, 8)
    read = [(targets != -100).sum().item() for _, targets in make_loader()]
    assert reports[0].n_tokens == sum(read[:3]) and reports[2].n_tokens == sum(read[6:9])


def test_clipping_keeps_the_direction_and_limits_the_length(monkeypatch):
    seen = {}
    for clip in (None, 0.01):
        trainer = Trainer(make_model(), TrainConfig(1, grad_clip=clip, warmup_steps=0))
        step = trainer.optimizers[0].step

        def look(clip=clip, trainer=trainer, step=step):
            seen[clip] = torch.cat([p.grad.flatten() for p in trainer.parameters.values()])
            step()

        monkeypatch.setattr(trainer.optimizers[0], "step", look)
        (report,) = trainer.run(make_loader())
        assert report.grad_norm == pytest.approx(seen[None].norm().item(), rel=1e-5)
    assert seen[0.01].norm() == pytest.approx(0.01, rel=1e-3)
    assert F.cosine_similarity(seen[0.01], seen[None], dim=0) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_learns_as_well_and_keeps_its_weights_in_float32(kind):
    losses = {}
    words = [[1 + (start + 5 * i) % 40 for i in range(15)] for start in range(40)]
    for dtype in ("float32", "bfloat16"):
        model = make_model(kind=kind, emb_dim=32)
        config = TrainConfig(120, 1e-2, 0.0, warmup_steps=10, dtype=dtype)
        reports = train(model, make_loader(documents=words, batch_size=8), config)
        losses[dtype] = sum(report.loss for report in reports[-10:]) / 10
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert losses["float32"] < 1
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]  # it did compute in another format


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_gradients_are_those_of_float32_but_for_rounding(kind):
    gradients = {}
    for dtype in ("float32", "bfloat16"):
        model = make_model(kind=kind)
        accumulate(NextTokenLoss(model, dtype), [next(iter(make_loader()))])
        gradients[dtype] = torch.cat([p.grad.flatten() for p in model.parameters()])
    error = (gradients["bfloat16"] - gradients["float32"]).norm() / gradients["float32"].norm()
    assert 0 < error < 0.02


def test_a_model_that_only_gives_logits_is_trained_alike():
    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make_model()

        def forward(self, ids):
            return self.inner(ids)

    config = TrainConfig(4, warmup_steps=0)
    plain = train(Logits(), make_loader(), config)
    chunked = train(make_model(), make_loader(), config)
    assert [r.loss for r in plain] == pytest.approx([r.loss for r in chunked], rel=1e-4)


def test_what_is_wrapped_is_what_trains():
    calls = []

    def wrap(loss):
        loss.register_forward_hook(lambda *_: calls.append(1))
        return loss

    assert len(list(Trainer(make_model(), TrainConfig(3), wrap=wrap).run(make_loader()))) == 3
    assert len(calls) == 3


# Stopped and resumed ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("accumulation_steps", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_resumed_equals_uninterrupted_bit_for_bit(optimizer, accumulation_steps, kind):
    """With dropout, in the middle of an epoch and in several, from a model that knows nothing."""
    config = TrainConfig(
        16, 1e-2, warmup_steps=3, accumulation_steps=accumulation_steps, optimizer=optimizer
    )
    model = make_model(kind=kind, drop_rate=0.2)
    losses = [report.loss for report in train(model, make_loader(), config)]
    for stop in random.Random(optimizer).sample(range(1, 16), 5):
        stopped = make_model(kind=kind, drop_rate=0.2)
        trainer = Trainer(stopped, config)
        for report in trainer.run(make_loader()):
            if report.step == stop:
                weights = copy.deepcopy(stopped.state_dict())
                state = copy.deepcopy(trainer.state_dict())
                break
        resumed = make_model(seed=5, kind=kind, drop_rate=0.2)
        resumed.load_state_dict(weights)
        torch.rand(7)  # no matter what happened in between
        trainer = Trainer(resumed, config)
        trainer.load_state_dict(state)
        assert [report.loss for report in trainer.run(make_loader(seed=9))] == losses[stop:]
        assert equal(resumed, model), f"stopped at step {stop}"


@pytest.mark.parametrize("generator", [True, False])
@pytest.mark.parametrize("kind", ["windows", "documents"])
def test_the_order_comes_back_from_a_given_generator_or_the_global_one(kind, generator):
    def make(seed):
        own = torch.Generator().manual_seed(seed) if generator else None
        if kind == "windows":
            return create_dataloader(range(48), 3, batch_size=2, generator=own)
        return create_document_loader(DOCUMENTS, END, 4, generator=own)

    config = TrainConfig(14, 1e-2, warmup_steps=0)
    model = make_model()
    losses = [report.loss for report in train(model, make(1), config)]
    stopped = make_model()
    trainer = Trainer(stopped, config)
    for report in trainer.run(make(1)):
        if report.step == 9:
            break
    state = copy.deepcopy(trainer.state_dict())
    torch.manual_seed(77)
    trainer = Trainer(stopped, config)
    trainer.load_state_dict(state)
    assert [report.loss for report in trainer.run(make(2))] == losses[9:]


def test_a_state_is_not_used_up_by_training_on_from_it():
    config = TrainConfig(8, 1e-2, warmup_steps=0)
    trainer = Trainer(make_model(drop_rate=0.1), config)
    for report in trainer.run(make_loader()):
        if report.step == 4:
            state, weights = copy.deepcopy((trainer.state_dict(), trainer.model.state_dict()))
            break
    losses = []
    for _ in range(2):
        again = Trainer(make_model(seed=3, drop_rate=0.1), config)
        again.model.load_state_dict(weights)
        again.load_state_dict(state)
        losses.append([report.loss for report in again.run(make_loader())])
    assert losses[0] == losses[1]


def test_leaving_the_loop_and_running_again_goes_on():
    config = TrainConfig(20, warmup_steps=0)
    losses = [report.loss for report in train(make_model(), make_loader(), config)]
    trainer, loader, again = Trainer(make_model(), config), make_loader(), []
    while trainer.step < 20:
        for report in trainer.run(loader):
            again.append(report.loss)
            if report.step % 3 == 0:
                break
    assert again == losses and list(trainer.run(loader)) == []


def test_looking_while_training_changes_nothing():
    """The model may be switched to evaluation in the loop: the next step trains all the same."""
    config = TrainConfig(6, warmup_steps=0)
    looked = make_model(drop_rate=0.3)
    for _ in Trainer(looked, config).run(make_loader()):
        looked.eval()
    plain = make_model(drop_rate=0.3)
    train(plain, make_loader(), config)
    assert equal(looked, plain)


def test_a_model_in_evaluation_is_left_in_evaluation():
    model = make_model().eval()
    train(model, make_loader(), TrainConfig(1))
    assert not model.training


def test_generators_are_found_where_torch_keeps_them():
    own = torch.Generator()
    assert find_generators(create_dataloader(range(20), 2, generator=own)) == [own]
    assert find_generators(create_document_loader(DOCUMENTS, END, generator=own)) == [own]
    assert find_generators([1, 2]) == [] == find_generators(create_dataloader(range(20), 2))
    data = torch.utils.data.DataLoader(range(4), shuffle=True, generator=own)
    assert find_generators(data) == [own]


def test_a_position_reads_each_batch_of_each_epoch_once():
    loader, position = make_loader(), Position()
    batches = position.batches(loader)
    epochs = [[next(batches)[0].sum().item() for _ in range(len(loader))] for _ in range(3)]
    assert sorted(epochs[0]) != epochs[0] != epochs[1]
    assert (position.epoch, position.batch) == (2, len(loader))


# Misuse -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_steps": 0}, "max_steps is 0: it must be an int of at least 1"),
        ({"max_steps": 1.5}, "max_steps is 1.5"),
        ({"max_steps": True}, "max_steps is True"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"accumulation_steps": 0}, "accumulation_steps is 0"),
        ({"learning_rate": 0}, "learning_rate is 0: it must be a number above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"learning_rate": "1e-3"}, "learning_rate is '1e-3'"),
        ({"final_fraction": 1.1}, "final_fraction is 1.1: it must be a number from 0 to 1"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"betas": (0.9, 1.0)}, "the second of betas is 1.0"),
        ({"betas": (0.9,)}, "betas"),
        ({"betas": 0.9}, "betas is 0.9"),
        ({"grad_clip": 0}, "grad_clip is 0"),
        ({"grad_clip": math.inf}, "grad_clip is inf: it must be a number above 0, or None"),
        ({"max_steps": 10**20}, "max_steps is 1000"),
        ({"accumulation_steps": 2**31}, "accumulation_steps is 2147483648"),
        ({"grad_clip": True}, "grad_clip is True"),
        ({"dtype": "float16"}, "dtype is 'float16': it must be one of"),
        ({"dtype": torch.bfloat16}, "dtype is torch.bfloat16"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"aux_weights": -1}, "aux_weights is -1: it must be a number of at least 0"),
        ({"aux_weights": "all"}, "aux_weights is 'all'"),
        ({"aux_weights": {"balance": math.nan}}, r"aux_weights\['balance'\] is nan"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        TrainConfig(**{"max_steps": 10, **wrong})


def test_settings_are_frozen_and_a_misspelt_one_is_an_error():
    config = TrainConfig(10, betas=[0.8, 0.9])
    assert config.betas == (0.8, 0.9)
    betas = TrainConfig(10, betas=(0, 0.9)).betas  # torch takes no int beside a float
    assert betas == (0, 0.9) and all(type(beta) is float for beta in betas)
    with pytest.raises(AttributeError):
        config.max_steps = 11
    with pytest.raises(TypeError, match="learnign_rate"):
        TrainConfig(10, learnign_rate=1.0)


def test_loaders_that_do_not_fit_are_refused():
    inputs, targets = next(iter(make_loader()))
    config = TrainConfig(5)
    cases = [
        (iter([(inputs, targets)]), TypeError, "can be read only once"),
        ([], ValueError, "no batches"),
        ([inputs], TypeError, "pairs"),
        ([(inputs, targets, targets, targets)], TypeError, "triples"),
        ([(inputs.tolist(), targets.tolist())], TypeError, "pairs"),
        ([(inputs, torch.full_like(targets, -100))], ValueError, "no targets"),
        ([(inputs, targets[:, :-1])], ValueError, "shape"),
        ([(inputs, targets + VOCABULARY)], ValueError, "outside the vocabulary"),
        ([(inputs.float(), targets)], TypeError, "float32"),
    ]
    for loader, kind, message in cases:
        model = make_model()
        with pytest.raises(kind, match=message):
            train(model, loader, config)
        assert equal(model, make_model())


@pytest.mark.parametrize("where", [0, 1])
def test_a_batch_without_targets_adds_nothing_to_its_step(where):
    inputs, targets = next(iter(make_loader()))
    batches = [(inputs, targets)]
    batches.insert(where, (inputs, torch.full_like(targets, -100)))
    found, expected = make_model(), make_model()
    config = TrainConfig(3, warmup_steps=0, accumulation_steps=2)
    (first, *_) = train(found, batches, config)
    (alone, *_) = train(expected, [(inputs, targets)], TrainConfig(3, warmup_steps=0))
    assert first.loss == alone.loss and first.n_tokens == alone.n_tokens
    assert equal(found, expected)


def test_what_is_not_a_model_or_not_a_config_is_refused():
    with pytest.raises(TypeError, match="model must be a Module, not function"):
        Trainer(lambda ids: ids, TrainConfig(1))
    with pytest.raises(TypeError, match="config must be a TrainConfig, not dict"):
        Trainer(make_model(), {"max_steps": 1})
    with pytest.raises(ValueError, match="no parameters to train"):
        Trainer(make_model().requires_grad_(False), TrainConfig(1))


def test_frozen_parameters_stay_as_they_are():
    model = make_model()
    model.wte.weight.requires_grad_(False)
    train(model, make_loader(), TrainConfig(2, optimizer="muon"))
    assert torch.equal(model.wte.weight, make_model().wte.weight)
    assert not torch.equal(model.wpe.weight, make_model().wpe.weight)


def test_divergence_stops_before_it_spoils_the_weights():
    model = make_model()
    trainer = Trainer(model, TrainConfig(10, warmup_steps=0))
    next(trainer.run(make_loader()))
    before = copy.deepcopy(model)
    hook = model.ln_f.register_forward_hook(lambda module, inputs, output: output * math.nan)
    with pytest.raises(
        FloatingPointError, match=r"step 2: the loss is nan.*lower the learning rate"
    ):
        next(trainer.run(make_loader()))
    assert equal(model, before) and trainer.step == 1
    assert all(p.grad is None for p in model.parameters())
    hook.remove()
    assert math.isfinite(next(trainer.run(make_loader())).loss)


def test_a_broken_weight_that_no_batch_reads_is_named_before_the_first_step():
    model = make_model()
    trainer = Trainer(model, TrainConfig(3))
    model.wpe.weight.data[-1, 2] = math.nan  # of a position that the texts do not reach
    with pytest.raises(ValueError, match=r"wpe\.weight holds numbers that are nan"):
        next(trainer.run(make_loader()))
    assert trainer.step == 0


def test_states_that_do_not_fit_are_refused_and_change_nothing():
    config = TrainConfig(10, warmup_steps=0)
    trainer = Trainer(make_model(), config)
    next(trainer.run(make_loader()))
    state = trainer.state_dict()
    wide = Trainer(make_model(emb_dim=32), config)
    deep = Trainer(make_model(n_layers=1), config)
    muon = Trainer(make_model(), TrainConfig(10, optimizer="muon"))
    missing = {**state, "tensors": {k: v for k, v in state["tensors"].items() if "random" in k}}
    fresh = Trainer(make_model(), config)
    for target, wrong, message in [
        (wide, state, "wte.weight"),
        (deep, state, r"h\.1\..* where the model has nothing"),
        (muon, state, "optimizer='adamw', this trainer has 'muon'"),
        (fresh, missing, "no values of an optimizer"),
        (fresh, {}, "not the state of a Trainer"),
        (fresh, {**state, "step": "1"}, "not the state of a Trainer"),
        (fresh, {**state, "tensors": {"other.x": torch.zeros(1)}}, "not the state of a Trainer"),
        (fresh, None, "not the state of a Trainer"),
    ]:
        with pytest.raises(ValueError, match=message):
            target.load_state_dict(wrong)
        assert target.step == 0 and not target.optimizers[0].state
    with pytest.raises(ValueError, match="an epoch of 10 batches, but this loader has 21"):
        fresh.load_state_dict(state)
        next(fresh.run(make_loader(batch_size=2)))


def test_train_reports_every_step():
    reports = train(make_model(), make_loader(), TrainConfig(4))
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert all(report.tokens_per_second > 0 and report.seconds > 0 for report in reports)
