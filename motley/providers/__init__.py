"""Where devices come from: one module a provider, and the table of them.

Each module has `make(options, environment) -> Provider`. The providers' SDKs are extras of the package
and are loaded when a provider is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module

from motley.errors import InputError, did_you_mean
from motley.providers.base import Provider

PROVIDERS: Mapping[str, str] = {
    "docker": "motley.providers.docker",
    "aws": "motley.providers.aws",
    "gcp": "motley.providers.gcp",
    "lambda_cloud": "motley.providers.lambda_cloud",
    "fake": "motley.providers.fake",
}

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def make_provider(name: str, options: Mapping[str, str], environment: Mapping[str, str]) -> Provider:
    """The provider `name`; `${NAME}` in its options stands for a variable of `environment`.

    Raises InputError for an unknown provider, an SDK that is not installed, a variable that is not set or
    an option that is wrong.
    """
    if name not in PROVIDERS:
        raise InputError(f"provider '{name}' is not known{did_you_mean(name, PROVIDERS)}")
    known = {key: _with_variables(f"{name}: {key}", text, environment) for key, text in options.items()}
    try:
        provider: Provider = import_module(PROVIDERS[name]).make(known, environment)
    except ModuleNotFoundError as error:
        what = f"provider '{name}' needs the Python module '{error.name}'"
        raise InputError(f"{what}; install it with: pip install 'motley[{name}]'") from None
    return provider


def check_options(name: str, options: Mapping[str, str], known: frozenset[str]) -> None:
    """Raise InputError for an option that the provider `name` does not have."""
    for option in options:
        if option not in known:
            raise InputError(f"provider '{name}' has no option '{option}'{did_you_mean(option, known)}")


def _with_variables(where: str, text: str, environment: Mapping[str, str]) -> str:
    def value(reference: re.Match[str]) -> str:
        if reference[1] not in environment:
            raise InputError(f"{where}: the variable {reference[1]} is not set; export it, or write the value")
        return environment[reference[1]]

    return _REFERENCE.sub(value, text)
