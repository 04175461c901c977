"""What a person sees while a job runs: a bar with ETA in the log, a line now and then outside.

Jobs write bars to stderr, which the workflow sends to the job's log, and short lines to stdout,
which it leaves on the terminal.
"""

import sys
import time
from typing import Any

from tqdm import tqdm

from owlore.core import ranks

QUIET_SECONDS = 20.0  # a line on stdout at most this often


class Progress(tqdm):  # type: ignore[type-arg]
    """A tqdm bar that also says where it stands on stdout, for those who do not read the log."""

    def __init__(self, *args: Any, **kwargs: Any):
        """Take tqdm's arguments."""
        kwargs.setdefault("mininterval", 0.1 if sys.stderr.isatty() else 5.0)
        kwargs.setdefault("disable", not ranks.is_first())
        self._said = time.monotonic()
        super().__init__(*args, **kwargs)

    def update(self, n: float | None = 1) -> bool | None:
        """Count `n` more done."""
        shown: bool | None = super().update(n)
        if self.disable:
            return shown
        now = time.monotonic()
        if self.total and self.n < self.total and now - self._said > QUIET_SECONDS:
            self._said = now
            rate = self.format_dict["rate"] or self.n / max(self.format_dict["elapsed"], 1e-9)
            left = tqdm.format_interval((self.total - self.n) / rate) if rate else "?"
            line(f"{self.desc}: {100 * self.n / self.total:.0f} %, {left} left")
        return shown


def line(text: str) -> None:
    """Say one line on stdout at once; of several ranks the first one does."""
    if ranks.is_first():
        print(text, flush=True)
