"""MT-Bench answers: two turns a question, batched, in FastChat's row schema.

Each answer draws from its own random generator, seeded by (seed, question, turn): batch size, order
and resume change no sampled answer. FastChat's loop asks one question at a time and needs a GPU.

Run as: `owlore answer --model DIR --questions question.jsonl --output answers.jsonl`
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from owlore.core import provenance
from owlore.core.errors import BadInput
from owlore.core.files import canonical_json, read_jsonl, sha256_text, write_jsonl
from owlore.core.journal import Journal
from owlore.core.progress import Progress
from owlore.mtbench import protocol as fastchat
from owlore.mtbench.decoding import generate
from owlore.sources.chat import alpaca
from owlore.sources.models import DTYPES, load, load_tokenizer, merged, positions
from owlore.study.config import MTBench

Row = dict[str, Any]
Message = dict[str, str]


def answer(
    model_dir: Path,
    adapter: Path | None,
    questions: Path,
    output: Path,
    *,
    spec: MTBench,
    model_id: str,
    weights_sha256: str = "",
    device: str = "cpu",
    dtype: str = "float32",
) -> None:
    """Answer the chosen MT-Bench questions and write them in the questions' order.

    Questions of like length share a batch: less padding. Each finished batch is on disk at once, in
    `<output stem>.partial.jsonl`, so that a killed run goes on behind it.

    Rows are FastChat's (question_id, answer_id, model_id, choices, tstamp) plus prompt_format
    ("chat_template" or "alpaca"), truncated_tokens and new_tokens, the last two one number a turn.

    Args:
        model_dir: checkpoint of the model.
        adapter: folder of a LoRA adapter for it, merged before answering.
        questions: FastChat's question.jsonl.
        output: answers.jsonl.
        spec: how many questions, how many tokens, batch size and seed.
        model_id: the name FastChat's tools show.
        weights_sha256: hash of the weights: a partial file of others is not gone on with.
        device: where to run, such as "cpu" or "cuda".
        dtype: "float32" or "bfloat16".

    Raises:
        BadInput: a file or folder is not what it should be, or the window is too small.
    """
    rows = read_questions(questions, spec)
    if dtype not in DTYPES:
        raise BadInput(f"dtype: {dtype!r}: allowed: {', '.join(DTYPES)}")
    if adapter is not None and not (adapter / "adapter_model.safetensors").is_file():
        raise BadInput(f"adapter: {adapter}: no adapter_model.safetensors there")
    tokenizer = load_tokenizer(model_dir)
    model = load(model_dir, dtype)
    if adapter is not None:
        model = merged(model, adapter)
    model.to(device).eval()  # type: ignore[arg-type]
    room = window(model, spec.max_new_tokens)

    settings = spec.model_dump(exclude={"judge", "further_judges", "reference_set"})
    decides = [weights_sha256, settings, rows, model_id, device, dtype, provenance.versions()]
    identity = {"answers_of": sha256_text(canonical_json(decides))}
    by_length = sorted(rows, key=lambda row: sum(map(len, row["turns"])))
    batches = [by_length[at : at + spec.batch_size] for at in range(0, len(rows), spec.batch_size)]
    partial = output.with_name(f"{output.stem}.partial.jsonl")
    with _resumed(partial, identity) as journal:
        done = {row["question_id"]: row for row in journal.rows[1:]}
        left = [batch for batch in batches if any(row["question_id"] not in done for row in batch)]
        steps = len(batches) * 2 * spec.max_new_tokens
        begun = steps - len(left) * 2 * spec.max_new_tokens
        with Progress(total=steps, initial=begun, desc=f"answer {model_id}", unit="step") as bar:
            for batch in left:
                for row in _answer_batch(model, tokenizer, batch, room, spec, model_id, bar):
                    if row["question_id"] not in done:
                        done[row["question_id"]] = row
                        journal.append(row)
    write_jsonl(output, [done[row["question_id"]] for row in rows])
    partial.unlink()
    cut = sum(any(row["truncated_tokens"]) for row in done.values())
    print(f"answered {len(done)} MT-Bench questions with {model_id} ({cut} prompts cut): {output}")


def _resumed(partial: Path, identity: Row) -> Journal:
    """Open the partial file of a run with this identity; one of another run is begun anew."""
    journal = Journal(partial)
    if journal.rows[:1] != [identity]:
        journal.close()
        partial.unlink()
        journal = Journal(partial)
        journal.append(identity)
    return journal


def read_questions(path: Path, spec: MTBench) -> list[Row]:
    """Read question.jsonl and choose `spec.questions` of them, spread evenly over the categories.

    The choice depends on `spec.seed` and the question_ids only, and a smaller one is part of a
    larger one. The rows keep the file's order.

    Raises:
        BadInput: a row is not a two-turn question of a known category, or there are too few.
    """
    rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not {"question_id", "category", "turns"} <= row.keys() or len(row["turns"]) != 2:
            raise BadInput(f"{path}: row {number}: expected question_id, category and two turns")
        fastchat.temperature(row["category"])
    if spec.questions > len(rows):
        raise BadInput(f"mtbench.questions: {spec.questions}: {path} has {len(rows)} questions")
    ranked, seen = [], Counter[str]()
    for row in sorted(rows, key=lambda row: sha256_text(f"{spec.seed} {row['question_id']}")):
        ranked.append((seen[row["category"]], row["question_id"]))
        seen[row["category"]] += 1
    ranked.sort(key=lambda item: item[0])  # stable: ties stay in the seeded order
    chosen = {question_id for _, question_id in ranked[: spec.questions]}
    return [row for row in rows if row["question_id"] in chosen]


def encode(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], endings: tuple[str, ...] = ("",)
) -> list[list[int]]:
    """Return the tokens of a conversation up to the assistant's next words, once per ending.

    The tokenizer's chat template makes the text, or FastChat's Alpaca template if it has none. A
    template that refuses a system message gets it at the head of the user's.
    """
    if tokenizer.chat_template is None:
        text = alpaca(messages, str(tokenizer.eos_token))
    else:
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
        try:
            text = str(tokenizer.apply_chat_template(messages, **options))
        except jinja2.TemplateError:
            if messages[0]["role"] != "system":
                raise
            system, user, *rest = messages
            user = {**user, "content": f"{system['content']}\n\n{user['content']}"}
            text = str(tokenizer.apply_chat_template([user, *rest], **options))
    encoded = tokenizer(
        [text + ending for ending in endings],
        add_special_tokens=tokenizer.chat_template is None,  # a chat template brings its own
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def window(model: PreTrainedModel, new_tokens: int) -> int | None:
    """Return how many prompt tokens fit before `new_tokens` more; None if the model sets no limit.

    Raises:
        BadInput: none fit.
    """
    limit = positions(model.config)
    if limit is None:
        return None
    if new_tokens >= limit:
        raise BadInput(f"mtbench.max_new_tokens: {new_tokens}: the model's window is {limit}")
    return limit - new_tokens


def _answer_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: list[Row],
    room: int | None,
    spec: MTBench,
    model_id: str,
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
        due = bar.n + spec.max_new_tokens
        found = generate(
            model,
            prompts,
            temperatures=[fastchat.temperature(row["category"]) for row in batch],
            generators=[_generator(spec.seed, row["question_id"], turn) for row in batch],
            stops=_stops(model, tokenizer),
            max_new_tokens=spec.max_new_tokens,
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
        identity = f"{model_id} {row['question_id']} {spec.seed} {turns}"
        rows.append(
            {
                "question_id": row["question_id"],
                "answer_id": sha256_text(identity)[:22],
                "model_id": model_id,
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
