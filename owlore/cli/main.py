"""The command line: one command a stage, each usable without Snakemake.

Run as: `owlore COMMAND --help`, or `python -m owlore COMMAND`. Bad input ends with exit code 2 and
one line on stderr.
"""

import errno
import os
import sys
import time
from collections.abc import Sequence

from owlore.cli.command import parse
from owlore.cli.command_table import COMMANDS
from owlore.core import ranks
from owlore.core.errors import BadInput, OwloreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = parse(COMMANDS, sys.argv[1:] if arguments is None else list(arguments))
    command = options.command
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return command.function(options) or 0
    except OwloreError as error:
        if isinstance(error, BadInput) and not ranks.is_first():
            time.sleep(5)  # the first rank says it too, and torchrun stops us when it has ended
            return error.exit_code
        print(f"owlore {command.name}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno == errno.ENOSPC:
            print(f"owlore {command.name}: {error.filename}: the disk is full", file=sys.stderr)
            return 2
        raise


# Jobs run side by side: idle threads must not spin, and nothing may phone home.
QUIET = {
    "KINETO_LOG_LEVEL": "99",  # of torch's profiler: each start and stop
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # of the same: blocks freed that it has not seen allocated
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
