"""Do training rows hold benchmark questions? A check of one track's mixture on its benchmarks.

Run as: `owlore contamination --study config.yaml --track mini --data DIR --questions DIR \\
    --output mini.json`, or `snakemake --cores all contamination`.

The training rows of all seeds together stand against each question that is scored. After
normalisation (words only: no case, accents, punctuation, line breaks, nor labels such as
"Question:"), a question is flagged as

- exact: all of its text, but not its choices, is in one training row;
- ngram13: it shares 13 words in a row with a training row, its right choice being read behind it.

Templates do not count: not the benchmark's, which `question_texts` takes off; not the training
prompt's, as nothing has to begin or end where the question does; nor 13 words that more than ten
questions of a task share (MMLU's moral scenarios). A text that makes no question alone, being
shorter than five words ("What is water?") or that of several questions ("Which of these is true?"),
is exact only if the right choice is in the row as well.
"""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from owlore.contamination.question_texts import (
    QuestionText,
    of_benchmark,
    of_mtbench,
)
from owlore.core import provenance
from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, sha256_file
from owlore.data import training_formats
from owlore.evaluate import questions_read
from owlore.records import proof
from owlore.records.contamination import ContaminationJob, ContaminationRecord, Overlap

GRAM = 13  # words, as in GPT-3's check (arXiv 2005.14165, appendix C)
COMMON = 10  # questions; a 13-gram of more than these belongs to the task, not to a question
SHORT = 5  # words; a question of fewer needs its right choice beside it

# Labels at the beginning of a line, which would stand between a question and its answer.
LABEL = re.compile(r"^[^\S\n]*(?:question|answer|q|a)[^\S\n]*:", re.IGNORECASE | re.MULTILINE)
WORD = re.compile(r"[^\W_]+")

Hashes = NDArray[np.uint64]


def run(job: ContaminationJob, data: Path, questions: Path, output: Path) -> ContaminationRecord:
    """Compare a track's training rows with its benchmarks and write the flagged questions.

    Args:
        job: the track, its seeds, and which questions it is asked.
        data: folder of `<track>/seed<k>.jsonl`, all seeds of the study.
        questions: folder that the questions stage wrote.
        output: the result, `<track>.json`.

    Raises:
        BadInput: a training file is missing or has a row of an unknown shape; see `load_tasks`
            and `mtbench.read_questions` for the questions.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns about each override
    files = {f"seed{seed}": data / job.track / f"seed{seed}.jsonl" for seed in job.seeds}
    for path in files.values():
        if not path.is_file():
            raise BadInput(f"{path}: no such file")
    hashes = {name: sha256_file(path) for name, path in files.items()}
    read = {f"data/{name}": sha256 for name, sha256 in hashes.items()}
    for name, settings in job.benchmarks.items():
        folder = settings.questions_in(questions)
        if folder is not None:
            read[f"questions/{name}"] = questions_read.digest(folder, settings.tasks)
    if job.mtbench is not None:
        read["questions/mtbench"] = sha256_file(questions / "mtbench" / "question.jsonl")
    asked = proof.of(job, __name__, read)
    record = proof.kept(ContaminationRecord, output, asked, f"contamination {job.track}")
    if record is not None:
        return record

    training = Training(text for file in files.values() for text in _texts(file))
    texts: dict[str, dict[str, list[QuestionText]]] = {
        name: of_benchmark(settings, questions) for name, settings in job.benchmarks.items()
    }
    if job.mtbench is not None:
        texts["mtbench"] = of_mtbench(job.mtbench.questions, job.mtbench.seed, questions)
    record = ContaminationRecord(
        track=job.track,
        training_rows=len(training),
        training_sha256=hashes,
        benchmarks={
            name: {task: overlap(training, asked_of) for task, asked_of in tasks.items()}
            for name, tasks in texts.items()
        },
        versions=provenance.versions(),
        proof=asked,
    )
    record.save(output)
    for name, overlaps in record.benchmarks.items():
        flagged = sum(task.flagged for task in overlaps.values())
        n = sum(task.n for task in overlaps.values())
        print(
            f"contamination {job.track}: {name}: {flagged} of {n} questions are in the "
            f"{len(training)} training rows, wholly or in part"
        )
    return record


def overlap(training: "Training", questions: Sequence[QuestionText]) -> Overlap:
    """Return how many of a task's scored questions are flagged, and their doc_ids.

    Args:
        training: the training rows.
        questions: all of the task; those not scored help to tell what questions have in common.
    """
    forms = [
        [[words for part in form if (words := phrase(part))] for form in question.forms]
        for question in questions
    ]
    golds = [phrase(question.gold) for question in questions]
    times = Counter(text for own in forms for text in {" ".join(form) for form in own})
    shared = training.sharing(
        [[" ".join([*form, gold]) for form in own] for own, gold in zip(forms, golds, strict=True)]
    )
    exact, partial, flagged = 0, 0, []
    for place, question in enumerate(questions):
        if not question.scored:
            continue
        whole = any(_is_there(training, form, golds[place], times) for form in forms[place])
        exact += whole
        partial += place in shared
        if whole or place in shared:
            flagged.append(question.doc_id)
    n = sum(question.scored for question in questions)
    return Overlap(
        n=n,
        exact=exact,
        ngram13=partial,
        flagged=len(flagged),
        share=len(flagged) / n if n else 0.0,
        doc_ids=flagged,
    )


def _is_there(
    training: "Training", phrases: list[str], gold: str, times: Mapping[str, int]
) -> bool:
    """Whether a row holds a question, with its right choice if the text alone tells too little."""
    text = " ".join(phrases)
    if len(text.split()) >= SHORT and times[text] == 1:
        return training.has(phrases)
    return bool(phrases and gold) and training.has([*phrases, gold])


def phrase(text: str) -> str:
    """Return the words of a text as they are compared, joined by blanks."""
    text = LABEL.sub(" ", text)
    if not text.isascii():  # typographic letters as plain ones, accents off
        parts = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in parts if not unicodedata.combining(letter))
    return " ".join(WORD.findall(text.casefold()))


class Training:
    """Distinct training texts, indexed for both questions that are asked of them."""

    def __init__(self, texts: Iterable[str]):
        self._texts = [f" {text} " for text in dict.fromkeys(map(phrase, texts))]
        self._rows_with: dict[str, list[int]] = {}
        for number, text in enumerate(self._texts):
            for word in set(text.split()):
                self._rows_with.setdefault(word, []).append(number)
        self._ids = {word: place for place, word in enumerate(self._rows_with)}
        # Random numbers for words make equal hashes of unequal 13-grams as rare as chance allows.
        # The last one is that of all words unknown here.
        random = np.random.default_rng(0)
        self._codes = random.integers(0, 2**64, len(self._ids) + 1, dtype=np.uint64)
        self._grams = np.sort(self._hashes(self._texts)[0])

    def __len__(self) -> int:
        return len(self._texts)

    def has(self, phrases: Sequence[str]) -> bool:
        """Whether one row holds all the phrases, as whole words."""
        needed = {word for phrase in phrases for word in phrase.split()}
        # The rarest word leaves the fewest rows to look through.
        rows = min((self._rows_with.get(word, []) for word in needed), key=len, default=[])
        return any(all(f" {phrase} " in self._texts[row] for phrase in phrases) for row in rows)

    def sharing(self, questions: Sequence[Sequence[str]]) -> set[int]:
        """Return which questions, each in one or more forms, share a 13-gram with a row."""
        owner = np.repeat(np.arange(len(questions)), [len(forms) for forms in questions])
        hashes, form = self._hashes([text for forms in questions for text in forms])
        if not len(self._grams):
            return set()
        known = self._grams.take(np.searchsorted(self._grams, hashes), mode="clip") == hashes
        having: dict[int, set[int]] = {}
        for gram, question in zip(hashes[known], owner[form[known]], strict=True):
            having.setdefault(int(gram), set()).add(int(question))
        return set().union(*(some for some in having.values() if len(some) <= COMMON))

    def _hashes(self, texts: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
        """Hash all 13-grams at once; return the hashes and which text each is of."""
        unknown = len(self._ids)
        ids = np.fromiter(
            (self._ids.get(word, unknown) for text in texts for word in text.split()), np.int32
        )
        owner = np.repeat(np.arange(len(texts)), [len(text.split()) for text in texts])
        count = max(len(ids) - GRAM + 1, 0)
        hashes = np.zeros(count, dtype=np.uint64)
        for place in range(GRAM):
            hashes *= np.uint64(0x9E3779B97F4A7C15)
            hashes += self._codes[ids[place : place + count]]
        whole = owner[:count] == owner[len(ids) - count :]  # not from one text into the next
        return hashes[whole], owner[:count][whole]


def _texts(file: Path) -> list[str]:
    """The training rows of a file as plain text, one line a turn."""
    found = []
    for number, row in enumerate(read_jsonl(file), start=1):
        # What is written already passes through training_row unchanged, and is checked there.
        checked = training_formats.training_row(row, f"{file}: row {number}")
        found.append("\n".join(training_formats.texts(checked)))
    return found
