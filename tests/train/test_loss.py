"""The loss and its gradients against the model's own, and what it never computes."""

import pytest
import torch
from support.small_models import tiny_gpt2, tiny_llama, tiny_tokenizer

from owlore.data import examples as data
from owlore.study.method import parse_method
from owlore.train import loss
from owlore.train.loss import answer_loss
from owlore.train.methods import trainable_model

pytestmark = pytest.mark.arithmetic


def batch_of(rows: list[tuple[str, str]]) -> dict[str, torch.Tensor]:
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in rows]
    return data.padded_batch(data.tokenise(rows, tiny_tokenizer(), 64), 0)


def full(model):
    return trainable_model(model, parse_method({"trainable": "all", "learning_rate": 1})).eval()


BATCH = [("Question: wet?", " water"), ("Q", " w")]


@pytest.mark.parametrize("chunk", [1, 700, 1 << 24], ids=["a row", "two rows", "all rows"])
@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
def test_loss_and_gradients_are_the_models_own(build, chunk, monkeypatch):
    """All in float64 but the model's own loss, which makes float32 of the logits.

    So the gradients are compared with those of the same formula in float64.
    """
    monkeypatch.setattr(loss, "CHUNK", chunk)
    batch, ours, theirs = batch_of(BATCH), full(build()).double(), full(build()).double()
    ours.load_state_dict(theirs.state_dict())
    found, output = answer_loss(ours, batch, None), theirs(**batch)
    # Rounding a logit changes it by epsilon/2 of its size at most, and so −log p by two of these;
    # as much again for the sum, once more for the logarithm and the mean.
    rounding = 4 * torch.finfo(torch.float32).eps * output.logits.abs().max().item()
    assert found.item() == pytest.approx(output.loss.item(), abs=rounding)
    logits, labels = output.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=data.IGNORED)
    found.backward()
    expected.backward()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # Eight float32 epsilons of the largest: Llama's norms are float32 in any model.
        within = 8 * torch.finfo(torch.float32).eps * other.grad.abs().max().item()
        assert torch.allclose(mine.grad, other.grad, atol=within, rtol=0), name


def test_a_step_divides_by_its_own_count_of_labels():
    batch, model = batch_of(BATCH), full(tiny_llama())
    labels = int((batch["labels"] != data.IGNORED).sum())
    mean, summed = answer_loss(model, batch, None), answer_loss(model, batch, 1)
    assert summed.item() == pytest.approx(mean.item() * labels, rel=1e-5)


def test_the_head_sees_labelled_rows_only(monkeypatch):
    seen = []
    real = loss._SummedLoss.apply

    def spy(rows, *others):
        seen.append(len(rows))
        return real(rows, *others)

    batch, model = batch_of(BATCH), full(tiny_llama())
    monkeypatch.setattr(loss._SummedLoss, "apply", spy)
    answer_loss(model, batch, None)
    assert seen == [int((batch["labels"] != data.IGNORED).sum())]


def test_a_frozen_head_gets_no_gradient():
    batch, model = batch_of(BATCH), full(tiny_llama())
    model.lm_head.weight.requires_grad_(False)
    answer_loss(model, batch, None).backward()
    assert model.lm_head.weight.grad is None
    assert model.model.layers[0].mlp.up_proj.weight.grad is not None


def test_a_capped_head_is_left_to_the_model():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=2.0,
    )
    model, batch = full(Gemma2ForCausalLM(config)), batch_of(BATCH)
    with torch.no_grad():
        assert answer_loss(model, batch, None).item() == pytest.approx(
            model(**batch).loss.item(), abs=1e-5
        )


def test_bfloat16_sums_the_loss_in_float32():
    batch, model = batch_of(BATCH * 8), full(tiny_llama())
    wide = answer_loss(model, batch, 1)
    found = answer_loss(model.bfloat16(), batch, 1)
    assert found.dtype == torch.float32
    inputs, labels = {k: v for k, v in batch.items() if k != "labels"}, batch["labels"][:, 1:]
    labelled = labels != data.IGNORED
    with torch.no_grad():  # the same rows to the same kernel, so the same logits on any CPU
        logits = model.lm_head(model.model(**inputs).last_hidden_state[:, :-1][labelled]).float()
    expected = torch.nn.functional.cross_entropy(logits, labels[labelled], reduction="sum")
    # What is left is the order of sums in float32; bfloat16 numbers of this size are 2 apart.
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    # Weights and activations round by half an epsilon each, up or down; a sum over 56 labels evens
    # out most of that. What a kernel rounds on the way is the CPU's choice.
    assert found.item() == pytest.approx(wide.item(), rel=2 * torch.finfo(torch.bfloat16).eps)
