"""Models of Hugging Face transformers: tiny, with random weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers.utils import logging


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The library has no say on configs and kernels, and the same weights come each time."""
    torch.manual_seed(0)
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(before)
