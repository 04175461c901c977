"""Training examples: rows of TRAIN.jsonl turned into tokens and put into batches.

Rows are `{"prompt", "completion"}`, `{"messages": [{"role", "content"}…]}` or `{"text"}`; the loss
is on completions, on the assistant's turns, or on all of a text. `training_formats` tells which
shapes of data become such rows.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from owlore.core.errors import BadInput
from owlore.core.progress import line

IGNORED = -100  # torch's cross-entropy leaves out such labels


class Example(NamedTuple):
    """One tokenised training example; `labels` is IGNORED where nothing is to be learnt."""

    input_ids: list[int]
    labels: list[int]


def tokenise(
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    too_long: str = "error",
) -> list[Example]:
    """Turn training rows into token ids and labels, an end-of-text token after each completion.

    Args:
        rows: of TRAIN.jsonl.
        tokenizer: the model's.
        max_length: of an example, in tokens.
        too_long: what becomes of a longer one: `error`; `cut`: its first `max_length` tokens are
            kept, and it is dropped if none of them is learnt; `drop`. The line says how many.

    Raises:
        BadInput: no rows, or a row that is malformed, has nothing to learn, or is too long; none
            is left.
    """
    if not rows:
        raise BadInput("data: the training file has no rows")
    examples, longer = [], 0
    for number, row in enumerate(rows, start=1):
        if "messages" in row:
            example = _chat_example(row["messages"], tokenizer, number)
        elif "text" in row:
            example = _text_example(row["text"], tokenizer, number)
        elif isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list):
            messages = [*row["prompt"], *row["completion"]]
            example = _chat_example(messages, tokenizer, number, len(row["prompt"]))
        else:
            example = _completion_example(row, tokenizer, number)
        if all(label == IGNORED for label in example.labels[1:]):
            raise BadInput(f"data: row {number} has nothing to learn (its completion is empty)")
        if len(example.input_ids) > max_length:
            if too_long == "error":
                raise BadInput(
                    f"data: row {number} has {len(example.input_ids)} tokens, max_length allows "
                    f"{max_length} (too_long: cut or drop goes on without)"
                )
            longer += 1
            example = Example(example.input_ids[:max_length], example.labels[:max_length])
            if too_long == "drop" or all(label == IGNORED for label in example.labels[1:]):
                continue
        examples.append(example)
    if longer:
        line(
            f"data: {longer} of {len(rows)} rows are longer than max_length {max_length}: "
            f"{len(rows) - len(examples)} dropped, {longer - len(rows) + len(examples)} cut"
        )
    if not examples:
        raise BadInput(f"data: max_length: {max_length}: no row is that short")
    return examples


class TrainingOrder(Dataset[Example]):
    """Exactly `total` examples in training order, reshuffled each time around.

    The Trainer walks through it once and in order, so that the order is ours alone.
    """

    def __init__(self, examples: list[Example], total: int, seed: int):
        self._examples = examples
        order: list[int] = []
        while len(order) < total:
            once = list(range(len(examples)))
            if order:  # the data stage has shuffled the first time around
                random.Random(f"{seed}/{len(order)}").shuffle(once)
            order.extend(once)
        self._order = order[:total]

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Example:
        return self._examples[self._order[index]]


def longest_step(examples: Sequence[Example], batch_size: int, padding_free: bool) -> int:
    """Return the tokens a sequence of the largest batch, examples taken in order.

    With `padding_free` the mean length in the batch, rounded up; else its longest example, as
    that is what the others are padded to.
    """
    lengths = [len(example.input_ids) for example in examples]
    batches = [lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size)]
    if padding_free:
        return max(-(-sum(batch) // batch_size) for batch in batches)
    return max(lengths)


def padded_batch(examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
    """Pad examples on the right to the longest; shapes (batch, longest)."""
    longest = max(len(example.input_ids) for example in examples)
    batch: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "attention_mask": []}
    for ids, labels in examples:
        padding = longest - len(ids)
        batch["input_ids"].append(ids + [pad_token_id] * padding)
        batch["labels"].append([IGNORED, *labels[1:]] + [IGNORED] * padding)
        batch["attention_mask"].append([1] * len(ids) + [0] * padding)
    return {key: torch.tensor(value) for key, value in batch.items()}


def flat_batch(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Lay examples end to end in one row, no padding; no example sees another.

    Returns:
        input_ids, labels, position_ids of shape (1, tokens), and attention_mask, a boolean block
        matrix of shape (1, 1, tokens, tokens): causal within an example, closed between examples.
    """
    ids = torch.tensor([token for example in examples for token in example.input_ids])
    labels = torch.tensor(
        [label for example in examples for label in (IGNORED, *example.labels[1:])]
    )
    lengths = torch.tensor([len(example.input_ids) for example in examples])
    owner = torch.repeat_interleave(torch.arange(len(examples)), lengths)
    starts = torch.repeat_interleave(torch.cumsum(lengths, 0) - lengths, lengths)
    positions = torch.arange(len(ids)) - starts
    mask = (owner[:, None] == owner[None, :]) & (positions[:, None] >= positions[None, :])
    return {
        "input_ids": ids[None],
        "labels": labels[None],
        "position_ids": positions[None],
        "attention_mask": mask[None, None],
    }


def _completion_example(
    row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, number: int
) -> Example:
    prompt, completion = row.get("prompt"), row.get("completion")
    if not isinstance(prompt, str) or not isinstance(completion, str) or not prompt:
        raise BadInput(
            f"data: row {number}: expected text in prompt and completion, "
            f"found the columns {sorted(row)}"
        )
    # Tokenise the whole and cut it where the prompt ends, as lm-eval does when it scores.
    whole = tokenizer(prompt + completion, add_special_tokens=False)["input_ids"]
    cut = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    answer = [*whole[cut:], tokenizer.eos_token_id] if whole[cut:] else []
    return Example(whole[:cut] + answer, [IGNORED] * cut + answer)


def _text_example(text: Any, tokenizer: PreTrainedTokenizerBase, number: int) -> Example:
    """All of a text is learnt, its end too; a beginning-of-text token is the tokenizer's own."""
    if not isinstance(text, str):
        raise BadInput(f"data: row {number}: text must be text")
    ids = list(tokenizer(text)["input_ids"])
    if ids and ids[-1] != tokenizer.eos_token_id:
        ids.append(tokenizer.eos_token_id)
    return Example(ids, list(ids))


def _chat_example(
    messages: Any, tokenizer: PreTrainedTokenizerBase, number: int, first: int = 0
) -> Example:
    """The assistant's turns are learnt, from message number `first` on."""
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in messages)
    ):
        raise BadInput(f"data: row {number}: messages must be a list of role and content")
    if messages[0]["role"] == "assistant":
        raise BadInput(f"data: row {number}: a conversation begins with the assistant")
    try:
        text, ends = _rendered(messages, tokenizer)
    except jinja2.TemplateError as error:
        raise BadInput(f"data: row {number}: the chat template refuses it ({error})") from None
    spans = [span for place, span in ends.items() if place >= first]
    encoded = tokenizer(
        text,
        add_special_tokens=tokenizer.chat_template is None,  # a chat template brings its own
        return_offsets_mapping=True,
    )
    labels = [
        token if any(start <= begin < end for start, end in spans) else IGNORED
        for token, (begin, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
    return Example(encoded["input_ids"], labels)


def _rendered(
    messages: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, dict[int, tuple[int, int]]]:
    """Return a conversation as text, and where in it the assistant's turns begin and end.

    Without a chat template it is FastChat's Alpaca template, as when MT-Bench is answered.
    """
    turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    spans, text = {}, ""
    if tokenizer.chat_template is not None:
        for place in turns:
            before = tokenizer.apply_chat_template(
                messages[:place], tokenize=False, add_generation_prompt=True
            )
            after = tokenizer.apply_chat_template(messages[: place + 1], tokenize=False)
            spans[place] = (len(before), len(after))
        return str(tokenizer.apply_chat_template(messages, tokenize=False)), spans
    from owlore.sources.chat import alpaca  # FastChat takes a second to import

    for place in turns:
        before = alpaca(messages[:place], str(tokenizer.eos_token))
        text = f"{before} {messages[place]['content']}{tokenizer.eos_token}"
        spans[place] = (len(before), len(text))
    return text, spans
