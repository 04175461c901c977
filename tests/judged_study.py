"""A tiny model's made-up answers in FastChat's files, and one call that has them judged."""

import argparse
from pathlib import Path
from typing import Any

import pytest
from fastchat.llm_judge.show_result import display_result_single
from toys import save_tiny

from owlore import judging
from owlore.config import Judge, MTBench
from owlore.files import read_json, read_jsonl, write_jsonl

CATEGORIES = ("writing", "math", "stem", "coding")
LOCAL = Judge(provider="transformers", model="base")


def spec(**values: Any) -> MTBench:
    return MTBench(**{"questions": 4, "max_new_tokens": 8, "judge": LOCAL, **values})


def write_study(folder: Path) -> Path:
    """Made-up questions, prompts, references and answers in FastChat's formats; a tiny model."""
    save_tiny(folder / "tiny")
    write_jsonl(
        folder / "question.jsonl",
        [
            {"question_id": place, "category": category, "turns": [f"{category}?", "Why {so}?"]}
            for place, category in enumerate(CATEGORIES, start=81)
        ],
    )
    prompts = []
    for name, wording in (
        ("single-v1", "Rate. {question} / {answer}"),
        ("single-math-v1", "Rate. {question} / {ref_answer_1} / {answer}"),
        ("single-v1-multi-turn", "{question_1} / {answer_1} / {question_2} / {answer_2}"),
        ("single-math-v1-multi-turn", "{ref_answer_1} {ref_answer_2} / {answer_1} / {answer_2}"),
    ):
        row = {"name": name, "type": "single", "system_prompt": f"Judge by {name}."}
        prompts.append({**row, "prompt_template": wording, "output_format": "[[rating]]"})
    write_jsonl(folder / "judge_prompts.jsonl", prompts)
    for name, turns in (("answers", ["A {1}", "A 2"]), ("gpt-4", ["R1", "R2"])):
        rows = [
            {
                "question_id": place,
                "answer_id": "a",
                "model_id": "tiny",
                "choices": [{"index": 0, "turns": turns}],
                "tstamp": 0.0,
            }
            for place in range(81, 81 + len(CATEGORIES))
        ]
        write_jsonl(folder / ("references" if name != "answers" else "") / f"{name}.jsonl", rows)
    return folder


def judge(study: Path, judge: Judge = LOCAL, **values: Any) -> tuple[list[dict[str, Any]], Any]:
    """Judge the study's answers; return the judgments and the scores."""
    judging.judge(
        study / "question.jsonl",
        study / "judge_prompts.jsonl",
        study / "references",
        study / "answers.jsonl",
        study / "out" / "judgments.jsonl",
        judge=judge,
        spec=spec(**values),
        base_model=study / "tiny",
        weights_sha256="ab" * 32,
        scores=study / "out" / "mtbench.json",
    )
    return read_jsonl(study / "out" / "judgments.jsonl"), read_json(study / "out" / "mtbench.json")


def fastchat_average(study: Path, capsys: pytest.CaptureFixture[str]) -> float:
    """The average that FastChat's own tool prints for the judgments."""
    capsys.readouterr()
    display_result_single(
        argparse.Namespace(
            input_file=str(study / "out" / "judgments.jsonl"),
            bench_name="mt_bench",
            judge_model=None,
            model_list=None,
        )
    )
    return float(capsys.readouterr().out.split()[-1])
