"""Published shapes, against what their owners published."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from owlore.sources import shapes


@pytest.mark.parametrize("name", shapes.PUBLISHED)
def test_published_shapes_have_as_many_parameters_as_published(name):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shapes.published(name))
    assert sum(p.numel() for p in model.parameters()) == shapes.PUBLISHED[name].parameters
