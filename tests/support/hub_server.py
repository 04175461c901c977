"""A small Hugging Face hub on loopback: real HTTP, made-up repositories, every request recorded.

    with Hub(repositories) as hub:
        subprocess.run([...], env={**os.environ, **hub.environment(tmp_path)})
        hub.requests

It answers what huggingface_hub, datasets and transformers ask when they read: repository facts,
trees, paths-info, and files by commit. The clients are the real ones.
"""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]

API = re.compile(
    r"/api/(?P<kind>datasets|models)/(?P<name>[^/]+/[^/]+)"
    r"(/(?P<what>revision|tree|paths-info)/(?P<revision>[^/]+)(/(?P<path>.+))?)?"
)
RESOLVE = re.compile(
    r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
)


def commit_of(label: str) -> str:
    """A commit's made-up name: 40 hex digits."""
    return hashlib.sha1(label.encode()).hexdigest()


@dataclass
class Repository:
    """A repository; `commits` maps a commit to its files, the newest last (it is main)."""

    name: str  # datasets/owner/name or models/owner/name
    commits: dict[str, Files]
    token: str | None = None  # demanded for its files, as for a gated repository


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # with the query
    repository: str
    revision: str | None
    file: str | None
    authorization: str | None
    status: int


@dataclass
class Hub:
    """The server; use it as a context manager."""

    repositories: list[Repository]
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> "Hub":
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Variables that send the real clients here; their caches lie below `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": token or "",  # an empty one counts as none
            "NO_PROXY": "127.0.0.1",
        }


class _Handler(BaseHTTPRequestHandler):
    owner: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Stay silent: `requests` is the log."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        status, headers, content = self._find(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _find(self, body: str) -> tuple[int, dict[str, str], bytes]:
        path = unquote(urlsplit(self.path).path)
        match = API.fullmatch(path) or RESOLVE.fullmatch(path)
        part = match.groupdict() if match else {}
        kind = (part.get("kind") or "models").rstrip("/")
        name = f"{kind}/{part.get('name')}"
        repository = next((r for r in self.owner.repositories if r.name == name), None)
        revision = part.get("revision")
        if match is None or repository is None:
            reply = _refusal(404, "RepoNotFound", "Repository not found")
        else:
            reply = self._of_repository(repository, part, body)
        self.owner.requests.append(
            Request(
                self.command,
                self.path,
                name,
                revision,
                part.get("path"),
                self.headers.get("Authorization"),
                reply[0],
            )
        )
        return reply

    def _of_repository(
        self, repository: Repository, part: dict[str, str | None], body: str
    ) -> tuple[int, dict[str, str], bytes]:
        newest = list(repository.commits)[-1]
        commit = part["revision"] if part["revision"] not in (None, "main") else newest
        assert commit is not None
        files = repository.commits.get(commit)
        if files is None:
            return _refusal(404, "RevisionNotFound", f"Invalid rev id: {commit}")
        if "what" not in part:
            return self._file(repository, commit, files, str(part["path"]))
        if part["what"] == "tree":
            folder = f"{part['path']}/" if part["path"] else ""
            found = {path: data for path, data in files.items() if path.startswith(folder)}
            if folder and not found:
                return _refusal(404, "EntryNotFound", f"{folder} does not exist on {commit}")
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0]
            return _json(_tree(found, folder, recursive.lower() in ("true", "1")))
        if part["what"] == "paths-info":
            asked = json.loads(body) if body.startswith("{") else parse_qs(body)
            return _json(
                [_entry(path, data) for path, data in files.items() if path in asked["paths"]]
            )
        owner_and_name = repository.name.partition("/")[2]
        return _json(
            {
                "id": owner_and_name,
                "sha": commit,
                "private": False,
                "gated": "manual" if repository.token else False,
                "siblings": [{"rfilename": path} for path in files],
                "tags": [],
                "downloads": 0,
            }
        )

    def _file(
        self, repository: Repository, commit: str, files: Files, path: str
    ) -> tuple[int, dict[str, str], bytes]:
        if repository.token is not None:
            given = self.headers.get("Authorization")
            if given != f"Bearer {repository.token}":
                what = f"Access to {repository.name} is restricted"
                return _refusal(401 if given is None else 403, "GatedRepo", what)
        if path not in files:
            return _refusal(404, "EntryNotFound", f"{path} does not exist on {commit}")
        headers = {"ETag": f'"{_oid(files[path])}"', "X-Repo-Commit": commit}
        return 200, {**headers, "Content-Type": "application/octet-stream"}, files[path]


def _refusal(status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    return status, headers, json.dumps({"error": message}).encode()


def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # git's


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(data), "oid": _oid(data)}


def _tree(files: Files, folder: str, recursive: bool) -> list[dict[str, Any]]:
    entries = {}
    for path, data in files.items():
        parts = path.removeprefix(folder).split("/")
        for depth in range(1, len(parts)):
            parent = folder + "/".join(parts[:depth])
            if recursive or depth == 1:
                oid = _oid(parent.encode())
                entries[parent] = {"type": "directory", "path": parent, "size": 0, "oid": oid}
        if recursive or len(parts) == 1:
            entries[path] = _entry(path, data)
    return list(entries.values())
