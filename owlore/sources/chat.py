"""A conversation as text, for models whose tokenizer has no chat template of its own."""

from fastchat.conversation import get_conv_template


def alpaca(messages: list[dict[str, str]], end: str) -> str:
    """Render a conversation in FastChat's Alpaca template, ready for the next response.

    Args:
        messages: {"role", "content"} rows, an optional system message first, a user message last.
        end: the model's end-of-text token, which closes each earlier response.
    """
    conversation = get_conv_template("alpaca")
    conversation.sep2 = end
    for message in messages:
        if message["role"] == "system":
            conversation.set_system_message(message["content"])
        else:
            role = conversation.roles[message["role"] == "assistant"]
            # FastChat takes an empty message for the open one at the end
            conversation.append_message(role, message["content"] or " ")
    conversation.append_message(conversation.roles[1], None)
    return str(conversation.get_prompt())
