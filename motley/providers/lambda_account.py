"""Lambda's REST API through httpx: requests with patience, and its errors as ProviderErrors."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from motley.clock import Clock
from motley.providers.base import ProviderError, Unavailable
from motley.providers.cloud import NoAnswer, Options, digest, failure

_BUSY, _TRIES, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 429, 5, 1.0, 15.0
"""Lambda takes one request a second, and one launch in twelve."""

T = TypeVar("T")


class Unknown(ProviderError):
    """There is no such thing at Lambda."""


_KINDS: Mapping[str, type[ProviderError]] = {
    "global/object-does-not-exist": Unknown,
    "global/quota-exceeded": Unavailable,
    "instance-operations/launch/insufficient-capacity": Unavailable,
}
"""What to raise, by Lambda's codes."""


class LambdaAccount:
    """Whoever the API key belongs to."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._endpoint = options.endpoint()
        self._lock = threading.Lock()
        self._made: Any = None

    def problem(self) -> str:
        """Why there is no signing in; empty where nothing speaks against it. Asks no one."""
        if self._options.missing:
            return self._options.missing
        return "" if self._options.text("api_key") else "no API key; set LAMBDA_API_KEY"

    def ask(self, method: str, path: str, read: Callable[[Any], T], body: object = None) -> T:
        """What `read` makes of the reply's `data`. Raises ProviderError where it can't be read."""
        reply = self._answer(method, path, body)
        code, said = f"HTTP {reply.status_code}", "a reply that is not of Lambda's form"
        try:
            content = reply.json()
            if reply.is_success:
                return read(content["data"])
            code, said = str(content["error"]["code"]), content["error"]["message"]
        except (ValueError, LookupError, TypeError, AttributeError):
            pass
        raise failure(self._options, f"{method} {path}", f"{code}: {said}", _KINDS.get(code, ProviderError))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The one of this host that launches on this account. The kernel frees the lock of a process that ends."""
        name = f"motley-lambda-{os.getuid()}-{digest(self._endpoint, *self._options.secrets, length=16)}.lock"
        path = os.path.join(tempfile.gettempdir(), name)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise failure(self._options, "launch", f"can't lock {path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _answer(self, method: str, path: str, body: object) -> Any:
        """The reply, after some patience where there were too many requests."""
        pause_s = _FIRST_PAUSE_S
        for _ in range(_TRIES - 1):
            reply = self._once(method, path, body)
            if reply.status_code != _BUSY:
                return reply
            self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return self._once(method, path, body)

    def _once(self, method: str, path: str, body: object) -> Any:
        client = self._client()
        try:
            return client.request(method, f"{self._endpoint}/{path}", json=body)
        except import_module("httpx").HTTPError as error:
            raise failure(self._options, f"{method} {path}", repr(error), NoAnswer) from None

    def _client(self) -> Any:
        if reason := self.problem():
            raise ProviderError(f"lambda_cloud: {reason}")
        with self._lock:
            if self._made is None:
                httpx = import_module("httpx")
                headers = {"Authorization": f"Bearer {self._options.text('api_key')}"}
                self._made = httpx.Client(headers=headers, timeout=httpx.Timeout(20, connect=5), verify=_trusted())
            return self._made


@cache
def _trusted() -> Any:
    """The certificates that httpx trusts; reading them takes long."""
    return import_module("httpx").create_ssl_context()
