"""MT-Bench judging: FastChat's single-answer grading of both turns, and the scores of a cell.

Who judges is one of the kinds of `owlore.study.judge`; how each of them does it is in `graders.py`.

Each judgment is on disk before the next is asked, in a journal beside the output. Of an endpoint
the journal stays: no recorded judgment is asked again, whatever made the rule run anew. Remove
`judgments.journal.jsonl` and `mtbench.json` to have everything judged again.

Run as: `owlore judge --questions question.jsonl --prompts judge_prompts.jsonl
--references reference_answer --answers answers.jsonl --judge JUDGE.yaml --output judgments.jsonl`
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from owlore.core import code, provenance
from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, sha256_file, write_jsonl
from owlore.core.progress import line
from owlore.mtbench import protocol as fastchat
from owlore.mtbench.asking import Wanted
from owlore.mtbench.endpoint import request_key
from owlore.mtbench.graders import Grader, grader_of
from owlore.mtbench.questions import answers_sha256, read_questions
from owlore.mtbench.ratings import FAILED, summarise
from owlore.records import proof
from owlore.records.base import Proof
from owlore.records.mtbench import JudgedRecord, JudgeJob, JudgeUsed
from owlore.study.judge import Judge

Row = dict[str, Any]


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
    grader = grader_of(pace or job.judge, inputs.base_model, device)
    read = _read(inputs, references) | grader.read()
    asked = proof.of(job, __name__, read)
    record = proof.kept(JudgedRecord, scores, asked, f"judge {scores}")
    if record is None:
        record = _judged(job, inputs, references, output, scores, grader, asked)
    return record


def _read(inputs: Inputs, references: Path) -> dict[str, str]:
    """Hash what is read; of the answers and the references what they say, not when."""
    files = {"questions": inputs.questions, "prompts": inputs.prompts}
    read = {name: sha256_file(path) for name, path in files.items() if path.is_file()}
    for name, path in (("answers", inputs.answers), ("references", references)):
        rows = read_jsonl(path)
        if all({"question_id", "model_id", "choices"} <= row.keys() for row in rows):
            read[name] = answers_sha256(rows)
    return read | {"weights": inputs.weights_sha256}


def _judged(
    job: JudgeJob,
    inputs: Inputs,
    references: Path,
    output: Path,
    scores: Path,
    grader: Grader,
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

    judge = job.judge
    matches = fastchat.matches(
        chosen, found, shown, wordings, model_id=names[0], judge_model=grader.name
    )
    journal = output.with_name(f"{output.stem}.journal.jsonl")
    rows, requests = grader.grade(list(_wanted(matches, judge, asked)), journal)
    write_jsonl(output, rows)
    made = {os.path.relpath(output, scores.parent): sha256_file(output)}
    record = JudgedRecord(
        judge=JudgeUsed(provider=judge.provider, model=grader.name, label=grader.label),
        comparable=judge.comparable,
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
    if not judge.costs:  # nothing is lost by judging again
        journal.unlink(missing_ok=True)
    failed = sum(row["score"] == FAILED for row in rows)
    line(f"judged {names[0]}: {len(rows)} judgments by {grader.name}, {failed} failed: {scores}")
    return record


def _wanted(matches: list[Any], judge: Judge, asked: Proof) -> Iterator[Wanted]:
    # What a local judge has said by other weights or other code is not gone on with. What an
    # endpoint was paid for is kept, whatever has changed on our side.
    by = [] if judge.costs else [code.digest(asked.code), asked.read.get("judge")]
    for judging in range(judge.judgings):
        for match in matches:
            request = {**fastchat.request(match), "max_tokens": judge.answer_tokens}
            row = fastchat.row(match, "")
            which = (row["model"], row["question_id"], row["turn"], judging, *by)
            yield Wanted(match, judging, request, request_key(judge, request, *which))


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
