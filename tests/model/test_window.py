"""A window sees what it should, at once and token by token, and its cache is a ring."""

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import close as nearly
from parity import next_token_loss, same_gradients, tokens
from test_modern import modern, theirs
from test_protocol import chunks, documents_of_rows, pack

from llmlib.generation.beam import beam_search
from llmlib.generation.generate import generate
from llmlib.generation.sampling import Sampling
from llmlib.generation.speculative import speculate
from llmlib.model.window import SPARE
from llmlib.pretrained.huggingface import load_pretrained

GREEDY = Sampling(temperature=0)
W = 5


def close(a, b):
    nearly(a, b, 1e-4)


def windowed(width=W, sinks=0, **changes):
    mask = {"name": "window", "width": width, "sinks": sinks}
    mask |= {"streaming": True} if changes.pop("streaming", False) else {}
    model = modern(mask=mask, **({"context_length": 256} | changes))
    return model.requires_grad_(False)


def by_hand(segments, width, sinks):
    """Which tokens see which, one pair at a time."""
    B, T = segments.shape
    sees = torch.zeros(B, T, T, dtype=torch.bool)
    for b in range(B):
        for i in range(T):
            for j in range(i + 1):
                same = segments[b, i] == segments[b, j] >= 0
                place = int((segments[b, :j] == segments[b, j]).sum())
                sees[b, i, j] = (same and (i - j < width or place < sinks)) or i == j
    return sees


@pytest.mark.parametrize("sinks", [0, 1, 3])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_what_a_token_sees_is_the_window_of_its_document_and_the_sinks(width, sinks):
    segments = torch.tensor([[-1, -1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, -1], [3] * 16])
    rows = windowed(width, sinks).mask.packed(segments, segments)
    assert torch.equal(rows.mask[:, 0], by_hand(segments, width, sinks))
    assert (
        rows.positions[0].tolist() == [0, 1, *range(6), *range(7), 2] or rows.positions.min() >= 0
    )
    plain = windowed(width, sinks).mask.packed(segments[1:], None)
    assert torch.equal(plain.mask[0, 0], by_hand(segments[1:], width, sinks)[0])
    assert plain.positions == slice(16)


def test_no_width_0_and_none_mean_no_window():
    ids = tokens(2, 40)
    expected = modern(context_length=64)(ids)
    for mask in (
        "causal",
        "window",
        {"name": "window", "width": None},
        {"name": "window", "width": 0},
    ):
        model = modern(context_length=64, mask=mask)
        assert torch.equal(model(ids), expected)
        assert type(model.new_cache(1, 9)).__name__ == "KVCache"


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ({"width": -1}, "width is -1"),
        ({"width": 2.0}, "width is 2.0"),
        ({"width": True}, "width is True"),
        ({"width": 4, "sinks": -1}, "sinks is -1"),
        ({"sinks": 4}, "need a window: give width"),
        ({"width": 0, "streaming": True}, "need a window"),
        ({"width": 4, "streaming": 1}, "streaming is 1"),
        ({"widht": 4}, "widht"),
    ],
)
def test_impossible_windows_are_refused(mask, words):
    with pytest.raises(ValueError, match=words):
        modern(mask={"name": "window"} | mask)


# --- token by token, in pieces, and at once


@pytest.mark.parametrize("sinks", [0, 2])
@pytest.mark.parametrize("length", [1, W - 1, W, W + 1, 3 * W, 9 * W])
def test_token_by_token_equals_all_at_once(length, sinks):
    model, ids = windowed(W, sinks), tokens(3, length)
    whole = model(ids)
    cache = model.new_cache(3, length)
    close(torch.cat([model(ids[:, i : i + 1], cache) for i in range(length)], 1), whole)


@pytest.mark.parametrize("sinks", [0, 1, 2, 7])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_pieces_of_any_size_with_left_padding_equal_all_at_once(sinks, data):
    model = windowed(W, sinks)
    length = data.draw(st.sampled_from([W - 1, W, W + 1, 3 * W, 12 * W]))
    cuts = data.draw(st.lists(st.integers(0, 999), max_size=9))
    padding = data.draw(st.lists(st.integers(0, length - 1), min_size=2, max_size=3))
    ids = tokens(len(padding), length)
    place = torch.arange(length)
    segments = torch.where(place < torch.tensor(padding)[:, None], -1, 0)
    whole = model(ids, segments=segments)
    cache, parts = model.new_cache(len(ids), length), []
    for start, end in chunks(length, cuts):
        # told once that the padding is over, a row goes on without segments
        given = segments[:, start:end] if start <= max(padding) else None
        parts.append(model(ids[:, start:end], cache, segments=given))
    parts = torch.cat(parts, 1)
    for row, n in enumerate(padding):
        close(parts[row, n:], whole[row, n:])
        close(whole[row, n:], model(ids[row : row + 1, n:])[0])


@pytest.mark.parametrize("sinks", [0, 2])
@settings(max_examples=40, deadline=None)
@given(rows=documents_of_rows, cuts=st.lists(st.integers(0, 99), max_size=9))
def test_documents_in_a_row_have_windows_and_sinks_of_their_own(sinks, rows, cuts):
    model = windowed(2, sinks)
    _, ids, segments = pack(rows)
    cache = model.new_cache(*ids.shape)
    cache.ring = 2  # without spare slots
    cache.clear()
    parts = [
        model(ids[:, start:end], cache, segments=segments[:, start:end])
        for start, end in chunks(ids.shape[1], cuts)
    ]
    close(torch.cat(parts, dim=1), model(ids, segments=segments))


def test_the_memory_of_the_ring_does_not_grow():
    model = windowed(8, 2)
    for length in (30, 200):
        cache = model.new_cache(1, 256)
        model(tokens(1, length), cache)
        model(tokens(1, 1), cache)
        assert cache.data.shape == (6, 1, 2, 8 + 2 + SPARE, 8) and cache.length == length + 1


def test_what_a_ring_that_is_not_full_holds_is_not_seen():
    """Not zeros either: a score of zero would take a share of the attention."""
    model, ids = windowed(8, 2), tokens(1, 4)
    cache = model.new_cache(1, 9)
    model(ids[:, :1], cache)
    cache.data[..., 1:, :][cache.data[..., 1:, :] == 0] = 1e4
    logits = [model(ids[:, i : i + 1], cache) for i in range(1, 4)]
    close(torch.cat(logits, 1), model(ids)[:, 1:])


# --- rewind and select


@pytest.mark.parametrize("sinks", [0, 2])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rewound_it_goes_on_as_if_it_had_read_only_that_or_refuses(sinks, data):
    model = windowed(W, sinks)
    texts = [tokens(2, 60, seed=n) for n in range(2)]
    padding = data.draw(st.sampled_from([None, (0, 3)]))
    cache, ids, refused = model.new_cache(2, 256), texts[0][:, :0], 0
    starts = torch.tensor(padding or (0, 0))[:, None]
    for n in data.draw(st.lists(st.integers(-25, 20), min_size=1, max_size=12)):
        if n > 0:
            new = tokens(2, n, seed=ids.shape[1])
            at = torch.arange(ids.shape[1], ids.shape[1] + n)
            segments = torch.where(at < starts, -1, 0) if padding else None
            logits = model(new, cache, segments=segments)
            ids = torch.cat([ids, new], 1)
            whole = torch.where(torch.arange(ids.shape[1]) < starts, -1, 0) if padding else None
            expected = model(ids, segments=whole)[:, -n:]
            real = at >= starts
            close(logits[real], expected[real])
        elif ids.shape[1] + n >= 0:
            try:
                cache.rewind(ids.shape[1] + n)
            except ValueError as error:
                assert "rewind(0)" in str(error) and n < -1
                refused += 1
            else:
                ids = ids[:, : ids.shape[1] + n]


def test_how_far_a_ring_can_be_rewound_is_said():
    model = windowed(W)
    cache = model.new_cache(1, 99)
    model(tokens(1, 60), cache)
    least = 60 - SPARE - 1
    with pytest.raises(ValueError, match=rf"from 60 to {least - 1}.*keep {least} tokens or more"):
        cache.rewind(least - 1)
    cache.rewind(least)
    model(tokens(1, 1), cache)  # what was overwritten does not come back
    cache.rewind(least)
    with pytest.raises(ValueError, match="keep"):
        cache.rewind(least - 1)
    cache.rewind(0)
    close(model(tokens(1, 9), cache), model(tokens(1, 9)))


def test_a_text_cannot_be_rewound_into_a_document_whose_sinks_are_gone():
    model = windowed(2, 2)
    ring = 2 + SPARE  # its first token is overwritten, and all that a window of 5 needs is there
    for pieces in ([6, ring - 5], [6, *[1] * (ring - 5)]):
        cache, start = model.new_cache(1, 99), 0
        segments = torch.tensor([[0] * 6 + [1] * 50])
        for n in pieces:
            model(tokens(1, n), cache, segments=segments[:, start : start + n])
            start += n
        cache.rewind(start - 3)
        with pytest.raises(ValueError, match="keep"):
            cache.rewind(5)


def test_other_rows_and_copies_go_on_by_themselves():
    model, ids = windowed(W, 2), tokens(3, 40)
    for length in (3, 31):
        cache = model.new_cache(3, 99)
        model(ids[:, :length], cache)
        copies = cache.copy(2, capacity=100)
        cache.select(torch.tensor([2, 0]))
        more = tokens(6, 9, seed=5)
        rows = ids[torch.tensor([0, 0, 1, 1, 2, 2]), :length]
        for row in range(9):
            logits = model(more[:, row : row + 1], copies)
        close(logits[:, 0], model(torch.cat([rows, more], 1))[:, -1])
        logits = model(more[:2], cache)
        close(logits, model(torch.cat([ids[[2, 0], :length], more[:2]], 1))[:, length:])


def test_keys_of_another_model_are_refused():
    model, other = windowed(W), windowed(W, n_layers=2)
    cache = model.new_cache(1, 9)
    other(tokens(1, 3), cache)
    with pytest.raises(ValueError, match="3 layers, and 2 were stored"):
        model(tokens(1, 1), cache)
    cache = model.new_cache(1, 9)
    model(tokens(1, 3), cache)
    for wrong in (windowed(W, n_kv_heads=6), windowed(W).double()):
        with pytest.raises(ValueError, match="do not fit the cache"):
            wrong(tokens(1, 1), cache)
        with pytest.raises(ValueError, match=r"was cut off.*rewind\(0\)"):
            cache.rewind(3)
        cache.rewind(0)
        model(tokens(1, 3), cache)
    with pytest.raises(RuntimeError, match="no gradient"):
        model.requires_grad_(True)(tokens(1, 3), model.new_cache(1, 9))


# --- the same as transformers' Mistral


@pytest.fixture(scope="module")
def mistral():
    config = transformers.MistralConfig(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=256,
        sliding_window=W,
        rms_norm_eps=1e-5,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    reference = transformers.MistralForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    model = windowed(W)
    state = reference.state_dict()
    model.load_state_dict({name: theirs(name, state) for name in model.state_dict()})
    return reference, model


@pytest.mark.parametrize("length", [W - 1, W, W + 1, 3 * W, 50])
def test_logits_and_gradients_are_those_of_mistral(mistral, length):
    reference, model = mistral
    ids = tokens(2, length)
    expected = reference(ids, labels=ids)
    model.requires_grad_(True)
    logits = model(ids)
    close(logits, expected.logits)
    reference.zero_grad()
    expected.loss.backward()
    model.zero_grad()
    next_token_loss(logits, ids).backward()
    same_gradients(reference, model, theirs)
    model.requires_grad_(False)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [[1] * 40, [20, 1, 1, 13, 1, 4], [W - 1, W + 1, 30], [39, 1]])
def test_cached_decoding_with_left_padding_is_that_of_mistral(mistral, pieces):
    reference, model = mistral
    ids = tokens(2, 40)
    attention_mask = torch.ones_like(ids)
    attention_mask[0, :11] = 0
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    expected = reference(ids, attention_mask=attention_mask, position_ids=positions).logits
    cache, logits, read = model.new_cache(2, 40), [], 0
    past, their_logits = transformers.DynamicCache(config=reference.config), []
    for length in pieces:
        end = read + length
        segments = attention_mask[:, read:end] - 1 if read < 20 else None
        logits.append(model(ids[:, read:end], cache, segments=segments))
        their_logits.append(
            reference(
                ids[:, read:end],
                attention_mask=attention_mask[:, :end],
                position_ids=positions[:, read:end],
                cache=past,
            ).logits
        )
        read = end
    logits, their_logits = torch.cat(logits, dim=1), torch.cat(their_logits, dim=1)
    for found in (logits, their_logits):
        close(found[1], expected[1])
        close(found[0, 11:], expected[0, 11:])


def test_a_folder_of_mistral_becomes_a_model_with_a_window(mistral, tmp_path):
    reference, _ = mistral
    reference.save_pretrained(tmp_path)
    loaded = load_pretrained(tmp_path)
    assert loaded.config.mask == {"name": "window", "width": W}
    close(loaded(tokens(2, 30)), reference(tokens(2, 30)).logits)


# --- everything that takes a model takes one with a window


@pytest.mark.parametrize("sinks", [0, 2])
def test_generation_beams_and_drafts_agree_with_reading_the_whole_text_again(sinks):
    model = windowed(3, sinks, context_length=40)
    prompts = [tokens(n, seed=n).tolist() for n in (4, 1, 9)]
    expected = generate(model.forward, prompts, 30, GREEDY)
    assert generate(model, prompts, 30, GREEDY) == expected
    for prompt, text in zip(prompts, expected):
        (beam,) = beam_search(model, [prompt], 30, 1)
        assert prompt + beam.ids == text
        for draft in (model, windowed(2, 1, seed=3)):
            parts = speculate(model, draft, [prompt], 30, GREEDY)
            assert prompt + [token for part in parts for token in part] == text


# --- streaming: positions counted inside the cache


def streamed_by_hand(model, ids, width, sinks):
    """Logits of each token from what its cache would hold, read again from the start.

    Only a model of one layer can be checked so: in deeper ones, keys remember what their tokens
    saw when they were read.
    """
    logits = []
    for end in range(1, ids.shape[1] + 1):
        kept = ids[:, :end]
        if end > width + sinks:
            kept = torch.cat([ids[:, :sinks], ids[:, end - width : end]], 1)
        logits.append(model(kept)[:, -1])
    return torch.stack(logits, 1)


@pytest.mark.parametrize("positions", ["rotary", "none", "yarn"])
@pytest.mark.parametrize(("width", "sinks"), [(5, 2), (5, 0), (3, 4), (1, 1)])
def test_streaming_counts_positions_inside_the_cache(width, sinks, positions):
    if positions == "yarn":
        positions = {"name": "rope_scaling", "type": "yarn", "factor": 4.0}
    options = {"n_layers": 1, "positions": positions, "context_length": 1024}
    model = windowed(width, sinks, streaming=True, **options)
    dense = modern(**options).requires_grad_(False)
    ids = tokens(2, 300)
    cache = model.new_cache(2, 300)
    logits = torch.cat([model(ids[:, i : i + 1], cache) for i in range(300)], 1)
    close(logits, streamed_by_hand(dense, ids, width, sinks))
    assert cache.data.shape[-2] <= width + sinks + SPARE


def test_streaming_rows_of_unequal_length_are_those_of_each_alone():
    model = windowed(5, 2, streaming=True)
    ids = tokens(2, 200)
    segments = torch.where(torch.arange(200) < torch.tensor([[0], [30]]), -1, 0)
    cache = model.new_cache(2, 200)
    parts = [model(ids[:, i : i + 1], cache, segments=segments[:, i : i + 1]) for i in range(200)]
    together, alone = torch.cat(parts, 1), model.new_cache(1, 200)
    row = torch.cat([model(ids[1:, i : i + 1], alone) for i in range(30, 200)], 1)
    close(together[1, 30:], row[0])


def test_streaming_positions_stay_small_and_logits_exact_after_many_tokens():
    model = windowed(6, 2, streaming=True, n_layers=1, context_length=10**9)
    cache, ids = model.new_cache(1, 10**8), tokens(1, 3000)
    for i in range(3000):
        logits = model(ids[:, i : i + 1], cache)
        if isinstance(cache.positions, torch.Tensor):
            assert int(cache.positions.max()) < 5 * 8
    assert model.positions.table.shape[1] < 200
    kept = torch.cat([ids[:, :2], ids[:, -6:]], 1)
    close(logits[:, -1], modern(n_layers=1)(kept)[:, -1])


def test_streaming_reads_long_prompts_one_token_at_a_time_and_says_so():
    model = windowed(5, 2, streaming=True)
    prompt = tokens(1, 20)
    with pytest.raises(ValueError, match=r"one token at a time.*prefill=1"):
        generate(model, prompt, 3)
    assert len(generate(model, prompt, 3, prefill=1)[0]) == 23


@pytest.mark.parametrize(
    "positions", ["learned", {"name": "rope_scaling", "type": "dynamic", "factor": 2.0}]
)
def test_positions_that_cannot_be_moved_do_not_stream(positions):
    with pytest.raises(ValueError, match="cannot be moved"):
        windowed(5, 2, streaming=True, positions=positions).new_cache(1, 9)
