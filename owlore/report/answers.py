"""The page to read MT-Bench answers beside their judgments, question by question.

Methods stand side by side. One offline HTML file, `report/answers.html`, written by `owlore report`
and linked from the report; everything it shows is inside it.
"""

from typing import Any

from jinja2 import Environment

from owlore.compare.comparisons import base_of, judged
from owlore.compare.results import CellResults, Group, Judged, Results
from owlore.compare.rows import answers_of
from owlore.core.errors import BadInput
from owlore.core.files import write_text
from owlore.mtbench.ratings import FAILED, by_turn


def write_answers_page(results: Results, environment: Environment) -> None:
    """Write report/answers.html; without MT-Bench it says so.

    Args:
        results: the study's results.
        environment: Jinja's, which escapes by itself.

    Raises:
        BadInput: the answers of a cell are missing.
    """
    groups = results.scored("mtbench")
    page = environment.get_template("answers.html").render(
        study=results.study,
        content={
            "questions": {
                str(key): {"category": row["category"], "turns": row["turns"]}
                for key, row in results.mtbench_questions.items()
            },
            "base": base_of(results.study),
            "groups": [_group(results, group) for group in groups],
        },
    )
    write_text(results.root / "report" / "answers.html", page)


def _group(results: Results, group: Group) -> dict[str, Any]:
    """One track and model: who judged, and of each cell the answers and the judgments."""
    entries = [entry for method in results.study.run for entry in results.of(group, method)]
    return {
        "name": ", ".join(group),
        "judges": _judges(results, group),
        "asked": sorted({row["question_id"] for row in entries[0].judged[""].judgments}),
        "cells": [_cell(results, entry) for entry in entries],
    }


def _judges(results: Results, group: Group) -> list[dict[str, Any]]:
    spec = results.study.tracks[group.track].mtbench
    entry = results.of(group, results.study.run[0])[0]
    found = []
    for name in spec.judges if spec is not None else ():
        label = entry.judged[name].scores.judge.label
        comparable = judged(results, group, name)
        found.append({"name": name, "label": label, "comparable": comparable})
    return found


def _cell(results: Results, entry: CellResults) -> dict[str, Any]:
    path = results.root / entry.cell.path / "mtbench" / "answers.jsonl"
    if not path.exists():
        raise BadInput(f"{path}: no such file; `snakemake --cores all mtbench` makes it")
    return {
        "method": entry.cell.method,
        "seed": entry.cell.seed,
        "answers": {
            str(row["question_id"]): row["choices"][0]["turns"] for row in answers_of(path)
        },
        "judged": {name: _judgments(judged) for name, judged in entry.judged.items()},
    }


def _judgments(judged: Judged) -> dict[str, Any]:
    """By question and turn ("81.1"): the score, and each judging's rating and words."""
    rows = judged.judgments
    judgings: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in rows:
        rating = None if row["score"] == FAILED else row["score"]
        words = {"rating": rating, "text": row["judgment"]}
        judgings.setdefault((row["question_id"], row["turn"]), []).append(words)
    return {
        f"{question}.{turn}": {"score": score, "judgings": judgings[question, turn]}
        for (question, turn), score in by_turn(rows).items()
    }
