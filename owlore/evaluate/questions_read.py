"""Which files hold a benchmark's questions, as one hash: what an evaluation has read of them."""

from collections.abc import Iterable
from pathlib import Path

from owlore.core.files import canonical_json, sha256_file, sha256_text


def digest(data_dir: Path, tasks: Iterable[str]) -> str:
    """Return a hash of the local files that these tasks may read.

    Those are `<task>_<split>.jsonl` or `.parquet`, MMLU's one file a split, and where neither is
    there for a task, everything in the hub-shaped folders of `data_dir`.

    Args:
        data_dir: folder of local questions.
        tasks: names of lm-eval tasks.
    """
    files: set[Path] = set()
    for task in tasks:
        stems = [task, "mmlu"] if task.split("_")[0] == "mmlu" else [task]
        named = [path for stem in stems for path in data_dir.glob(f"{stem}_*") if path.is_file()]
        files |= set(named) if named else {p for p in data_dir.glob("*/**/*") if p.is_file()}
    hashes = {path.relative_to(data_dir).as_posix(): sha256_file(path) for path in sorted(files)}
    return sha256_text(canonical_json(hashes))
