"""A question's text without its template: each task's, by the number that its samples have."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.overlaps import flags, text
from support.scoring import benchmark, index_only, questions, run
from support.small_models import save_tiny

from owlore.contamination.question_texts import QuestionText, _text, of_benchmark, of_mtbench
from owlore.contamination.stage import Training, overlap
from owlore.core.files import write_jsonl


# How a question lies in a task's data, by lm-eval's folder of the task. The fields hold the parts
# of the question that another prompt may pull apart, one choice that is right, one that is not.
def arc(q: str, p: str, a: str, b: str) -> dict[str, Any]:
    choices = {"text": [b, a], "label": ["A", "B"]}
    return {"question": f"{p} {q}", "question_stem": f"{p} {q}", "choices": choices} | {
        "answerKey": "B"
    }


def boolq(q: str, p: str, a: str, b: str) -> dict[str, Any]:
    return {"question": q, "passage": p, "label": 1}


def gsm8k(q: str, p: str, a: str, b: str) -> dict[str, Any]:
    return {"question": f"{p} {q}", "answer": f"{a} #### 7"}


def hellaswag(q: str, p: str, a: str, b: str) -> dict[str, Any]:
    return {"activity_label": "Roof", "ctx_a": p, "ctx_b": q, "endings": [b, a], "label": "1"}


def piqa(q: str, p: str, a: str, b: str) -> dict[str, Any]:
    return {"goal": f"{p} {q}", "sol1": a, "sol2": b, "label": 0}


def social_iqa(q: str, p: str, a: str, b: str) -> dict[str, Any]:
    answers = {"answerA": b, "answerB": a, "answerC": f"{b} too"}
    return {"context": p, "question": q, **answers, "label": "2"}


def winogrande(q: str, p: str, a: str, b: str) -> dict[str, Any]:
    return {"sentence": f"{p} _ {q}", "option1": a, "option2": b, "answer": "1"}


def embedded(q: str, p: str, a: str, b: str) -> dict[str, Any]:
    choices = [b, a, f"{b} too", f"{b} as well"]
    return {"question": f"{p} {q}", "choices": choices, "answer": 1, "cluster": ""}


ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request."
)
STYLES = {
    "arc_easy": ("arc", "test", arc),
    "openbookqa": ("openbookqa", "test", arc),
    "boolq": ("super_glue/boolq", "validation", boolq),
    "gsm8k": ("gsm8k", "test", gsm8k),
    "hellaswag": ("hellaswag", "validation", hellaswag),
    "piqa": ("piqa", "validation", piqa),
    "social_iqa": ("siqa", "validation", social_iqa),
    "winogrande": ("winogrande", "validation", winogrande),
    "wordnet_category": ("", "test", embedded),
    "mmlu_mini": ("", "test", embedded),
}


@pytest.mark.parametrize("task", STYLES)
def test_a_planted_copy_is_found_in_each_task_and_a_template_is_not(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, split, made = STYLES[task]
    index_only(monkeypatch, folder)
    asked = [[text(f"{task} {part} {i}") for part in "qpab"] for i in range(20)]
    write_jsonl(tmp_path / f"{task}_{split}.jsonl", [made(*parts) for parts in asked])
    metric = "exact_match" if task == "gsm8k" else "acc"
    chosen = benchmark(tasks={task: {"metric": metric}}, data_dir=str(tmp_path))
    if task == "gsm8k":  # its five shots come from outside the questions
        write_jsonl(tmp_path / "gsm8k_train.jsonl", [made(*"qpab") for _ in range(5)])
    found = of_benchmark(chosen, tmp_path)[task]
    assert [one.doc_id for one in found] == list(range(20))

    def planted(q: str, p: str, a: str, b: str) -> list[str]:
        between = {"boolq": "\nQuestion: ", "social_iqa": "\n\n"}.get(task, " ")
        if task == "winogrande":
            between = f" {a} "
        if task == "hellaswag":
            p = f"Roof: {p}"
        body = f"{p}{between}{q}"
        return [
            f"Please choose the right one: {body.upper()}\n\nAnswer1: {b}\nThe answer is answer2",
            f"Question: {p},\n{between}{q}!\nAnswer:\n{a}",
            f"{ALPACA}\n\n### Instruction:\n{body}\n\n### Response:\n{a}",
            f"Q: {body}\nA: {a}",
        ]

    unrelated = [
        row for i in range(50) for row in planted(*(text(f"other {x} {i}") for x in "qpab"))
    ]
    assert flags(unrelated, *found) == (0, 0, [])
    for row in planted(*asked[3]):
        exact, _, ids = flags([*unrelated, row], *found)
        assert (exact, ids) == (1, [3]), row
    # A part of the question is not the question.
    assert flags([*unrelated, f"Please: {asked[3][0]}", asked[3][1]], *found)[0] == 0


def test_a_template_of_any_length_is_taken_off() -> None:
    template = (
        f"{ALPACA} {{% if passage %}}Passage: {{{{passage}}}}{{% endif %}}\n"
        "{{question.strip()}}?{% for choice in choices %}\n- {{choice}}{% endfor %}\n"
        f"(1) {{{{one}}}} (2) {{{{choices[1]}}}}\n{ALPACA}"
    )
    for passage in ("", "the passage"):
        doc = {"passage": passage, "question": " why ", "one": "x", "choices": ["x", "y"]}
        task = SimpleNamespace(
            OUTPUT_TYPE="multiple_choice",
            multiple_input=0,
            features=[*doc],
            config=SimpleNamespace(doc_to_text=template, doc_to_choice="{{[one, choices[1]]}}"),
            doc_to_choice=lambda doc: [doc["one"], doc["choices"][1]],
            doc_to_target=lambda doc: 1,
        )
        assert _text(task, doc) == ([[passage, "why"] if passage else ["why"]], "y")


def test_the_right_choice_stands_behind_the_letter(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "mmlu_mini_test.jsonl", [embedded("q?", "p", "right", "wrong")])
    (found,) = of_benchmark(benchmark(tasks={"mmlu_mini": {}}), tmp_path)["mmlu_mini"]
    assert found == QuestionText(0, True, [["p q?"]], "right")


def test_doc_ids_are_those_of_the_samples(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "wordnet_category_test.jsonl", questions(24, "category test"))
    write_jsonl(tmp_path / "quartz_mini_test.jsonl", questions(13, "quartz test", choices=2))
    tasks = {"wordnet_category": {"limit": 7}, "quartz_mini": {}}
    chosen = benchmark(tasks=tasks)
    _, rows = run(tmp_path / "out", save_tiny(tmp_path / "model"), chosen, tmp_path)
    found = of_benchmark(chosen, tmp_path)
    for task, asked in found.items():
        own = rows[rows["task"] == task]
        assert [one.doc_id for one in asked if one.scored] == own["doc_id"].tolist()
        docs = questions(
            len(asked), asked[0].forms[0][0].split(" 0:")[0], 4 if len(own) == 7 else 2
        )
        for one, gold in zip([one for one in asked if one.scored], own["gold"], strict=True):
            assert docs[one.doc_id]["question"] == one.forms[0][0]
            assert docs[one.doc_id]["choices"][gold] == one.gold
    scored = rows[rows["task"] == "wordnet_category"]["doc_id"].tolist()
    left_out = next(number for number in range(24) if number not in scored)
    planted = [found["wordnet_category"][number].forms[0][0] for number in (scored[2], left_out)]
    checked = overlap(Training(planted), found["wordnet_category"])
    assert (checked.n, checked.exact, checked.doc_ids) == (7, 1, [scored[2]])


def test_a_groups_questions_are_numbered_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from owlore.evaluate import lm_tasks

    index_only(monkeypatch, "mmlu/default")
    members = lm_tasks.members("mmlu", lm_tasks.TaskManager(str(lm_tasks.TASKS), True, {}))
    rows = [
        {**row, "subject": member.removeprefix("mmlu_")}
        for member in members
        for row in questions(2, member)
    ]
    write_jsonl(tmp_path / "mmlu_validation.jsonl", rows)
    chosen = benchmark(tasks={"mmlu": {"limit": 40}}, data_dir=str(tmp_path))
    found = of_benchmark(chosen, tmp_path)["mmlu"]
    assert [one.doc_id for one in found] == list(range(len(rows)))
    assert sum(one.scored for one in found) == 40
    for one, row in zip(found, rows, strict=True):
        assert one.forms == [[row["question"]]]
        assert one.gold == row["choices"][row["answer"]]


def test_mtbench_questions_by_their_id(tmp_path: Path) -> None:
    categories = ("writing", "math")
    write_jsonl(
        tmp_path / "mtbench" / "question.jsonl",
        [
            {"question_id": 81 + i, "category": categories[i % 2]}
            | {"turns": [text(f"first {i}"), "Now make it shorter."]}
            for i in range(6)
        ],
    )
    asked = of_mtbench(6, 0, tmp_path)["mtbench"]
    row = f"{text('first 2')}\nMy answer.\nNow make it shorter."
    assert flags([row, "Now make it shorter."], *asked) == (1, 0, [83])
