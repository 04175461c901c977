"""MT-Bench answers: two turns a question, batched, in FastChat's row schema.

Each answer draws from its own random generator, seeded by (seed, question, turn): batch size, order
and resume change no sampled answer. FastChat's loop asks one question at a time and needs a GPU.

Run as: `owlore answer --model DIR --questions question.jsonl --output answers.jsonl`
"""

import time
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from owlore.core import provenance
from owlore.core.errors import BadInput
from owlore.core.files import (
    canonical_json,
    sha256_file,
    sha256_text,
    write_jsonl,
    write_receipt,
)
from owlore.core.journal import Journal
from owlore.core.progress import Progress
from owlore.mtbench import protocol as fastchat
from owlore.mtbench.decoding import generate
from owlore.mtbench.encoding import Message, encode, window
from owlore.mtbench.questions import Row, answers_sha256, read_questions
from owlore.records import proof
from owlore.records.base import Proof
from owlore.records.mtbench import AnswerJob, AnswersRecord
from owlore.sources.models import DTYPES, Weights, load, load_tokenizer, merged


def run(
    job: AnswerJob, weights: Weights, questions: Path, output: Path, device: str = "cpu"
) -> AnswersRecord:
    """Answer the chosen MT-Bench questions and write them in the questions' order.

    Questions of like length share a batch: less padding. Each finished batch is on disk at once, in
    `<output stem>.partial.jsonl`, so that a killed run goes on behind it.

    Rows are FastChat's (question_id, answer_id, model_id, choices, tstamp) plus prompt_format
    ("chat_template" or "alpaca"), truncated_tokens and new_tokens, the last two one number a turn.

    Args:
        job: how many questions, how many tokens, batch size, dtype and seed, and the name that
            FastChat's tools show.
        weights: of the model.
        questions: FastChat's question.jsonl.
        output: answers.jsonl; the Record lies beside it, as `.json`.
        device: where to run, such as "cpu" or "cuda".

    Raises:
        BadInput: a file or folder is not what it should be, or the window is too small.
    """
    rows = read_questions(questions, job.questions, job.seed)
    if job.dtype not in DTYPES:
        raise BadInput(f"dtype: {job.dtype!r}: allowed: {', '.join(DTYPES)}")
    adapter = weights.adapter
    if adapter is not None and not (adapter / "adapter_model.safetensors").is_file():
        raise BadInput(f"adapter: {adapter}: no adapter_model.safetensors there")
    read = {"weights": weights.sha256, "questions": sha256_text(canonical_json(rows))}
    described, asked = output.with_suffix(".json"), proof.of(job, __name__, read)
    record = proof.kept(AnswersRecord, described, asked, f"answer {job.model_id}")
    if record is None:
        record = _answered(job, weights, rows, output, device, asked)
        record.save(described)
    write_receipt(output.with_suffix(".sha256"), record.answers_sha256)
    return record


def _answered(
    job: AnswerJob, weights: Weights, rows: list[Row], output: Path, device: str, asked: Proof
) -> AnswersRecord:
    started, clock = provenance.now(), time.monotonic()
    tokenizer = load_tokenizer(weights.model)
    model = load(weights.model, job.dtype)
    if weights.adapter is not None:
        model = merged(model, weights.adapter)
    model.to(device).eval()  # type: ignore[arg-type]
    room = window(model, job.max_new_tokens)

    decides = [asked.job, asked.code, asked.read, device, provenance.versions()]
    identity = {"answers_of": sha256_text(canonical_json(decides))}
    by_length = sorted(rows, key=lambda row: sum(map(len, row["turns"])))
    batches = [by_length[at : at + job.batch_size] for at in range(0, len(rows), job.batch_size)]
    partial = output.with_name(f"{output.stem}.partial.jsonl")
    with _resumed(partial, identity) as journal:
        done = {row["question_id"]: row for row in journal.rows[1:]}
        left = [batch for batch in batches if any(row["question_id"] not in done for row in batch)]
        steps = len(batches) * 2 * job.max_new_tokens
        begun = steps - len(left) * 2 * job.max_new_tokens
        label = f"answer {job.model_id}"
        with Progress(total=steps, initial=begun, desc=label, unit="step") as bar:
            for batch in left:
                for row in _answer_batch(model, tokenizer, batch, room, job, bar):
                    if row["question_id"] not in done:
                        done[row["question_id"]] = row
                        journal.append(row)
    answers = [done[row["question_id"]] for row in rows]
    write_jsonl(output, answers)
    partial.unlink()
    cut = sum(any(row["truncated_tokens"]) for row in answers)
    print(
        f"answered {len(answers)} MT-Bench questions with {job.model_id} ({cut} prompts cut): "
        f"{output}"
    )
    return AnswersRecord(
        model_id=job.model_id,
        weights_sha256=weights.sha256,
        answers=len(answers),
        answers_sha256=answers_sha256(answers),
        truncated=cut,
        proof=asked.model_copy(update={"made": {output.name: sha256_file(output)}}),
        **provenance.stamp(started, clock),
    )


def _resumed(partial: Path, identity: Row) -> Journal:
    """Open the partial file of a run with this identity; one of another run is begun anew."""
    journal = Journal(partial)
    if journal.rows[:1] != [identity]:
        journal.close()
        partial.unlink()
        journal = Journal(partial)
        journal.append(identity)
    return journal


def _answer_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: list[Row],
    room: int | None,
    job: AnswerJob,
    bar: Progress,
) -> list[Row]:
    """Answer both turns of a batch of questions; the second sees the first answer."""
    talks: list[list[Message]] = [[] for _ in batch]
    cut: list[list[int]] = [[] for _ in batch]
    new: list[list[int]] = [[] for _ in batch]
    for turn in (0, 1):
        prompts = []
        for row, talk, lost in zip(batch, talks, cut, strict=True):
            talk.append({"role": "user", "content": row["turns"][turn]})
            (ids,) = encode(tokenizer, talk)
            lost.append(max(0, len(ids) - room) if room is not None else 0)
            prompts.append(ids[lost[-1] :])
        due = bar.n + job.max_new_tokens
        found = generate(
            model,
            prompts,
            temperatures=[fastchat.temperature(row["category"]) for row in batch],
            generators=[_generator(job.seed, row["question_id"], turn) for row in batch],
            stops=_stops(model, tokenizer),
            max_new_tokens=job.max_new_tokens,
            bar=bar,
        )
        bar.update(due - bar.n)  # answers may end early
        for talk, made, ids in zip(talks, new, found, strict=True):
            made.append(len(ids))
            text = str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
            talk.append({"role": "assistant", "content": text})
    prompt_format = "alpaca" if tokenizer.chat_template is None else "chat_template"
    rows = []
    for row, talk, lost, made in zip(batch, talks, cut, new, strict=True):
        turns = [message["content"] for message in talk if message["role"] == "assistant"]
        identity = f"{job.model_id} {row['question_id']} {job.seed} {turns}"
        rows.append(
            {
                "question_id": row["question_id"],
                "answer_id": sha256_text(identity)[:22],
                "model_id": job.model_id,
                "choices": [{"index": 0, "turns": turns}],
                "tstamp": time.time(),
                "prompt_format": prompt_format,
                "truncated_tokens": lost,
                "new_tokens": made,
            }
        )
    return rows


def _generator(seed: int, question_id: int, turn: int) -> torch.Generator:
    digest = sha256_text(f"{seed} {question_id} {turn}")
    return torch.Generator().manual_seed(int(digest[:15], 16))


def _stops(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of the tokens that end a text: the tokenizer's and those the model was saved with."""
    saved = model.generation_config.eos_token_id if model.generation_config else None
    several = saved if isinstance(saved, list) else [saved]
    return {token for token in (tokenizer.eos_token_id, *several) if isinstance(token, int)}
