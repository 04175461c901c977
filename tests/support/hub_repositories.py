"""Made-up repositories for `hub_server`: the data sets of lm-eval's tasks, and a tiny model.

Names, configurations, splits and columns are the real ones, as lm-eval's task files read them.
"""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from support.hub_server import Files, Repository, commit_of
from support.scoring import WORDS
from support.small_models import save_tiny

Row = dict[str, Any]
Rows = list[Row]

SUBJECTS = ("abstract_algebra", "anatomy")
MODEL = "models/tiny/llama"
OWLORE = "datasets/pengxiang/OwLore_Dataset"


def _words(rng: random.Random, n: int = 3) -> str:
    return " ".join(rng.sample(WORDS, n))


def boolq(rng: random.Random) -> Row:
    return {"question": f"is {_words(rng)}", "passage": _words(rng, 6), "label": rng.randrange(2)}


def piqa(rng: random.Random) -> Row:
    goal, sol1, sol2 = (_words(rng) for _ in range(3))
    return {"goal": goal, "sol1": sol1, "sol2": sol2, "label": rng.randrange(2)}


def social_iqa(rng: random.Random) -> Row:
    answers = {f"answer{letter}": _words(rng, 2) for letter in "ABC"}
    question = {"context": f"{_words(rng, 5)}.", "question": f"why {_words(rng)}?"}
    return {**question, **answers, "label": str(rng.randint(1, 3))}


def hellaswag(rng: random.Random) -> Row:
    return {
        "activity_label": "Making [title] water",
        "ctx_a": f"{_words(rng, 5)}.",
        "ctx_b": _words(rng, 2),
        "endings": [f"{_words(rng)} [step] and {_words(rng)}." for _ in range(4)],
        "label": str(rng.randrange(4)),
    }


def winogrande(rng: random.Random) -> Row:
    options = {"option1": "the owl", "option2": "hero"}
    sentence = f"{_words(rng)} met _ because {_words(rng)}."
    return {"sentence": sentence, **options, "answer": str(rng.randint(1, 2))}


def arc(rng: random.Random) -> Row:
    choices = {"text": [_words(rng, 2) for _ in range(4)], "label": list("ABCD")}
    return {"question": f"{_words(rng)}?", "choices": choices, "answerKey": rng.choice("ABCD")}


def openbookqa(rng: random.Random) -> Row:
    row = arc(rng)
    return {"question_stem": row.pop("question"), **row}


def mmlu(rng: random.Random) -> Row:
    choices = [_words(rng, 2) for _ in range(4)]
    return {"question": f" {_words(rng)}", "choices": choices, "answer": rng.randrange(4)}


def gsm8k(rng: random.Random) -> Row:
    a, b = rng.randrange(50), rng.randrange(50)
    return {"question": f"{a} owls and {b} more?", "answer": f"<<{a}+{b}={a + b}>>\n#### {a + b}"}


def rows(make: Callable[[random.Random], Row], n: int, label: str) -> Rows:
    """`n` rows; the same label gives the same ones."""
    rng = random.Random(f"{make.__name__} {label}")
    return [make(rng) for _ in range(n)]


# data set: (maker of a row, configurations, splits, kind of file)
DATASETS: dict[str, tuple[Callable[[random.Random], Row], tuple[str, ...], str, str]] = {
    "aps/super_glue": (boolq, ("boolq",), "train validation", "parquet"),
    "baber/piqa": (piqa, ("default",), "train validation", "parquet"),
    "lighteval/siqa": (social_iqa, ("default",), "train validation", "jsonl"),
    "Rowan/hellaswag": (hellaswag, ("default",), "train validation", "parquet"),
    "allenai/winogrande": (winogrande, ("winogrande_xl",), "train validation", "parquet"),
    "allenai/ai2_arc": (arc, ("ARC-Easy", "ARC-Challenge"), "train validation test", "parquet"),
    "allenai/openbookqa": (openbookqa, ("main",), "train validation test", "jsonl"),
    "cais/mmlu": (mmlu, SUBJECTS, "dev validation test", "parquet"),
    "openai/gsm8k": (gsm8k, ("main",), "train test", "jsonl"),
}
SIZES = {"train": 6, "dev": 5, "validation": 4, "test": 5}


def tables(dataset: str, age: str) -> dict[tuple[str, str], Rows]:
    """Rows by (configuration, split) of an `old` or `new` commit; the old one's differ."""
    make, configurations, splits, _ = DATASETS[dataset]
    return {
        (name, split): rows(make, SIZES[split], f"{name} {split} {age}")
        for name in configurations
        for split in splits.split()
    }


def dataset_files(by_split: dict[tuple[str, str], Rows], kind: str) -> Files:
    """A hub data set's files: README.md with the configurations, one file a split."""
    lines, files = ["---", "configs:"], {}
    for name in dict.fromkeys(name for name, _ in by_split):
        lines += [f"- config_name: {name}", "  data_files:"]
        for (owner, split), found in by_split.items():
            if owner == name:
                path = f"{name}/{split}.{kind}"
                lines.append(f"  - {{split: {split}, path: {path}}}")
                files[path] = _parquet(found) if kind == "parquet" else _jsonl(found)
    return {"README.md": "\n".join([*lines, "---", ""]).encode(), **files}


def datasets(token: str | None = None) -> list[Repository]:
    """All data sets, each with an older commit; `token` is demanded for Social IQa."""
    found = []
    for name, (_, _, _, kind) in DATASETS.items():
        commits = {
            commit_of(f"{name} {age}"): dataset_files(tables(name, age), kind)
            for age in ("old", "new")
        }
        gate = token if name == "lighteval/siqa" else None
        found.append(Repository(f"datasets/{name}", commits, gate))
    return found


def owlore_dataset() -> Repository:
    """The published training data: LMFlow's files, one a mixture."""
    commits = {}
    for age in ("old", "new"):
        instances = [{"text": f"{age} text {number}"} for number in range(SIZES["train"])]
        merged = json.dumps({"type": "text_only", "instances": instances}).encode()
        commits[commit_of(f"owlore {age}")] = {"merge/merged_json.json": merged}
    return Repository(OWLORE, commits)


def model(folder: Path, token: str | None = None) -> Repository:
    """A tiny Llama, in an older commit; the newest has no weights."""
    save_tiny(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    bare = {name: data for name, data in files.items() if not name.endswith(".safetensors")}
    commits = {commit_of("llama old"): files, commit_of("llama new"): bare}
    return Repository(MODEL, commits, token)


def _jsonl(found: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in found).encode()


def _parquet(found: Rows) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(found), stream)
    return stream.getvalue()
