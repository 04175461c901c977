"""A tiny model's made-up answers in FastChat's files, and one call that has them judged."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastchat.llm_judge.show_result import display_result_single
from support.small_models import save_tiny

from owlore.core.files import read_json, read_jsonl, write_json, write_jsonl
from owlore.mtbench import judge as judging
from owlore.records.mtbench import JudgeJob
from owlore.study.config import MTBench
from owlore.study.judge import Judge, LocalJudge

CATEGORIES = ("writing", "math", "stem", "coding")
ALL_CATEGORIES = ("writing", "roleplay", "reasoning", "math")
ALL_CATEGORIES += ("coding", "extraction", "stem", "humanities")
LOCAL = LocalJudge(provider="transformers", model="base")


def spec(**values: Any) -> MTBench:
    return MTBench(**{"questions": 4, "max_new_tokens": 8, "judge": LOCAL, **values})


def write_study(folder: Path, categories: Sequence[str] = CATEGORIES) -> Path:
    """Made-up questions, prompts, references and answers in FastChat's formats; a tiny model."""
    save_tiny(folder / "tiny")
    write_jsonl(
        folder / "question.jsonl",
        [
            {"question_id": place, "category": category, "turns": [f"{category}?", "Why {so}?"]}
            for place, category in enumerate(categories, start=81)
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
            for place in range(81, 81 + len(categories))
        ]
        write_jsonl(folder / ("references" if name != "answers" else "") / f"{name}.jsonl", rows)
    return folder


def judge(study: Path, judge: Judge = LOCAL, **values: Any) -> tuple[list[dict[str, Any]], Any]:
    """Judge the study's answers; return the judgments and the scores."""
    inputs = judging.Inputs(
        questions=study / "question.jsonl",
        prompts=study / "judge_prompts.jsonl",
        references=study / "references",
        answers=study / "answers.jsonl",
        base_model=study / "tiny",
        weights_sha256="ab" * 32,
    )
    job = JudgeJob.of_settings(spec(**values), judge)
    out = study / "out"
    judging.run(job, inputs, out / "judgments.jsonl", out / "mtbench.json", pace=judge)
    return read_jsonl(study / "out" / "judgments.jsonl"), read_json(study / "out" / "mtbench.json")


def write_all_questions(folder: Path) -> Path:
    """80 questions, 10 a category as MT-Bench has them, each with an answer of its own."""
    write_study(folder, [name for name in ALL_CATEGORIES for _ in range(10)])
    rows = read_jsonl(folder / "answers.jsonl")
    for row in rows:
        number = row["question_id"]
        row["choices"][0]["turns"] = [f"Answer {number}, {number**2}.", f"And {number**3 % 997}."]
    write_jsonl(folder / "answers.jsonl", rows)
    return folder


def start_judge(study: Path, judge: Judge, questions: int) -> "subprocess.Popen[str]":
    """Start the real command on the study's answers, as a rule of the workflow does."""
    write_json(study / "judge.yaml", judge.model_dump(mode="json"))  # JSON is YAML
    command = [sys.executable, "-m", "owlore", "judge", "--judge", str(study / "judge.yaml")]
    command += ["--spec", f'{{"questions": {questions}}}', "--threads", "1"]
    for flag, name in (
        ("--questions", "question.jsonl"),
        ("--prompts", "judge_prompts.jsonl"),
        ("--references", "references"),
        ("--answers", "answers.jsonl"),
        ("--base-model", "tiny"),
        ("--output", "out/judgments.jsonl"),
        ("--scores", "out/mtbench.json"),
    ):
        command += [flag, str(study / name)]
    package = Path(judging.__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(package), "NO_PROXY": "127.0.0.1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env)


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
