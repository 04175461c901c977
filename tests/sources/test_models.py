"""Models: layers and maps in any architecture, checkpoints, and a hash of the weights alone."""

import hashlib

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from support.small_models import save_tiny, tiny_gpt2, tiny_llama, tiny_mistral, tiny_tokenizer
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM

from owlore.core.errors import BadInput
from owlore.core.files import write_json
from owlore.sources import models

IDS = torch.tensor([[5, 9, 31, 200]])


def tiny_mixtral() -> MixtralForCausalLM:
    """More experts in a layer than layers: the longest list is not that of the layers."""
    config = MixtralConfig(
        vocab_size=272,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=6,
    )
    return MixtralForCausalLM(config)


@pytest.mark.parametrize(
    ("make", "path", "maps"),
    [
        (tiny_llama, "model.layers", 7),
        (tiny_mistral, "model.layers", 7),
        (tiny_gpt2, "transformer.h", 4),
        (tiny_mixtral, "model.layers", None),
    ],
)
def test_decoder_layers_and_their_maps(make, path, maps):
    model = make()
    layers = models.decoder_layers(model)
    assert layers is model.get_submodule(path)
    assert len(layers) == model.config.num_hidden_layers
    found = models.linear_modules(layers[0])
    assert maps is None or len(found) == maps
    for name, module in found.items():
        assert layers[0].get_submodule(name) is module and module.weight.ndim == 2


def test_a_model_without_layers_is_refused():
    with pytest.raises(BadInput, match="Sequential has no list of decoder layers"):
        models.decoder_layers(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(BadInput, match="no list of decoder layers"):
        models.decoder_layers(nn.ModuleDict({"empty": nn.ModuleList()}))


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_the_decoder_and_the_head_are_the_model(make):
    model = make()
    with torch.no_grad():
        hidden = models.decoder(model)(input_ids=IDS).last_hidden_state
        torch.testing.assert_close(models.head(model)(hidden), model(input_ids=IDS).logits)


def test_an_adapter_is_seen_through_and_merged(tmp_path):
    base = tiny_llama()
    assert models.without_adapter(base) is base
    with torch.no_grad():
        plain = base(input_ids=IDS).logits
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(base, config).eval()
    assert models.without_adapter(adapted) is base
    adapted.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        expected = adapted(input_ids=IDS).logits
        found = models.merged(tiny_llama(), tmp_path / "adapter")(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-2)
    with pytest.raises(BadInput, match=r"no peft adapter \(it has no adapter_config\.json\)"):
        models.merged(tiny_llama(), tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_is_loaded_in_the_dtype_asked_for(dtype, tmp_path):
    save_tiny(tmp_path)
    model = models.load(tmp_path, dtype)
    assert {weight.dtype for weight in model.parameters()} == {models.DTYPES[dtype]}
    torch.testing.assert_close(
        model.model.norm.weight.float(), tiny_llama().model.norm.weight, rtol=2**-8, atol=0
    )


def test_folders_that_are_no_checkpoint_are_named(tmp_path):
    with pytest.raises(BadInput, match=r"is not a checkpoint folder \(it has no config\.json\)"):
        models.load(tmp_path)
    with pytest.raises(BadInput, match="no tokenizer"):
        models.load_tokenizer(tmp_path)
    with pytest.raises(BadInput, match="model: "):
        models.read_config(tmp_path / "config.json")
    with pytest.raises(BadInput, match="no safetensors file"):
        models.weights_sha256(tmp_path)


def test_a_missing_padding_token_becomes_the_end_token(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "a")
    assert models.load_tokenizer(tmp_path / "a").pad_token == tokenizer.eos_token
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "b")
    with pytest.raises(BadInput, match="the tokenizer has no end-of-text token"):
        models.load_tokenizer(tmp_path / "b")


def test_the_hash_is_of_names_types_shapes_and_bytes_alone(tmp_path):
    a, b = torch.arange(6.0).view(2, 3), torch.ones(4, dtype=torch.bfloat16)
    expected = hashlib.sha256()
    for line, tensor in (("a torch.float32 (2, 3)", a), ("b torch.bfloat16 (4,)", b)):
        expected.update(f"{line}\n".encode())
        expected.update(bytes(tensor.flatten().view(torch.uint8).tolist()))

    def hashed(name, *shards, **metadata):
        folder = tmp_path / name
        folder.mkdir()
        for number, tensors in enumerate(shards):
            save_file(tensors, folder / f"model-{number}.safetensors", metadata=metadata or None)
        return models.weights_sha256(folder)

    assert hashed("whole", {"b": b, "a": a}) == expected.hexdigest()
    assert hashed("sharded", {"b": b}, {"a": a}) == expected.hexdigest()
    assert hashed("remarked", {"a": a, "b": b}, made="later") == expected.hexdigest()
    flipped = a.clone()
    flipped.view(torch.int32)[0, 0] ^= 1  # one bit
    others = [{"a": flipped, "b": b}, {"c": a, "b": b}, {"a": a.view(3, 2), "b": b}, {"a": a}]
    hashes = {hashed(f"other{number}", tensors) for number, tensors in enumerate(others)}
    assert len(hashes) == len(others) and expected.hexdigest() not in hashes


def test_the_recorded_hash_is_taken_where_there_is_one(tmp_path):
    save_tiny(tmp_path)
    assert models.recorded_sha256(tmp_path) == models.weights_sha256(tmp_path)
    write_json(tmp_path / "model.json", {"weights_sha256": "ab" * 32})
    assert models.recorded_sha256(tmp_path) == "ab" * 32


def test_the_shape_is_what_methods_are_checked_against():
    assert models.shape(tiny_llama(layers=3).config) == {
        "decoder_layers": 3,
        "hidden_size": 32,
        "max_position_embeddings": 512,
    }
    assert models.shape(tiny_gpt2().config)["max_position_embeddings"] == 512
