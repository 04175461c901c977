"""What the tests of this room share."""

import pytest
import torch


@pytest.fixture
def windows() -> torch.Tensor:
    return torch.randint(3, 270, (6, 20), generator=torch.Generator().manual_seed(4))
