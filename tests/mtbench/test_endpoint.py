"""MT-Bench judging by an OpenAI-compatible endpoint: a real server on loopback, with faults."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.described import cell_of
from support.judged_study import fastchat_average, judge
from support.studies import changed

from owlore.cli.main import main
from owlore.core.errors import BadInput, OwloreError
from owlore.core.files import read_jsonl, write_json, write_jsonl
from owlore.core.journal import Journal
from owlore.mtbench import endpoint as endpoint_module
from owlore.study.judge import EndpointJudge

KEY = "sk-this-must-never-be-written"
Reply = tuple[int, str]  # HTTP status, the assistant's text


class Endpoint:
    """A chat-completions server on loopback that replies what `script` says."""

    def __init__(self) -> None:
        self.script: Callable[[int, str], Reply] = lambda _number, _prompt: (200, "Rating: [[7]]")
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append(body)
                endpoint.keys.append(self.headers["Authorization"])
                prompt = body["messages"][-1]["content"]
                status, text = endpoint.script(len(endpoint.requests), prompt)
                message = {"role": "assistant", "content": text}
                reply: dict[str, Any] = {"error": {"message": text}}
                if status == 200:
                    choice = {"index": 0, "finish_reason": "stop", "message": message}
                    reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
                    reply["choices"] = [choice]
                raw = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.judge = EndpointJudge(
            provider="openai",
            model="some-judge",
            base_url=f"http://127.0.0.1:{self.server.server_port}/v1",
            api_key_env="OWLORE_TEST_KEY",
            concurrency=1,  # so that a script may count the requests
        )


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OWLORE_TEST_KEY", KEY)
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


def assert_key_nowhere(folder: Path, *texts: str) -> None:
    assert not any(KEY in text for text in texts)
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_endpoint_is_asked_as_fastchat_asks(study: Path, endpoint: Endpoint) -> None:
    rows, scores = judge(study, endpoint.judge)
    assert len(endpoint.requests) == 8
    first = endpoint.requests[0]
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("some-judge", 0, 2048)
    assert first["messages"][0] == {"role": "system", "content": "Judge by single-v1."}
    assert set(endpoint.keys) == {f"Bearer {KEY}"}
    assert all(row["score"] == 7 and row["judge"][0] == "some-judge" for row in rows)
    assert scores["comparable"] is True
    assert scores["judge"]["provider"] == "openai"
    assert "some-judge" in scores["judge"]["label"]
    assert_key_nowhere(study)


def test_busy_endpoint_is_asked_again(study: Path, endpoint: Endpoint) -> None:
    busy = {1: 429, 2: 503, 5: 429}
    endpoint.script = lambda number, _: (busy.get(number, 200), "Rating: [[6]]")
    _, scores = judge(study, endpoint.judge)
    assert len(endpoint.requests) == 8 + len(busy)
    assert (scores["overall"], scores["failed"]) == (6, 0)


def test_rating_out_of_range_is_asked_again(study: Path, endpoint: Endpoint) -> None:
    endpoint.script = lambda number, _: (200, "Rating: [[11]]" if number == 1 else "Rating: [[7]]")
    rows, scores = judge(study, endpoint.judge)
    assert len(endpoint.requests) == 9
    assert endpoint.requests[0] == endpoint.requests[1]
    assert [row["score"] for row in rows] == [7] * 8
    assert scores["failed"] == 0


def test_unreadable_judgments_are_counted_not_dropped(
    study: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(_number: int, prompt: str) -> Reply:
        return 200, "I like it." if "math?" in prompt else "Rating: [[4]]"

    endpoint.script = script
    rows, scores = judge(study, endpoint.judge)
    assert len(endpoint.requests) == 7 + 3
    failed = [row for row in rows if row["score"] == -1]
    assert [(row["question_id"], row["turn"]) for row in failed] == [(82, 1)]
    assert failed[0]["judgment"] == "I like it."
    assert (scores["n"], scores["failed"], scores["overall"]) == (8, 1, 4)
    assert fastchat_average(study, capsys) == scores["overall"]


def test_nothing_readable_gives_no_average(study: Path, endpoint: Endpoint) -> None:
    endpoint.script = lambda *_: (200, "no")
    _, scores = judge(study, endpoint.judge)
    assert (scores["overall"], scores["turn_1"], scores["failed"]) == (None, None, 8)


def test_rerun_asks_only_for_what_is_missing(
    study: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.script = lambda number, _: (
        (401, f"bad key {KEY}") if number == 6 else (200, f"Rating: [[{number}]]")
    )
    with pytest.raises(BadInput, match=r"some-judge: .*bad key \*\*\*") as caught:
        judge(study, endpoint.judge)
    partial = study / "out" / "judgments.journal.jsonl"
    assert [row["score"] for row in read_jsonl(partial)] == [1, 2, 3, 4, 5]
    assert not (study / "out" / "judgments.jsonl").exists()
    captured = capsys.readouterr()
    assert_key_nowhere(study, str(caught.value), captured.out, captured.err)

    with open(partial, "a") as stream:  # killed while it wrote a row
        stream.write('{"question_id": 83, "turn": 2, "sc')
    endpoint.script = lambda *_: (200, "Rating: [[9]]")
    rows, scores = judge(study, endpoint.judge)
    assert len(endpoint.requests) == 6 + 3
    assert [row["score"] for row in rows] == [1, 2, 3, 4, 5, 9, 9, 9]
    assert scores["overall"] == (1 + 2 + 3 + 4 + 5 + 9 * 3) / 8
    assert read_jsonl(partial) == rows  # it stays: what was paid for is never asked again
    assert scores["requests"]["repeated_after_a_kill"] == 0


def test_changed_answers_are_judged_anew(study: Path, endpoint: Endpoint) -> None:
    endpoint.script = lambda number, _: (400 if number == 4 else 200, "Rating: [[2]]")
    with pytest.raises(BadInput):
        judge(study, endpoint.judge)
    answers = read_jsonl(study / "answers.jsonl")
    answers[0]["choices"][0]["turns"][0] = "A new answer"
    write_jsonl(study / "answers.jsonl", answers)
    endpoint.script = lambda *_: (200, "Rating: [[8]]")
    rows, _ = judge(study, endpoint.judge)
    assert [row["score"] for row in rows] == [8, 2, 2, 8, 8, 8, 8, 8]


def test_endpoint_that_stays_down_keeps_what_it_judged(
    study: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "RETRIES", 2)
    endpoint.script = lambda number, _: (200 if number < 3 else 500, "Rating: [[3]]")
    with pytest.raises(OwloreError, match="run it again") as caught:
        judge(study, endpoint.judge)
    assert not isinstance(caught.value, BadInput)
    assert len(endpoint.requests) == 2 + 3
    assert len(read_jsonl(study / "out" / "judgments.journal.jsonl")) == 2


def test_key_is_checked_before_and_openais_key_goes_nowhere_else(
    study: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    judge(study, endpoint.judge.model_copy(update={"api_key_env": None}))
    assert not any(KEY in key for key in endpoint.keys)
    monkeypatch.delenv("OWLORE_TEST_KEY")
    with pytest.raises(BadInput, match="OWLORE_TEST_KEY is not set"):
        judge(study, endpoint.judge)
    assert len(endpoint.requests) == 8


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/v1", "file:///etc/passwd", "127.0.0.1", "http://"]
)
def test_only_http_is_spoken(study: Path, endpoint: Endpoint, url: str) -> None:
    with pytest.raises(BadInput, match=r"judge\.base_url"):
        judge(study, endpoint.judge.model_copy(update={"base_url": url}))


# The ledger: what a kill leaves, and where the caps come from


def ledger_of(folder: Path, *events: dict[str, Any]) -> tuple[endpoint_module.Ledger, Journal]:
    write_jsonl(folder / "requests.jsonl", events)
    journal = Journal(folder / "requests.jsonl")
    judge = EndpointJudge(provider="openai", model="m", base_url="http://127.0.0.1/v1")
    return endpoint_module.Ledger(journal, judge), journal


def sent(key: str) -> dict[str, Any]:
    return {"event": "sent", "request": key}


def ended(key: str, event: str, tokens: int = 0) -> dict[str, Any]:
    return {"event": event, "request": key, "prompt_tokens": tokens, "completion_tokens": 1}


def test_what_a_killed_run_may_have_paid_for_is_counted_once(tmp_path: Path) -> None:
    events = [
        *(sent("recorded"), ended("recorded", "answered", 10)),
        *(sent("refused"), ended("refused", "refused")),
        *(sent("answered but not stored"), ended("answered but not stored", "answered", 20)),
        *(sent("twice"), ended("twice", "refused"), sent("twice")),
        sent("under way"),
    ]
    ledger, journal = ledger_of(tmp_path, *events)
    assert (ledger.sent, ledger.prompt_tokens) == (6, 30)
    assert ledger.resume({"recorded"}) == 3
    assert ledger.resume({"recorded"}) == 0
    journal.close()
    again, journal = ledger_of(tmp_path, *read_jsonl(tmp_path / "requests.jsonl"))
    assert (again.repeated, again.resume({"recorded"})) == (3, 0)
    again.start("under way", (5, 5))  # killed a second time
    journal.close()
    third, journal = ledger_of(tmp_path, *read_jsonl(tmp_path / "requests.jsonl"))
    assert (third.resume({"recorded"}), third.repeated) == (1, 4)
    journal.close()


def test_pace_and_caps_come_from_the_study_and_change_no_identity(
    study: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    block = endpoint.judge.model_dump(mode="json")
    capped = {**block, "max_requests": 7, "concurrency": 2}
    mtbench = {"questions": 4, "judge": block, "further_judges": {"other": capped}}
    whole = changed("tracks.mini.mtbench", mtbench)
    write_json(study / "study.json", whole)
    cell_of(track="mini").save(study / "finetune.json")
    command = ["judge", "--spec", json.dumps({"questions": 4, "judge": block})]
    for flag, name in (
        ("--questions", "question.jsonl"),
        ("--prompts", "judge_prompts.jsonl"),
        ("--references", "references"),
        ("--answers", "answers.jsonl"),
        ("--cell-file", "finetune.json"),
        ("--study", "study.json"),
        ("--output", "out/judgments.jsonl"),
        ("--scores", "out/mtbench.json"),
    ):
        command += [flag, str(study / name)]
    assert main([*command, "--name", "other"]) == 2
    assert "judge.max_requests: 7" in capsys.readouterr().err
    assert main([*command, "--name", "nobody"]) == 2
    assert not endpoint.requests
    assert main(command) == 0
    first = read_jsonl(study / "out" / "judgments.jsonl")
    faster = endpoint.judge.model_copy(update={"concurrency": 3, "max_requests": 99})
    assert judge(study, faster)[0] == first
    assert len(endpoint.requests) == 8
