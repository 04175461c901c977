"""MT-Bench answers: two turns a question, batched, in FastChat's row schema.

The decoding loop is our own because each answer draws from its own random generator, seeded by
(seed, question, turn): batch size and order change no sampled answer. FastChat's loop asks one
question at a time and needs a GPU. Prompts are padded on the left.

Run as: `owlore answer --model DIR --questions question.jsonl --output answers.jsonl`
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from owlore import fastchat
from owlore.config import MTBench
from owlore.errors import BadInput
from owlore.files import read_jsonl, sha256_text, write_jsonl
from owlore.models import DTYPES, load, load_tokenizer, merged, positions
from owlore.progress import Progress

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
    device: str = "cpu",
    dtype: str = "float32",
) -> None:
    """Answer the chosen MT-Bench questions and write them in the questions' order.

    Rows are FastChat's (question_id, answer_id, model_id, choices, tstamp) plus prompt_format
    ("chat_template" or "alpaca"), truncated_tokens and new_tokens, the last two one number a turn.

    Args:
        model_dir: checkpoint of the model.
        adapter: folder of a LoRA adapter for it, merged before answering.
        questions: FastChat's question.jsonl.
        output: answers.jsonl.
        spec: how many questions, how many tokens, batch size and seed.
        model_id: the name FastChat's tools show.
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

    done: list[Row] = []
    batches = [rows[at : at + spec.batch_size] for at in range(0, len(rows), spec.batch_size)]
    steps = len(batches) * 2 * spec.max_new_tokens
    with Progress(total=steps, desc=f"answer {model_id}", unit="step") as bar:
        for batch in batches:
            done += _answer_batch(model, tokenizer, batch, room, spec, model_id, bar)
    write_jsonl(output, done)
    cut = sum(any(row["truncated_tokens"]) for row in done)
    print(f"answered {len(done)} MT-Bench questions with {model_id} ({cut} prompts cut): {output}")


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
        text = fastchat.alpaca(messages, str(tokenizer.eos_token))
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


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    prompts: list[list[int]],
    *,
    temperatures: list[float],
    generators: list[torch.Generator],
    stops: set[int],
    max_new_tokens: int,
    bar: Progress | None = None,
) -> list[list[int]]:
    """Decode a batch of prompts, each row with its own temperature and generator.

    A row with temperature 0 takes the most likely token. Rows leave the batch at a stop token,
    which is not returned.

    Args:
        model: a causal language model.
        prompts: token ids, a list a row; they are padded on the left.
        temperatures: one a row.
        generators: one a row, on the CPU; a row draws once a step from its own.
        stops: ids of the tokens that end an answer.
        max_new_tokens: most tokens a row.
        bar: advanced by one a step.

    Returns:
        New token ids, a list a row.
    """
    device = model.device
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts]).to(device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = None
    alive = list(range(len(prompts)))
    found: list[list[int]] = [[] for _ in prompts]
    for _ in range(max_new_tokens):
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, logits = output.past_key_values, output.logits[:, -1].float()
        if bar is not None:
            bar.update()
        kept = []
        for slot, row in enumerate(alive):
            token = _draw(logits[slot], temperatures[row], generators[row])
            if token not in stops:
                found[row].append(token)
                kept.append(slot)
        if not kept:
            break
        if len(kept) < len(alive):
            alive = [alive[slot] for slot in kept]
            cache.batch_select_indices(torch.tensor(kept, device=device))
            mask, positions = mask[kept], positions[kept]
        ids = torch.tensor([found[row][-1:] for row in alive], device=device)
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return found


def _draw(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    weights = torch.softmax(logits.cpu() / temperature, dim=-1)
    return int(torch.multinomial(weights, 1, generator=generator))


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
