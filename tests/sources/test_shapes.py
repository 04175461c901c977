"""Published shapes, against what their owners published."""

import pytest
import torch
from support.small_models import tiny_llama
from support.studies import changed
from transformers import AutoModelForCausalLM

from owlore.core.errors import BadInput
from owlore.sources import shapes
from owlore.study.config import check_study


@pytest.mark.parametrize("name", shapes.PUBLISHED)
def test_published_shapes_have_as_many_parameters_as_published(name):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shapes.published(name))
    assert sum(p.numel() for p in model.parameters()) == shapes.PUBLISHED[name].parameters


def test_a_repository_on_the_hub_has_the_shape_of_its_name():
    for name, shape in shapes.PUBLISHED.items():
        assert shapes.on_hub(shape.hub) == name
    assert shapes.on_hub("some/model") is None and shapes.on_hub(None) is None


def test_a_name_a_folder_and_a_file_are_all_models(tmp_path):
    config = tiny_llama().config
    config.save_pretrained(tmp_path / "toy")
    for source in (tmp_path / "toy", tmp_path / "toy" / "config.json"):
        name, found = shapes.configuration(source)
        assert (name, found.hidden_size, found.num_hidden_layers) == ("toy", 32, 4)
    name, found = shapes.configuration("llama2-7b")
    assert (name, found.hidden_size) == ("llama2-7b", 4096)
    with pytest.raises(BadInput, match="--model: llama7: allowed: a checkpoint folder, a config"):
        shapes.configuration("llama7")


def test_a_studys_model_is_known_from_what_was_built_its_folder_or_its_name(tmp_path):
    def shape_of(**source):
        return shapes.of_study(check_study(changed("models.toy", source)), "toy", tmp_path)

    given, hub = tmp_path / "given", {"revision": "0" * 40}
    assert shape_of(path=str(given)) is None, "not there yet"
    assert shape_of(hub="some/model", **hub) is None
    assert shape_of(hub="meta-llama/Llama-2-7b-hf", **hub).hidden_size == 4096
    tiny_llama(hidden=16).config.save_pretrained(given)
    assert shape_of(path=str(given)).hidden_size == 16
    tiny_llama(hidden=64).config.save_pretrained(tmp_path / "models" / "toy")
    assert shape_of(path=str(given)).hidden_size == 64, "what was built decides"
    assert shape_of(hub="meta-llama/Llama-2-7b-hf", **hub).hidden_size == 64
