"""A local judge's expected rating, by brute force."""

from pathlib import Path

import pytest
import torch
from support.judged_study import judge
from support.small_models import tiny_llama, tiny_mistral, tiny_tokenizer

from owlore.mtbench import answer as mtbench
from owlore.mtbench import rating_model


@pytest.mark.arithmetic
@pytest.mark.parametrize(
    "pieces", [[], ["10"], ["10]]", "7]]"], ["[[3", "]]"], [f"{k}]]" for k in range(5, 11)]]
)
@pytest.mark.parametrize("limit", [1536, 20])
@pytest.mark.parametrize("architecture", ["llama", "mistral with a sliding window"])
def test_expected_rating_equals_brute_force(
    pieces: list[str], limit: int, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: one plain forward over each whole text; what they share cancels out."""
    monkeypatch.setattr(rating_model, "MAX_PROMPT_TOKENS", limit)
    model, tokenizer = tiny_llama(initializer_range=0.1), tiny_tokenizer()
    if architecture != "llama":
        model = tiny_mistral()  # its window is shorter than the prompt
    tokenizer.add_tokens(pieces)
    messages = [{"role": "user", "content": "How good is that answer?"}]
    found, cut = rating_model.rating_logprobs(model, tokenizer, messages)
    assert (cut > 0) == (limit == 20)

    totals = []
    for rating in range(1, 11):
        (ids,) = mtbench.encode(tokenizer, messages, (f"Rating: [[{rating}]]",))
        text = torch.tensor([ids[cut:]])
        with torch.no_grad():
            steps = model(text).logits[0, :-1].double().log_softmax(-1)
        totals.append(steps.gather(1, text[0, 1:, None]).sum())
    expected = torch.stack(totals)
    torch.testing.assert_close(found.softmax(0), expected.softmax(0), rtol=1e-4, atol=1e-7)
    assert (found - found[0]).sub(expected - expected[0]).abs().max() < 1e-4


def test_score_is_the_expectation_to_four_decimals(study: Path) -> None:
    rows, _ = judge(study)
    content = [
        {"role": "system", "content": "Judge by single-v1."},
        {"role": "user", "content": rows[0]["user_prompt"]},
    ]
    logprobs, _ = rating_model.rating_logprobs(tiny_llama(), tiny_tokenizer(), content)
    expected = float((logprobs.softmax(0) * torch.arange(1, 11)).sum())
    # Judged in a batch, here alone: sums may differ in their last digits.
    assert rows[0]["score"] == pytest.approx(expected, abs=1.1e-4)
    assert rows[0]["score"] == round(rows[0]["score"], 4)


def test_long_prompts_are_cut_and_counted(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rating_model, "MAX_PROMPT_TOKENS", 40)
    rows, scores = judge(study)
    assert scores["truncated_prompts"] == 8
    assert all(row["truncated_tokens"] > 0 for row in rows)
