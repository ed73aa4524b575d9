"""Parts that a reader adds in notebook 12: ALiBi's mask and sinusoidal positions."""

import pytest
import torch
import torch.nn.functional as F
from parity import close, tokens
from test_modern import modern
from test_protocol import chunks, pack

from llmlib.model.alibi import slopes


def alibi(**changes):
    return modern(mask="alibi", positions="none", **({"n_kv_heads": 6} | changes))


def test_slopes_are_those_of_the_paper():
    assert slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert slopes(2).tolist() == [2.0**-4, 2.0**-8]


def test_scores_fall_with_the_distance_and_never_see_the_future():
    q, k, v = torch.randn(3, 1, 6, 9, 8)
    i = torch.arange(9)
    falling = -slopes(6)[:, None, None] * (i[:, None] - i)
    expected = (q @ k.mT / 8**0.5 + falling).masked_fill(i > i[:, None], -torch.inf).softmax(-1) @ v
    mask = alibi().mask.packed(tokens(1, 9), None).mask
    close(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), expected)


@torch.no_grad()
@pytest.mark.parametrize("groups", [6, 2])
@pytest.mark.parametrize("model", [alibi, lambda **c: modern(positions="sinusoidal", **c)])
def test_in_pieces_with_padding_and_documents_the_logits_are_those_of_the_whole(model, groups):
    model = model(n_kv_heads=groups)
    documents, ids, segments = pack([[7, 5], [3], [9, 1, 2]])
    whole = model(ids, segments=segments)
    for cuts in ([], [1, 2, 3], [5, 6, 11]):
        cache = model.new_cache(*ids.shape)
        parts = [
            model(ids[:, a:b], cache, segments=segments[:, a:b])
            for a, b in chunks(ids.shape[1], cuts)
        ]
        close(torch.cat(parts, 1), whole, 1e-4)
    close(whole[0, :7], model(documents[0][None])[0], 1e-4)
    cache = model.new_cache(1, 12)
    parts = [model(ids[:1, a:b], cache) for a, b in chunks(12, [4, 5, 9])]
    close(torch.cat(parts, 1), model(ids[:1]), 1e-4)
