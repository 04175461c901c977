"""What the tests of judging share."""

from pathlib import Path

import pytest
from support.judged_study import write_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path)
