"""What a model of ours and one of transformers have to agree in, whatever their kind."""

import torch
import torch.nn.functional as F

PIECES = (20, 1, 1, 13, 1, 4)  # in which 40 tokens are read with a cache


def tokens(*shape, seed=0):
    return torch.randint(97, shape, generator=torch.Generator().manual_seed(seed))


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def next_token_loss(logits, ids):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def same_gradients(reference, model, theirs):
    """theirs(name, gradients): what transformers has for a parameter of ours."""
    gradients = {name: p.grad for name, p in reference.named_parameters()}
    for name, parameter in model.named_parameters():
        close(parameter.grad, theirs(name, gradients), 1e-4)


def same_logits_loss_and_gradients(reference, model, theirs):
    ids = tokens(2, 50)
    expected = reference(ids, labels=ids)
    logits = model(ids)
    close(logits, expected.logits, 1e-4)
    loss = next_token_loss(logits, ids)
    close(loss, expected.loss, 1e-5)
    loss.backward()
    expected.loss.backward()
    same_gradients(reference, model, theirs)


def padded():
    """Two rows of 40 tokens, of which the first begins with 11 of padding; and their mask."""
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[0, :11] = 0
    return tokens(2, 40), mask


def same_with_a_cache_and_left_padding(reference, model, pieces=PIECES):
    """In pieces with a cache, and at once: the logits of all tokens that are no padding."""
    ids, mask = padded()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = reference(ids, attention_mask=mask, position_ids=positions).logits
    cache, logits, read = model.new_cache(2, 40), [], 0
    for length in pieces:
        segments = mask[:, read : read + length] - 1 if read < 20 else None
        logits.append(model(ids[:, read : read + length], cache, segments=segments))
        read += length
    for found in (torch.cat(logits, dim=1), model(ids, segments=mask - 1)):
        close(found[1], expected[1], 1e-4)
        close(found[0, 11:], expected[0, 11:], 1e-4)
