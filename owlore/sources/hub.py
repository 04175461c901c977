"""The Hugging Face hub: data sets and files at a pinned commit, and one line for what goes wrong.

HF_ENDPOINT (a mirror), HF_TOKEN (gated repositories), HF_HOME (the cache) and HF_HUB_OFFLINE are
huggingface_hub's variables and hold here; the token goes nowhere but into its requests.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from owlore.core.errors import BadInput

ERRORS = (OSError, ValueError, DatasetsError)  # what reading from the hub raises


def load_rows(path: str, name: str | None, split: str, revision: str) -> list[dict[str, Any]]:
    """Read a split of a data set at a commit. Raises what `explained` explains."""
    dataset = datasets.load_dataset(path, name, split=split, revision=revision)
    require_commit(dataset, revision)
    rows: list[dict[str, Any]] = dataset.to_list()
    return rows


def download(path: str, file: str, revision: str) -> Path:
    """Return a data set's file at a commit, cached. Raises what `explained` explains."""
    try:
        found = huggingface_hub.hf_hub_download(path, file, repo_type="dataset", revision=revision)
    except RemoteEntryNotFoundError:
        raise ValueError(f"it has no file {file} at {revision}") from None
    return Path(found)


@contextmanager
def explained(where: str, repository: str, revision: str | None) -> Iterator[None]:
    """Turn what goes wrong while a repository is read into a line that begins with `where`.

    Raises:
        BadInput: the block raised one of ERRORS.
    """
    try:
        yield
    except ERRORS as error:
        raise BadInput(f"{where}: {_reason(error, repository, revision)}") from None


def require_commit(dataset: datasets.Dataset, revision: str) -> None:
    """Refuse a data set that was read at another commit than the pinned one.

    When the hub gives nothing, `datasets` takes the newest copy in its cache, whatever its commit.

    Raises:
        ValueError: it was.
    """
    found = commit(dataset)
    if found != revision:
        raise ValueError(
            f"commit {revision} is wanted, {_endpoint()} did not give it, and the newest in the "
            f"cache is {found or 'unknown'}"
        )


def commit(dataset: datasets.Dataset) -> str | None:
    """Return the commit that a data set was read at; None if its cache does not tell."""
    # <cache>/<data set>/<configuration>/<version>/<commit>/<file>.arrow
    folders = {Path(file["filename"]).parent.name for file in dataset.cache_files}
    name = folders.pop() if len(folders) == 1 else ""
    return name if re.fullmatch("[0-9a-f]{40}", name) else None


def _reason(error: Exception, repository: str, revision: str | None) -> str:
    chain = list(_chain(error))

    def met(*kinds: type[Exception], text: str | None = None) -> bool:
        # `datasets` drops the exceptions of huggingface_hub, but keeps to its own words.
        return any(isinstance(e, kinds) or (text and text in str(e)) for e in chain)

    if met(GatedRepoError, text="is a gated dataset"):
        if huggingface_hub.get_token() is None:
            return f"{repository} is gated: set HF_TOKEN to a token that has access to it"
        return f"{repository} is gated, and the token in HF_TOKEN has no access to it"
    if met(RevisionNotFoundError, text="Revision '"):
        return f"{repository} has no commit {revision} on {_endpoint()}"
    if met(RepositoryNotFoundError, text="doesn't exist on the Hub"):
        return f"{repository} is not on {_endpoint()}, or it is private and HF_TOKEN has no access"
    if met(OfflineModeIsEnabled, LocalEntryNotFoundError, text="Couldn't reach"):
        return f"{_endpoint()} cannot be reached, and the cache does not have {repository}"
    return f"{repository}: {str(error).strip().splitlines()[0][:300]}"


def _endpoint() -> str:
    return str(huggingface_hub.constants.ENDPOINT)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
