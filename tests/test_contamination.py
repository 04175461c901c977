"""Benchmark questions in training rows: planted ones are found, templates are not."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scoring import benchmark, index_only, questions, run
from studies import changed, write
from toys import save_tiny

from owlore.cli import main
from owlore.config import MTBench
from owlore.contamination import COMMON, GRAM, Training, overlap, phrase
from owlore.files import read_json, write_jsonl
from owlore.question_texts import QuestionText, _text, of_benchmark, of_mtbench


def text(label: str, n: int = 8) -> str:
    """`n` made-up words, others for each label."""
    rng = random.Random(label)
    return " ".join("".join(rng.choices("aeioulmnrst", k=7)) for _ in range(n))


def question(body: str, gold: str = "gold", doc_id: int = 0) -> QuestionText:
    return QuestionText(doc_id, True, [[body]], gold)


def flags(rows: list[str], *asked: QuestionText) -> tuple[int, int, list[int]]:
    found = overlap(Training(rows), asked)
    assert found["n"] == len(asked)
    assert found["flagged"] == len(found["doc_ids"])
    assert found["share"] == found["flagged"] / found["n"]
    return found["exact"], found["ngram13"], found["doc_ids"]


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


def test_thirteen_words_in_a_row_are_found_and_twelve_are_not() -> None:
    words = text("long", 30).split()
    for start in (0, 5, 17):
        part = " ".join(words[start : start + 13])
        assert flags([f"Some row: {part} goes on"], question(" ".join(words))) == (0, 1, [0])
        shorter = " ".join(part.split()[1:])
        assert flags([f"Some row: {shorter} goes on"], question(" ".join(words))) == (0, 0, [])
    half = [" ".join(words[:12]), words[12]]
    assert flags(half, question(" ".join(words)))[2] == []  # not from one row into the next


def test_the_right_choice_counts_behind_the_question() -> None:
    words, gold = text("long", 30), text("gold", 6)
    end = " ".join(words.split()[-7:])
    row = f"Question: {text('other')} {end}\nAnswer:\n{gold}"
    assert flags([row], question(words, gold)) == (0, 1, [0])
    assert flags([row], question(words, text("wrong", 6))) == (0, 0, [])


def test_short_and_repeated_questions_need_their_right_choice() -> None:
    short = question("What is water?", "a liquid")
    assert flags(["Well, what is water? Nobody knows."], short) == (0, 0, [])
    assert flags(["What is water?\nA liquid!"], short) == (1, 0, [0])
    assert flags(["What is water? Aliquid"], short) == (0, 0, [])  # whole words
    assert flags(["What is water?"], question("What is water?", "")) == (0, 0, [])
    assert flags(["So what is the water?"], question("what is the water", "")) == (0, 0, [])
    assert flags(["So what is the wet water?"], question("is the wet water what", "")) == (0, 0, [])
    assert flags(["what is the wet water"], question("what is the wet water", "")) == (1, 0, [0])

    same = "Which of the following statements is true?"
    first, second = question(same, "fish swim", 4), question(same, "birds fly", 9)
    assert flags([f"{same} (A) Birds fly (B) Fish cry"], first, second) == (1, 0, [9])
    assert flags([f"{same} (A) Birds fly (B) Fish cry"], first) == (1, 0, [4])  # no other says so


def test_words_that_many_questions_share_are_theirs() -> None:
    shared = text("template", 20)
    row = [f"{shared} {text('trained')}"]
    few = [question(f"{shared} {text(f'own {i}')}", doc_id=i) for i in range(COMMON)]
    assert flags(row, *few)[1] == COMMON
    many = [*few, question(f"{shared} {text('one more')}", doc_id=COMMON)]
    assert flags(row, *many) == (0, 0, [])
    left_out = [*few[:2], *(one._replace(scored=False) for one in many[2:])]
    assert overlap(Training(row), left_out)["flagged"] == 0
    assert overlap(Training([few[1].forms[0][0]]), left_out)["doc_ids"] == [
        1
    ]  # a whole copy is one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It’s 20 °C — “naïve” café…", "its 20 c naive cafe"),
        ("Ｆｕｌｌ ﬁnal STRASSE", "full final straße"),
        ("a_b; c\u00a0d\n\te", "A B c d E"),
        ("Question: why?\nAnswer: so", "why so"),
        ("  q: why?\n A : so", "why so"),
    ],
)
def test_what_is_the_same_text(one: str, other: str) -> None:
    assert phrase(one).replace(" s ", "s ") == phrase(other)
    body = f"{text('before', 3)} {one} {text('after', 3)}"
    copy = f"{text('before', 3)} {one.upper()} {text('after', 3)}"
    assert flags([copy], question(body))[0] == 1


@pytest.mark.parametrize(
    ("one", "other"), [("art", "artist"), ("2 + 3", "23"), ("answer", ""), ("q", ""), ("", "x")]
)
def test_what_is_not_the_same_text(one: str, other: str) -> None:
    assert phrase(one) != phrase(other)


def test_no_words_no_rows() -> None:
    assert flags([], question(text("q", 20))) == (0, 0, [])
    assert flags(["a row", ""], question("+ ?", "")) == (0, 0, [])
    assert len(Training(["A row.", "a row", "another"])) == 2
    assert overlap(Training(["a row"]), [])["share"] == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_both_checks_against_brute_force(seed: int) -> None:
    """Few words and short texts, so that chance makes overlaps of every length."""
    rng = random.Random(seed)

    def some(longest: int) -> str:
        return " ".join(rng.choices("ab", k=rng.randint(0, longest)))

    rows = [some(40) for _ in range(12)]
    asked = [QuestionText(i, True, [[some(9), some(18)]], some(2)) for i in range(300)]

    def grams(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)}

    having: dict[tuple[str, ...], set[int]] = {}
    for one in asked:
        for gram in grams(" ".join([*one.forms[0], one.gold]).split()):
            having.setdefault(gram, set()).add(one.doc_id)
    trained = set().union(*(grams(row.split()) for row in rows))
    rare = [ids for gram, ids in having.items() if gram in trained and len(ids) <= COMMON]
    assert Training(rows).sharing(
        [[" ".join([*q.forms[0], q.gold])] for q in asked]
    ) == set().union(*rare)
    for one in asked:
        phrases = [part for part in one.forms[0] if part]
        held = any(all(f" {part} " in f" {row} " for part in phrases) for row in rows)
        assert Training(rows).has(phrases) == (held and bool(phrases))


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
    assert (checked["n"], checked["exact"], checked["doc_ids"]) == (7, 1, [scored[2]])


def test_a_groups_questions_are_numbered_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from owlore import lm_tasks

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
    judge = {"provider": "transformers", "model": "base"}
    asked = of_mtbench(MTBench(questions=6, judge=judge), tmp_path)["mtbench"]
    row = f"{text('first 2')}\nMy answer.\nNow make it shorter."
    assert flags([row, "Now make it shorter."], *asked) == (1, 0, [83])


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The small study's files; returns the command line of the check."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "study.yaml", changed("seeds", [0, 3]))
    write_jsonl(tmp_path / "inputs/questions/wordnet_antonym_test.jsonl", questions(9, "antonym"))
    asked = of_benchmark(
        benchmark(tasks={"wordnet_antonym": {"limit": 4}}), Path("inputs/questions")
    )
    scored = [one for one in asked["wordnet_antonym"] if one.scored]
    row = {"prompt": f"Question: {scored[1].forms[0][0]}\nAnswer:", "completion": " no"}
    turns = [
        {"role": "user", "content": scored[2].forms[0][0]},
        {"role": "assistant", "content": ""},
    ]
    write_jsonl(tmp_path / "data/mini/seed0.jsonl", [row, {"prompt": "a", "completion": " b"}])
    write_jsonl(tmp_path / "data/mini/seed3.jsonl", [{"prompt": "A", "completion": "b"}])
    with open(tmp_path / "data/mini/seed3.jsonl", "a") as stream:
        stream.write(json.dumps({"messages": turns}) + "\n")
    command = ["contamination", "--study", "study.yaml", "--track", "mini", "--data", "data"]
    return [*command, "--questions", "nowhere", "--output", "out/mini.json"]


def test_the_command_takes_all_seeds_together(inputs: list[str], capsys) -> None:
    assert main(inputs) == 0
    assert capsys.readouterr().out == (
        "contamination mini: commonsense: 2 of 4 questions are in the 3 training rows, wholly or "
        "in part\n"
    )
    written = read_json(Path("out/mini.json"))
    assert set(written) == {"track", "training_rows", "training_sha256", "benchmarks", "versions"}
    assert (written["track"], written["training_rows"]) == ("mini", 3)  # "a b" is there twice
    assert set(written["training_sha256"]) == {"seed0", "seed3"}
    counts = written["benchmarks"]["commonsense"]["wordnet_antonym"]
    assert {key: counts[key] for key in ("n", "exact", "ngram13", "flagged", "share")} == {
        **{"n": 4, "exact": 2, "ngram13": 0, "flagged": 2},
        "share": 0.5,
    }
    before = Path("out/mini.json").read_bytes()
    assert main(inputs) == 0
    assert Path("out/mini.json").read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"track": "maxi"}, "--track: 'maxi': allowed mini"),
        ({"data/mini/seed3.jsonl": ...}, "data/mini/seed3.jsonl: no such file"),
        ({"data/mini/seed0.jsonl": "{"}, "data/mini/seed0.jsonl:1: not JSON"),
        ({"data/mini/seed0.jsonl": '{"test": "x"}'}, "seed0.jsonl: row 1: unknown columns: test"),
        ({"data/mini/seed0.jsonl": '{"prompt": 1, "completion": "b"}'}, "row 1: column prompt: 1"),
        ({"data/mini/seed0.jsonl": '{"messages": ["x"]}'}, "column messages: ['x']: expected"),
        ({"data/mini/seed0.jsonl": '{"messages": null}'}, "row 1: column messages: None: expected"),
        (
            {"inputs/questions/wordnet_antonym_test.jsonl": ...},
            "wordnet_antonym_test.jsonl: no such file",
        ),
    ],
)
def test_bad_input_is_one_clear_line(inputs: list[str], spoil, message: str, capsys) -> None:
    for name, content in spoil.items():
        if name == "track":
            inputs[inputs.index("mini")] = content
        elif content is ...:
            Path(name).unlink()
        else:
            Path(name).write_text(content)
    assert main(inputs) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not Path("out").exists()
