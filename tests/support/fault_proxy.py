"""A proxy before a chat-completions server that misbehaves as real endpoints do, seeded.

It stands on loopback, passes requests on to the real server, and now and then answers in its own
way. What it did is in `done`; every request body that arrived is in `asked`.
"""

import contextlib
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("429", "500", "hang", "cut", "malformed", "[[11]]", "7/10", "none")
RATINGS = {"[[11]]": "Rating: [[11]]", "7/10": "I give it 7/10.", "none": "A fine answer."}


class FaultProxy:
    """`with FaultProxy(port, seed=0) as proxy:` then ask `proxy.base_url`.

    Args:
        port: of the real server on 127.0.0.1.
        seed: decides which requests go wrong, and how.
        rate: share of requests at which a fault begins (429s come in bursts of three).
        faults: which of `FAULTS` may happen.
        hang_s: how long a hanging request hangs; choose it longer than the client's time limit.
    """

    def __init__(
        self,
        port: int,
        seed: int = 0,
        rate: float = 0.15,
        faults: Sequence[str] = FAULTS,
        hang_s: float = 2.0,
    ):
        self.done: Counter[str] = Counter()
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.hold = threading.Event()  # cleared: replies wait, so that a test can kill meanwhile
        self.hold.set()
        self._target = f"http://127.0.0.1:{port}"
        self._chance, self._rate, self._faults = random.Random(seed), rate, list(faults)
        self._deck: list[str] = []
        self._hang_s, self._burst, self._lock = hang_s, 0, threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()

    def _draw(self) -> str:
        """What happens to the next request: "pass", or a fault."""
        with self._lock:
            if self._burst:
                self._burst -= 1
                return "429"
            if not self._faults or self._chance.random() >= self._rate:
                return "pass"
            if not self._deck:  # every fault has its turn
                self._deck = self._chance.sample(self._faults, len(self._faults))
            fault = self._deck.pop()
            if fault == "429":
                self._burst = 2
            return fault

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                what = proxy._draw()
                with proxy._lock:
                    proxy.done[what] += 1
                    proxy.asked.append(json.loads(body))
                    proxy.keys.add(self.headers["Authorization"])
                with contextlib.suppress(OSError):  # the client may have gone
                    self.reply(what, body)

            def reply(self, what: str, body: bytes) -> None:
                if what == "hang":
                    time.sleep(proxy._hang_s)
                elif what == "cut":
                    self.close_connection = True
                    self.connection.close()
                elif what in ("429", "500"):
                    self.send(int(what), b'{"error": {"message": "busy"}}')
                else:
                    status, raw = proxy.forward(self.path, body)
                    proxy.hold.wait()
                    if status != 200:
                        return self.send(status, raw)
                    if what == "malformed":
                        raw = raw[: len(raw) // 2]
                    elif what in RATINGS:
                        reply = json.loads(raw)
                        reply["choices"][0]["message"]["content"] = RATINGS[what]
                        raw = json.dumps(reply).encode()
                    self.send(200, raw)

            def send(self, status: int, raw: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                if status == 429:
                    self.send_header("Retry-After", "0.05")
                if status == 500:
                    self.send_header("retry-after-ms", "20")
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def forward(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Ask the real server; return the status and the body."""
        request = urllib.request.Request(
            self._target + path, body, {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
