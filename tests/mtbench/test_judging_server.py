"""MT-Bench judging against a real server with a real model, and everything that goes wrong.

`transformers serve` on loopback serves a tiny judge that rates; a proxy before it misbehaves.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fault_proxy import FAULTS, FaultProxy
from support.judge_server import served
from support.judged_study import fastchat_average, judge, start_judge, write_all_questions
from support.rating_judge import save_rating_judge

from owlore.core.errors import BadInput
from owlore.core.files import read_json, read_jsonl
from owlore.study.judge import EndpointJudge

KEY = "sk-this-must-never-be-written"
ALL, HALF = 160, 80  # 80 or 40 questions, two turns


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("served")
    with served(save_rating_judge(folder / "rating-judge"), folder / "serve.log") as port:
        yield port


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OWLORE_TEST_KEY", KEY)
    return write_all_questions(tmp_path)


def by(proxy: FaultProxy, **keys: object) -> EndpointJudge:
    values = {"provider": "openai", "model": "rating-judge", "base_url": proxy.base_url}
    values |= {"api_key_env": "OWLORE_TEST_KEY", "answer_tokens": 16, "timeout_s": 1.5}
    return EndpointJudge(**(values | keys))


def assert_key_nowhere(folder: Path, *texts: str) -> None:
    assert not any(KEY in text for text in texts)
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_all_is_judged_exactly_once_whatever_goes_wrong(
    study: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultProxy(port, seed=1, rate=0.2) as proxy:
        rows, scores = judge(study, by(proxy), questions=80)
    printed = "".join(capsys.readouterr())
    assert set(FAULTS) <= proxy.done.keys()
    assert proxy.keys == {f"Bearer {KEY}"}
    turns = Counter((row["question_id"], row["turn"]) for row in rows)
    assert len(rows) == ALL
    assert set(turns.values()) == {1}
    assert [
        row["request_sha256"] for row in read_jsonl(study / "out/judgments.journal.jsonl")
    ] != []
    assert len({row["request_sha256"] for row in rows}) == ALL
    assert len(read_jsonl(study / "out" / "judgments.journal.jsonl")) == ALL
    assert scores["n"] == ALL
    assert scores["requests"]["sent"] == len(proxy.asked) == sum(proxy.done.values())
    assert scores["requests"]["repeated_after_a_kill"] == 0
    unreadable = sum(proxy.done[fault] for fault in ("[[11]]", "7/10", "none"))
    lost = sum(row["score"] == -1 for row in rows)
    assert scores["requests"]["unreadable_asked_again"] == unreadable - lost
    assert scores["failed"] == lost
    assert len({row["score"] for row in rows}) > 3  # a judge that reads what it rates
    assert fastchat_average(study, capsys) == pytest.approx(scores["overall"], abs=1e-5)
    assert printed.count("160 of 160 judgments to ask, estimate: 160 requests") == 1
    assert_key_nowhere(study, printed)


def test_kill_9_repeats_at_most_what_was_in_flight(
    study: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = study / "out" / "judgments.journal.jsonl"
    with FaultProxy(port, faults=()) as proxy:
        chosen = by(proxy, concurrency=3, timeout_s=60)
        process = start_judge(study, chosen, questions=HALF // 2)
        wait_until(lambda: journal.exists() and journal.read_text().count("\n") >= 25)
        proxy.hold.clear()  # the server has answered, the replies do not get through
        time.sleep(1)  # those that were through by then
        wait_until(lambda: len(proxy.asked) == journal.read_text().count("\n") + 3)
        process.kill()
        _, said = process.communicate()
        before = len(proxy.asked)
        recorded = read_jsonl(journal)
        assert len(recorded) == before - 3
        proxy.hold.set()

        rows, scores = judge(study, chosen, questions=HALF // 2)
        asked_again = before + (HALF - len(recorded))
        assert len(proxy.asked) == asked_again == HALF + 3
        assert scores["requests"]["sent"] == HALF + 3
        assert scores["requests"]["repeated_after_a_kill"] == 3
        assert "3 requests of a killed run may be asked twice" in capsys.readouterr().out
        kept = {row["request_sha256"]: row for row in rows}
        assert all(kept[row["request_sha256"]] == row for row in recorded)

        (study / "out" / "judgments.jsonl").unlink()  # as Snakemake does before a forced rerun
        again, _ = judge(study, chosen, questions=HALF // 2)
        assert again == rows
        assert len(proxy.asked) == asked_again
    assert_key_nowhere(study, said)


def test_a_budget_of_requests_stops_cleanly_and_can_be_raised(
    study: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = study / "out" / "judgments.journal.jsonl"
    with FaultProxy(port, seed=3, rate=0.1, faults=["500", "none"]) as proxy:
        with pytest.raises(BadInput, match=r"judge\.max_requests: 19: .* need at least 20"):
            judge(study, by(proxy, max_requests=19), questions=10)
        assert not proxy.asked
        with pytest.raises(BadInput, match=r"judge\.max_requests: 20: that many were sent.*kept"):
            judge(study, by(proxy, max_requests=20), questions=10)
        assert len(proxy.asked) == 20
        assert 10 < len(read_jsonl(journal)) < 20
        assert not (study / "out" / "judgments.jsonl").exists()
        rows, scores = judge(study, by(proxy, max_requests=60), questions=10)
    assert len(rows) == 20
    assert scores["requests"]["sent"] == len(proxy.asked) <= 60
    assert "max_requests 60" in capsys.readouterr().out


def test_a_budget_of_tokens_is_never_exceeded(study: Path, port: int) -> None:
    with FaultProxy(port, faults=()) as proxy:
        _, scores = judge(study, by(proxy), questions=10)
        used = scores["requests"]["prompt_tokens"] + scores["requests"]["completion_tokens"]
        assert scores["requests"]["completion_tokens"] == 20 * 11  # what the tiny judge writes
        for name in ("judgments.journal.jsonl", "judgments.requests.jsonl", "mtbench.json"):
            (study / "out" / name).unlink()
        cap = used - 100
        with pytest.raises(BadInput, match=rf"judge\.max_tokens: {cap}: .*are kept"):
            judge(study, by(proxy, max_tokens=cap), questions=10)
        spent = [row.get("prompt_tokens", 0) + row.get("completion_tokens", 0)
                 for row in read_jsonl(study / "out" / "judgments.requests.jsonl")]  # fmt: skip
        assert 0 < sum(spent) <= cap
        with pytest.raises(BadInput, match=r"judge\.max_tokens: 5: .* tokens of prompts"):
            judge(study, by(proxy, max_tokens=5), questions=80)


def test_several_judgings_are_kept_apart_and_their_median_counts(study: Path, port: int) -> None:
    with FaultProxy(port, seed=5, rate=0.3, faults=["none", "7/10"]) as proxy:
        rows, scores = judge(study, by(proxy, judgings=3), questions=8)
    assert Counter(row["judging"] for row in rows) == {0: 16, 1: 16, 2: 16}
    assert (scores["n"], scores["judgings"]) == (48, 3)
    assert scores["judgings_sd"] is not None
    assert read_json(study / "out" / "mtbench.json")["unrated"] == 0


def wait_until(true: object, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
