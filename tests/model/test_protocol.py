"""What the protocol of a model promises, held by GPT and by a toy model that is not one."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import CAP, Toy, ToyConfig

from llmlib.generation.beam import beam_search
from llmlib.generation.generate import generate, pad_left
from llmlib.generation.packing import PackedLinear
from llmlib.generation.quantization import bytes_read, quantize, weight_bytes
from llmlib.generation.rounding import BYTES
from llmlib.generation.sampling import Sampling
from llmlib.generation.speculative import speculate
from llmlib.model.cache import KVCache, PackedRows, visible
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.model.modern import Modern, ModernConfig
from llmlib.model.protocol import Cache, LanguageModel

GREEDY = Sampling(temperature=0)
KINDS = ["gpt", "untied", "toy", "modern", "modern capped", "window", "sinks", "latent", "experts"]
PARTS = {
    "window": {"mask": {"name": "window", "width": 3}},
    "sinks": {"mask": {"name": "window", "width": 2, "sinks": 2}},
    "latent": {
        "n_kv_heads": 4,
        "attention": {
            "name": "latent_attention",
            "kv_lora_rank": 6,
            "qk_nope_head_dim": 4,
            "v_head_dim": 5,
        },
    },
    "experts": {  # its loss is no sum over documents, which tests/model/test_moe.py has
        "hidden_dim": 24,
        "feed_forward": {
            "name": "moe",
            "n_experts": 6,
            "top_k": 2,
            "balance": None,
            "shared_dim": 8,
        },
    },
}


def make(kind, seed=0):
    """A model of 23 tokens and a context of 24, with weights so large that answers differ."""
    if kind == "toy":
        return Toy(seed=seed).eval()
    if kind.startswith("modern") or kind in PARTS:  # grouped queries, whose norms one has
        rest = {"logit_cap": CAP, "qk_norm": True} if kind == "modern capped" else {}
        rest = {"n_kv_heads": 2, "tie_weights": not rest} | rest | PARTS.get(kind, {})
        model = Modern(ModernConfig(23, 24, 16, 4, 2, **rest))
    else:
        model = GPT(GPTConfig(23, 24, 16, 2, 2, tie_weights=kind == "gpt"))
    model.init_weights(0.3, generator=torch.Generator().manual_seed(seed))
    return model.eval()


def tokens(*shape, seed=0):
    return torch.randint(23, shape, generator=torch.Generator().manual_seed(seed))


def close(a, b, **options):
    torch.testing.assert_close(a, b, **({"rtol": 1e-5, "atol": 1e-5} | options))


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_has_all_members_of_the_protocol(kind):
    model = make(kind)
    for name in ("forward", "features", "head", "new_cache"):
        ours, theirs = (inspect.signature(getattr(m, name)) for m in (type(model), LanguageModel))
        assert list(ours.parameters) == list(theirs.parameters), name
    assert hasattr(model, "lm_head") and model.config.vocab_size == 23
    members = [name for name in vars(Cache) if not name.startswith("_")]
    assert {"grow", "update", "rewind", "select"} <= set(members)
    assert all(hasattr(model.new_cache(1, 4), name) for name in [*members, "length", "positions"])


@pytest.mark.parametrize("kind", KINDS)
def test_head_of_features_are_the_logits(kind):
    model, ids = make(kind), tokens(2, 6)
    features = model.features(ids)
    assert torch.equal(model.head(features), model(ids))
    close(model.head(features[:, -1]), model(ids)[:, -1])
    if kind in ("toy", "modern capped"):
        assert model.head_weight is None and model(ids).abs().max() < CAP
    else:
        close(features @ model.head_weight.T, model(ids))


def test_a_model_may_fill_aux_and_a_gpt_does_not():
    aux = {}
    make("gpt")(tokens(2, 5), aux=aux)
    assert aux == {}
    make("toy")(tokens(2, 5), aux=aux)
    loss, count = aux["gate"]
    assert count == 2 * 5 * 2 and loss.requires_grad and 0 < loss.item() < count


# --- documents packed into a row, and padding

documents_of_rows = st.lists(
    st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=3
)


def pack(rows, seed=0):
    """Lengths of documents for each row -> documents, ids and segments, padded on both sides."""
    longest = max(sum(lengths) for lengths in rows)
    ids, segments, documents = [], [], []
    for number, lengths in enumerate(rows):
        parts = [tokens(n, seed=seed + 10 * number + i) for i, n in enumerate(lengths)]
        free = longest - sum(lengths)
        left = free // 2
        row = torch.cat([*parts, torch.zeros(0, dtype=torch.int64)])
        ids.append(F.pad(row, (left, free - left)))
        numbers = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)])
        segments.append(F.pad(numbers, (left, free - left), value=-1))
        documents += parts
    return documents, torch.stack(ids), torch.stack(segments)


def loss_of(model, logits, ids, segments):
    """The summed loss of each next token inside its document."""
    counts = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] >= 0)
    targets = ids[:, 1:].masked_fill(~counts, -100)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), reduction="sum")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(rows=documents_of_rows)
def test_packed_documents_have_the_loss_and_gradients_of_separate_rows(kind, rows):
    model = make(kind).double()
    documents, ids, segments = pack(rows)
    aux, alone = {}, {}
    together = loss_of(model, model(ids, segments=segments, aux=aux), ids, segments)
    (together + sum(loss for loss, _ in aux.values())).backward()
    packed = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    separate = torch.zeros((), dtype=torch.float64)
    for document in documents:
        row = document[None]
        separate += loss_of(model, model(row, aux=alone), row, torch.zeros_like(row))
    (separate + sum(loss for loss, _ in alone.values())).backward()
    close(together, separate, atol=1e-6, rtol=1e-6)
    assert {name: n for name, (_, n) in aux.items()} == {name: n for name, (_, n) in alone.items()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            close(packed[name], parameter.grad, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_left_padded_prompts_have_the_logits_of_each_alone(kind, lengths):
    model = make(kind)
    prompts = [tokens(n, seed=i).tolist() for i, n in enumerate(lengths)]
    ids, padding = pad_left(prompts)
    segments = torch.where(torch.arange(ids.shape[1]) < padding[:, None], -1, 0)
    logits = model(ids, segments=segments)
    assert logits.isfinite().all()
    for row, prompt in enumerate(prompts):
        close(logits[row, padding[row] :], model(torch.tensor([prompt]))[0])


def test_what_a_token_sees_is_its_document_so_far_and_padding_only_itself():
    segments = torch.tensor([[-1, 0, 0, 1, 1, -1]])
    expected = [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert visible(segments, segments)[0].int().tolist() == expected
    assert visible(segments[:, 4:], segments)[0].int().tolist() == expected[4:]
    assert PackedRows(segments).positions.tolist() == [[0, 0, 1, 0, 1, 0]]


# --- the cache


def chunks(n, cuts):
    """The borders of pieces of n tokens, cut at the places given."""
    borders = sorted({0, n, *(cut % n for cut in cuts)})
    return list(zip(borders, borders[1:]))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(rows=documents_of_rows, cuts=st.lists(st.integers(0, 99), max_size=4))
def test_read_in_pieces_with_segments_the_logits_are_those_of_the_whole(kind, rows, cuts):
    model = make(kind).requires_grad_(False)
    _, ids, segments = pack(rows)
    cache = model.new_cache(*ids.shape)
    parts = [
        model(ids[:, start:end], cache, segments=segments[:, start:end])
        for start, end in chunks(ids.shape[1], cuts)
    ]
    close(torch.cat(parts, dim=1), model(ids, segments=segments))


@pytest.mark.parametrize("kind", KINDS)
def test_without_segments_a_token_goes_on_with_the_last_document_of_its_row(kind):
    model = make(kind).requires_grad_(False)
    ids, more = tokens(3, 6), tokens(3, 3, seed=5)
    segments = torch.tensor([[0, 0, 1, 1, 2, 2], [-1, -1, 0, 0, 0, 0], [0, 0, 0, 3, 3, -1]])
    cache = model.new_cache(3, 10)
    model(ids, cache, segments=segments)
    logits = torch.cat([model(more[:, :1], cache), model(more[:, 1:], cache)], dim=1)
    for row, start, end in ((0, 4, 6), (1, 2, 6), (2, 3, 5)):
        alone = torch.cat([ids[row, start:end], more[row]])[None]
        close(logits[row], model(alone)[0, end - start :])


@pytest.mark.parametrize("kind", KINDS)
def test_segments_may_begin_behind_tokens_that_had_none(kind):
    model = make(kind).requires_grad_(False)
    ids = tokens(1, 6)
    cache = model.new_cache(1, 6)
    parts = [model(ids[:, :3], cache), model(ids[:, 3:], cache, segments=torch.tensor([[0, 1, 1]]))]
    close(torch.cat(parts, 1), model(ids, segments=torch.tensor([[0, 0, 0, 0, 1, 1]])))


@pytest.mark.parametrize("kind", KINDS)
def test_rewound_and_with_other_rows_the_cache_goes_on_as_if_it_had_read_only_that(kind):
    model = make(kind).requires_grad_(False)
    ids, segments = tokens(3, 6), torch.tensor([[0] * 6, [-1, -1, 0, 0, 0, 1], [-1, 0, 0, 0, 0, 0]])
    cache = model.new_cache(3, 12)
    model(ids, cache, segments=segments)
    model(tokens(3, 2, seed=9), cache)
    cache.rewind(5)
    cache.select(torch.tensor([1, 2, 1, 0]))
    more = tokens(4, 3, seed=4)
    logits = torch.cat([model(more[:, :2], cache), model(more[:, 2:], cache)], dim=1)
    for row, (old, start) in enumerate(((1, 2), (2, 1), (1, 2), (0, 0))):
        text = torch.cat([ids[old, start:5], more[row]])[None]
        close(logits[row], model(text)[0, -3:])
    cache.rewind(0)  # empty, it has forgotten the segments too
    close(model(more, cache), model(more))


def test_common_steps_need_no_mask_and_no_tensor_of_positions():
    model = make("gpt").requires_grad_(False)
    cache = model.new_cache(2, 10)
    model(tokens(2, 3), cache)
    assert cache.mask is None and cache.positions == slice(0, 3)
    model(tokens(2, 1), cache)
    assert cache.mask is None and cache.positions == slice(3, 4)
    model(tokens(2, 2), cache)
    assert cache.mask.int().tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]


def test_a_cache_refuses_gradients_and_segments_of_another_shape():
    model = make("gpt")
    with pytest.raises(RuntimeError, match=r"a cache passes no gradient.*torch\.no_grad"):
        model(tokens(1, 3), model.new_cache(1, 3))
    for segments in (torch.zeros(1, 4).long(), torch.zeros(1, 3)):
        with pytest.raises(ValueError, match="give an int for each of the ids"):
            model(tokens(1, 3), segments=segments)


def test_cached_documents_take_other_sizes_of_keys_too():
    cache = KVCache(n_layers=1, batch_size=2, capacity=4)
    cache.grow(2, 3)
    k = torch.randn(2, 5, 3, 7)
    keys, values, mask = cache.update(0, k, 2 * k)
    assert torch.equal(keys, k) and torch.equal(values, 2 * k) and mask is None


# --- everything that takes a model takes any of them


@pytest.mark.parametrize("kind", KINDS)
def test_generation_beams_and_drafts_agree_with_reading_the_whole_text_again(kind):
    model, draft = make(kind), make("toy", seed=7)
    prompts = [tokens(n, seed=n).tolist() for n in (4, 1, 6)]
    expected = generate(model.forward, prompts, 9, GREEDY)
    assert generate(model, prompts, 9, GREEDY) == expected
    for prompt, text in zip(prompts, expected):
        (beam,) = beam_search(model, [prompt], 9, 1)
        assert prompt + beam.ids == text
        for pair in ((model, draft), (model, model), (model, draft.forward)):
            parts = speculate(*pair, [prompt], 9, GREEDY)
            assert prompt + [token for part in parts for token in part] == text
    wide, plain = (beam_search(m, prompts[:1], 5, 4) for m in (model, model.forward))
    assert [beam.ids for beam in wide] == [beam.ids for beam in plain]


@pytest.mark.parametrize("format", BYTES)
@pytest.mark.parametrize("kind", KINDS)
def test_packed_models_are_models_of_the_same_kind(kind, format):
    model = make(kind)
    packed, ids = quantize(model, format), tokens(2, 7)
    assert type(packed) is type(model) and packed.config is not None
    assert packed.head_weight is None and isinstance(packed.lm_head, PackedLinear)
    logits, expected = packed(ids), model(ids).detach()
    assert logits.dtype == torch.float32 and not logits.requires_grad
    bound = {"float32": 1e-5, "bfloat16": 0.04, "float16": 0.004, "int8": 0.08}[format]
    assert (logits - expected).norm() < bound * expected.norm()
    assert f", {format})" in repr(packed)
    cache = packed.new_cache(2, 7)
    cached = torch.cat([packed(ids[:, :4], cache), packed(ids[:, 4:5], cache)], dim=1)
    assert (cached - expected[:, :5]).norm() < 1.5 * bound * expected.norm()
    if kind != "latent":  # some of whose weights stay in float32
        assert bytes_read(packed) == bytes_read(model) * BYTES[format] / 4
    assert format == "float32" or weight_bytes(packed) < weight_bytes(model)
    assert len(generate(packed, [[1], [2, 3]], 5, GREEDY)[1]) == 7
    list(speculate(model, packed, [[1]], 5, GREEDY))
    beam_search(packed, [[1]], 3, 2)


def test_a_tied_head_with_a_soft_cap_keeps_its_table():
    class Capped(GPT):
        def head(self, features):
            return CAP * torch.tanh(super().head(features) / CAP)

        @property
        def head_weight(self):
            return None

    model = Capped(make("gpt").config).eval()
    packed, ids = quantize(model, "float16"), tokens(1, 5)
    close(packed(ids), model(ids).detach(), atol=1e-3, rtol=1e-2)


def test_packed_weights_are_shared_by_copies_and_hold_no_second_copy():
    import copy

    model = make("gpt")
    packed = quantize(model, "int8")
    again = copy.deepcopy(packed)
    assert again.h[0].attn.c_attn.product is packed.h[0].attn.c_attn.product
    names = {name for name, _ in packed.named_parameters()}
    assert not any("c_attn" in name or "c_fc" in name for name in names)
    assert packed.wte.weight.dtype == torch.float16
    assert packed.wte.weight.data_ptr() != model.wte.weight.data_ptr()
    model.wpe.weight.data.fill_(0)
    assert packed.wpe.weight.any()


def test_a_toy_configuration_can_be_changed():
    assert Toy(ToyConfig(vocab_size=9))(torch.zeros(1, 2).long()).shape == (1, 2, 9)
