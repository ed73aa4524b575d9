"""What tests of several rooms share. This file also makes `tests/toy.py` importable from them."""

import pytest
from toy import Toy


@pytest.fixture
def toy():
    """A model of the protocol that is not a GPT, in evaluation mode."""
    return Toy().eval()
