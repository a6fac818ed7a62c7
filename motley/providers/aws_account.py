"""boto3 as Motley uses it: one session, clients on use, bounded waits, and its errors as ProviderErrors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from motley.providers.base import ProviderError
from motley.providers.cloud import Options, capacity_or, failure

UNKNOWN = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")
_LACKING: tuple[str, ...] = ("InsufficientInstanceCapacity", "InsufficientHostCapacity", "Unsupported")
_LACKING += ("InstanceLimitExceeded", "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow")
_CONNECT_S, _READ_S, _TRIES = 5, 20, 3


class AwsAccount:
    """Whoever the options sign in as. Loads the SDK on use."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._endpoint = options.endpoint()
        self._lock = threading.RLock()
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}

    def problem(self) -> str:
        """Why there is no signing in; empty where nothing speaks against it. Asks no one."""
        if self._options.missing:
            return self._options.missing
        try:
            with self.asking("credentials"):
                found = self._connected().get_credentials()
        except ProviderError as error:
            return str(error).removeprefix("aws: ")
        return "" if found else "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"

    def client(self, service: str, region: str) -> Any:
        """boto3's client. Raises ProviderError where there is no signing in."""
        with self._lock:
            if (service, region) not in self._clients:
                if reason := self.problem():
                    raise ProviderError(f"aws: {reason}")
                self._clients[service, region] = self._connected().client(
                    service,
                    region_name=region,
                    endpoint_url=self._endpoint or None,
                    config=import_module("botocore.config").Config(
                        connect_timeout=_CONNECT_S,
                        read_timeout=_READ_S,
                        retries={"total_max_attempts": _TRIES, "mode": "standard"},
                    ),
                )
            return self._clients[service, region]

    @contextmanager
    def asking(self, operation: str, unless: tuple[str, ...] = ()) -> Iterator[None]:
        """Turns what the SDK raises into ProviderErrors; passes over errors with the codes of `unless`."""
        try:
            errors = import_module("botocore.exceptions")
        except ImportError:
            raise ProviderError("aws: boto3 is not installed; pip install 'motley[aws]'") from None
        try:
            yield
        except errors.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code not in unless:
                raise failure(self._options, operation, error, capacity_or([code], _LACKING)) from None
        except (errors.BotoCoreError, OSError) as error:
            raise failure(self._options, operation, error) from None

    def _connected(self) -> Any:
        """The session. What options and environment do not say it looks for in the SDK's usual places."""
        with self._lock:
            if self._session is None:
                text = self._options.text
                self._session = import_module("boto3").Session(
                    aws_access_key_id=text("access_key") or None,
                    aws_secret_access_key=text("secret_key") or None,
                    aws_session_token=text("session_token") or None,
                    profile_name=text("profile") or None,
                )
            return self._session
