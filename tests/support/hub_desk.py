"""owlore's commands beside a small hub: run one, and see what it asked of the hub."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from support import hub_repositories as made
from support.hub_server import Hub, Request


@dataclass
class Ran:
    """A command that ran: how it ended, what it said, what it asked of the hub."""

    code: int
    out: str
    err: str
    requests: list[Request]

    def asked(self, repository: str) -> list[Request]:
        return [request for request in self.requests if request.repository == repository]

    def refusal(self) -> str:
        """owlore's one line on stderr; the libraries' warnings about a cache are theirs."""
        assert self.code == 2, self.err
        assert "Traceback" not in self.err
        (line,) = (line for line in self.err.splitlines() if line.startswith("owlore "))
        return line


@dataclass
class Desk:
    """A hub, a model, and a folder to run commands in."""

    hub: Hub
    folder: Path

    def owlore(
        self, *arguments: object, token: str | None = None, home: str = "home", **more: str
    ) -> Ran:
        environment = {**os.environ, **self.hub.environment(self.folder / home, token), **more}
        before = len(self.hub.requests)
        done = subprocess.run(
            [sys.executable, "-m", "owlore", *map(str, arguments)],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        return Ran(done.returncode, done.stdout, done.stderr, self.hub.requests[before:])

    def evaluate(
        self, tasks: dict[str, str | None], output: str = "refused.json", **more: str
    ) -> Ran:
        blocks: dict[str, dict[str, Any]] = {}
        for name, revision in tasks.items():
            metric = "exact_match" if name == "gsm8k" else "acc"
            blocks[name] = {"revision": revision, "metric": metric}
        benchmark = {"tasks": blocks, "num_fewshot": 2, "max_length": 512}
        places = ["--output", output, "--samples", "samples"]
        given = ["--model", "model", "--benchmark", json.dumps(benchmark)]
        return self.owlore("evaluate", *given, *places, **more)

    def fetch_model(self, revision: str, output: str = "refused", **more: str) -> Ran:
        source = {"hub": made.MODEL.removeprefix("models/"), "revision": revision}
        study = self.study(models={"m": source})
        return self.owlore("model", "--study", study, "--name", "m", "--output", output, **more)

    def draw(self, source: dict[str, Any], output: str = "refused.jsonl", **more: str) -> Ran:
        study = self.study(questions={"hub": {"pool": source}})
        given = ["--study", study, "--track", "t", "--seed", "0", "--output", output]
        return self.owlore("data", *given, **more)

    def study(self, **blocks: Any) -> Path:
        study = {
            "study": "s",
            "seeds": [0],
            "run": ["base"],
            "models": {"m": {"path": "model"}},
            "tracks": {"t": {"train": {"pool": 4}}},
            "methods": {"base": {"trainable": "none"}},
        }
        path = self.folder / "study.yaml"
        path.write_text(yaml.safe_dump({**study, **blocks}))
        return path
