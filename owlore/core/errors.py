"""The one tree of exceptions: what a user can repair, and what stops a run."""


class OwloreError(Exception):
    """Anything this package raises on purpose; the command line prints it as one line."""

    exit_code = 1


class BadInput(OwloreError):
    """The user can repair it: the message names the key, the value and what is allowed."""

    exit_code = 2


class TrainingStopped(OwloreError):
    """Training met a state it must not go on from, such as a non-finite loss."""
