"""The training loss: cross-entropy of the labelled tokens; all other rows never reach the head."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from owlore.data import examples as data
from owlore.optim.rounding import widened
from owlore.sources import models

CHUNK = 1 << 23  # logits at a time, 32 MiB in float32


def answer_loss(
    model: PreTrainedModel, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None
) -> Tensor:
    """Return the cross-entropy of the labelled tokens, summed and divided.

    The head runs over the labelled rows only, in chunks where they are many, so that their logits
    never lie in memory at once. A head that caps or scales its logits is left to the model.

    Args:
        model: a causal language model, wrapped by peft or not.
        inputs: a batch of `owlore.data.examples`.
        num_items_in_batch: labelled tokens in the whole step; None: in this batch.

    Returns:
        A scalar: Σ −log p(label) / num_items_in_batch, in float32.
    """
    plain = models.without_adapter(model)
    labels = inputs["labels"][:, 1:]
    wanted = labels != data.IGNORED
    count = wanted.sum() if num_items_in_batch is None else num_items_in_batch
    model_inputs = {key: value for key, value in inputs.items() if key != "labels"}
    head = models.head(plain)
    if type(head) is nn.Linear and _head_is_plain(plain):
        hidden = models.decoder(plain)(**model_inputs, use_cache=False).last_hidden_state
        rows = hidden[:, :-1][wanted]
        total = _SummedLoss.apply(rows, head.weight, head.bias, labels[wanted])  # type: ignore[no-untyped-call]
    else:
        output: Any = plain(**model_inputs, use_cache=False)
        logits = output.logits[:, :-1][wanted].float()
        total = functional.cross_entropy(logits, labels[wanted], reduction="sum")
    mean: Tensor = total / count
    return mean


class _SummedLoss(torch.autograd.Function):
    """Σ −log p(label) of hidden rows, chunk by chunk: the logits never lie in memory at once.

    The gradients are made in the forward pass, while a chunk's probabilities are there; nothing is
    computed twice. (torch's `linear_cross_entropy` does the same, but sums the loss in the rows'
    dtype, accumulates by a rule that depends on the device, and hides its memory from fake
    tensors, with which we simulate it.)
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor
    ) -> Tensor:
        """Take rows (n, hidden), weight (vocabulary, hidden), bias or None, labels (n,)."""
        wants_rows, wants_weight, wants_bias, _ = ctx.needs_input_grad
        of_rows = torch.empty_like(rows) if wants_rows else None
        of_weight = torch.zeros_like(weight) if wants_weight else None
        of_bias = torch.zeros_like(bias) if bias is not None and wants_bias else None
        total = widened(rows.new_zeros(()))
        size = min(len(rows), max(1, CHUNK // weight.shape[0]))
        buffer = torch.empty(size, weight.shape[0], dtype=total.dtype, device=rows.device)
        for start in range(0, len(rows), size):
            part, gold = rows[start : start + size], labels[start : start + size, None]
            logits = buffer[: len(part)]
            if rows.dtype == total.dtype and bias is None:
                torch.mm(part, weight.T, out=logits)
            else:
                logits.copy_(functional.linear(part, weight, bias))
            # All in one buffer: softmax, the loss on the way, and d loss / d logits = p − one-hot.
            logits.sub_(logits.amax(1, keepdim=True))
            total -= logits.gather(1, gold).sum()
            sums = logits.exp_().sum(1, keepdim=True)
            total += sums.log().sum()
            logits.div_(sums).scatter_add_(1, gold, torch.full_like(sums, -1))
            slope = logits.to(rows.dtype)
            if of_rows is not None:
                torch.mm(slope, weight, out=of_rows[start : start + size])
            if of_weight is not None:
                of_weight.addmm_(slope.T, part)
            if of_bias is not None:
                of_bias += slope.sum(0)
        ctx.gradients = (of_rows, of_weight, of_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """Scale the gradients, in place: they are wanted once."""
        of_rows, of_weight, of_bias = (
            None if made is None else made.mul_(slopes[0]) for made in ctx.gradients
        )
        ctx.gradients = ()
        return of_rows, of_weight, of_bias, None


def _head_is_plain(model: PreTrainedModel) -> bool:
    config = model.config.get_text_config()
    modified = ("final_logit_softcapping", "logit_scale", "logits_scaling")
    return not any(getattr(config, key, None) for key in modified)
