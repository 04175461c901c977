"""What `owlore run` makes again, and why: told before Snakemake starts.

Results are judged by their own proofs (`owlore.compare.state`), whatever Snakemake remembers: those
that do not fit are forced, those that fit are left alone.
"""

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from owlore.cli import live
from owlore.compare import state
from owlore.core.errors import BadInput
from owlore.records.proof import AGAIN
from owlore.study.config import Study, load_study

FORCING = {"-f", "--force", "-F", "--forceall", "-R", "--forcerun"}


def prepare(arguments: Sequence[str], directory: Path) -> list[str]:
    """Say why each stage runs, and return what Snakemake has to be told besides.

    Where the arguments force something themselves, or name no study that can be read, nothing is
    added: Snakemake will say what is wrong.

    Args:
        arguments: Snakemake's.
        directory: that it will work in.
    """
    study = _study(list(arguments), directory)
    if study is None or any(word.split("=")[0] in FORCING for word in arguments):
        return []
    with chdir(directory):
        results = state.of(study, Path("results") / study.study, Path("resources"))
        state.settle(results)
    for text in [*state.told(results), *state.to_make(results)]:
        print(text, flush=True)
    os.environ.setdefault(AGAIN, "0")
    again = [str(result.path) for result in state.unfit(results)]
    return ["--forcerun", *again] if again else []


def _study(arguments: list[str], directory: Path) -> Study | None:
    given = live.settings(arguments)
    if given is None or given.config or len(given.configfile) > 1:
        return None
    if given.profile and not given.configfile:  # it may name a file that we do not look for
        return None
    file = Path(given.configfile[0]) if given.configfile else directory / "config.yaml"
    try:
        return load_study(file)
    except BadInput:
        return None


def refuse_what_would_stay(workflow: Any, study: Study) -> None:
    """Stop where results of a run's targets prove something else and are not made again.

    Args:
        workflow: Snakemake's, its jobs planned.
        study: the study that it runs.

    Raises:
        BadInput: there are such results; they are told.
    """
    wanted, planned = (
        {str(file) for job in jobs for file in job.output}
        for jobs in (workflow.dag.jobs, workflow.dag.needrun_jobs())
    )
    results = state.of(study, Path("results") / study.study, Path("resources"))
    state.refuse((result for result in results if str(result.path) in wanted), planned)


def watch(workflow: Any, study: Study) -> None:
    """Do the same where Snakemake finds nothing to be done: it calls no handler then.

    Our look comes as the process ends, and ends it with exit code 1.
    """

    def look() -> None:
        executing = workflow.executor_plugin is not None and not workflow.dryrun
        if workflow.exec_mode.value != 0 or not executing or workflow.dag is None:
            return
        if any(True for _ in workflow.dag.needrun_jobs(exclude_finished=False)):
            return  # looked at as the run began
        try:
            refuse_what_would_stay(workflow, study)
        except BadInput as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)  # as Snakemake does when a handler fails

    atexit.register(look)
