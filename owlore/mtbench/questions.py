"""MT-Bench's questions, chosen; and what a file of answers says, whenever it was said."""

from collections import Counter
from pathlib import Path
from typing import Any

from owlore.core.errors import BadInput
from owlore.core.files import canonical_json, read_jsonl, sha256_text
from owlore.mtbench import protocol as fastchat

Row = dict[str, Any]


def read_questions(path: Path, count: int, seed: int) -> list[Row]:
    """Read question.jsonl and choose `count` of them, spread evenly over the categories.

    The choice depends on `seed` and the question_ids only, and a smaller one is part of a
    larger one. The rows keep the file's order.

    Raises:
        BadInput: a row is not a two-turn question of a known category, or there are too few.
    """
    rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not {"question_id", "category", "turns"} <= row.keys() or len(row["turns"]) != 2:
            raise BadInput(f"{path}: row {number}: expected question_id, category and two turns")
        fastchat.temperature(row["category"])
    if count > len(rows):
        raise BadInput(f"mtbench.questions: {count}: {path} has {len(rows)} questions")
    ranked, seen = [], Counter[str]()
    for row in sorted(rows, key=lambda row: sha256_text(f"{seed} {row['question_id']}")):
        ranked.append((seen[row["category"]], row["question_id"]))
        seen[row["category"]] += 1
    ranked.sort(key=lambda item: item[0])  # stable: ties stay in the seeded order
    chosen = {question_id for _, question_id in ranked[:count]}
    return [row for row in rows if row["question_id"] in chosen]


def answers_sha256(rows: list[Row]) -> str:
    """Return the hash of what is said, by whom, on which question; not of when."""
    said = [[row["question_id"], row["model_id"], row["choices"]] for row in rows]
    return sha256_text(canonical_json(said))
