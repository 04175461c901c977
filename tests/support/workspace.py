"""A complete tiny study on disk, and a way to run the real workflow on it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.archives import jsonl, save_mtbench
from support.small_models import save_tiny
from support.studies import changed, write

REPOSITORY = Path(__file__).resolve().parents[2]
ANIMALS = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]


@dataclass
class Workspace:
    """A directory with a study.yaml, its inputs, and what runs have made."""

    folder: Path

    def snakemake(self, *arguments: str, expect: int = 0) -> list[str]:
        """Run the real workflow; return the rules that were really executed, with their cell."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, cwd=self.folder, env=self.env
        )
        assert done.returncode == expect, done.stdout + done.stderr
        self.printed = done.stdout + done.stderr
        return executed(self.printed)

    def command(self, *arguments: str) -> list[str]:
        line = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--show-failed-logs"]
        return [*line, "--snakefile", "code/workflow/Snakefile", "--configfile", "study.yaml"]

    @property
    def env(self) -> dict[str, str]:
        """The workspace has its own copy of the code, which a test may touch and edit."""
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.folder / "code")}

    @staticmethod
    def code() -> Path:
        """The package that workspaces have a copy of."""
        return REPOSITORY / "owlore"

    @property
    def root(self) -> Path:
        return self.folder / "results" / "tiny"

    def study(self, path: str, value: object) -> None:
        """Change one value of the study on disk."""
        import yaml

        current = yaml.safe_load((self.folder / "study.yaml").read_text())
        write(self.folder / "study.yaml", changed(path, value, current))

    def results(self) -> dict[str, object]:
        """Every result that must be equal between two runs: all but times, memory and versions."""
        return {
            str(file.relative_to(self.root)): without_times(json.loads(file.read_text()))
            for file in sorted(self.root.glob("mini/**/*.json"))
        } | {
            "tables": {
                name: (self.root / "tables" / f"{name}.csv").read_text()
                for name in ("commonsense", "mtbench", "significance")
            }
        }


TIMES = re.compile(r"second|started|ended|date|bytes|versions|git|resumed|tstamp|model_dir|made")


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not TIMES.search(k)}
    return value


def executed(log: str) -> list[str]:
    """The jobs that Snakemake's log says were started: `rule` or `rule:cell`."""
    jobs = []
    for block in re.split(r"\n(?=(?:local)?rule \w+:)", log):
        if found := re.match(r"(?:local)?rule (\w+):", block):
            cell = re.search(r"wildcards: .*?cell=([^\s,]+)", block)
            jobs.append(found[1] + (":" + "/".join(cell[1].split("/")[2:]) if cell else ""))
    return jobs


def save_inputs(folder: Path) -> None:
    """The code, a tiny checkpoint, training rows, questions, MT-Bench data in the real form."""
    for name in ("owlore", "workflow", "envs"):
        ignored = shutil.ignore_patterns("__pycache__", "profiles")
        shutil.copytree(REPOSITORY / name, folder / "code" / name, ignore=ignored)
    save_tiny(folder / "inputs" / "model")
    pool = [
        {"prompt": f"Question: is {a} like {b}?\nAnswer:", "completion": f" the {b}"}
        for a in ANIMALS
        for b in ANIMALS[:2]
    ]
    questions = [
        {"question": f"which is {a}?", "choices": [a, "stone"], "answer": 0, "cluster": a}
        for a in ANIMALS
    ]
    (folder / "inputs" / "questions").mkdir()
    for name, rows in (
        ("pool", pool),
        ("questions/wordnet_antonym_test", questions),
        ("text", [{"text": f"the {a} and the {b}" * 8} for a in ANIMALS for b in ANIMALS]),
    ):
        (folder / "inputs" / f"{name}.jsonl").write_text(jsonl(rows))
    save_mtbench(folder / "resources" / "archives" / "mtbench-1-py3-none-any.whl")


def workflow_study(archive: Path) -> dict:
    """The tests' small study with calibration text and MT-Bench."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    study = changed("archives", {"mtbench": {"filename": archive.name, "sha256": digest}})
    study = changed("questions.mtbench", "mtbench", study)
    calibration = {"text": "inputs/text.jsonl", "samples": 4, "seqlen": 32, "threshold": 3}
    study = changed("calibration", calibration, study)
    judge = {"provider": "transformers", "model": "base"}
    mtbench = {"questions": 2, "max_new_tokens": 4, "judge": judge}
    return changed("tracks.mini.mtbench", mtbench, study)
