"""A conversation as the tokens of a model, and how many of them fit into its window."""

from typing import Any

import jinja2
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from owlore.core.errors import BadInput
from owlore.sources.chat import alpaca
from owlore.sources.models import positions

Message = dict[str, str]


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
