"""A base model's plain checkpoint: the same weights, described. From the hub: test_hub.py."""

import pytest
import torch
from safetensors.torch import load_file
from support.small_models import save_tiny, tiny_llama, tiny_tokenizer

from owlore.core.errors import BadInput
from owlore.records.sources import ModelJob, ModelRecord
from owlore.sources import models
from owlore.sources.base_model import run
from owlore.study.config import Model


def job_of(folder):
    return ModelJob(model="toy", source=Model(path=str(folder)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_becomes_the_same_weights_in_safetensors(dtype, tmp_path):
    given, made, original = tmp_path / "given", tmp_path / "made", tiny_llama().to(dtype)
    save_tiny(given, original)
    record = run(job_of(given), tmp_path, made)
    weights, state = load_file(made / "model.safetensors"), original.state_dict()
    assert weights.keys() <= state.keys()  # a tied head is stored once
    for name, tensor in weights.items():
        assert tensor.dtype == dtype and torch.equal(tensor, state[name]), name
    assert record == ModelRecord.load(made / "model.json")
    assert record.model_dump(exclude={"proof"}) == {
        "model": "toy",
        "source": {"path": str(given)},
        "weights_sha256": models.weights_sha256(given),
        "parameters": sum(p.numel() for p in original.parameters()),
        "decoder_layers": 4,
        "hidden_size": 32,
        "max_position_embeddings": 512,
        "architecture": "LlamaForCausalLM",
        "bytes": (made / "model.safetensors").stat().st_size,
    }
    text = "the winter"
    tokens = tiny_tokenizer()(text)["input_ids"]
    assert models.load_tokenizer(made)(text)["input_ids"] == tokens


def test_a_checkpoint_that_is_whole_is_kept_and_a_torn_one_made_again(tmp_path):
    given, made = save_tiny(tmp_path / "given"), tmp_path / "made"
    first = run(job_of(given), tmp_path, made)
    file = made / "model.safetensors"
    before = file.stat().st_mtime_ns
    assert run(job_of(given), tmp_path, made) == first
    assert file.stat().st_mtime_ns == before, "nothing is written"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run(job_of(given), tmp_path, made) == first
    assert models.weights_sha256(made) == first.weights_sha256
    save_tiny(given, tiny_llama(seed=1))
    assert run(job_of(given), tmp_path, made).weights_sha256 != first.weights_sha256


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(BadInput, match=str(tmp_path)):
        run(job_of(tmp_path), tmp_path, tmp_path / "made")
    assert not (tmp_path / "made" / "model.json").exists()
