"""A server that answers chat completions by OpenAI's protocol: asked with patience, within its limits.

The key comes from an environment variable, goes into one header, and appears nowhere else: what a server says is
searched for it first. A redirect is not followed, since it would carry the key to another host.
"""

import email.utils
import json
import math
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from kellet.errors import InputError, KelletError
from kellet.evaluation.reply_cache import Reply
from kellet.mask import HIDDEN, masked

PATH = "/chat/completions"
KEY = "KELLET_JUDGE_KEY"
"""The environment variable of the key, unless another is named. Not OPENAI_API_KEY: a key goes to the server that it
was meant for, and no other."""
BUSY = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""Answers after which the same request may succeed."""
FIRST_TRIES = 3
"""Tries where nobody listens at the address and nobody has answered before: it is probably mistyped."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries, where the server does not say how long to wait."""
PATIENCE = 600.0
"""Seconds that a server may ask to wait (Retry-After); one that asks for more is asked again by the user."""
LONGEST_ANSWER = 8 << 20
"""Bytes."""
QUOTED = 300
"""Characters of a server's answer that an error quotes."""
LOCAL = ("localhost", "127.0.0.1", "::1")


class RefusedRequest(InputError):
    """The server refuses this request and may take others: too long for the model, or its filter of content."""


class Stopped(KelletError):
    """The judging ends; this request was not made again."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow none: the answer stays the redirect, which is told as an error."""


class ChatEndpoint:
    """Asks one server. Safe for several threads, which wait together where the server is busy."""

    def __init__(self, url: str, key_variable: str | None = None, timeout: float = 120.0, tries: int = 6) -> None:
        """``timeout``: seconds for one request as a whole; ``tries``: how often one is made where the server is busy.

        Raises InputError for a URL that is none or holds credentials, and for a key that is missing or cannot be sent.
        """
        self.url, self.timeout, self.tries = _completions(url), timeout, tries
        self.variable = key_variable or KEY
        self._key = _key_of(key_variable)
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._not_before, self._answered = 0.0, False

    @property
    def in_the_clear(self) -> bool:
        """Whether the key would go over the network unencrypted."""
        parts = urlsplit(self.url)
        return bool(self._key) and parts.scheme == "http" and parts.hostname not in LOCAL

    def stop(self) -> None:
        """Let no thread wait or try again."""
        self._stop.set()

    def ask(self, body: Mapping[str, Any]) -> Reply:
        """The reply to a request.

        Raises RefusedRequest where the server refuses this one, InputError where it refuses all (key, model, address)
        or is no such server, KelletError where it does not answer or stays busy, Stopped after :meth:`stop`.
        """
        for tried in range(1, self.tries + 1):
            self._wait()
            pause, last = min(2.0 ** (tried - 1), LONGEST_PAUSE), tried == self.tries
            try:
                answer = self._post(body)
                self._answered = True
                return self._reply(answer)
            except urllib.error.HTTPError as error:
                with error:
                    told = self._quoted(_text_of(error))
                if error.code not in BUSY:
                    raise self._refusal(error.code, told) from None
                asked = _retry_after(error.headers.get("Retry-After"))
                if last or (asked or 0) > PATIENCE:
                    wait = "" if asked is None else f" and asks to wait {asked:.0f} s"
                    raise KelletError(
                        f"{self._shown} answers {error.code} in try {tried} of {self.tries}{wait}: {told}; replies so "
                        "far are kept; start again later, with fewer requests at once (--concurrency)"
                    ) from None
                self._pause(pause if asked is None else asked)
            except (OSError, HTTPException) as error:
                nobody = isinstance(getattr(error, "reason", error), ConnectionRefusedError | socket.gaierror)
                if last or (nobody and not self._answered and tried >= FIRST_TRIES):
                    raise KelletError(
                        f"{self._shown} does not answer ({self._quoted(str(error) or type(error).__name__)}), tried "
                        f"{tried} times; replies so far are kept; check --endpoint and --timeout ({self.timeout:g} s), "
                        "and start again"
                    ) from None
                self._pause(pause)
        raise AssertionError("not reached")

    @property
    def _shown(self) -> str:
        return masked(self.url)

    def _post(self, body: Mapping[str, Any]) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "kellet"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)  # noqa: S310 (checked: http or https)
        ends, parts, size = time.monotonic() + self.timeout, [], 0
        with self._opener.open(request, timeout=self.timeout) as answer:
            while part := answer.read1(1 << 16):
                parts.append(part)
                size += len(part)
                if time.monotonic() > ends:
                    raise TimeoutError(f"the answer took longer than {self.timeout:g} s")
                if size > LONGEST_ANSWER:
                    raise InputError(
                        f"{self._shown} answers more than {LONGEST_ANSWER >> 20} MiB; is it a chat server?"
                    )
        return b"".join(parts)

    def _reply(self, answer: bytes) -> Reply:
        try:
            found = json.loads(answer)
            choice = found["choices"][0]
            text = choice["message"].get("content") or ""
            if isinstance(text, list):  # parts of a message
                text = "".join(str(part.get("text", "")) for part in text)
            usage = found.get("usage") or {}
            asked, answered = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
            model = str(found.get("model") or "")
        except (ValueError, LookupError, TypeError, AttributeError):
            told = self._quoted(answer[: 4 * QUOTED].decode(errors="replace"))
            raise InputError(
                f"{self._shown} answers no chat completion: {told}; --endpoint takes the address of an "
                "OpenAI-compatible server, up to and with /v1"
            ) from None
        return Reply(self._without_key(str(text)), choice.get("finish_reason") == "length", asked, answered, model)

    def _refusal(self, code: int, told: str) -> InputError:
        hint, kind = "", InputError
        if code in (401, 403):
            hint = f"; set {self.variable} in the environment to the server's key, or name another with --key-variable"
        elif code == 404:
            hint = "; check --endpoint, which goes up to and with /v1, and --model"
        elif 300 <= code < 400:
            hint = "; redirects are not followed, they would carry the key along: give the address it leads to"
        else:
            kind = RefusedRequest
        return kind(f"{self._shown} answers {code}: {told}{hint}")

    def _wait(self) -> None:
        """Until the pause that any thread was told of is over."""
        while True:
            with self._lock:
                left = self._not_before - time.monotonic()
            if self._stop.wait(max(left, 0.0)):
                raise Stopped("stopped")
            if left <= 0:
                return

    def _pause(self, seconds: float) -> None:
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def _quoted(self, text: str) -> str:
        return " ".join(self._without_key(text).split())[:QUOTED] or "nothing"

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, HIDDEN) if self._key else text


def _completions(url: str) -> str:
    """The address of chat completions, of the one that is given with or without it."""
    wanted = "--endpoint takes the address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InputError(f"--endpoint {url!r} is no address ({error}); {wanted}") from error
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or any(c.isspace() or not c.isprintable() for c in url)
    ):
        raise InputError(f"--endpoint {url!r} is no address of http or https; {wanted}")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"--endpoint holds a user or a password; give the key in the environment ({KEY}); {wanted}")
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(PATH) else path + PATH, fragment=""))


def _key_of(variable: str | None) -> str:
    """The key in the environment; empty where the usual variable is not set."""
    key = os.environ.get(variable or KEY, "").strip()
    if variable is not None and not key:
        raise InputError(f"--key-variable names {variable}, which is not set or empty; export it with the server's key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"{variable or KEY} holds characters that no key has; export it again, on one line")
    return key


def _text_of(error: urllib.error.HTTPError) -> str:
    """What the server says with an error; nothing where the connection ends before."""
    try:
        return error.read(4 * QUOTED).decode(errors="replace")
    except (OSError, HTTPException):
        return ""


def _retry_after(value: str | None) -> float | None:
    """Seconds that the header asks to wait: a number, or a date (RFC 9110, section 10.2.3); None for anything else."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
