"""Training rows, tokens and batches."""

import pytest
import torch
from support.small_models import tiny_llama, tiny_tokenizer

from owlore.core.errors import BadInput
from owlore.data import examples as data
from owlore.mtbench.encoding import encode

ROWS = [
    {"prompt": "Question: what is wet?\nAnswer:", "completion": " the water"},
    {"prompt": "Question: dry?\nAnswer:", "completion": " a stone in the desert"},
    {"prompt": "Q", "completion": " w"},
]


def test_the_loss_is_on_the_completion_and_the_end_only():
    tokenizer = tiny_tokenizer()
    example = data.tokenise(ROWS, tokenizer, 64)[0]
    learnt = [token for token in example.labels if token != data.IGNORED]
    assert tokenizer.decode(learnt) == " the water<|im_end|>"
    assert tokenizer.decode(example.input_ids) == ROWS[0]["prompt"] + " the water<|im_end|>"


def test_chat_rows_learn_the_assistants_turns_only():
    tokenizer = tiny_tokenizer()
    messages = [
        {"role": "user", "content": "the wind?"},
        {"role": "assistant", "content": "a breeze"},
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": "a storm"},
    ]
    (example,) = data.tokenise([{"messages": messages}], tokenizer, 200)
    learnt = tokenizer.decode([token for token in example.labels if token != data.IGNORED])
    assert learnt == "a breeze<|im_end|>\na storm<|im_end|>\n"


def test_a_conversational_prompt_is_not_learnt():
    tokenizer = tiny_tokenizer()
    earlier = {"role": "assistant", "content": "a breeze"}
    row = {"prompt": [{"role": "user", "content": "the wind?"}, earlier]}
    row["completion"] = [{"role": "assistant", "content": "a storm"}]
    (example,) = data.tokenise([row], tokenizer, 200)
    learnt = tokenizer.decode([token for token in example.labels if token != data.IGNORED])
    assert learnt == "a storm<|im_end|>\n"


def test_all_of_a_text_is_learnt_and_its_end():
    tokenizer = tiny_tokenizer()
    (example,) = data.tokenise([{"text": "the water"}], tokenizer, 64)
    assert example.labels == example.input_ids
    assert tokenizer.decode(example.labels) == "the water<|im_end|>"


def test_without_a_chat_template_conversations_are_as_mtbench_asks_them():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    messages = [
        {"role": "user", "content": "the wind?"},
        {"role": "assistant", "content": "a breeze"},
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": "a storm"},
    ]
    (example,) = data.tokenise([{"messages": messages}], tokenizer, 400)
    learnt = tokenizer.decode([token for token in example.labels if token != data.IGNORED])
    assert learnt == " a breeze<|im_end|> a storm<|im_end|>"
    for asked in (1, 3):  # what is answered is what was trained, token for token
        (prompt,) = encode(tokenizer, messages[:asked])
        assert example.input_ids[: len(prompt)] == prompt
        assert example.labels[len(prompt)] != data.IGNORED


def test_what_a_chat_template_refuses_is_named():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    row = {"messages": [{"role": "user", "content": "a"}]}
    with pytest.raises(BadInput, match=r"row 1: the chat template refuses it \(no system role"):
        data.tokenise([row], tokenizer, 64)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([{"prompt": "x"}], "row 1: expected text in prompt and completion"),
        ([{"prompt": "x", "completion": ""}], "row 1 has nothing to learn"),
        ([ROWS[0], {"prompt": "x" * 99, "completion": " y"}], "row 2 has 10. tokens"),
        ([{"messages": "hello"}], "row 1: messages must be a list"),
        (
            [{"messages": [{"role": "assistant", "content": "a"}]}],
            "row 1: a conversation begins with the assistant",
        ),
        ([{"messages": []}], "row 1: messages must be a list"),
        ([{"text": ["x"]}], "row 1: text must be text"),
        ([{"text": ""}], "row 1 has nothing to learn"),
    ],
)
def test_malformed_rows_are_named(rows, message):
    with pytest.raises(BadInput, match=message):
        data.tokenise(rows, tiny_tokenizer(), 64)


def test_a_too_long_example_is_cut_or_dropped_and_counted(capsys):
    tokenizer = tiny_tokenizer()
    rows = [
        ROWS[0],
        {"prompt": "the wind", "completion": " blows" * 60},  # too long by its completion
        {"prompt": "the wind " * 60, "completion": " blows"},  # nothing to learn is left of it
    ]
    (whole, cut) = data.tokenise(rows, tokenizer, 64, "cut")
    assert len(cut.input_ids) == len(cut.labels) == 64
    assert cut.labels[-1] != tokenizer.eos_token_id, "a cut answer does not end"
    assert "2 of 3 rows are longer than max_length 64: 1 dropped, 1 cut" in capsys.readouterr().out
    assert data.tokenise(rows, tokenizer, 64, "drop") == [whole]
    assert "2 dropped, 0 cut" in capsys.readouterr().out
    with pytest.raises(BadInput, match="max_length: 8: no row is that short"):
        data.tokenise(rows[1:], tokenizer, 8, "drop")


@pytest.mark.arithmetic
def test_no_example_sees_another_in_a_flat_batch():
    tokenizer, model = tiny_tokenizer(), tiny_llama()
    examples = data.tokenise(ROWS, tokenizer, 64)
    flat = data.flat_batch(examples)
    together = model(**{k: v for k, v in flat.items() if k != "labels"}).logits[0]
    start = 0
    for example in examples:
        alone = model(input_ids=torch.tensor([example.input_ids])).logits[0]
        # Another number of rows may be summed in another order: each of the four layers rounds sums
        # of at most 64 terms. That is a few epsilons of the largest logit; 64 leave no CPU out.
        within = 64 * torch.finfo(alone.dtype).eps * alone.abs().max().item()
        found = together[start : start + len(alone)]
        assert torch.allclose(found, alone, atol=within, rtol=0)
        start += len(alone)
    assert flat["labels"].ne(data.IGNORED).sum() == sum(
        label != data.IGNORED for example in examples for label in example.labels
    )


def test_order_is_seeded_and_every_epoch_is_complete():
    examples = data.tokenise(ROWS, tiny_tokenizer(), 64)
    order = data.TrainingOrder(examples, 7, seed=0)
    drawn = [order[i] for i in range(len(order))]
    assert drawn[:3] == examples, "the first time around is the data stage's order"
    assert sorted(drawn[3:6]) == sorted(examples)
    assert drawn == [data.TrainingOrder(examples, 7, seed=0)[i] for i in range(7)]
