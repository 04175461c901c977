"""Decoding a batch equals decoding each row alone, without a cache."""

from collections import Counter
from typing import Any

import pytest
import torch
from support.small_models import tiny_gpt2, tiny_llama, tiny_mistral

from owlore.mtbench import decoding


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2, tiny_mistral])
def test_greedy_decoding_equals_one_full_forward_a_token(make: Any) -> None:
    """Oracle: no cache, no padding, no batch."""
    model = make()
    prompts = [[5, 9, 200, 31], [7], list(range(40, 75))]
    found = decoding.generate(
        model,
        prompts,
        temperatures=[0.0] * 3,
        generators=[torch.Generator() for _ in prompts],
        stops=set(),
        max_new_tokens=20,
    )
    for prompt, made in zip(prompts, found, strict=True):
        assert len(made) == 20
        for place, token in enumerate(made):
            with torch.no_grad():
                logits = model(torch.tensor([prompt + made[:place]])).logits[0, -1]
            assert logits.max() - logits[token] < 1e-4  # equal up to ties


def test_rows_stop_alone_and_the_others_go_on() -> None:
    model = tiny_llama()
    prompts = [[5, 9, 200, 31], [7, 8], [90, 91, 92]]

    def run(chosen: list[list[int]], stops: set[int]) -> list[list[int]]:
        return decoding.generate(
            model,
            chosen,
            temperatures=[0.8, 0.2, 2.0],
            generators=[torch.Generator().manual_seed(row[0]) for row in chosen],
            stops=stops,
            max_new_tokens=16,
        )

    free = run(prompts, set())
    stop = free[1][3]
    stopped = run(prompts, {stop})
    for alone, row in zip(free, stopped, strict=True):
        assert row == (alone[: alone.index(stop)] if stop in alone else alone)
    assert len({len(row) for row in stopped}) > 1


def test_sampling_follows_the_softmax() -> None:
    """2,000 rows draw their first token; frequencies of the likeliest ones match."""
    model, rows = tiny_llama(), 2000
    found = decoding.generate(
        model,
        [[5, 9, 31]] * rows,
        temperatures=[0.7] * rows,
        generators=[torch.Generator().manual_seed(row) for row in range(rows)],
        stops=set(),
        max_new_tokens=1,
    )
    with torch.no_grad():
        logits = model(torch.tensor([[5, 9, 31]])).logits[0, -1]
    expected = torch.softmax(logits / 0.7, -1)
    counts = Counter(row[0] for row in found)
    for token in expected.topk(5).indices.tolist():
        p = float(expected[token])
        assert abs(counts[token] / rows - p) < 5 * (p * (1 - p) / rows) ** 0.5
