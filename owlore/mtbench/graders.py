"""How each kind of judge grades: the table is at the end.

`openai` asks any OpenAI-compatible endpoint, as MT-Bench means it (see `endpoint.py`).
`transformers` needs no endpoint: it takes the rating a local model expects (`rating_model.py`),
which is NOT an MT-Bench score; its results say so (`comparable: false`).
"""

from pathlib import Path
from typing import Any, Protocol

from owlore.core.errors import BadInput
from owlore.core.journal import Journal
from owlore.core.progress import line
from owlore.mtbench.asking import Wanted, play
from owlore.mtbench.endpoint import Ledger, estimated_tokens, open_endpoint
from owlore.mtbench.rating_model import open_model
from owlore.records.mtbench import RequestsSent
from owlore.sources.models import recorded_sha256
from owlore.study.judge import EndpointJudge, Judge, LocalJudge

ATTEMPTS = 3  # how often an endpoint is asked for a rating that can be read

Row = dict[str, Any]


class Grader(Protocol):
    """A judge made ready: what it is called, and what grades."""

    name: str  # of the model, in FastChat's rows
    label: str  # of its scores, in reports

    def read(self) -> dict[str, str]:
        """Return the hash of what it judges with, by name; empty if only its name is known."""

    def grade(self, jobs: list[Wanted], journal: Path) -> tuple[list[Row], RequestsSent | None]:
        """Return a row a job, and what was sent for them in all; None where nothing is sent.

        `journal` holds the judgments that an earlier run has made and takes the new ones.
        """


class LocalGrader:
    """A checkpoint on this machine: one reply each, which can always be read."""

    def __init__(self, judge: LocalJudge, base_model: Path | None, device: str):
        """Find the checkpoint.

        Raises:
            BadInput: it is to be the base model, and no folder was given.
        """
        folder = base_model if judge.model == "base" else Path(judge.model)
        if folder is None:
            raise BadInput("judge.model: base: the base model's folder (--base-model) is needed")
        self._folder, self._device = folder, device
        self.name = folder.absolute().name
        self.label = f"plumbing check: expected rating of {self.name}, not an MT-Bench score"

    def read(self) -> dict[str, str]:
        """Return the hash of its weights."""
        return {"judge": recorded_sha256(self._folder)}

    def grade(self, jobs: list[Wanted], journal: Path) -> tuple[list[Row], None]:
        """Return a row a job; nothing is sent."""
        rate = open_model(self._folder, self._device)
        with Journal(journal) as kept:
            return play(jobs, lambda job: rate(job.request), kept, attempts=1), None


class EndpointGrader:
    """A model behind an endpoint: many requests at a time, each in a ledger, and caps on them."""

    def __init__(self, judge: EndpointJudge):
        """Name it; nothing is sent yet."""
        self._judge = judge
        self.name = judge.model
        self.label = f"MT-Bench, judge {judge.model}"

    def read(self) -> dict[str, str]:
        """Return nothing: of a model behind an endpoint there is only the name."""
        return {}

    def grade(self, jobs: list[Wanted], journal: Path) -> tuple[list[Row], RequestsSent]:
        """Return a row a job, and what was sent for them in this run and those before.

        Raises:
            BadInput: the address, the key or the model is wrong, or a cap is too low.
            OwloreError: the endpoint failed for good.
        """
        judge = self._judge
        log = journal.with_name(journal.name.replace(".journal.", ".requests."))
        with Journal(journal) as kept, Journal(log) as requests:
            recorded = {row["request_sha256"] for row in kept.rows}
            missing = [job for job in jobs if job.key not in recorded]
            ledger = Ledger(requests, judge)
            ask = open_endpoint(judge, ledger, {job.key: job.request for job in missing})
            _announce(judge, missing, len(jobs), ledger, ledger.resume(recorded))
            rows = play(
                jobs,
                lambda job: (ask(job.key), {}),
                kept,
                attempts=ATTEMPTS,
                concurrency=judge.concurrency,
                stop=ledger.stop,
            )
            return rows, RequestsSent(
                sent=ledger.sent,
                prompt_tokens=ledger.prompt_tokens,
                completion_tokens=ledger.completion_tokens,
                unreadable_asked_again=sum(row["attempts"] - 1 for row in rows),
                repeated_after_a_kill=ledger.repeated,
            )


def _announce(
    judge: EndpointJudge, missing: list[Wanted], total: int, ledger: Ledger, lost: int
) -> None:
    """Say what is going to be asked and what it may cost.

    Raises:
        BadInput: a cap of the judge is too low for it.
    """
    guesses = [estimated_tokens(job.request) for job in missing]
    prompts, replies = (sum(guess[place] for guess in guesses) for place in (0, 1))
    line(
        f"judge {judge.model}: {len(missing)} of {total} judgments to ask, estimate: "
        f"{len(missing):,} requests, {prompts:,} prompt tokens and at most {replies:,} tokens of "
        f"judgments; so far {ledger.sent:,} requests and {ledger.tokens:,} tokens"
        + (f"; {lost} requests of a killed run may be asked twice" if lost else "")
        + f"; max_requests {judge.max_requests or 'none'}, max_tokens {judge.max_tokens or 'none'}"
    )
    for cap, used, needed, what in (
        ("max_requests", ledger.sent, len(missing), "requests"),
        ("max_tokens", ledger.tokens, prompts, "tokens of prompts"),
    ):
        allowed = getattr(judge, cap)
        if allowed is not None and missing and used + needed > allowed:
            raise BadInput(
                f"judge.{cap}: {allowed}: the judgments that are missing need at least {needed} "
                f"{what}, and {used} are used already: raise it, or ask fewer questions"
            )


def grader_of(judge: Judge, base_model: Path | None, device: str) -> Grader:
    """Return what grades as `judge` says.

    Args:
        judge: who judges.
        base_model: checkpoint that `model: base` stands for.
        device: where a local judge runs.

    Raises:
        BadInput: `model: base` without a base model.
    """
    match judge:
        case LocalJudge():
            return LocalGrader(judge, base_model, device)
        case EndpointJudge():
            return EndpointGrader(judge)
