"""google-cloud-compute as Motley uses it: clients on use, bounded waits, and its errors as ProviderErrors."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from motley.providers.base import ProviderError
from motley.providers.cloud import NoAnswer, Options, capacity_or, failure, is_loopback

TIMEOUT_S = 20.0
LACKING: tuple[str, ...] = ("ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS")
LACKING += ("QUOTA_EXCEEDED", "quotaExceeded", "RESOURCE_POOL_EXHAUSTED", "STOCKOUT")
_SCOPES = ("https://www.googleapis.com/auth/compute",)


class GcpAccount:
    """Whoever the options sign in as, in one project. Loads the SDK on use."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._endpoint = options.endpoint()
        self.project = options.text("project")
        self._lock = threading.RLock()
        self._credentials: Any = None
        self._clients: dict[str, Any] = {}

    def problem(self) -> str:
        """Why there is no signing in; empty where nothing speaks against it. Asks no one."""
        if self._options.missing:
            return self._options.missing
        if not self.project:
            return "no project; give the option 'project', or set GOOGLE_CLOUD_PROJECT"
        try:
            with self.asking("credentials"):
                self._signed_in()
        except ProviderError as error:
            return str(error).removeprefix("gcp: ")
        return ""

    def client(self, kind: str) -> Any:
        """One of the SDK's clients, such as `InstancesClient`. Raises ProviderError where there is no signing in."""
        with self._lock:
            if kind not in self._clients:
                if reason := self.problem():
                    raise ProviderError(f"gcp: {reason}")
                options = {"api_endpoint": self._endpoint} if self._endpoint else {}
                client = getattr(import_module("google.cloud.compute_v1"), kind)
                self._clients[kind] = client(credentials=self._signed_in(), transport="rest", client_options=options)
            return self._clients[kind]

    @contextmanager
    def asking(self, operation: str) -> Iterator[None]:
        """Turns what the SDK raises into ProviderErrors; ValueErrors come of replies and files that can't be read."""
        try:
            errors = import_module("google.api_core.exceptions")
            unsigned = import_module("google.auth.exceptions").GoogleAuthError
            unread = import_module("google.protobuf.json_format").Error
            import_module("google.cloud.compute_v1")
        except ImportError:
            raise ProviderError("gcp: google-cloud-compute is not installed; pip install 'motley[gcp]'") from None
        try:
            yield
        except errors.GoogleAPICallError as error:
            reasons = [each.get("reason", "") for each in error.errors if isinstance(each, Mapping)]
            raise failure(self._options, operation, error.message, capacity_or(reasons, LACKING)) from None
        except (errors.GoogleAPIError, unsigned, unread, OSError, ValueError) as error:
            raise failure(self._options, operation, error, NoAnswer) from None

    @staticmethod
    def patience() -> dict[str, Any]:
        """Of a request that changes nothing: how long to wait for it, and when to repeat it."""
        errors = import_module("google.api_core.exceptions")
        retry = import_module("google.api_core.retry")
        transient = retry.if_exception_type(errors.ServiceUnavailable, errors.TooManyRequests)
        return {"timeout": TIMEOUT_S, "retry": retry.Retry(predicate=transient, initial=0.5, timeout=3 * TIMEOUT_S)}

    def _signed_in(self) -> Any:
        """Credentials. None are sent to a stand-in on this machine, for they would travel in the clear."""
        with self._lock:
            if self._credentials is None:
                self._credentials = self._find_credentials()
            return self._credentials

    def _find_credentials(self) -> Any:
        if is_loopback(self._endpoint):
            return import_module("google.auth.credentials").AnonymousCredentials()
        path = self._options.text("credentials_file")
        return _from_file(path) if path else import_module("google.auth").default(scopes=_SCOPES)[0]


def _from_file(path: str) -> Any:
    """The credentials in a file; only of kinds that send nothing to an address which the file names."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    kind = content.get("type") if isinstance(content, Mapping) else None
    if kind == "service_account":
        credentials = import_module("google.oauth2.service_account").Credentials
        return credentials.from_service_account_info(content, scopes=_SCOPES)
    if kind == "authorized_user":
        return import_module("google.oauth2.credentials").Credentials.from_authorized_user_info(content, _SCOPES)
    raise ValueError(f"{path} is neither a service account's key nor what `gcloud auth application-default` writes")
