"""What the tests of training share."""

import pytest
from support.cells import write_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A tiny checkpoint, training rows and outlier scores on disk."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))
