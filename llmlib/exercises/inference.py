"""Checks of the exercises of notebook 10."""

import torch

from llmlib.exercises import case, exercise


@exercise("10.1")
def whole_texts_fit():
    """10.1: how many caches of full length fit into a memory."""
    yield case(2 * 12 * 768 * 1024 * 4, 12, 768, 1024, 4, expected=1)
    yield case(10**9, 12, 768, 1024, 4, expected=13)
    yield case(10**9, 48, 1600, 512, 2, expected=6)
    yield case(7 * 2560 - 1, 2, 16, 10, 4, expected=6)
    yield case(100, 2, 16, 10, 4, expected=0)


@exercise("10.2")
def positions_count_tokens_only():
    """10.2: positions in a batch that is padded on the left."""
    given = torch.tensor([0, 2, 4])
    expected = torch.tensor([[0, 1, 2, 3, 4], [0, 0, 0, 1, 2], [0, 0, 0, 0, 0]])
    yield case(given, 5, expected=expected)
    yield case(torch.tensor([0]), 3, expected=torch.tensor([[0, 1, 2]]))
    yield case(torch.tensor([1, 1]), 2, expected=torch.tensor([[0, 0], [0, 0]]))


def rounded(weight: torch.Tensor, group: int) -> torch.Tensor:
    """What 10.3 asks for."""
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
    return ((parts / scale).round() * scale).view_as(weight)


@exercise("10.3")
def each_group_has_a_scale():
    """10.3: weights rounded to int8 with a scale for each group of columns."""
    yield case(torch.tensor([[1.0, 0.5, 100.0, 50.0]]), 2, expected=rounded_example())
    noise = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    noise = noise * torch.tensor([1, 1, 1, 1, 50, 50, 50, 50])
    for group in (4, 2, 8):
        yield case(noise, group, expected=rounded(noise, group))
    zeros = torch.tensor([[0.0, 0.0, 1.0, -1.0]])
    yield case(zeros, 2, expected=zeros)


def rounded_example() -> torch.Tensor:
    """The first case of 10.3: half of the largest is 63.5 steps, which round to 64."""
    return torch.tensor([[1.0, 64 / 127, 100.0, 64 * 100 / 127]])


@exercise("10.4")
def what_the_draft_gave_too_little():
    """10.4: the distribution to draw from after a rejected token."""
    p = torch.tensor([0.5, 0.3, 0.2])
    yield case(p, torch.tensor([0.1, 0.7, 0.2]), expected=torch.tensor([1.0, 0.0, 0.0]))
    yield case(p, torch.tensor([0.2, 0.8, 0.0]), expected=torch.tensor([0.6, 0.0, 0.4]))
    yield case(p, p.clone(), expected=p)


@exercise("10.5")
def only_what_may_still_become_a_character():
    """10.5: how many bytes at the end may begin a character."""
    fox = "🦊".encode()
    yield case(b"abc", expected=0)
    yield case("é".encode(), expected=0)
    yield case(b"ab" + "é".encode()[:1], expected=1)
    yield case("€".encode()[:2], expected=2)
    for n in (1, 2, 3):
        yield case(b"x" + fox[:n], expected=n)
    yield case(fox, expected=0)
    yield case(b"", expected=0)
    yield case(b"a\x80\x80", expected=0)
    yield case(fox + fox[:2], expected=2)
