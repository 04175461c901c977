"""From a method's block to a model: checkpointing that changes nothing and recomputes no more."""

import json

import pytest
import torch
from support.cells import method as cell_method
from support.cells import stopped_at_step, write_inputs
from support.small_models import tiny_llama

from owlore.memory.simulate import simulate
from owlore.optim.protocol import OwloreOptimizer
from owlore.records.finetune import FinetuneJob
from owlore.sources import models
from owlore.study.method import parse_method
from owlore.train import stage
from owlore.train.loss import answer_loss
from owlore.train.methods import OPTIMIZERS, optimizer_groups, trainable_model

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


class SignMomentum(OwloreOptimizer):
    """The least that an optimizer must do: step by the sign of an average, and clip."""

    def __init__(self, groups, *, lr, betas, **_):
        super().__init__(groups, {"lr": lr, "beta": betas[0]})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    average = state.setdefault("average", torch.zeros_like(parameter))
                    average.lerp_(parameter.grad, 1 - group["beta"])
                    parameter.sub_(average.sign(), alpha=group["lr"])

    def clip_grad_norm(self, max_norm):
        parameters = [p for group in self.param_groups for p in group["params"]]
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)


@pytest.mark.parametrize("policy", ["drop", "keep", "offload"])
def test_another_optimizer_is_a_class_and_a_line_of_the_table(policy, tmp_path, monkeypatch):
    """It trains, switches layers, is metered, resumed and simulated; nothing else knows it."""
    kind = OPTIMIZERS["none"]._replace(whole=SignMomentum)
    monkeypatch.setitem(OPTIMIZERS, "none", kind)
    torch.set_num_threads(1)
    chosen = cell_method("lisa", state=policy)
    scratch = write_inputs(tmp_path / "inputs")
    inputs, job = (
        stage.Inputs(scratch / "model", scratch / "train.jsonl"),
        FinetuneJob(method=chosen),
    )

    def trained(name: str) -> dict:
        stage.run(job, inputs, tmp_path / name)
        return json.loads((tmp_path / name / "finetune.json").read_text())

    whole = trained("whole")
    with stopped_at_step(5, monkeypatch):
        trained("cut")
    resumed = trained("cut")
    assert resumed["resumed_from_step"] == 4
    assert resumed["weights_sha256"] == whole["weights_sha256"]

    awake = sum(steps > 0 for steps in whole["layer_activations"]) if policy != "drop" else 1
    layer = sum(p.nbytes for p in models.decoder_layers(tiny_llama())[0].parameters())
    assert whole["decoder_optimizer_bytes"] == awake * layer, "one average a weight"
    simulated = simulate(tiny_llama().config, chosen, 4, 32)
    others = whole["optimizer_bytes"] - whole["decoder_optimizer_bytes"]
    layers = 4 if policy == "keep" else 1
    assert simulated["optimizer_gib"] * 2**30 == layers * layer + others
