"""Trainer and evaluation take any model of the protocol; the toy has all that one may have."""

import copy
import random
import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from packing import Toy, ToyConfig, pack, rows
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from llmlib.evaluation.perplexity import evaluate
from llmlib.training import loss as loss_module
from llmlib.training.checkpoint import load_checkpoint, save_checkpoint
from llmlib.training.config import TrainConfig
from llmlib.training.loss import (
    NextTokenLoss,
    checkpointed_cross_entropy,
    cross_entropy,
    next_token_loss,
    split_batch,
)
from llmlib.training.optimizers import hidden_matrices
from llmlib.training.trainer import Trainer, accumulate, train

rng = random.Random(1)
DOCUMENTS = [[rng.randrange(1, 13) for _ in range(rng.randrange(1, 9))] for _ in range(9)]


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


def close(a, b, **tolerance):
    torch.testing.assert_close(a, b, **(tolerance or {"rtol": 1e-5, "atol": 1e-6}))


def total_loss(model, batch):
    """The plain loss: all logits at once, summed over the targets."""
    inputs, targets, segments = split_batch(batch)
    logits = model(inputs, segments=segments)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


# The head -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 30, 1000])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_head_in_chunks_gives_the_loss_and_gradients_of_all_logits_at_once(chunk_size, reduction):
    batch = pack(DOCUMENTS[:5], 30)
    plain, chunked = Toy(), Toy()
    expected = total_loss(plain, batch)
    if reduction == "mean":
        expected = expected / (batch[1] != -100).sum()
    expected.backward()
    features = chunked.features(batch[0], segments=batch[2])
    ours = checkpointed_cross_entropy(features, chunked.head, batch[1], chunk_size, reduction)
    ours.backward()
    close(ours, expected)
    close(gradients(chunked), gradients(plain))
    assert chunked.largest_head_call <= chunk_size


def test_next_token_loss_calls_the_head_chunk_by_chunk(monkeypatch):
    """When memory allows only a few positions at a time, the whole logits never exist."""
    monkeypatch.setattr(loss_module, "positions_at_a_time", lambda vocab_size, itemsize: 4)
    batch = pack(DOCUMENTS[:5], 30)

    class Largest(TorchDispatchMode):
        """The most rows that a tensor with V columns has."""

        n = 0

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            result = operation(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(tensor, torch.Tensor) and tensor.ndim and tensor.shape[-1] == 131:
                    self.n = max(self.n, tensor.numel() // 131)
            return result

    model, plain = (Toy(ToyConfig(vocab_size=131, emb_dim=6)) for _ in range(2))
    expected = total_loss(plain, batch)
    expected.backward()
    with Largest() as largest:
        ours = next_token_loss(model, *split_batch(batch))
        ours.backward()
    close(ours, expected)
    close(gradients(model), gradients(plain))
    assert largest.n == 6 and model.largest_head_call == 4  # C rows in the transposed head


def test_a_head_that_is_a_product_goes_the_fast_way(monkeypatch):
    class Product(Toy):
        @property
        def head_weight(self):
            return self.adapter

        def head(self, features):
            raise AssertionError("the head's weight says all that there is to know")

    model = Product()
    inputs, targets, segments = split_batch(pack(DOCUMENTS[:4], 30))
    features = model.features(inputs, segments=segments)
    expected = cross_entropy(features @ model.adapter.T, targets, reduction="sum")
    close(next_token_loss(model, inputs, targets, segments), expected)


def test_targets_that_do_not_fit_a_head_are_refused():
    model, (inputs, targets, _) = Toy(), pack(DOCUMENTS[:2], 20)
    for wrong, message in [(targets[:, 1:], "shape"), (targets + 13, "outside the vocabulary")]:
        with pytest.raises(ValueError, match=message):
            next_token_loss(model, inputs, wrong)


@pytest.mark.parametrize("low", [False, True])
def test_a_head_in_chunks_follows_autocast(low):
    inputs, targets, segments = pack(DOCUMENTS[:5], 30)
    model = Toy(ToyConfig(aux_name=None))
    exact, _ = NextTokenLoss(model)(inputs, targets, segments)
    rounded, added = NextTokenLoss(model, "bfloat16" if low else "float32")(
        inputs, targets, segments
    )
    rounded.backward()
    assert rounded.dtype == torch.float32 and added == {}
    assert torch.equal(rounded, exact) is not low
    close(rounded, exact, rtol=0.02, atol=0)


def test_muon_leaves_embeddings_and_a_head_of_any_kind_to_adamw():
    model = Toy(ToyConfig(emb_dim=16))
    ours = {id(matrix) for matrix in hidden_matrices(model)}
    names = {name for name, p in model.named_parameters() if id(p) in ours}
    inner = {name for name, p in model.named_parameters() if name.startswith(("att", "gates"))}
    assert names == {name for name in inner if name.endswith("weight")}


# Packed documents ---------------------------------------------------------------------------------


def test_packed_documents_give_the_loss_and_gradients_of_separate_rows():
    packed, separate = Toy(), Toy()
    batches = [split_batch(batch) for batch in rows(DOCUMENTS[:4])]
    together = split_batch(pack(DOCUMENTS[:4], 32))
    weights = {"gate": 0.3}
    a = accumulate(NextTokenLoss(packed), [together], weights)
    b = accumulate(NextTokenLoss(separate), batches, weights)
    close(a, b)
    close(gradients(packed), gradients(separate))


def test_documents_in_one_row_without_segments_are_another_thing():
    together = pack(DOCUMENTS[:4], 32)
    packed = total_loss(Toy(), together)
    mixed = total_loss(Toy(), together[:2])
    assert (packed - mixed).abs() > 0.01


def test_padding_has_no_targets_no_matter_what_stands_there():
    inputs, targets, segments = pack(DOCUMENTS[:3], 32)
    padded = torch.where(segments < 0, 5, targets)
    assert torch.equal(split_batch((inputs, padded, segments))[1], targets)
    a, b = evaluate(Toy(), [(inputs, padded, segments)]), evaluate(Toy(), rows(DOCUMENTS[:3]))
    assert a.n_tokens == b.n_tokens and a.loss == pytest.approx(b.loss, abs=1e-5)


def test_evaluation_in_chunks_equals_all_logits_at_once(monkeypatch):
    monkeypatch.setattr(loss_module, "positions_at_a_time", lambda vocab_size, itemsize: 3)
    batches = [pack(DOCUMENTS[:4], 32), pack(DOCUMENTS[4:7], 30)]
    model = Toy()
    result = evaluate(model, batches)
    with torch.no_grad():
        expected = sum(total_loss(model, batch).item() for batch in batches) / result.n_tokens
    assert result.loss == pytest.approx(expected, abs=1e-5)
    assert result.n_tokens == sum(len(document) + 1 for document in DOCUMENTS[:7])


def test_a_plain_function_is_given_the_segments_of_a_batch_that_has_them():
    seen = []

    def uniform(ids, segments=None):
        seen.append(segments)
        return torch.zeros(*ids.shape, 13)

    batch = pack(DOCUMENTS[:2], 20)
    evaluate(uniform, [batch[:2], batch])
    assert seen[0] is None and torch.equal(seen[1], batch[2])


def test_what_is_not_a_batch_is_refused():
    for wrong in (torch.zeros(2, 3), [torch.zeros(2)], (1, 2), "ab"):
        with pytest.raises(TypeError, match=r"pairs \(inputs, targets\) of tensors"):
            split_batch(wrong)


# Losses that a model adds -------------------------------------------------------------------------


def by_hand(model, batches, weight):
    """Loss per target plus the weighted mean of the added loss, all batches as one."""
    total, size, n_tokens, n_sizes = 0, 0, 0, 0
    for inputs, targets, segments in batches:
        aux = {}
        total = total + next_token_loss(model, inputs, targets, segments, aux)
        size, n_sizes = size + aux["gate"][0], n_sizes + aux["gate"][1]
        n_tokens += (targets != -100).sum()
    return total / n_tokens, size / n_sizes, total / n_tokens + weight * size / n_sizes


@pytest.mark.parametrize("weights", [0.5, {"gate": 0.5}])
@pytest.mark.parametrize("sizes", [(9,), (1, 8), (2, 2, 5)])
def test_added_losses_are_divided_over_all_batches_of_a_step(weights, sizes):
    ends = torch.tensor(sizes).cumsum(0).tolist()
    parts = [DOCUMENTS[end - n : end] for n, end in zip(sizes, ends)]
    batches = [split_batch(pack(part, sum(map(len, part)) + len(part) + 3)) for part in parts]
    ours, expected, aux = Toy(ToyConfig(context_length=99)), Toy(ToyConfig(context_length=99)), {}
    loss, _ = accumulate(NextTokenLoss(ours), batches, weights, aux)
    plain, size, objective = by_hand(expected, batches, 0.5)
    objective.backward()
    close(loss, plain)  # what is reported is the loss per token alone
    close(aux["gate"], size)
    close(gradients(ours), gradients(expected))


def test_a_weight_of_zero_changes_nothing_and_is_logged():
    config = TrainConfig(5, 1e-2, warmup_steps=0, aux_weights=0.0)
    watched, silent = Toy(), Toy(ToyConfig(aux_name=None))
    reports = train(watched, [pack(DOCUMENTS[:3], 30)], config)
    others = train(silent, [pack(DOCUMENTS[:3], 30)], config)
    assert [r.loss for r in reports] == [r.loss for r in others]
    assert all(r.aux["gate"] > 0 for r in reports) and others[0].aux == {}


def test_an_added_loss_that_counts_nothing_is_0():
    class Idle(Toy):
        def features(self, ids, cache=None, *, segments=None, aux=None):
            if aux is not None:
                aux["idle"] = torch.zeros(()), 0
            return super().features(ids, cache, segments=segments)

    (report,) = train(Idle(), [pack(DOCUMENTS[:3], 30)], TrainConfig(1, warmup_steps=0))
    assert report.aux == {"idle": 0.0} and report.loss > 0


def test_a_model_that_is_compiled_in_place_adds_its_loss_too():
    model, batches = Toy(), [pack(DOCUMENTS[:3], 30)]
    model._compiled_call_impl = model._call_impl  # what model.compile() sets, without compiling
    (report,) = train(model, batches, TrainConfig(1, warmup_steps=0))
    (plain,) = train(Toy(), batches, TrainConfig(1, warmup_steps=0))
    assert report.aux["gate"] == pytest.approx(plain.aux["gate"])


def test_a_weight_pulls_the_added_loss_down():
    means = {}
    for weight in (0.0, 1.0):
        config = TrainConfig(30, 1e-2, warmup_steps=0, aux_weights={"gate": weight})
        means[weight] = train(Toy(), [pack(DOCUMENTS[:3], 30)], config)[-1].aux["gate"]
    assert means[1.0] < 0.8 * means[0.0]


def test_an_added_loss_without_a_weight_is_refused_before_anything_changes():
    model = Toy()
    config = TrainConfig(3, aux_weights={"balance": 0.1})
    with pytest.raises(ValueError, match=r"adds a loss 'gate', but aux_weights names balance"):
        train(model, [pack(DOCUMENTS[:3], 30)], config)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), Toy().parameters()))


def test_added_losses_come_through_distributed_data_parallel(process_group):
    batches = [split_batch(pack(DOCUMENTS[:2], 20)), split_batch(pack(DOCUMENTS[2:6], 32))]
    alone, parallel, aux = Toy(), Toy(), ({}, {})
    a = accumulate(NextTokenLoss(alone), batches, 0.1, aux[0])
    b = accumulate(DistributedDataParallel(NextTokenLoss(parallel)), batches, 0.1, aux[1])
    close(a, b)
    close(aux[0], aux[1])
    close(gradients(alone), gradients(parallel))


# The loop -----------------------------------------------------------------------------------------


def test_the_toy_learns_packed_documents_and_resumes_bit_for_bit(tmp_path):
    """Soft-cap, packed head, added loss, packed documents, Muon, accumulation: through files."""
    loader = [pack(DOCUMENTS[i : i + 3], 32) for i in range(0, 9, 3)]
    config = TrainConfig(12, 2e-2, warmup_steps=2, accumulation_steps=2, optimizer="muon")
    whole = Toy()
    reports = train(whole, loader, config)
    assert reports[-1].loss < reports[0].loss - 0.1
    trainer = Trainer(Toy(), config)
    for report in trainer.run(loader):
        if report.step == 5:
            save_checkpoint(tmp_path, trainer.model, trainer.state_dict())
            break
    resumed = Trainer(Toy(seed=4), config)
    resumed.load_state_dict(load_checkpoint(tmp_path, resumed.model).training)
    rest = list(resumed.run(loader))
    assert [(r.loss, r.aux) for r in rest] == [(r.loss, r.aux) for r in reports[5:]]
    for a, b in zip(resumed.model.parameters(), whole.parameters()):
        assert torch.equal(a, b)


def test_callbacks_see_each_step_before_it_is_yielded_and_may_save():
    seen, states = [], []

    def note(trainer, report):
        seen.append((trainer.step, report))

    def keep(trainer, report):
        states.append(copy.deepcopy(trainer.state_dict()))

    trainer = Trainer(Toy(), TrainConfig(4, warmup_steps=0), callbacks=[note, keep])
    for report in trainer.run([pack(DOCUMENTS[:3], 30)]):
        assert seen[-1] == (report.step, report) and len(states) == report.step
    assert [state["step"] for state in states] == [1, 2, 3, 4]
    reports = train(Toy(), [pack(DOCUMENTS[:3], 30)], TrainConfig(2), callbacks=[note])
    assert [report for _, report in seen[-2:]] == reports


def test_take_step_is_a_step_of_run():
    config, batches = TrainConfig(2, warmup_steps=0), [pack(DOCUMENTS[:3], 30)] * 2
    by_run, by_step = Trainer(Toy(), config), Trainer(Toy(), config)
    losses = [report.loss for report in by_run.run(batches)]
    assert [by_step.take_step([batch]).loss for batch in batches] == losses
    with pytest.raises(ValueError, match="there is no batch to learn from"):
        by_step.take_step([])


def test_training_imports_nothing_of_the_models_but_their_protocol():
    folder = Path(loss_module.__file__).parent
    found = {
        n for p in folder.glob("*.py") for n in re.findall(r"llmlib\.model\.\w+", p.read_text())
    }
    assert found == {"llmlib.model.protocol"}


def test_training_knows_no_model():
    """A recurrent network, which has neither attention nor positions, is trained all the same."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.table, self.cell = nn.Embedding(13, 8), nn.GRU(8, 8, batch_first=True)
            self.out = nn.Linear(8, 13)

        def forward(self, ids):
            return self.out(self.cell(self.table(ids))[0])

    reports = train(Recurrent(), [pack(DOCUMENTS[:3], 30)[:2]], TrainConfig(20, 1e-2))
    assert reports[-1].loss < reports[0].loss - 0.05


def work_in_a_process(rank, store, queue):
    """Accumulate over this process's share of the batches; the first one reports."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2)
    model, aux = Toy(ToyConfig(context_length=99)), {}
    loss = DistributedDataParallel(NextTokenLoss(model))
    result = accumulate(loss, SHARES[rank], 0.4, aux)
    if rank == 0:
        queue.put([[t.tolist() for t in (*result, aux["gate"])], model.tokens.weight.grad.tolist()])
    dist.destroy_process_group()


SHARES = [
    [split_batch(pack(DOCUMENTS[:1], 12)), split_batch(pack(DOCUMENTS[1:4], 40))],
    [split_batch(pack(DOCUMENTS[4:8], 40)), split_batch(pack(DOCUMENTS[8:], 12))],
]


@pytest.mark.slow
def test_losses_and_added_losses_are_divided_over_all_batches_of_two_processes(tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [
        context.Process(target=work_in_a_process, args=(rank, str(tmp_path / "store"), queue))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    numbers, gradient = queue.get(timeout=600)
    for process in processes:
        process.join(timeout=600)
    alone = Toy(ToyConfig(context_length=99))
    loss, size, objective = by_hand(alone, SHARES[0] + SHARES[1], 0.4)
    objective.backward()
    n_tokens = sum(len(document) + 1 for document in DOCUMENTS)
    assert numbers == pytest.approx([loss.item(), n_tokens, size.item()], abs=1e-5)
    close(torch.tensor(gradient), alone.tokens.weight.grad)
