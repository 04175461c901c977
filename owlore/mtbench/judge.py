"""MT-Bench judging: FastChat's single-answer grading of both turns, and the scores of a cell.

Two kinds of judge. `openai` asks any OpenAI-compatible endpoint, as MT-Bench means it (see
`endpoint.py`). `transformers` needs no endpoint: it takes the rating a local model expects
(`rating_model.py`), which is NOT an MT-Bench score; its results say so (`comparable: false`).

Each judgment is on disk before the next is asked, in a journal beside the output. Of an endpoint
the journal stays: no recorded judgment is asked again, whatever made the rule run anew. Remove
`judgments.journal.jsonl` to have everything judged again.

Run as: `owlore judge --questions question.jsonl --prompts judge_prompts.jsonl
--references reference_answer --answers answers.jsonl --judge JUDGE.yaml --output judgments.jsonl`
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from owlore.core import provenance
from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, sha256_file, write_jsonl
from owlore.core.journal import Journal
from owlore.core.progress import Progress, line
from owlore.mtbench import protocol as fastchat
from owlore.mtbench.answer import answers_sha256, read_questions
from owlore.mtbench.endpoint import Ledger, estimated_tokens, open_endpoint, request_key
from owlore.mtbench.rating_model import open_model
from owlore.mtbench.ratings import FAILED, summarise
from owlore.records import proof
from owlore.records.base import Proof
from owlore.records.mtbench import JudgedRecord, JudgeJob, JudgeUsed, RequestsSent
from owlore.sources.models import recorded_sha256
from owlore.study.config import Judge

ATTEMPTS = 3  # how often an endpoint is asked for a rating that can be read

Row = dict[str, Any]


@dataclass
class Wanted:
    """One judgment to be made; `attempts` counts the replies without a readable rating."""

    match: Any
    judging: int
    request: Row  # what fastchat.request returns
    key: str
    attempts: int = 0


Ask = Callable[[Wanted], tuple[str, Row]]  # judgment, more columns


@dataclass(frozen=True)
class Inputs:
    """What a judging reads.

    Attributes:
        questions: FastChat's question.jsonl.
        prompts: FastChat's judge_prompts.jsonl.
        references: folder with `<reference_set>.jsonl`, or such a file itself.
        answers: answers.jsonl of one model.
        base_model: checkpoint that `model: base` stands for.
        weights_sha256: hash of the weights that gave the answers.
    """

    questions: Path
    prompts: Path
    references: Path
    answers: Path
    base_model: Path | None = None
    weights_sha256: str = ""


def run(
    job: JudgeJob,
    inputs: Inputs,
    output: Path,
    scores: Path,
    *,
    pace: Judge | None = None,
    device: str = "cpu",
) -> JudgedRecord:
    """Have the answers judged; write FastChat's rows to `output` and the averages to `scores`.

    Beside FastChat's columns a row has judging (which of the judge's `judgings`, from 0), attempts
    and request_sha256, the identity by which a rerun knows it.

    Args:
        job: who judges, which questions were chosen, and the reference set.
        inputs: see `Inputs`.
        output: judgments.jsonl; `judgments.journal.jsonl` beside it holds each as it comes, and
            `judgments.requests.jsonl` what was sent to an endpoint.
        scores: mtbench.json, see `ratings.summarise`.
        pace: the same judge with its concurrency, time limit and caps, which change no result.
        device: where a local judge runs.

    Raises:
        BadInput: a file, an answer, the key or the endpoint is not what it should be, or a cap of
            the judge is reached; what it judged so far is kept.
        OwloreError: the endpoint failed for good; what it judged so far is kept.
    """
    references = inputs.references
    if references.is_dir():
        references = references / f"{job.reference_set}.jsonl"
    asked = proof.of(job, __name__, _read(job, inputs, references))
    record = proof.kept(JudgedRecord, scores, asked, f"judge {scores}")
    if record is None:
        record = _judged(job, inputs, references, output, scores, pace or job.judge, device, asked)
    return record


def _read(job: JudgeJob, inputs: Inputs, references: Path) -> dict[str, str]:
    """Hash what is read; of the answers and the references what they say, not when."""
    files = {"questions": inputs.questions, "prompts": inputs.prompts}
    read = {name: sha256_file(path) for name, path in files.items() if path.is_file()}
    for name, path in (("answers", inputs.answers), ("references", references)):
        rows = read_jsonl(path)
        if all({"question_id", "model_id", "choices"} <= row.keys() for row in rows):
            read[name] = answers_sha256(rows)
    if job.judge.provider == "transformers":
        read["judge"] = recorded_sha256(_local_folder(job.judge, inputs.base_model))
    return read | {"weights": inputs.weights_sha256}


def _judged(
    job: JudgeJob,
    inputs: Inputs,
    references: Path,
    output: Path,
    scores: Path,
    judge: Judge,
    device: str,
    asked: Proof,
) -> JudgedRecord:
    started, clock = provenance.now(), time.monotonic()
    chosen = read_questions(inputs.questions, job.questions, job.seed)
    found = _by_question(inputs.answers, chosen)
    referenced = [row for row in chosen if fastchat.needs_reference(row["category"])]
    shown = _by_question(references, referenced)
    names = sorted({str(row.get("model_id")) for row in found.values()})
    if len(names) != 1:
        raise BadInput(
            f"{inputs.answers}: model_id: {', '.join(names)}: answers of one model expected"
        )
    wordings = {str(row.get("name")): row for row in read_jsonl(inputs.prompts)}

    local = judge.provider == "transformers"
    folder = _local_folder(judge, inputs.base_model) if local else None
    judge_name = folder.absolute().name if folder is not None else judge.model
    matches = fastchat.matches(
        chosen, found, shown, wordings, model_id=names[0], judge_model=judge_name
    )
    todo = list(_wanted(matches, judge))
    journal = output.with_name(f"{output.stem}.journal.jsonl")
    if folder is not None:
        rows, requests = _judge_locally(todo, folder, device, journal), None
    else:
        rows, requests = _judge_by_endpoint(todo, judge, journal)
    write_jsonl(output, rows)
    plumbing = f"plumbing check: expected rating of {judge_name}, not an MT-Bench score"
    label = plumbing if local else f"MT-Bench, judge {judge_name}"
    made = {os.path.relpath(output, scores.parent): sha256_file(output)}
    record = JudgedRecord(
        judge=JudgeUsed(provider=judge.provider, model=judge_name, label=label),
        comparable=not local,
        weights_sha256=inputs.weights_sha256,
        reference_set=references.stem,
        prompt_version="single-v1",
        prompts_sha256=sha256_file(inputs.prompts),
        date=_dates(rows),
        **summarise(rows, chosen),
        requests=requests,
        truncated_prompts=sum(row.get("truncated_tokens", 0) > 0 for row in rows),
        truncated_answers=sum(any(row.get("truncated_tokens", ())) for row in found.values()),
        max_new_tokens=job.max_new_tokens,
        proof=asked.model_copy(update={"made": made}),
        **provenance.stamp(started, clock),
    )
    record.save(scores)
    if local:  # deterministic and free: nothing is lost by judging again
        journal.unlink(missing_ok=True)
    failed = sum(row["score"] == FAILED for row in rows)
    line(f"judged {names[0]}: {len(rows)} judgments by {judge_name}, {failed} failed: {scores}")
    return record


def _wanted(matches: list[Any], judge: Judge) -> Iterator[Wanted]:
    for judging in range(judge.judgings):
        for match in matches:
            request = {**fastchat.request(match), "max_tokens": judge.answer_tokens}
            row = fastchat.row(match, "")
            which = (row["model"], row["question_id"], row["turn"], judging)
            yield Wanted(match, judging, request, request_key(judge, request, *which))


def _local_folder(judge: Judge, base_model: Path | None) -> Path:
    folder = base_model if judge.model == "base" else Path(judge.model)
    if folder is None:
        raise BadInput("judge.model: base: the base model's folder (--base-model) is needed")
    return folder


def _judge_locally(jobs: list[Wanted], folder: Path, device: str, path: Path) -> list[Row]:
    rate = open_model(folder, device)
    with Journal(path) as journal:
        return _play(jobs, lambda job: rate(job.request), journal, attempts=1)


def _judge_by_endpoint(
    jobs: list[Wanted], judge: Judge, path: Path
) -> tuple[list[Row], RequestsSent]:
    """Return the rows, and what was sent for them in this run and those before."""
    log = path.with_name(path.name.replace(".journal.", ".requests."))
    with Journal(path) as journal, Journal(log) as requests:
        recorded = {row["request_sha256"] for row in journal.rows}
        missing = [job for job in jobs if job.key not in recorded]
        ledger = Ledger(requests, judge)
        ask = open_endpoint(judge, ledger, {job.key: job.request for job in missing})
        _announce(judge, missing, len(jobs), ledger, ledger.resume(recorded))
        rows = _play(
            jobs,
            lambda job: (ask(job.key), {}),
            journal,
            attempts=ATTEMPTS,
            concurrency=judge.concurrency,
            stop=ledger.stop,
        )
        return rows, RequestsSent(
            sent=ledger.sent,
            prompt_tokens=ledger.prompt_tokens,
            completion_tokens=ledger.completion_tokens,
            unreadable_asked_again=sum(row["attempts"] - 1 for row in rows),
            repeated_after_a_kill=ledger.repeated,
        )


def _announce(judge: Judge, missing: list[Wanted], total: int, ledger: Ledger, lost: int) -> None:
    """Say what is going to be asked and what it may cost.

    Raises:
        BadInput: a cap of the judge is too low for it.
    """
    guesses = [estimated_tokens(job.request) for job in missing]
    prompts, replies = (sum(guess[place] for guess in guesses) for place in (0, 1))
    line(
        f"judge {judge.model}: {len(missing)} of {total} judgments to ask, estimate: "
        f"{len(missing):,} requests, {prompts:,} prompt tokens and at most {replies:,} tokens of "
        f"judgments; so far {ledger.sent:,} requests and {ledger.tokens:,} tokens"
        + (f"; {lost} requests of a killed run may be asked twice" if lost else "")
        + f"; max_requests {judge.max_requests or 'none'}, max_tokens {judge.max_tokens or 'none'}"
    )
    for cap, used, needed, what in (
        ("max_requests", ledger.sent, len(missing), "requests"),
        ("max_tokens", ledger.tokens, prompts, "tokens of prompts"),
    ):
        allowed = getattr(judge, cap)
        if allowed is not None and missing and used + needed > allowed:
            raise BadInput(
                f"judge.{cap}: {allowed}: the judgments that are missing need at least {needed} "
                f"{what}, and {used} are used already: raise it, or ask fewer questions"
            )


def _play(
    jobs: list[Wanted],
    ask: Ask,
    journal: Journal,
    *,
    attempts: int,
    concurrency: int = 1,
    stop: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Make the judgments that the journal does not hold, storing each as it comes."""
    rows = {row["request_sha256"]: row for row in journal.rows}
    missing = deque(job for job in jobs if job.key not in rows)
    done = len(jobs) - len(missing)
    replies = _replies(missing, ask, concurrency, stop)
    with (
        Progress(total=len(jobs), initial=done, desc="judge", unit="match") as bar,
        contextlib.closing(replies),
    ):
        for job, text, columns in replies:
            row = fastchat.row(job.match, text)
            job.attempts += 1
            if row["score"] == FAILED and job.attempts < attempts:
                missing.appendleft(job)
                continue
            row |= {"judging": job.judging, "attempts": job.attempts, "request_sha256": job.key}
            journal.append(row | columns)
            rows[job.key] = row | columns
            bar.update()
    return [rows[job.key] for job in jobs]


def _replies(
    jobs: deque[Wanted], ask: Ask, concurrency: int, stop: Callable[[str], None]
) -> Generator[tuple[Wanted, str, Row]]:
    """Ask `jobs`, which may grow meanwhile; yield each with its reply, in the order of arrival.

    After an error nothing more is asked; replies under way are still yielded, then it is raised.
    """
    if concurrency == 1:
        while jobs:
            job = jobs.popleft()
            yield job, *ask(job)
        return
    broken: BaseException | None = None
    running: dict[Future[tuple[str, Row]], Wanted] = {}
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            while running or (jobs and broken is None):
                while jobs and broken is None and len(running) < concurrency:
                    job = jobs.popleft()
                    running[pool.submit(ask, job)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job, error = running.pop(future), future.exception()
                    if error is None:
                        yield job, *future.result()
                    elif broken is None:
                        broken = error
                        stop("stopped after an error")
        finally:
            stop("stopped")  # no retry may leave any more
    if broken is not None:
        raise broken


def _dates(rows: list[Row]) -> str:
    """The day of the judgments in UTC, or the first and the last."""
    stamps = [row["tstamp"] for row in rows]
    days = [datetime.fromtimestamp(stamp, UTC).date() for stamp in (min(stamps), max(stamps))]
    return " to ".join(dict.fromkeys(map(str, days)))


def _by_question(path: Path, questions: list[Row]) -> dict[int, Row]:
    """Read answer rows by question_id.

    Raises:
        BadInput: a question has no row with two turns.
    """
    found = {row.get("question_id"): row for row in read_jsonl(path)}
    wanted = [question["question_id"] for question in questions]
    for question_id in wanted:
        choices = found.get(question_id, {}).get("choices") or [{}]
        if len(choices[0].get("turns", [])) != 2:
            raise BadInput(f"{path}: no two turns for question {question_id}")
    return {question_id: found[question_id] for question_id in wanted}
