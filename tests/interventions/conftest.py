"""What is cut, for compaction and for pruning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.interventions.cuttable import CUTS, settled


@pytest.fixture(params=CUTS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Any, dict[str, Tensor]]:
    torch.manual_seed(0)
    make, x, masks = CUTS[request.param]
    return settled(make(), x), x, masks
