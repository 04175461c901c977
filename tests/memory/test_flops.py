"""Floating-point operations of a step, against the formula."""

from pathlib import Path

import pytest
from support.studies import STUDY, write

from owlore.memory import flops
from owlore.sources.shapes import published
from owlore.study.config import load_study


@pytest.fixture
def study(tmp_path) -> Path:
    return write(tmp_path / "study.yaml", STUDY)


def test_operations_of_full_fine_tuning_are_six_a_parameter_and_token(study):
    """Kaplan et al. 2020: 2 forward, 4 backward; the embedding is a lookup. Attention is extra."""
    config = published("smollm2-135m")
    chosen = load_study(study).method("full", "mini", "toy")
    tokens = 64
    linear = 134_515_008 - 61 * 576  # tied: the head's product is the embedding's matrix
    # Labelled are all tokens but the first.
    head = 49152 * 576
    expected = 6 * (linear - head) * tokens + 6 * head * (tokens - 1)
    attention = 30 * 9 * 64 * 64 * 64 * (4 + 10)  # two products forward, five backward
    assert flops.of_a_sequence(config, chosen, tokens) == pytest.approx(
        expected + attention, rel=0.01
    )
    checkpointed = chosen.model_copy(update={"gradient_checkpointing": True})
    # Recomputation stops before a layer's last product, which nothing in the backward pass needs.
    again = 2 * (linear - head - 30 * 576 * 1536) * tokens
    assert flops.of_a_sequence(config, checkpointed, tokens) == pytest.approx(
        expected + again + attention * 18 / 14, rel=0.01
    )


def test_freezing_layers_saves_their_weights_gradients(study):
    config = published("smollm2-135m")
    full, owlore = (load_study(study).method(name, "mini", "toy") for name in ("full", "owlore"))
    saved = flops.of_a_sequence(config, full, 64) - flops.of_a_sequence(config, owlore, 64)
    layer = 576 * 576 * 2 + 2 * 576 * 192 + 3 * 576 * 1536
    assert saved == pytest.approx((30 - owlore.gamma) * 2 * layer * 64, rel=0.01)
