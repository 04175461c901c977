"""MT-Bench judging: FastChat's single-answer grading of both turns, and the scores of a cell.

Two judges. `openai` asks any OpenAI-compatible endpoint, as MT-Bench means it. `transformers` needs
no endpoint: it takes the rating a local model expects, which exercises the whole path and is
deterministic, but is NOT an MT-Bench score; its results say so (`comparable: false`).

Each judgment is stored as it arrives; a rerun asks only for those that are missing.

Run as: `owlore judge --questions question.jsonl --prompts judge_prompts.jsonl
--references reference_answer --answers answers.jsonl --judge JUDGE.yaml --output judgments.jsonl`
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from owlore import fastchat, provenance
from owlore.config import Judge, MTBench
from owlore.errors import BadInput, OwloreError
from owlore.files import read_jsonl, sha256_file, write_json, write_jsonl
from owlore.models import load, load_tokenizer
from owlore.mtbench import encode, read_questions, window
from owlore.progress import Progress

PREFIX = "Rating: [["
MAX_PROMPT_TOKENS = 1536  # of the local judge: a longer prompt loses its beginning
ATTEMPTS = 3  # how often an endpoint is asked for a rating that can be read
RETRIES = 10  # of one request: the client waits 0.5, 1, 2, 4, 8, 8 … seconds or as it is told to
TIMEOUT = 300.0  # seconds for one request

Row = dict[str, Any]
Ask = Callable[[Row], tuple[str, Row]]  # what fastchat.request returns → judgment, more columns


def judge(
    questions: Path,
    prompts: Path,
    references: Path,
    answers: Path,
    output: Path,
    *,
    judge: Judge,
    spec: MTBench,
    base_model: Path | None,
    weights_sha256: str,
    scores: Path,
    device: str = "cpu",
) -> None:
    """Have the answers judged; write FastChat's rows to `output` and the averages to `scores`.

    Args:
        questions: FastChat's question.jsonl.
        prompts: FastChat's judge_prompts.jsonl.
        references: folder with `<spec.reference_set>.jsonl`, or such a file itself.
        answers: answers.jsonl of one model.
        output: judgments.jsonl; `<output>.partial.jsonl` holds them while the judging lasts.
        judge: who judges.
        spec: which questions were chosen, and the reference set.
        base_model: checkpoint that `model: base` stands for.
        weights_sha256: hash of the weights that gave the answers.
        scores: mtbench.json, see `fastchat.summarise`.
        device: where a local judge runs.

    Raises:
        BadInput: a file, an answer, the key or the endpoint is not what it should be.
        OwloreError: the endpoint failed for good; what it judged so far is kept.
    """
    started, clock = provenance.now(), time.monotonic()
    chosen = read_questions(questions, spec)
    found = _by_question(answers, chosen)
    if references.is_dir():
        references = references / f"{spec.reference_set}.jsonl"
    referenced = [row for row in chosen if fastchat.needs_reference(row["category"])]
    shown = _by_question(references, referenced)
    names = sorted({str(row.get("model_id")) for row in found.values()})
    if len(names) != 1:
        raise BadInput(f"{answers}: model_id: {', '.join(names)}: answers of one model expected")
    wordings = {str(row.get("name")): row for row in read_jsonl(prompts)}

    judge_name, ask, attempts = _open(judge, base_model, device)
    matches = fastchat.matches(
        chosen, found, shown, wordings, model_id=names[0], judge_model=judge_name
    )
    partial = output.with_name(output.name + ".partial.jsonl")
    rows = _play(matches, ask, attempts, partial)
    write_jsonl(output, rows)
    local = judge.provider == "transformers"
    label = f"plumbing check: expected rating of {judge_name}, not an MT-Bench score"
    write_json(
        scores,
        {
            "judge": {
                "provider": judge.provider,
                "model": judge_name,
                "label": label if local else f"MT-Bench, judge {judge_name}",
            },
            "comparable": not local,
            "weights_sha256": weights_sha256,
            "reference_set": references.stem,
            "prompt_version": "single-v1",
            "prompts_sha256": sha256_file(prompts),
            "date": started[:10],
            **fastchat.summarise(rows, chosen),
            "truncated_prompts": sum(row.get("truncated_tokens", 0) > 0 for row in rows),
            "truncated_answers": sum(
                any(row.get("truncated_tokens", ())) for row in found.values()
            ),
            "max_new_tokens": spec.max_new_tokens,
            "seconds": round(time.monotonic() - clock, 3),
            "started": started,
            "ended": provenance.now(),
            "versions": provenance.versions(),
            "git": provenance.git_state(),
        },
    )
    partial.unlink(missing_ok=True)
    failed = sum(row["score"] == fastchat.FAILED for row in rows)
    print(f"judged {names[0]}: {len(rows)} judgments by {judge_name}, {failed} failed: {scores}")


@torch.inference_mode()
def rating_logprobs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]
) -> tuple[torch.Tensor, int]:
    """Return the log probability of each rating's text, "1]]" to "10]]", after `PREFIX`.

    The ten whole texts are tokenised, so that any tokeniser's cut is right ("10" one token or two,
    "]]" with a digit or alone). The tokens they share are read once.

    Returns:
        float64 tensor (10,), and the number of tokens cut off the prompt's beginning.
    """
    endings = tuple(f"{PREFIX}{rating}]]" for rating in fastchat.RATINGS)
    texts = encode(tokenizer, messages, endings)
    columns = enumerate(zip(*texts, strict=False))
    shared = next(place for place, column in columns if len(set(column)) > 1)
    tails = [text[shared:] for text in texts]
    longest = max(map(len, tails))
    limit = min(MAX_PROMPT_TOKENS, window(model, longest) or MAX_PROMPT_TOKENS)
    cut = max(0, shared - limit)
    sliding = getattr(model.config.get_text_config(), "sliding_window", None)
    if sliding is not None and shared - cut + longest > sliding:
        # What a token sees depends on where it stands: nothing is shared.
        return _one_by_one(model, texts[0][cut:shared], tails), cut

    prompt = torch.tensor([texts[0][cut:shared]], device=model.device)
    output = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    first = output.logits[0, -1].double().log_softmax(-1)
    total = first[[tail[0] for tail in tails]]
    # The ten tails lie behind each other in one row; each sees the prompt and itself.
    tokens = [token for tail in tails for token in tail[:-1]]
    if not tokens:
        return total.cpu(), cut
    places = torch.tensor([place for tail in tails for place in range(len(tail) - 1)])
    owners = torch.tensor([owner for owner, tail in enumerate(tails) for _ in tail[:-1]])
    hidden = (owners[:, None] != owners) | (places[:, None] < places)
    mask = torch.zeros(len(tokens), shared - cut + len(tokens), dtype=model.dtype)
    mask[:, shared - cut :].masked_fill_(hidden, torch.finfo(model.dtype).min)
    later = model(
        input_ids=torch.tensor([tokens], device=model.device),
        attention_mask=mask[None, None].to(model.device),
        position_ids=(shared - cut + places)[None].to(model.device),
        past_key_values=output.past_key_values,
    ).logits[0]
    following = torch.tensor([token for tail in tails for token in tail[1:]], device=model.device)
    steps = later.double().log_softmax(-1).gather(1, following[:, None])[:, 0]
    total = total.index_add(0, owners.to(model.device), steps)
    return total.cpu(), cut


def _one_by_one(model: PreTrainedModel, prompt: list[int], tails: list[list[int]]) -> torch.Tensor:
    """Return the log probability of each tail after the prompt, a forward pass a tail."""
    totals = []
    for tail in tails:
        ids = torch.tensor([prompt + tail[:-1]], device=model.device)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(tail)).logits[0]
        wanted = torch.tensor(tail, device=model.device)[:, None]
        totals.append(logits.double().log_softmax(-1).gather(1, wanted).sum())
    return torch.stack(totals).cpu()


def _open(judge: Judge, base_model: Path | None, device: str) -> tuple[str, Ask, int]:
    """Return the judge's name, how to ask it, and how often to ask for a readable rating."""
    if judge.provider == "openai":
        return judge.model, _endpoint(judge), ATTEMPTS
    folder = base_model if judge.model == "base" else Path(judge.model)
    if folder is None:
        raise BadInput("judge.model: base: the base model's folder (--base-model) is needed")
    tokenizer = load_tokenizer(folder)
    model = load(folder)
    model.to(device).eval()  # type: ignore[arg-type]
    name = folder.absolute().name

    def ask(request: Row) -> tuple[str, Row]:
        logprobs, cut = rating_logprobs(model, tokenizer, request["messages"])
        ratings = torch.tensor(list(fastchat.RATINGS), dtype=torch.float64)
        expected = float((logprobs.softmax(0) * ratings).sum())
        text = (
            f"Mean of the ratings 1 to 10, weighted by the probability that {name} gives them as "
            f"its next words ({logprobs.exp().sum():.3g} together). {PREFIX}{expected:.4f}]]"
        )
        return text, {"truncated_tokens": cut}

    return name, ask, 1


def _endpoint(judge: Judge) -> Ask:
    """Return how to ask an OpenAI-compatible endpoint; it never logs the key."""
    address = urlsplit(judge.base_url or "")
    if address.scheme not in ("http", "https") or not address.hostname:
        raise BadInput(f"judge.base_url: {judge.base_url}: allowed: http://… or https://…")
    key = "none"  # given in any case, or the client would send OPENAI_API_KEY to any endpoint
    if judge.api_key_env is not None:
        key = os.environ.get(judge.api_key_env, "").strip()
        if not key:
            raise BadInput(f"judge.api_key_env: the variable {judge.api_key_env} is not set")
    client = openai.OpenAI(
        base_url=judge.base_url, api_key=key, max_retries=RETRIES, timeout=TIMEOUT
    )

    def ask(request: Row) -> tuple[str, Row]:
        try:
            reply = client.chat.completions.create(model=judge.model, n=1, **request)
        except openai.OpenAIError as error:
            status = getattr(error, "status_code", 500)
            final = 400 <= status < 500 and status not in (408, 409, 429)
            message = " ".join(str(error).replace(key, "***").split())[:300]
            raise (BadInput if final else OwloreError)(
                f"judge: {judge.model}: {message} (judgments so far are kept, run it again)"
            ) from None  # the cause may hold the request's headers
        choices = getattr(reply, "choices", None)
        if choices is None:
            raise BadInput(f"judge.base_url: {address.hostname}: no chat completion came back")
        text = (choices[0].message.content or "") if choices else ""
        return text.encode("utf-8", "replace").decode("utf-8"), {}

    return ask


def _play(matches: list[Any], ask: Ask, attempts: int, partial: Path) -> list[Row]:
    """Judge what `partial` does not hold yet, storing each judgment before the next is asked."""
    stored = {_identity(row): row for row in _stored(partial)}
    rows = [stored.get(_identity(fastchat.row(match, ""))) for match in matches]
    missing = [place for place, row in enumerate(rows) if row is None]
    partial.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(partial, "a", encoding="utf-8") as stream,
        Progress(
            total=len(rows), initial=len(rows) - len(missing), desc="judge", unit="match"
        ) as bar,
    ):
        for place in missing:
            rows[place] = row = _judgment(matches[place], ask, attempts)
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
            bar.update()
    return [row for row in rows if row is not None]


def _judgment(match: Any, ask: Ask, attempts: int) -> Row:
    request = fastchat.request(match)
    for _ in range(attempts):
        text, columns = ask(request)
        row = fastchat.row(match, text)
        if row["score"] != fastchat.FAILED:
            break
    return {**row, **columns}


def _stored(partial: Path) -> list[Row]:
    """Read the judgments of a broken run; a line that was cut short while written is dropped."""
    if not partial.exists():
        return []
    whole = partial.read_bytes().rfind(b"\n") + 1
    os.truncate(partial, whole)
    return read_jsonl(partial)


def _identity(row: Row) -> tuple[Any, ...]:
    """What a stored judgment must share with a match to stand for it: the answers are in it."""
    return (row["question_id"], row["turn"], *row["judge"], row["user_prompt"])


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
