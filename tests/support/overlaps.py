"""Made-up words and questions, and what the check finds of them in training rows."""

import random

from owlore.contamination.question_texts import QuestionText
from owlore.contamination.stage import Training, overlap


def text(label: str, n: int = 8) -> str:
    """`n` made-up words, others for each label."""
    rng = random.Random(label)
    return " ".join("".join(rng.choices("aeioulmnrst", k=7)) for _ in range(n))


def question(body: str, gold: str = "gold", doc_id: int = 0) -> QuestionText:
    return QuestionText(doc_id, True, [[body]], gold)


def flags(rows: list[str], *asked: QuestionText) -> tuple[int, int, list[int]]:
    found = overlap(Training(rows), asked)
    assert found.n == len(asked)
    assert found.flagged == len(found.doc_ids)
    assert found.share == found.flagged / found.n
    return found.exact, found.ngram13, found.doc_ids
