"""What a question says, without its prompt template and without the choices it is asked with.

lm-eval's template of a task, such as "Question: {{question}}\\nAnswer:", is taken apart: what its
expressions give is the question, the words around them are the template's. A passage and the
question on it stay two parts, as others put other words between them.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Template, nodes
from lm_eval.utils import env

from owlore.evaluate.draw import draw
from owlore.evaluate.lm_tasks import load_tasks
from owlore.mtbench.questions import read_questions
from owlore.study.config import Benchmark

CUT = "\x00"  # marks where the template's own words were


class QuestionText(NamedTuple):
    """One question of a task."""

    doc_id: int  # as in the samples; on MT-Bench the question's id
    scored: bool  # or left out by the task's limit
    forms: list[list[str]]  # ways to write it, each as parts that belong together
    gold: str  # the right choice or answer; on MT-Bench the second turn


def of_benchmark(benchmark: Benchmark, questions: Path) -> dict[str, list[QuestionText]]:
    """Return a benchmark's questions by task, those included that its limits leave out.

    Args:
        benchmark: the tasks; without a `data_dir` their questions come from the hub.
        questions: folder of the embedded questions, for tasks that read those.

    Raises:
        BadInput: see `load_tasks`.
    """
    found = {}
    for name, members in load_tasks(benchmark, benchmark.questions_in(questions)).items():
        # A group's questions are numbered through over its members, as in the samples.
        docs = [(member, doc) for member in members for doc in member.eval_docs]
        scored = set(draw(name, len(docs), benchmark))
        found[name] = [
            QuestionText(number, number in scored, *_text(member, doc))
            for number, (member, doc) in enumerate(docs)
        ]
    return found


def of_mtbench(count: int, seed: int, questions: Path) -> dict[str, list[QuestionText]]:
    """Return the MT-Bench questions that are asked, as one task.

    The first turn is the question: second turns ("Now make it shorter") say little alone.

    Raises:
        BadInput: see `mtbench.read_questions`.
    """
    rows = read_questions(questions / "mtbench" / "question.jsonl", count, seed)
    return {
        "mtbench": [
            QuestionText(int(row["question_id"]), True, [[first]], second)
            for row in rows
            for first, second in [row["turns"]]
        ]
    }


def _text(task: Any, doc: dict[str, Any]) -> tuple[list[list[str]], str]:
    """Return forms and gold answer of one question of an lm-eval task."""
    if task.OUTPUT_TYPE == "generate_until":
        return [_parts(task, doc)], str(task.doc_to_target(doc))
    choices = task.doc_to_choice(doc)
    if task.multiple_input:  # winogrande: each choice begins the sentence, the target ends it
        filled = [[f"{choice} {task.doc_to_target(doc)}"] for choice in choices]
        return [_whole(task, doc), *filled] if task.should_decontaminate() else filled, ""
    gold = task.doc_to_target(doc)
    if isinstance(gold, int) and 0 <= gold < len(choices):
        own = doc.get("choices")  # what stands behind MMLU's letters
        gold = own[gold] if isinstance(own, list) and len(own) == len(choices) else choices[gold]
    return [_parts(task, doc)], str(gold)


def _parts(task: Any, doc: dict[str, Any]) -> list[str]:
    template = task.config.doc_to_text
    if not isinstance(template, str):
        return _whole(task, doc)
    if template in task.features:
        return [str(doc[template])]
    choices = task.config.doc_to_choice
    if not isinstance(choices, str):
        choices = ""
    # A field that is not text holds the choices, also where the model answers with a letter.
    lists = frozenset(name for name, value in doc.items() if isinstance(value, list | dict))
    parts = _bare(template, choices, lists).render(**doc).split(CUT)
    return [part for part in parts if part.strip()] or _whole(task, doc)


def _whole(task: Any, doc: dict[str, Any]) -> list[str]:
    """What lm-eval itself would look for, else the whole prompt: there is no template to tell."""
    query = task.doc_to_decontamination_query if task.should_decontaminate() else task.doc_to_text
    return [str(query(doc))]


@cache
def _bare(template: str, choices: str, lists: frozenset[str]) -> Template:
    """Return a template without its own words and without what names a choice."""
    named = lists | ({choices} if choices.isidentifier() else set(_names(env.parse(choices))))
    tree = env.parse(template)
    for loop in tree.find_all(nodes.For):
        if named & set(_names(loop.iter)):
            loop.body = []
    for output in tree.find_all(nodes.Output):
        kept: list[nodes.Expr] = [
            nodes.TemplateData(CUT) if isinstance(node, nodes.TemplateData) else node
            for node in output.nodes
            if not named & set(_names(node))
        ]
        output.nodes = kept
    bare: Template = env.from_string(tree)
    return bare


def _names(node: nodes.Node) -> Iterator[str]:
    names = node.find_all(nodes.Name)
    yield from (name.name for name in names)
    if isinstance(node, nodes.Name):
        yield node.name
