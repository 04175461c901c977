"""An OpenAI-compatible endpoint as judge: what is sent, what it may cost, what a kill may repeat.

The `openai` client waits and tries again after 408, 409, 429, 5xx, lost connections and timeouts,
as the server's Retry-After or exponential backoff say. Our part sits below it and sees every HTTP
request: each is written to a ledger on disk before it leaves and when its reply is there. The
ledger holds the caps, over all runs of one judged model, and tells a later run what was under way
when this one was killed. No key, prompt or reply is in it.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from owlore.core.errors import BadInput, OwloreError
from owlore.core.files import canonical_json, sha256_text
from owlore.core.journal import Journal
from owlore.study.judge import EndpointJudge, Judge

RETRIES = 10  # of one request: the client waits 0.5, 1, 2, 4, 8, 8 … seconds or as it is told to
CHARACTERS_A_TOKEN = 4  # rule of thumb for English, to guess before the endpoint counts
HEADER = "x-owlore-request"  # from the caller to the ledger; taken off before anything is sent
SENT, ANSWERED, REFUSED, RESUMED = "sent", "answered", "refused", "resumed"

Row = dict[str, Any]


def request_key(judge: Judge, request: Row, *which: Any) -> str:
    """Return the identity of a question to the judge: endpoint, model, words, and `which` it is."""
    return sha256_text(canonical_json([judge.address, judge.model, request, *which]))


def estimated_tokens(request: Row) -> tuple[int, int]:
    """Guess the prompt's tokens, and say how many the reply may have at most."""
    letters = sum(len(message["content"]) for message in request["messages"])
    return -(-letters // CHARACTERS_A_TOKEN), request["max_tokens"]


class Ledger:
    """The HTTP requests of one judged model to one judge, on disk, and the caps on them."""

    def __init__(self, journal: Journal, judge: EndpointJudge):
        """Take up where the journal ends."""
        self._journal, self._judge = journal, judge
        self._lock = threading.Lock()
        self.stopped: str | None = None  # why no further request may leave
        self._open: dict[str, int] = {}  # requests under way → the tokens that they may use
        self._last: dict[str, str] = {}  # request → its last event
        self._guessed = self._counted = 0  # tokens of this run's prompts
        self.sent = self.prompt_tokens = self.completion_tokens = self.repeated = 0
        for row in journal.rows:
            self._count(row)

    @property
    def tokens(self) -> int:
        """Tokens of all replies so far."""
        return self.prompt_tokens + self.completion_tokens

    def resume(self, recorded: set[str]) -> int:
        """Note and return how many requests a killed run may have paid for without a record.

        Those are the requests that were under way, or whose reply had come but was not stored: at
        most as many as run at a time. They are asked again.
        """
        lost = [
            key
            for key, event in self._last.items()
            if event in (SENT, ANSWERED) and key not in recorded
        ]
        if lost:
            self._append({"event": RESUMED, "repeated": len(lost), "requests": lost})
        return len(lost)

    def start(self, key: str, guess: tuple[int, int]) -> str | None:
        """Write down that a request is about to leave; or say why it must not.

        `guess` is that of `estimated_tokens`; what replies have shown of it is put right.
        """
        with self._lock:
            longer = max(1.0, self._counted / self._guessed) if self._guessed else 1.0
            tokens = math.ceil(longer * guess[0]) + guess[1]
            reserved = sum(self._open.values()) + tokens
            most, most_tokens = self._judge.max_requests, self._judge.max_tokens
            if most is not None and self.sent >= most:
                self.stop(f"max_requests: {most}: that many were sent")
            elif most_tokens is not None and self.tokens + reserved > most_tokens:
                self.stop(
                    f"max_tokens: {most_tokens}: {self.tokens} are used, and the next judgments "
                    f"may need {reserved}"
                )
            if self.stopped is not None:
                return self.stopped
            self._open[key] = tokens
            self._append({"event": SENT, "request": key, "time": time.time()})
            return None

    def end(self, key: str, status: int | str, guess: int, usage: tuple[int, int]) -> None:
        """Write down how a request ended; a status other than 200 carries no judgment.

        `guess` is that of the prompt's tokens, `usage` the endpoint's count of prompt and reply.
        """
        with self._lock:
            del self._open[key]
            if status == 200:
                self._guessed += guess
                self._counted += usage[0]
            event = ANSWERED if status == 200 else REFUSED
            prompt, completion = usage
            row = {"event": event, "request": key, "time": time.time(), "status": status}
            self._append(row | {"prompt_tokens": prompt, "completion_tokens": completion})

    def stop(self, reason: str) -> None:
        """Let no further request leave."""
        self.stopped = self.stopped or reason

    def _append(self, row: Row) -> None:
        self._count(row)
        self._journal.append(row)

    def _count(self, row: Row) -> None:
        if row["event"] == RESUMED:
            self.repeated += row["repeated"]
            for key in row["requests"]:
                self._last[key] = RESUMED
            return
        self._last[row["request"]] = row["event"]
        self.sent += row["event"] == SENT
        self.prompt_tokens += row.get("prompt_tokens", 0)
        self.completion_tokens += row.get("completion_tokens", 0)


class _Client(openai.DefaultHttpxClient):
    """The client's HTTP, each request passing the ledger; a body that is no JSON is a 502."""

    def __init__(self, ledger: Ledger, tokens: Mapping[str, tuple[int, int]], timeout: float):
        super().__init__(timeout=timeout)
        self._ledger, self._tokens = ledger, tokens

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        key = request.headers.pop(HEADER)
        guess = self._tokens[key]
        reason = self._ledger.start(key, guess)
        if reason is not None:
            said = {"error": {"message": reason}}
            return httpx2.Response(400, json=said, headers={"x-should-retry": "false"},
                                   request=request)  # fmt: skip
        status: int | str = "no reply"
        usage = (0, 0)
        try:
            response = super().send(request, **options)
            status = response.status_code
            if status == 200:
                try:
                    usage = _usage(response.json(), guess[0])
                except (ValueError, TypeError):
                    status = "not JSON"
                    said = {"error": {"message": "the reply is not JSON"}}
                    return httpx2.Response(502, json=said, request=request)
            return response
        finally:
            self._ledger.end(key, status, guess[0], usage)


def _usage(reply: Any, guess: int) -> tuple[int, int]:
    """Tokens of prompt and judgment as the endpoint counts them, or guessed if it does not."""
    if not isinstance(reply, dict):
        raise ValueError("no JSON object")
    usage = reply.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    text = str(reply.get("choices") or "")
    completion = counts.get("completion_tokens") or -(-len(text) // CHARACTERS_A_TOKEN)
    return int(counts.get("prompt_tokens") or guess), int(completion)


def open_endpoint(
    judge: EndpointJudge, ledger: Ledger, requests: Mapping[str, Row]
) -> Callable[[str], str]:
    """Return what asks the judge one of `requests` by its key and gives the judgment's text.

    It raises BadInput for what the user can repair (the key, the model's name, a cap) and
    OwloreError if the endpoint failed for good. The API key is in no message.

    Raises:
        BadInput: the address is not one, or the key is not set.
    """
    address = urlsplit(judge.base_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise BadInput(f"judge.base_url: {judge.base_url}: allowed: http://… or https://…")
    secret = "none"  # given in any case, or the client would send OPENAI_API_KEY to any endpoint
    if judge.api_key_env is not None:
        secret = os.environ.get(judge.api_key_env, "").strip()
        if not secret:
            raise BadInput(f"judge.api_key_env: the variable {judge.api_key_env} is not set")
    tokens = {key: estimated_tokens(request) for key, request in requests.items()}
    client = openai.OpenAI(
        base_url=judge.base_url,
        api_key=secret,
        max_retries=RETRIES,
        timeout=judge.timeout_s,
        http_client=_Client(ledger, tokens, judge.timeout_s),
    )

    def ask(key: str) -> str:
        try:
            reply = client.chat.completions.create(
                model=judge.model, n=1, extra_headers={HEADER: key}, **requests[key]
            )
        except openai.OpenAIError as error:
            if ledger.stopped is not None:
                raise BadInput(
                    f"judge.{ledger.stopped}; the judgments so far are kept: raise it and run again"
                ) from None
            status = getattr(error, "status_code", 500)
            final = 400 <= status < 500 and status not in (408, 409, 429)
            message = " ".join(str(error).replace(secret, "***").split())[:300]
            raise (BadInput if final else OwloreError)(
                f"judge: {judge.model}: {message} (judgments so far are kept, run it again)"
            ) from None  # the cause may hold the request's headers
        choices = getattr(reply, "choices", None)
        if choices is None:
            raise BadInput(f"judge.base_url: {address.hostname}: no chat completion came back")
        text = (choices[0].message.content or "") if choices else ""
        return text.encode("utf-8", "replace").decode("utf-8")

    return ask
