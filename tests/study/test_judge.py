"""Judges as a union: each kind has its own keys; recorded blocks of all keys stay valid."""

import pytest

from owlore.core.errors import BadInput
from owlore.core.parsing import parse
from owlore.study.config import MTBench
from owlore.study.judge import TRANSPORT, EndpointJudge, LocalJudge, parse_judge

LOCAL = {"provider": "transformers", "model": "base"}
ENDPOINT = {"provider": "openai", "model": "gpt-4", "base_url": "https://judge.invalid/v1"}
# What results recorded while all judges were one flat class
FLAT = {
    **{"base_url": None, "api_key_env": None, "judgings": 1, "answer_tokens": 2048},
    **{"concurrency": 4, "timeout_s": 300.0, "max_requests": None, "max_tokens": None},
}


@pytest.mark.parametrize(("block", "kind"), [(LOCAL, LocalJudge), (ENDPOINT, EndpointJudge)])
def test_a_block_with_every_key_at_its_default_is_the_short_block(block, kind):
    judge = parse_judge({**FLAT, **block})
    assert type(judge) is kind
    assert judge == parse_judge(block)
    assert judge.model_dump(mode="json", exclude_defaults=True) == block
    assert (judge.judgings, judge.answer_tokens) == (1, 2048)


def test_the_transport_is_part_of_an_endpoint_alone():
    assert set(TRANSPORT) <= set(EndpointJudge.model_fields)
    assert not set(TRANSPORT) & set(LocalJudge.model_fields)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (LOCAL | {"judgings": 3}, "judgings is for provider: openai; a local judge is determin"),
        (LOCAL | {"max_tokens": 10}, "max_tokens is for provider: openai"),
        (LOCAL | {"modle": "x"}, "modle: unknown key (did you mean model?)"),
        ({"provider": "openai", "model": "m"}, "base_url is needed with provider: openai"),
        ({"provider": "openai", "base_url": "https://h/v1"}, "model: this key is required"),
        ({"model": "m"}, "provider: this key is required"),
        (ENDPOINT | {"provider": "azure"}, "provider: 'azure': Input should be 'transformers' or"),
        (ENDPOINT | {"judgings": 0}, "judgings: 0: Input should be greater than or equal to 1"),
        (ENDPOINT | {"concurency": 1}, "concurency: unknown key (did you mean concurrency?)"),
    ],
)
def test_a_bad_judge_is_named_without_its_kind(block, message):
    # A further judge may be called like a provider: its name stays in the line, the kind does not.
    for where, spec in (
        ("judge", {"judge": block}),
        ("further_judges.openai", {"judge": LOCAL, "further_judges": {"openai": block}}),
        (
            "further_judges.transformers",
            {"judge": LOCAL, "further_judges": {"transformers": block}},
        ),
    ):
        with pytest.raises(BadInput) as refused:
            parse(MTBench, spec, "spec")
        shown = str(refused.value)
        assert shown.startswith(f"spec: {where}"), shown
        assert shown.removeprefix(f"spec: {where}")[2:].startswith(message) or (
            shown.removeprefix(f"spec: {where}.").startswith(message)
        )
