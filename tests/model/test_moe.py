"""Mixtures of experts: equal to transformers' Qwen3-MoE and Mixtral, evenly loaded, and honest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from parity import (
    close,
    next_token_loss,
    padded,
    same_gradients,
    same_with_a_cache_and_left_padding,
    tokens,
)
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func as mixtral_loss
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from llmlib import checks
from llmlib.evaluation.routing import (
    max_violation,
    mutual_information,
    route_tokens,
    router_entropy,
)
from llmlib.generation.generate import generate
from llmlib.generation.packing import PackedLinear
from llmlib.generation.quantization import bytes_read, quantize, weight_matrices
from llmlib.generation.rounding import BYTES
from llmlib.generation.sampling import Sampling
from llmlib.model.architectures import new_model, preset
from llmlib.model.layers import Places, SwiGLU
from llmlib.model.modern import Modern, ModernConfig
from llmlib.model.moe import (
    Expert,
    MixtureOfExperts,
    Routing,
    active_parameters,
    balance_loss,
    expert_load,
    mix_experts,
    top_experts,
    within_capacity,
)
from llmlib.training.config import TrainConfig
from llmlib.training.loss import NextTokenLoss
from llmlib.training.optimizers import hidden_matrices
from llmlib.training.trainer import accumulate, train

SIZES = {"vocab_size": 97, "context_length": 64, "emb_dim": 48, "n_heads": 6, "n_layers": 4}
SIZES |= {"n_kv_heads": 2, "hidden_dim": 80}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mixture(seed=0, std=0.3, **settings):
    """A layer of experts of width 12 for vectors of 8, with random weights."""
    layer = MixtureOfExperts(8, 12, **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, std, generator=generator)
    return layer


def with_experts(seed=0, std=0.3, sizes=SIZES, **settings):
    part = {"name": "moe", "n_experts": 8, "top_k": 2, "hidden_dim": 24} | settings
    model = Modern(ModernConfig(**sizes, feed_forward=part)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            around = 1.0 if parameter.ndim == 1 and "bias" not in name else 0.0
            parameter.normal_(around, std, generator=generator)
    return model


# --- the traps: the loss that balances


@pytest.mark.parametrize("k", [1, 2, 4])
def test_an_even_load_and_uniform_probabilities_give_exactly_1(k):
    E, N = 8, 16
    chosen = torch.arange(N * k).view(N, k) % E
    assert balance_loss(torch.full((N, E), 1 / E), chosen).item() == 1.0


@pytest.mark.parametrize("k", [1, 2, 4])
def test_all_tokens_at_the_same_experts_give_e_over_k(k):
    E, N = 8, 16
    probs = torch.zeros(N, E)
    probs[:, :k] = 1 / k
    chosen = torch.arange(k).expand(N, k)
    assert balance_loss(probs, chosen).item() == pytest.approx(E / k)
    assert max_violation(chosen, E) == pytest.approx(E / k - 1)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("loss_of_transformers", [load_balancing_loss_func, mixtral_loss])
def test_the_loss_is_that_of_transformers_over_k_with_padding_too(k, loss_of_transformers):
    logits, real = noise(3 * 7, 8), torch.ones(3, 7)
    real[0, :4] = real[2, 5:] = 0
    for mask in (None, real):
        routing = top_experts(logits, k)
        ours = balance_loss(*routing[:2], None if mask is None else mask.flatten() > 0)
        expected = loss_of_transformers((logits,), 8, k, mask)
        close(k * ours, expected)


def test_the_probabilities_are_those_of_all_experts_and_one_softmax():
    logits = noise(50, 6)
    probs, chosen, _ = top_experts(logits, 2)
    close(probs, logits.softmax(dim=-1))
    P, f = probs.mean(dim=0), torch.zeros(6)
    for expert in chosen.flatten().tolist():
        f[expert] += 1 / 100
    close(balance_loss(probs, chosen), 6 * (f * P).sum())
    assert P.min() > 0, "experts that nobody chose count too"


def test_only_the_probabilities_pass_a_gradient_which_makes_the_busiest_rarer():
    logits = noise(200, 4)
    logits[:, 2] += 1
    logits.requires_grad_()
    probs, chosen, _ = top_experts(logits, 1)
    (gradient,) = torch.autograd.grad(balance_loss(probs, chosen), logits)
    assert gradient.sum(dim=0).argmax() == 2


@pytest.mark.parametrize("balance", ["loss", "bias"])
def test_padded_and_unpadded_batches_have_equal_loss_and_gradients(balance):
    model = with_experts(balance=balance).double()
    ids = tokens(2, 9)
    wide = torch.full((2, 15), 5)
    wide[0, :9], wide[1, 4:13] = ids[0], ids[1]
    segments = torch.full((2, 15), -1)
    segments[0, :9], segments[1, 4:13] = 0, 0
    results = []
    for x, places in ((ids, None), (wide, segments)):
        aux = {}
        logits = model(x, segments=places, aux=aux)
        logits = logits if places is None else logits[segments >= 0].view(2, 9, -1)
        total, count = aux["balance"]
        assert count == 2 * 9 * 4
        model.zero_grad()
        (F.cross_entropy(logits.flatten(0, 1), ids.flatten()) + total / count).backward()
        results.append([total.detach(), logits.detach(), *(p.grad for p in model.parameters())])
    for a, b in zip(*results):
        close(a, b, 1e-9)


def test_tokens_without_a_target_are_padding_for_the_loss():
    model, ids = with_experts(capacity=0.5).train(), tokens(2, 12)
    targets = ids.clone()
    targets[0, 7:] = -100
    _, aux = NextTokenLoss(model)(ids, targets)
    assert aux["balance"][1] == (7 + 12) * 4 and set(aux) == {"balance", "dropped"}
    assert aux["dropped"][1] == 24 * 2 * 4, "a place is taken by what is computed"
    found = route_tokens(model, [(ids, targets)])
    each = [balance_loss(routing.probs, routing.chosen) for routing, _ in found]
    free, aux = with_experts(), {}
    _, aux = NextTokenLoss(free)(ids, targets)
    close(aux["balance"][0] / aux["balance"][1], torch.stack(each).mean())


def test_a_batch_of_padding_alone_has_no_loss():
    layer, aux = mixture(), {}
    layer(noise(1, 5, 8), Places(None, torch.full((1, 5), -1)), aux)
    total, count = aux["balance"]
    assert total.item() == 0 and count == 0


def test_the_loss_is_a_mean_over_tokens_and_layers():
    model, ids, aux = with_experts(), tokens(3, 11), {}
    model(ids, aux=aux)
    found = route_tokens(model, [(ids, ids)])
    each = [balance_loss(routing.probs, routing.chosen) for routing, _ in found]
    total, count = aux["balance"]
    assert count == 3 * 11 * 4
    close(total / count, torch.stack(each).mean())


# --- the router


@pytest.mark.parametrize("normalize", [True, False])
def test_weights_are_the_probabilities_normalized_or_not(normalize):
    logits = noise(40, 8)
    probs, chosen, weights = top_experts(logits, 3, normalize)
    expected = probs.topk(3).values
    assert torch.equal(chosen, logits.topk(3).indices)
    close(weights, expected / expected.sum(-1, keepdim=True) if normalize else expected)
    if normalize:  # the same as a softmax over the chosen logits alone
        close(weights, logits.topk(3).values.softmax(dim=-1))


def test_a_bias_changes_who_is_chosen_and_no_weight():
    logits, bias = noise(40, 8), torch.zeros(8)
    bias[3] = 10.0
    probs, chosen, weights = top_experts(logits, 2, False, bias)
    assert (chosen[:, 0] == 3).all() and torch.equal(weights, probs.gather(1, chosen))
    close(probs, logits.softmax(dim=-1))


def test_a_dense_layer_is_the_sum_of_experts_into_which_it_is_cut():
    dense = SwiGLU(ModernConfig(**SIZES | {"hidden_dim": 96}))
    layer = MixtureOfExperts(48, 12, n_experts=8, top_k=8, normalize=True)
    gates, ups = dense.c_fc.weight.detach().chunk(2)
    with torch.no_grad():
        layer.router.weight.zero_()  # each expert weighs 1/8
        for number, expert in enumerate(layer.experts):
            rows = slice(12 * number, 12 * number + 12)
            expert.c_fc.weight.copy_(torch.cat([gates[rows], ups[rows]]))
            expert.c_proj.weight.copy_(8 * dense.c_proj.weight[:, rows])
    x = noise(2, 5, 48)
    close(layer(x), dense(x))


@pytest.mark.parametrize("k", [1, 3])
def test_sorted_pieces_give_what_a_loop_over_tokens_gives(k):
    layer, x = mixture(n_experts=5, top_k=k), noise(2, 7, 8)
    routing = layer.route(x.flatten(0, 1))
    rows = []
    for token, chosen, weights in zip(x.flatten(0, 1), routing.chosen, routing.weights):
        rows.append(sum(w * layer.experts[e](token) for e, w in zip(chosen.tolist(), weights)))
    close(layer(x), torch.stack(rows).view_as(x))
    with torch.no_grad():  # where experts without tokens are skipped
        close(layer(x), torch.stack(rows).view_as(x))


def test_a_token_alone_has_the_answer_that_it_has_in_a_batch():
    layer, x = mixture(n_experts=6), noise(1, 20, 8)
    with torch.no_grad():
        for place in range(20):
            close(layer(x[:, place : place + 1]), layer(x)[:, place : place + 1])


@torch.no_grad()
def test_no_token_at_all_and_tokens_that_nobody_answers():
    layer = mixture(n_experts=4)
    assert layer(noise(1, 0, 8)).shape == (1, 0, 8)
    routing = layer.route(noise(3, 8))
    nobody = routing._replace(chosen=torch.full_like(routing.chosen, 4))
    assert torch.equal(mix_experts(noise(3, 8), nobody, layer.experts), torch.zeros(3, 8))


def test_a_shared_expert_answers_every_token():
    layer, x = mixture(shared_dim=16), noise(2, 3, 8)
    shared, layer.shared = layer.shared, None
    close(mixture(shared_dim=16)(x), layer(x) + shared(x))
    assert shared.c_fc.weight.shape == (32, 8)


# --- the capacity


def by_hand(chosen, capacity, n_experts):
    """Who keeps a place: first choices first, then earlier tokens."""
    taken, kept = [0] * n_experts, torch.zeros_like(chosen, dtype=torch.bool)
    for rank in range(chosen.shape[1]):
        for token, expert in enumerate(chosen[:, rank].tolist()):
            taken[expert] += 1
            kept[token, rank] = taken[expert] <= capacity
    return kept


@pytest.mark.parametrize(("k", "capacity"), [(1, 3), (2, 5), (3, 1), (2, 100)])
def test_what_exceeds_the_capacity_is_dropped_and_counted(k, capacity):
    routing = top_experts(noise(30, 4), k)
    dropped = within_capacity(routing, capacity)
    kept = by_hand(routing.chosen, capacity, 4)
    assert torch.equal(dropped.chosen < 4, kept)
    close(dropped.weights, routing.weights * kept)
    counts = dropped.chosen[kept].bincount(minlength=4)
    assert counts.max() <= capacity and (capacity < 100) == bool((~kept).any())


def test_padding_takes_no_place():
    routing, real = top_experts(noise(30, 4), 2), torch.arange(30) >= 10
    padded = within_capacity(routing, 5, real)
    alone = within_capacity(Routing(*(part[10:] for part in routing)), 5)
    assert torch.equal(padded.chosen[10:], alone.chosen) and (padded.chosen[:10] == 4).all()


def test_a_capacity_holds_while_training_only_and_its_drops_are_logged():
    x, aux = noise(4, 16, 8), {}
    layer, free = mixture(capacity=0.5), mixture()
    layer.eval()
    close(layer(x), free(x))
    layer.train()
    out = layer(x, aux=aux)
    lost, count = aux["dropped"]
    assert count == 4 * 16 * 2 and lost >= count / 2
    nobody = (within_capacity(layer.route(x.flatten(0, 1)), 8).chosen == 8).all(dim=1)
    assert nobody.any() and (out.flatten(0, 1)[nobody] == 0).all(), "the block adds nothing then"
    aux = {}
    layer(x, Places(None, torch.where(torch.arange(16) < 8, -1, 0).expand(4, 16)), aux)
    assert aux["dropped"][1] == 4 * 8 * 2


# --- the bias


def test_the_gradient_of_the_bias_is_the_load_above_the_mean():
    layer, x, aux = mixture(balance="bias", n_experts=4), noise(5, 9, 8), {}
    out = layer(x, aux=aux)
    total, count = aux["balance"]
    load = expert_load(layer.route(x.flatten(0, 1)).chosen, 4)
    assert (total / count).item() == pytest.approx((4 * load - 1).max().item())
    (total / count).backward(retain_graph=True)
    close(layer.balance_bias.grad, 4 * load - 1)
    assert layer.router.weight.grad is None, "what the bias does adds no gradient elsewhere"
    layer.balance_bias.grad = None
    out.sum().backward()
    assert layer.balance_bias.grad is None, "and the loss none to the bias"


def test_with_an_adam_that_remembers_nothing_it_is_the_rule_of_the_paper():
    """Wang et al. 2024, algorithm 1: b_i += u sign(mean load - load of i)."""
    torch.manual_seed(0)
    sizes = SIZES | {"n_layers": 2}
    model = with_experts(std=0.1, sizes=sizes, balance="bias")
    ids = tokens(4, 33)
    biases = [block.mlp.balance_bias for block in model.h]
    before = [bias.detach().clone() for bias in biases]
    routed = route_tokens(model, [(ids[:, :-1], ids[:, 1:])])
    config = TrainConfig(2, 1e-3, warmup_steps=0, betas=(0.0, 0.0), grad_clip=None)
    next(iter(_run(model, config, (ids[:, :-1], ids[:, 1:]))))
    for bias, old, (routing, _) in zip(biases, before, routed):
        load = expert_load(routing.chosen, 8)
        close(bias.detach(), old + 1e-3 * torch.sign(1 / 8 - load), 1e-6)


def _run(model, config, batch):
    from llmlib.training.trainer import Trainer

    return Trainer(model, config).run([batch])


def test_a_bias_evens_the_load():
    layer, x = mixture(balance="bias", n_experts=8, top_k=2), noise(1, 512, 8) + 0.7
    before = max_violation(layer.route(x[0]).chosen, 8)
    optimizer = torch.optim.Adam([layer.balance_bias], lr=0.01)
    for _ in range(150):
        aux = {}
        layer(x, aux=aux)
        optimizer.zero_grad()
        aux["balance"][0].backward()
        optimizer.step()
    after = max_violation(layer.route(x[0]).chosen, 8)
    assert before > 0.7 and after < 0.15, (before, after)


# --- in the rest of the package


def test_settings_reach_the_layers_and_dense_ones_stand_among_them():
    kinds = {
        "n_dense": with_experts(n_dense=1),
        "dense_layers": with_experts(dense_layers=[2]),
        "sparse_step": with_experts(sparse_step=2),
    }
    sparse = {
        name: [isinstance(block.mlp, MixtureOfExperts) for block in model.h]
        for name, model in kinds.items()
    }
    assert sparse["n_dense"] == [False, True, True, True]
    assert sparse["dense_layers"] == [True, True, False, True]
    assert sparse["sparse_step"] == [False, True, False, True]
    assert kinds["n_dense"].h[0].mlp.c_proj.weight.shape == (48, 80), "as wide as hidden_dim says"
    assert with_experts(hidden_dim=None).h[0].mlp.experts[0].c_proj.weight.shape == (48, 80)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"top_k": 9}, "from 1 to n_experts"),
        ({"top_k": 0}, "from 1 to n_experts"),
        ({"n_experts": 0}, "n_experts"),
        ({"balance": "los"}, "loss, bias"),
        ({"capacity": 0}, "capacity"),
        ({"shared_dim": -1}, "shared_dim"),
        ({"normalize": 1}, "normalize"),
        ({"hidden_dim": 0}, "hidden_dim"),
        ({"dense_layers": [4]}, "dense_layers"),
        ({"n_dense": -1}, "n_dense"),
        ({"sparse_step": 0}, "sparse_step"),
        ({"n_expert": 4}, "n_experts"),
    ],
)
def test_impossible_settings_are_refused_with_what_is_allowed(settings, words):
    with pytest.raises(ValueError, match=words):
        with_experts(**settings)
    with pytest.raises(ValueError, match="mlp_bias"):
        Modern(ModernConfig(**SIZES, mlp_bias=True, feed_forward={"name": "moe"}))


def test_optimizers_initialization_and_memory_treat_experts_like_the_rest():
    model = new_model(preset("moe-small"))
    trained = {id(p) for p in hidden_matrices(model)}
    names = [n for n, p in model.named_parameters() if id(p) in trained and ".mlp." in n]
    assert len(names) == 3 * (1 + 2 * 16)
    assert "h.0.mlp.router.weight" in names and "h.2.mlp.experts.15.c_proj.weight" in names
    expert = model.h[1].mlp.experts[3]
    assert expert.c_proj.weight.std().item() == pytest.approx(0.02 / 6**0.5, rel=0.05)
    assert expert.c_fc.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert with_experts(balance="bias").h[0].mlp.balance_bias.shape == (8,)
    fresh = Modern(ModernConfig(**SIZES, feed_forward={"name": "moe", "balance": "bias"}))
    assert not fresh.h[0].mlp.balance_bias.any()
    for config in (model.config, preset("llama-small"), preset("story-small")):
        with torch.device("meta"):
            whole = new_model(config)
        inside = sum(p.numel() for n, p in whole.named_parameters() if n.startswith("h."))
        assert checks.block_parameters(config) == pytest.approx(inside, rel=0.02)


def test_a_model_that_no_memory_holds_is_refused_before_it_is_made(monkeypatch):
    config = preset("moe-small", feed_forward={"name": "moe", "n_experts": 10**9})
    with pytest.raises(ValueError, match="make it smaller"):
        checks.affordable(config)
    checks.affordable(preset("moe-small", feed_forward={"name": "moe", "n_experts": "9"}))


def test_active_parameters_are_those_that_a_token_meets():
    model = with_experts(n_dense=1, shared_dim=16)
    each = 3 * 48 * 24
    assert model.num_parameters() - active_parameters(model) == 3 * (8 - 2) * each
    dense = Modern(ModernConfig(**SIZES))
    assert active_parameters(dense) == dense.num_parameters()


@pytest.mark.parametrize("balance", ["loss", "bias", None])
def test_two_microbatches_train_like_any_model(balance):
    """The loss over tokens is exact; the balance is that of each batch, as everywhere."""
    ids = tokens(4, 21)
    batches = [(ids[:2, :-1], ids[:2, 1:]), (ids[2:, :-1], ids[2:, 1:])]
    model, aux = with_experts(balance=balance), {}
    loss, n = accumulate(NextTokenLoss(model), batches, 0.1, aux)
    expected = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    close(loss, expected)
    assert n == 80 and (balance is None) == ("balance" not in aux)


def test_gradients_are_the_same_with_gradient_checkpointing():
    ids, grads = tokens(2, 21), []
    for again in (False, True):
        model = with_experts(capacity=0.8).train()
        model.gradient_checkpointing = again
        accumulate(NextTokenLoss(model), [(ids[:, :-1], ids[:, 1:])], 0.1)
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads):
        close(a, b)


def test_under_autocast_the_router_decides_in_full_precision():
    layer, x = mixture(n_experts=8), noise(1, 300, 8)
    exact = layer.route(x[0])
    with torch.autocast("cpu", torch.bfloat16):
        low = layer.route(x[0])
        out = layer(x)
    assert torch.equal(exact.chosen, low.chosen) and low.probs.dtype == torch.float32
    close(out.float(), layer(x), 0.05)
    # a whole model in bfloat16 works, and a few tokens go to other experts
    rough = mixture().bfloat16()(x.bfloat16()).float()
    far = ((rough - mixture()(x)).abs() > 0.05).any(dim=-1).float().mean()
    assert 0 < far < 0.1


def weight_sum(model):
    return sum(weight.nbytes for weight in weight_matrices(model))


@pytest.mark.parametrize("format", ["float32", "bfloat16", "int8"])
def test_every_expert_is_packed_and_texts_are_the_same(format):
    model = with_experts(std=0.2, shared_dim=16)
    packed = quantize(model, format)
    layers = [m for m in packed.modules() if isinstance(m, PackedLinear)]
    assert len(layers) == 4 * (2 + 1 + 2 * 8 + 2) + 1
    idle = 4 * 6 * 3 * 48 * 24  # in four layers, six experts that a token does not use
    assert bytes_read(packed) == weight_sum(packed) - idle * BYTES[format]
    prompt = tokens(1, 9).tolist()
    logits, expected = packed(tokens(2, 9)), model(tokens(2, 9)).detach()
    assert (logits - expected).norm() < 0.1 * expected.norm()
    texts = [generate(each, prompt, 8, Sampling(temperature=0)) for each in (model, packed)]
    assert format == "int8" or texts[0] == texts[1]


# --- what is measured


def test_mutual_information_is_log_w_for_specialists_and_0_for_generalists():
    assert mutual_information(torch.eye(4) * 7) == pytest.approx(torch.tensor(4.0).log().item())
    assert mutual_information(torch.ones(8, 4)) == pytest.approx(0, abs=1e-12)
    counts = torch.tensor([[3.0, 1.0], [1.0, 3.0]])
    assert mutual_information(counts) == pytest.approx(0.1308120, abs=1e-6)
    assert mutual_information(torch.zeros(2, 2) + torch.eye(2) * 5) == pytest.approx(0.6931472)


def test_entropy_of_a_router():
    assert router_entropy(torch.full((5, 8), 1 / 8)) == pytest.approx(2.0794415)
    assert router_entropy(torch.eye(4)) == 0


def test_routes_leave_out_what_does_not_count_and_leave_nothing_behind():
    model, ids = with_experts(n_dense=1).train(), tokens(2, 6)
    targets = ids.clone()
    targets[0, 4:] = -100
    found = route_tokens(model, [(ids, targets), (ids, ids)])
    assert len(found) == 3 and model.training
    routing, seen = found[0]
    assert len(routing.chosen) == 10 + 12 and seen.tolist()[:4] == ids[0, :4].tolist()
    assert not any(m._forward_pre_hooks for m in model.modules())
    alone = route_tokens(model, [(ids[:1, :4], ids[:1, :4])])[0][0]
    assert torch.equal(routing.chosen[:4], alone.chosen)


# --- the same as transformers'

QWEN = {"mlp_only_layers": [1], "decoder_sparse_step": 1, "norm_topk_prob": True}
KINDS = {
    "qwen3": ("Qwen3Moe", QWEN, {"dense_layers": [1]}),
    "qwen3 not normalized": (
        "Qwen3Moe",
        {"decoder_sparse_step": 2, "norm_topk_prob": False},
        {"sparse_step": 2, "normalize": False},
    ),
    "mixtral": ("Mixtral", {}, {}),
}
NAMES = {
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_proj": "self_attn.o_proj",
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    "mlp.c_proj": "mlp.down_proj",
    "mlp.router": "mlp.gate",
}


def theirs(name, state):
    """What transformers has for a parameter of ours: it stacks the experts."""
    place, _, kind = name.rpartition(".")
    top = {"wte": "model.embed_tokens", "ln_f": "model.norm", "lm_head": "lm_head"}
    if place in top:
        return state[f"{top[place]}.{kind}"]
    _, layer, part = place.split(".", 2)
    start = f"model.layers.{layer}."
    if part.startswith("mlp.experts."):
        _, _, number, which = part.split(".")
        stacked = {"c_fc": "gate_up_proj", "c_proj": "down_proj"}[which]
        return state[f"{start}mlp.experts.{stacked}"][int(number)]
    if part == "attn.c_attn":
        return torch.cat([state[f"{start}self_attn.{x}_proj.{kind}"] for x in "qkv"])
    if part == "mlp.c_fc":
        return torch.cat([state[f"{start}mlp.{x}_proj.{kind}"] for x in ("gate", "up")])
    return state[f"{start}{NAMES[part]}.{kind}"]


@pytest.fixture(params=KINDS)
def pair(request):
    """A random model of transformers, norms too, and ours with its weights."""
    family, settings, ours = KINDS[request.param]
    qwen = family == "Qwen3Moe"
    sizes = {"num_experts": 8, "moe_intermediate_size": 24, "intermediate_size": 80, "head_dim": 16}
    config = getattr(transformers, f"{family}Config")(
        **(sizes if qwen else {"num_local_experts": 8, "intermediate_size": 24}),
        vocab_size=97,
        hidden_size=48,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        num_experts_per_tok=2,
        router_aux_loss_coef=0.02,
        output_router_logits=True,
        attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        **settings,
    )
    torch.manual_seed(0)
    reference = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    heads = {"head_dim": 16, "qk_norm": True} if qwen else {}
    model = with_experts(sizes=SIZES | heads, **ours)
    state = reference.state_dict()
    model.load_state_dict({name: theirs(name, state) for name in model.state_dict()})
    return reference, model


def pooled(model, ids, segments=None):
    """The balance of transformers' loss: over the tokens of all layers as if they were one."""
    kept = []
    hooks = [
        module.register_forward_pre_hook(
            lambda m, given: kept.append(m.route(given[0].flatten(0, 1)))
        )
        for module in model.modules()
        if isinstance(module, MixtureOfExperts)
    ]
    logits = model(ids, segments=segments)
    for hook in hooks:
        hook.remove()
    real = None if segments is None else (segments.flatten() >= 0).repeat(len(kept))
    probs, chosen = (torch.cat([getattr(r, name) for r in kept]) for name in ("probs", "chosen"))
    return logits, balance_loss(probs, chosen, real)


def test_logits_losses_and_gradients_are_those_of_transformers(pair):
    reference, model = pair
    ids = tokens(2, 50)
    expected = reference(ids, labels=ids)
    logits, balance = pooled(model, ids)
    close(logits, expected.logits, 1e-4)
    close(2 * balance, expected.aux_loss, 1e-4)
    loss = next_token_loss(logits, ids) + 0.02 * 2 * balance
    close(loss, expected.loss, 1e-4)
    loss.backward()
    expected.loss.backward()
    same_gradients(reference, model, theirs)


@torch.no_grad()
def test_a_cache_with_left_padding_gives_the_logits_of_transformers(pair):
    same_with_a_cache_and_left_padding(*pair)


@torch.no_grad()
def test_the_balance_leaves_out_left_padding_as_transformers_does(pair):
    reference, model = pair
    ids, mask = padded()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = reference(ids, attention_mask=mask, position_ids=positions)
    _, balance = pooled(model, ids, mask - 1)
    close(2 * balance, expected.aux_loss, 1e-4)


# --- an expert that nobody chooses, on two processes

IDS = torch.arange(60).reshape(4, 15) % 13
TARGETS = IDS[:, 1:].clone()
TARGETS[0, 9:] = -100  # padding, of which a batch without segments says no more
SHARES = [(IDS[:2, :-1], TARGETS[:2]), (IDS[2:, :-1], TARGETS[2:])]


def small_model(balance):
    """Eight experts, of which the last five are chosen by no token."""
    torch.manual_seed(0)
    part = {"name": "moe", "n_experts": 8, "top_k": 2, "balance": balance, "capacity": 4.0}
    model = Modern(ModernConfig(13, 14, 8, 2, 1, hidden_dim=8, feed_forward=part))
    with torch.no_grad():
        model.h[0].ln_2.weight.fill_(0.2)
        model.h[0].mlp.router.weight[3:] = 0
        model.h[0].mlp.router.weight[:3] += 20 * model.wte.weight[:13:5].sign()
    return model


CONFIG = TrainConfig(3, 1e-3, warmup_steps=0, aux_weights=0.5)


def test_an_expert_without_tokens_has_a_gradient_of_zero():
    layer = mixture(n_experts=4, top_k=1, balance=None)
    with torch.no_grad():
        layer.router.weight[2:] = 0
        layer.router.weight[0], layer.router.weight[1] = 9.0, -9.0
    layer(noise(1, 20, 8)).sum().backward()
    grads = [expert.c_fc.weight.grad for expert in layer.experts]
    assert all(grad is not None for grad in grads) and not grads[3].any() and grads[0].any()


def one_of_two(rank, folder, balance):
    """Train with the share of one process, and save the weights."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    model = small_model(balance)
    reports = train(model, [SHARES[rank]], CONFIG, wrap=DistributedDataParallel)
    save_file(model.state_dict(), f"{folder}/{rank}.safetensors")
    assert len(reports) == 3 and all(report.n_tokens == 51 for report in reports)
    dist.barrier()


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["loss", "bias"])
def test_two_processes_with_idle_experts_learn_what_one_does(tmp_path, balance):
    program = "import os, sys; sys.path.insert(0, sys.argv[1]); import test_moe as t\n"
    program += "t.one_of_two(int(sys.argv[2]), *sys.argv[3:]); os._exit(0)"
    here = str(Path(__file__).parent)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, here, str(rank), str(tmp_path), balance],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    assert [process.wait(600) for process in processes] == [0, 0]
    alone = small_model(balance)
    ((routing, _),) = route_tokens(alone, SHARES)
    assert len(routing.chosen.unique()) < 8, "some experts have no token"
    train(alone, [(IDS[:, :-1], TARGETS)], CONFIG)
    for rank in range(2):
        weights = load_file(tmp_path / f"{rank}.safetensors")
        torch.testing.assert_close(weights, dict(alone.state_dict()), rtol=1e-4, atol=1e-5)


def test_experts_are_modules_that_know_nothing_of_each_other():
    assert isinstance(Expert(8, 4), nn.Module) and Expert(8, 4)(noise(0, 8)).shape == (0, 8)
    routing = Routing(torch.eye(2), torch.tensor([[0], [1]]), torch.ones(2, 1))
    x = noise(2, 8)
    close(mix_experts(x, routing, [nn.Identity(), nn.Identity()]), x)
