"""MT-Bench judging: FastChat's rows, the expected rating by brute force, a real HTTP endpoint."""

import argparse
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fastchat.llm_judge.common as common
import pytest
import torch
from fastchat.llm_judge.show_result import display_result_single
from toys import save_tiny, tiny_llama, tiny_tokenizer

from owlore import fastchat, judging, mtbench
from owlore.config import Judge, MTBench
from owlore.errors import BadInput, OwloreError
from owlore.files import read_json, read_jsonl, write_jsonl

CATEGORIES = ("writing", "math", "stem", "coding")
KEY = "sk-this-must-never-be-written"
LOCAL = Judge(provider="transformers", model="base")
Reply = tuple[int, str]  # HTTP status, the assistant's text


def spec(**values: Any) -> MTBench:
    return MTBench(**{"questions": 4, "max_new_tokens": 8, "judge": LOCAL, **values})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Made-up questions, prompts, references and answers in FastChat's formats; a tiny model."""
    save_tiny(tmp_path / "tiny")
    write_jsonl(
        tmp_path / "question.jsonl",
        [
            {"question_id": place, "category": category, "turns": [f"{category}?", "Why {so}?"]}
            for place, category in enumerate(CATEGORIES, start=81)
        ],
    )
    prompts = []
    for name, wording in (
        ("single-v1", "Rate. {question} / {answer}"),
        ("single-math-v1", "Rate. {question} / {ref_answer_1} / {answer}"),
        ("single-v1-multi-turn", "{question_1} / {answer_1} / {question_2} / {answer_2}"),
        ("single-math-v1-multi-turn", "{ref_answer_1} {ref_answer_2} / {answer_1} / {answer_2}"),
    ):
        row = {"name": name, "type": "single", "system_prompt": f"Judge by {name}."}
        prompts.append({**row, "prompt_template": wording, "output_format": "[[rating]]"})
    write_jsonl(tmp_path / "judge_prompts.jsonl", prompts)
    for name, turns in (("answers", ["A {1}", "A 2"]), ("gpt-4", ["R1", "R2"])):
        rows = [
            {
                "question_id": place,
                "answer_id": "a",
                "model_id": "tiny",
                "choices": [{"index": 0, "turns": turns}],
                "tstamp": 0.0,
            }
            for place in range(81, 81 + len(CATEGORIES))
        ]
        write_jsonl(tmp_path / ("references" if name != "answers" else "") / f"{name}.jsonl", rows)
    return tmp_path


def judge(study: Path, judge: Judge = LOCAL, **values: Any) -> tuple[list[dict[str, Any]], Any]:
    """Judge the study's answers; return the judgments and the scores."""
    judging.judge(
        study / "question.jsonl",
        study / "judge_prompts.jsonl",
        study / "references",
        study / "answers.jsonl",
        study / "out" / "judgments.jsonl",
        judge=judge,
        spec=spec(**values),
        base_model=study / "tiny",
        weights_sha256="ab" * 32,
        scores=study / "out" / "mtbench.json",
    )
    return read_jsonl(study / "out" / "judgments.jsonl"), read_json(study / "out" / "mtbench.json")


def fastchat_average(study: Path, capsys: pytest.CaptureFixture[str]) -> float:
    """The average that FastChat's own tool prints for the judgments."""
    capsys.readouterr()
    display_result_single(
        argparse.Namespace(
            input_file=str(study / "out" / "judgments.jsonl"),
            bench_name="mt_bench",
            judge_model=None,
            model_list=None,
        )
    )
    return float(capsys.readouterr().out.split()[-1])


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
        self.judge = Judge(
            provider="openai",
            model="some-judge",
            base_url=f"http://127.0.0.1:{self.server.server_port}/v1",
            api_key_env="OWLORE_TEST_KEY",
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


# What FastChat reads


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Rating: [[7]]", 7),
        ("Rating: [[8.5]]", 8.5),
        ("[5]", 5),
        ("use [[5]], so [[3]]", 5),
        ("[[10]]", 10),
        ("[[11]]", -1),
        ("[[0]]", -1),
        ("[[07]]", -1),
        ("[[" + "9" * 5000 + "]]", -1),
        ("7/10", -1),
        ("", -1),
    ],
)
def test_ratings_are_read_by_fastchat_and_kept_in_range(
    study: Path, text: str, score: float
) -> None:
    before = {name: getattr(common, name) for name in fastchat.REBOUND}
    prompts = {row["name"]: row for row in read_jsonl(study / "judge_prompts.jsonl")}
    questions = read_jsonl(study / "question.jsonl")[:1]
    answers = {81: read_jsonl(study / "answers.jsonl")[0]}
    match = fastchat.matches(questions, answers, {}, prompts, model_id="m", judge_model="j")[0]
    row = fastchat.row(match, text)
    assert row["score"] == score
    assert row["judgment"] == text
    assert {name: getattr(common, name) for name in fastchat.REBOUND} == before
    assert fastchat.request(match) == {
        "messages": [
            {"role": "system", "content": "Judge by single-v1."},
            {"role": "user", "content": "Rate. writing? / A {1}"},
        ],
        "temperature": 0,
        "max_tokens": 2048,
    }


def test_a_missing_judge_prompt_is_named(study: Path) -> None:
    path = study / "judge_prompts.jsonl"
    write_jsonl(path, [row for row in read_jsonl(path) if row["name"] != "single-math-v1"])
    with pytest.raises(BadInput, match="'single-math-v1'"):
        judge(study)


# The local judge


def test_local_judgments_are_fastchats_rows(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, scores = judge(study)
    assert [(row["turn"], row["judge"][1], row["question_id"]) for row in rows] == [
        (1, "single-v1", 81),
        (1, "single-v1", 83),
        (1, "single-math-v1", 82),
        (1, "single-math-v1", 84),
        (2, "single-v1-multi-turn", 81),
        (2, "single-v1-multi-turn", 83),
        (2, "single-math-v1-multi-turn", 82),
        (2, "single-math-v1-multi-turn", 84),
    ]
    columns = {"question_id", "model", "judge", "user_prompt", "judgment", "score", "turn"}
    assert all(columns | {"tstamp"} <= row.keys() for row in rows)
    assert rows[2]["user_prompt"] == "Rate. math? / R1 / A {1}"
    assert rows[7]["user_prompt"] == "R1 R2 / A {1} / A 2"
    assert all(1 <= row["score"] <= 10 for row in rows)
    assert fastchat_average(study, capsys) == pytest.approx(scores["overall"], abs=1e-5)

    by = {(row["question_id"], row["turn"]): row["score"] for row in rows}
    assert scores["turn_1"] == pytest.approx(sum(by[q, 1] for q in range(81, 85)) / 4, abs=1e-6)
    assert scores["categories"]["math"] == pytest.approx((by[82, 1] + by[82, 2]) / 2, abs=1e-6)
    assert list(scores["categories"]) == list(CATEGORIES)
    assert (scores["n"], scores["failed"], scores["questions"]) == (8, 0, 4)
    assert scores["comparable"] is False
    assert scores["judge"] == {
        "provider": "transformers",
        "model": "tiny",
        "label": "plumbing check: expected rating of tiny, not an MT-Bench score",
    }
    assert scores["weights_sha256"] == "ab" * 32
    assert (scores["reference_set"], scores["max_new_tokens"]) == ("gpt-4", 8)
    assert not (study / "out" / "judgments.jsonl.partial.jsonl").exists()


def test_local_judge_is_deterministic_and_reads_the_answers(study: Path) -> None:
    first, again = judge(study)[0], judge(study)[0]
    assert [row["score"] for row in first] == [row["score"] for row in again]
    rows = read_jsonl(study / "answers.jsonl")
    rows[0]["choices"][0]["turns"] = ["Another answer", "A 2"]
    write_jsonl(study / "answers.jsonl", rows)
    changed = judge(study)[0]
    different = [
        left["score"] != right["score"] for left, right in zip(first, changed, strict=True)
    ]
    assert [row["question_id"] for row, other in zip(first, different, strict=True) if other] == [
        81,
        81,
    ]


@pytest.mark.parametrize(
    "pieces", [[], ["10"], ["10]]", "7]]"], ["[[3", "]]"], [f"{k}]]" for k in range(5, 11)]]
)
@pytest.mark.parametrize("limit", [1536, 20])
def test_expected_rating_equals_brute_force(
    pieces: list[str], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: one plain forward over each whole text; what they share cancels out."""
    monkeypatch.setattr(judging, "MAX_PROMPT_TOKENS", limit)
    model, tokenizer = tiny_llama(initializer_range=0.1), tiny_tokenizer()
    tokenizer.add_tokens(pieces)
    messages = [{"role": "user", "content": "How good is that answer?"}]
    found, cut = judging.rating_logprobs(model, tokenizer, messages)
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
    logprobs, _ = judging.rating_logprobs(tiny_llama(), tiny_tokenizer(), content)
    expected = float((logprobs.softmax(0) * torch.arange(1, 11)).sum())
    assert rows[0]["score"] == round(expected, 4)


def test_long_prompts_are_cut_and_counted(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MAX_PROMPT_TOKENS", 40)
    rows, scores = judge(study)
    assert scores["truncated_prompts"] == 8
    assert all(row["truncated_tokens"] > 0 for row in rows)


def test_a_folder_may_judge_and_references_can_be_missing(study: Path) -> None:
    save_tiny(study / "elsewhere", tiny_llama(seed=3))
    rows, scores = judge(study, Judge(provider="transformers", model=str(study / "elsewhere")))
    assert scores["judge"]["model"] == "elsewhere" == rows[0]["judge"][0]
    assert str(study) not in json.dumps(scores)
    with pytest.raises(BadInput, match=r"gpt-4-0125-preview\.jsonl: no such file"):
        judge(study, reference_set="gpt-4-0125-preview")
    write_jsonl(study / "answers.jsonl", read_jsonl(study / "answers.jsonl")[1:])
    with pytest.raises(BadInput, match="question 81"):
        judge(study)


def test_line_separators_in_an_answer_do_no_harm(study: Path) -> None:
    answers = read_jsonl(study / "answers.jsonl")
    answers[0]["choices"][0]["turns"][0] = odd = "one\u2028two\x85three\x0bfour\r\nfive"
    write_jsonl(study / "answers.jsonl", answers)
    assert judge(study)[0][0]["user_prompt"] == f"Rate. writing? / {odd}"


def test_base_judge_needs_the_base_model() -> None:
    with pytest.raises(BadInput, match="--base-model"):
        judging._open(LOCAL, None, "cpu")


# The endpoint


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
    partial = study / "out" / "judgments.jsonl.partial.jsonl"
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
    assert not partial.exists()


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
    monkeypatch.setattr(judging, "RETRIES", 2)
    endpoint.script = lambda number, _: (200 if number < 3 else 500, "Rating: [[3]]")
    with pytest.raises(OwloreError, match="run it again") as caught:
        judge(study, endpoint.judge)
    assert not isinstance(caught.value, BadInput)
    assert len(endpoint.requests) == 2 + 3
    assert len(read_jsonl(study / "out" / "judgments.jsonl.partial.jsonl")) == 2


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
