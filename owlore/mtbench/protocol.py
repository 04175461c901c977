"""FastChat's MT-Bench protocol: the one module that touches fschat.

What defines MT-Bench stays FastChat's, used as a library: temperatures, judge prompts, matches, the
regular expression that reads a rating, the schema of the rows. Only the transport is ours: fschat
0.2.36 asks its judge through an `openai` package of 2023 and takes no judge but GPT and Claude. So
three names of its judge module are rebound while it plays one match (see `REBOUND`), and the
judge's text comes from our caller. Nothing stays rebound afterwards.
"""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import fastchat.llm_judge.common as common
from fastchat.conversation import get_conv_template
from fastchat.llm_judge.gen_judgment import make_judge_single, make_match_single

from owlore.core.errors import BadInput
from owlore.mtbench.ratings import FAILED

REBOUND = ("OPENAI_MODEL_LIST", "get_conversation_template", "chat_completion_openai")
RATINGS = range(1, 11)

Row = dict[str, Any]
_lock = threading.Lock()  # the rebound names belong to the whole process


def temperature(category: str) -> float:
    """Return the temperature at which FastChat answers a category; 0 means greedy.

    Raises:
        BadInput: FastChat has no such category.
    """
    known: dict[str, float] = common.temperature_config
    if category not in known:
        raise BadInput(f"questions: category: {category!r}: allowed: {', '.join(known)}")
    return known[category]


def needs_reference(category: str) -> bool:
    """Say whether the judge of a category is shown reference answers."""
    return category in common.NEED_REF_CATS


def matches(
    questions: list[Row],
    answers: dict[int, Row],
    references: dict[int, Row],
    prompts: dict[str, Row],
    *,
    model_id: str,
    judge_model: str,
) -> list[Any]:
    """Build FastChat's single-answer matches of one model, in FastChat's order: all first turns,
    then all second turns; within a turn the questions without a reference come first.

    Args:
        questions: rows of question.jsonl.
        answers: answer rows by question_id.
        references: rows of the reference answers by question_id.
        prompts: rows of judge_prompts.jsonl by name.
        model_id: whose answers they are.
        judge_model: name of the judge.

    Raises:
        BadInput: a judge prompt that FastChat asks for is not there.
    """
    try:
        judges = make_judge_single(judge_model, prompts)
    except KeyError as error:
        raise BadInput(f"prompts: no judge prompt named {error}") from None
    plain = [row for row in questions if not needs_reference(row["category"])]
    referenced = [row for row in questions if needs_reference(row["category"])]
    found: list[Any] = []
    for suffix, multi_turn in (("", False), ("-mt", True)):
        for name, rows, shown in (
            ("default", plain, None),
            ("math", referenced, {judge_model: references}),
        ):
            found += make_match_single(
                rows,
                [model_id],
                {model_id: answers},
                judges[name + suffix],
                ref_answers=shown,
                multi_turn=multi_turn,
            )
    return found


def request(match: Any) -> dict[str, Any]:
    """Return what FastChat asks the judge: {"messages", "temperature", "max_tokens"}."""
    asked: dict[str, Any] = {}

    def transport(_model: str, conversation: Any, **options: Any) -> str:
        asked.update(messages=conversation.to_openai_api_messages(), **options)
        return ""

    _play(match, transport)
    return asked


def row(match: Any, judgment: str) -> Row:
    """Return FastChat's row for the judge's text.

    The score is the rating FastChat reads in the text, or `FAILED` where it reads none or one that
    is not between 1 and 10 (FastChat itself lets [[11]] pass).
    """
    try:
        played = _play(match, lambda *_, **__: judgment)
    except (SyntaxError, ValueError):  # FastChat evaluates the digits as Python: "07" is no number
        played = {**_play(match, lambda *_, **__: ""), "judgment": judgment}
    if not RATINGS[0] <= played["score"] <= RATINGS[-1]:
        played["score"] = FAILED
    return {**played, "judge": list(played["judge"])}


def _play(match: Any, transport: Callable[..., str]) -> Row:
    """Let FastChat play one match with our transport; its line on stdout is dropped."""
    values = (
        (match.judge.model_name,),
        lambda _name: get_conv_template("chatgpt"),  # a plain system and user message
        transport,
    )
    rebound = _rebind(dict(zip(REBOUND, values, strict=True)))
    with _lock, rebound, contextlib.redirect_stdout(io.StringIO()):
        played: Row = common.play_a_match_single(match, output_file=None)
    return played


@contextlib.contextmanager
def _rebind(values: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(common, name) for name in values}
    vars(common).update(values)
    try:
        yield
    finally:
        vars(common).update(before)
