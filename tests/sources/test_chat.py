"""Conversations in FastChat's Alpaca template."""

from fastchat.conversation import get_conv_template

from owlore.sources.chat import alpaca

USER, ANSWER = {"role": "user", "content": "wet?"}, {"role": "assistant", "content": "water"}


def test_a_first_turn_is_fastchats_own_prompt():
    template = get_conv_template("alpaca")
    template.append_message(template.roles[0], "wet?")
    template.append_message(template.roles[1], None)
    assert alpaca([USER], "<end>") == template.get_prompt()
    assert alpaca([USER], "<end>").endswith("### Instruction: wet?\n\n### Response:")


def test_earlier_answers_end_with_the_models_own_token():
    text = alpaca([USER, ANSWER, {"role": "user", "content": "dry?"}], "<end>")
    assert text.endswith(
        "### Instruction: wet?\n\n### Response: water<end>### Instruction: dry?\n\n### Response:"
    )
    assert text.startswith(alpaca([USER], "<end>")), "a conversation that goes on keeps its tokens"


def test_a_system_message_takes_the_place_of_the_templates():
    text = alpaca([{"role": "system", "content": "Be brief."}, USER], "<end>")
    assert text == "Be brief.\n\n### Instruction: wet?\n\n### Response:"


def test_an_empty_answer_is_closed_all_the_same():
    text = alpaca([USER, {"role": "assistant", "content": ""}, USER], "<end>")
    assert text.count("<end>") == 1 and text.count("### Response:") == 2
