"""Floating-point operations of a training step, counted on fake tensors by torch's FlopCounterMode.

Counted are the matrix products and attention of forward pass, recomputation and backward pass. The
optimizer's own work (projections, Adam) is left out: a few percent.
"""

import copy
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import PretrainedConfig

from owlore.memory import simulate as simulation
from owlore.sources import models
from owlore.study.method import Trained
from owlore.train.loss import answer_loss

aten = torch.ops.aten


def of_a_sequence(config: PretrainedConfig, method: Trained, seqlen: int) -> int:
    """Return the operations (2 a multiply-add) of training on one sequence of `seqlen` tokens.

    With `trainable: layers` the first gamma layers are awake, so that the backward pass reaches
    all layers, as it does whenever the embedding trains.

    Raises:
        BadInput: see `owlore.memory.simulate.simulate`.
    """
    model = simulation.meta_model(copy.deepcopy(config), method)
    batch = simulation.full_batch(method, 1, seqlen)
    layers = models.decoder_layers(model)
    for layer in layers[method.awake(len(layers)) :]:
        layer.requires_grad_(False)
    counter = FlopCounterMode(
        display=False,
        custom_mapping={  # what it does not know: the head's gradient, attention on a CPU
            aten.addmm_: _added_product,
            aten._scaled_dot_product_flash_attention_for_cpu: _attention,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
        },
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        simulation.materialise(model)
        with simulation.Tracker(), counter:
            answer_loss(model, batch, None).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def _added_product(_: Any, one: Any, other: Any, *__: Any, **___: Any) -> int:
    (rows, inner), columns = one, other[1]
    return int(2 * rows * inner * columns)


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward(slope: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    count = sdpa_backward_flop_count(slope, query, key, value)  # type: ignore[no-untyped-call]
    return int(count)
