"""Benchmark questions in training rows: whole copies, thirteen words in a row, and the command."""

import json
import random
from pathlib import Path

import pytest
from support.overlaps import flags, question, text
from support.scoring import benchmark, questions
from support.studies import changed, write

from owlore.cli.main import main
from owlore.contamination.question_texts import QuestionText, of_benchmark
from owlore.contamination.stage import COMMON, GRAM, Training, overlap, phrase
from owlore.core.files import read_json, write_jsonl


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
    assert overlap(Training(row), left_out).flagged == 0
    assert overlap(Training([few[1].forms[0][0]]), left_out).doc_ids == [1]  # a whole copy is one


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
    assert overlap(Training(["a row"]), []).share == 0.0


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
    keys = {"track", "training_rows", "training_sha256", "benchmarks", "versions", "proof"}
    assert set(written) == keys
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
