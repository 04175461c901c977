"""Downloads from a real package index on the loopback interface."""

import collections
import contextlib
import hashlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.archives import write_sdist, write_wheel

from owlore.core.errors import BadInput, OwloreError
from owlore.sources import assets
from owlore.sources.assets import checked, fetch, open_member, open_members
from owlore.study.config import Archive

NAME = "thing-1.0-py3-none-any.whl"
CONTENT = random.Random(0).randbytes(3 << 20)  # many chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ARCHIVE = Archive(filename=NAME, sha256=SHA256)


class Index(ThreadingHTTPServer):
    """A package index with one project and one file, and the ways in which it may misbehave."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/simple"
        self.content = CONTENT
        self.digest = f"#sha256={SHA256}"
        self.files = [NAME]
        self.ranges = True  # answers Range requests
        self.breaks = 0  # so many downloads stop half-way
        self.statuses = []  # answered first, before anything else
        self.page_type = "text/html"
        self.pause = 0.0
        self.log = []  # (path, first byte asked for, bytes sent)

    def handle_error(self, *_):
        pass  # the client went away, as it should when the disk is full


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        index = self.server
        if index.statuses:
            index.log.append((self.path, 0, 0))
            self.send_error(index.statuses.pop(0))
        elif self.path == "/simple/thing/":
            links = "".join(f'<a href="/f/{name}{index.digest}">{name}</a>' for name in index.files)
            self.answer(200, links.encode(), {"Content-Type": index.page_type})
        elif self.path == f"/f/{NAME}":
            self.send_file()
        else:
            self.send_error(404)

    def send_file(self):
        index = self.server
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and index.ranges else 0
        size = len(index.content)
        if start >= size:
            self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        self.answer(206 if start else 200, index.content[start:], headers)

    def answer(self, status, body, headers):
        index = self.server
        half = index.breaks > 0 and self.path.startswith("/f/")
        index.breaks -= half
        time.sleep(index.pause)
        sent = body[: len(body) // 2] if half else body
        index.log.append((self.path, self.headers.get("Range"), len(sent)))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)
        self.close_connection = True


@pytest.fixture
def index(monkeypatch):
    server = Index()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(assets, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(assets, "PYPI_SIMPLE_ENDPOINT", "http://127.0.0.1:9/simple")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def downloads(index):
    return [(start, sent) for path, start, sent in index.log if path.startswith("/f/")]


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_is_downloaded_checked_and_then_kept(index, tmp_path):
    folder = tmp_path / "new" / "folder"
    path = fetch("thing", ARCHIVE, folder)
    assert path == folder / NAME
    assert path.read_bytes() == CONTENT
    assert visible(folder) == [NAME]
    before = list(index.log)
    assert fetch("thing", ARCHIVE, folder) == path
    assert index.log == before  # no request at all


def test_a_file_that_is_there_needs_neither_network_nor_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "_download", lambda *_: pytest.fail("asked the index"))
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch("thing", ARCHIVE, tmp_path) == tmp_path / NAME
    assert [path.name for path in tmp_path.iterdir()] == [NAME]  # not even a lock file


def test_a_download_goes_on_where_it_stopped(index, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1000])
    assert fetch("thing", ARCHIVE, tmp_path).read_bytes() == CONTENT
    assert downloads(index) == [("bytes=1000-", len(CONTENT) - 1000)]


def test_a_server_that_cannot_resume_sends_everything_again(index, tmp_path):
    index.ranges = False
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 1000)
    assert fetch("thing", ARCHIVE, tmp_path).read_bytes() == CONTENT
    assert downloads(index) == [("bytes=1000-", len(CONTENT))]


def test_a_broken_connection_is_resumed(index, tmp_path):
    index.breaks = 2
    assert fetch("thing", ARCHIVE, tmp_path).read_bytes() == CONTENT
    sent = [sent for _, sent in downloads(index)]
    assert len(sent) == 3
    assert sum(sent) == len(CONTENT)  # nothing was sent twice


def test_a_whole_partial_file_is_not_sent_again(index, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    assert fetch("thing", ARCHIVE, tmp_path).read_bytes() == CONTENT
    assert downloads(index) == [(f"bytes={len(CONTENT)}-", 0)]


def test_a_partial_file_longer_than_the_file_is_replaced(index, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT + b"x")
    assert fetch("thing", ARCHIVE, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(index, tmp_path, status):
    index.statuses = [status, status]
    assert fetch("thing", ARCHIVE, tmp_path).read_bytes() == CONTENT


def test_a_download_with_another_hash_is_deleted(index, tmp_path):
    index.digest = ""
    index.content = CONTENT[:-1] + b"x"
    found = hashlib.sha256(index.content).hexdigest()
    with pytest.raises(BadInput, match=rf"thing.*{SHA256}.*{found}"):
        fetch("thing", ARCHIVE, tmp_path)
    assert visible(tmp_path) == []


def test_a_hash_that_the_index_contradicts_is_refused_before_the_download(index, tmp_path):
    index.digest = "#sha256=" + "0" * 64
    with pytest.raises(BadInput, match=f"expected sha256 {SHA256}.*{'0' * 64}"):
        fetch("thing", ARCHIVE, tmp_path)
    assert downloads(index) == []


def test_a_file_that_is_there_with_another_hash_is_kept_and_named(index, tmp_path):
    (tmp_path / NAME).write_bytes(b"mine")
    with pytest.raises(BadInput, match=f"{NAME}.*expected sha256 {SHA256}.*delete the file"):
        fetch("thing", ARCHIVE, tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"mine"
    assert index.log == []


def test_a_project_or_file_that_the_index_does_not_have_is_named(index, tmp_path):
    with pytest.raises(BadInput, match=r"archives\.nothing: no such project.*by hand"):
        fetch("nothing", ARCHIVE, tmp_path)
    index.files = ["thing-2.0-py3-none-any.whl"]
    with pytest.raises(BadInput, match=rf"{NAME}: .*1 files.*not this one; .*{tmp_path} by hand"):
        fetch("thing", ARCHIVE, tmp_path)
    assert visible(tmp_path) == []


@pytest.mark.parametrize("reason", ["closed", "HTTP 403", "HTTP 503", "no index"])
def test_an_index_that_does_not_work_is_one_line_without_the_password(
    index, tmp_path, monkeypatch, reason
):
    url = index.url.replace("http://", "http://me:secret@")
    if reason == "closed":
        url = url.replace(str(index.server_port), "9")
    elif reason == "no index":
        index.page_type = "application/pdf"
    else:
        index.statuses = [int(reason[-3:])] * 9
    monkeypatch.setenv("PIP_INDEX_URL", url)
    with pytest.raises(OwloreError, match="by hand") as caught:
        fetch("thing", ARCHIVE, tmp_path)
    message = str(caught.value)
    assert not isinstance(caught.value, BadInput)
    assert "\n" not in message
    assert "secret" not in message
    assert "127.0.0.1" not in message
    if reason.startswith("HTTP"):
        assert reason in message
    assert caught.value.__suppress_context__
    assert len(index.log) == {"HTTP 403": 1, "HTTP 503": 4}.get(reason, len(index.log))


def test_an_index_url_that_is_no_web_address_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "file:///srv/simple")
    with pytest.raises(BadInput, match="index-url: only http and https"):
        fetch("thing", ARCHIVE, tmp_path)


def test_a_full_disk_is_noticed_before_writing(index, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    with pytest.raises(BadInput, match="free on disk"):
        fetch("thing", ARCHIVE, tmp_path)
    assert visible(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(index, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match=f"cannot store {NAME}"):
        fetch("thing", ARCHIVE, tmp_path / "file" / "folder")


def test_two_processes_share_one_download(index, tmp_path):
    index.pause = 0.5
    code = (
        "import sys; from pathlib import Path; from owlore.sources.assets import fetch; "
        "from owlore.study.config import Archive; "
        "fetch('thing', Archive(filename=sys.argv[1], sha256=sys.argv[2]), Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, NAME, SHA256, str(tmp_path)]
    root = Path(__file__).parents[2]
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE))
            for _ in range(2)
        ]
        errors = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert len(downloads(index)) == 1


def test_pips_own_files_name_the_index_if_the_environment_does_not(index, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_INDEX_URL")
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {index.url}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assets._pip_output.cache_clear()
    try:
        assert fetch("thing", ARCHIVE, tmp_path / "folder").read_bytes() == CONTENT
    finally:
        assets._pip_output.cache_clear()


# --- members


def test_members_are_read_without_unpacking(tmp_path):
    wheel = write_wheel(tmp_path, "a-1-py3-none-any.whl", {"a/x.txt": "one", "a/y.txt": "two"})
    assert open_member(wheel, "a/y.txt") == b"two"
    sdist = write_sdist(tmp_path, {"a/x.txt": "one", "b/a/x.txt": "deeper"}, "a-1.tar.gz")
    assert open_members(sdist, ["b/a/x.txt", "a/x.txt"]) == {
        "b/a/x.txt": b"deeper",
        "a/x.txt": b"one",
    }
    assert open_member(sdist, "a-1/a/x.txt") == b"one"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a-1-py3-none-any.whl",
        "a-1.tar.gz",
    ]


def test_a_missing_member_or_archive_is_named(tmp_path):
    wheel = write_wheel(tmp_path, "a-1-py3-none-any.whl", {"a/x.txt": "one"})
    sdist = write_sdist(tmp_path, {"a/x.txt": "one"}, "a-1.tar.gz")
    for archive in (wheel, sdist):
        with pytest.raises(BadInput, match=rf"{archive.name}: has no member a/z\.txt"):
            open_member(archive, "a/z.txt")
        archive.write_bytes(archive.read_bytes()[:40])
        with pytest.raises(BadInput, match="not a readable archive"):
            open_member(archive, "a/x.txt")
        archive.unlink()
        with pytest.raises(BadInput, match="no such file"):
            open_member(archive, "a/x.txt")
        with pytest.raises(BadInput, match="no such file; `owlore assets` downloads it"):
            checked(archive, Archive(filename=archive.name, sha256=SHA256))
