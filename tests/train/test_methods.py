"""From a method's block to a model: checkpointing that changes nothing and recomputes no more."""

import pytest
import torch
from support.small_models import tiny_llama

from owlore.sources import models
from owlore.study.method import parse_method
from owlore.train.loss import answer_loss
from owlore.train.methods import optimizer_groups, trainable_model

BATCH = {"input_ids": torch.arange(3, 27).view(2, 12), "labels": torch.arange(3, 27).view(2, 12)}
LAYERS = {"trainable": "layers", "sampling": "uniform", "gamma": 1, "interval_steps": 5}


def built(**block):
    torch.manual_seed(0)
    return trainable_model(tiny_llama(), parse_method({"learning_rate": 0.1, **block}))


@pytest.mark.parametrize(
    "block",
    [{"trainable": "all"}, {"trainable": "lora", "r": 2, "lora_alpha": 4}, LAYERS],
    ids=lambda block: block["trainable"],
)
def test_checkpointing_changes_no_gradient(block):
    plain, saving = built(**block), built(**block, gradient_checkpointing=True)
    for model in (plain, saving):
        answer_loss(model, BATCH, None).backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        assert one.grad is None or torch.equal(one.grad, other.grad), name


@pytest.mark.parametrize(("embeddings", "recomputed"), [(True, 4), (False, 1)])
def test_backward_does_not_run_below_what_trains(embeddings, recomputed):
    """Only the last of 4 layers is awake. With frozen embeddings nothing below it is needed."""
    model = built(**LAYERS, gradient_checkpointing=True, train_embeddings=embeddings)
    layers = models.decoder_layers(model)
    for layer in layers[:-1]:
        layer.requires_grad_(False)
    calls = []
    for layer in layers:
        layer.self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    loss = answer_loss(model, BATCH, None)
    assert len(calls) == 4
    loss.backward()
    assert len(calls) == 4 + recomputed


def test_groups_name_their_parameters_and_leave_no_one_out():
    block = {"trainable": "all", "projection": "low-rank", "rank": 4}
    model = built(**block)
    plain, low_rank = optimizer_groups(model, parse_method({"learning_rate": 1, **block}))
    names = [name for group in (plain, low_rank) for name, _ in group["params"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert {name.split(".")[-2] for name, _ in low_rank["params"]} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    assert "model.embed_tokens.weight" in dict(plain["params"])
