"""Asking a judge, whatever its kind: each judgment is on disk before the next is asked."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from owlore.core.journal import Journal
from owlore.core.progress import Progress
from owlore.mtbench import protocol as fastchat
from owlore.mtbench.ratings import FAILED

Row = dict[str, Any]


@dataclass
class Wanted:
    """One judgment to be made; `attempts` counts the replies without a readable rating."""

    match: Any
    judging: int
    request: Row  # what fastchat.request returns
    key: str
    attempts: int = 0


Ask = Callable[[Wanted], tuple[str, Row]]  # judgment, more columns


def play(
    jobs: list[Wanted],
    ask: Ask,
    journal: Journal,
    *,
    attempts: int,
    concurrency: int = 1,
    stop: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Make the judgments that the journal does not hold, storing each as it comes."""
    rows = {row["request_sha256"]: row for row in journal.rows}
    missing = deque(job for job in jobs if job.key not in rows)
    done = len(jobs) - len(missing)
    replies = _replies(missing, ask, concurrency, stop)
    with (
        Progress(total=len(jobs), initial=done, desc="judge", unit="match") as bar,
        contextlib.closing(replies),
    ):
        for job, text, columns in replies:
            row = fastchat.row(job.match, text)
            job.attempts += 1
            if row["score"] == FAILED and job.attempts < attempts:
                missing.appendleft(job)
                continue
            row |= {"judging": job.judging, "attempts": job.attempts, "request_sha256": job.key}
            journal.append(row | columns)
            rows[job.key] = row | columns
            bar.update()
    return [rows[job.key] for job in jobs]


def _replies(
    jobs: deque[Wanted], ask: Ask, concurrency: int, stop: Callable[[str], None]
) -> Generator[tuple[Wanted, str, Row]]:
    """Ask `jobs`, which may grow meanwhile; yield each with its reply, in the order of arrival.

    After an error nothing more is asked; replies under way are still yielded, then it is raised.
    """
    if concurrency == 1:
        while jobs:
            job = jobs.popleft()
            yield job, *ask(job)
        return
    broken: BaseException | None = None
    running: dict[Future[tuple[str, Row]], Wanted] = {}
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            while running or (jobs and broken is None):
                while jobs and broken is None and len(running) < concurrency:
                    job = jobs.popleft()
                    running[pool.submit(ask, job)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job, error = running.pop(future), future.exception()
                    if error is None:
                        yield job, *future.result()
                    elif broken is None:
                        broken = error
                        stop("stopped after an error")
        finally:
            stop("stopped")  # no retry may leave any more
    if broken is not None:
        raise broken
