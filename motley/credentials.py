"""Keys stay out of files: references to where they are kept, and how a key in a file is noticed.

`${NAME}` stands for a variable of the environment, `keyring:SERVICE/USER` for an entry of the operating
system's keyring.
"""

from __future__ import annotations

import importlib
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping

from motley.errors import InputError

ADVICE = "keep it in the environment and write '${NAME}', or in the OS keyring and write 'keyring:SERVICE/USER'"

_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_KEYRING = re.compile(r"keyring:(?P<service>[^/\s]+)/(?P<user>\S+)")
_SECRET_NAME = re.compile(r"(?:.*[_-])?(?:key|key[_-]id|apikey|secret|token|password|passwd|passphrase|credentials?)")
_PUBLIC_NAMES = {"ssh_key", "ssh-key"}
_KNOWN_KEYS = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\bAIza[\w-]{30,}|\bya29\.[\w-]{10,}|\bGOCSPX-[\w-]{20,}"  # Google
    r"|\bsecret_\w+_[0-9a-f]{16,}"  # Lambda
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}"  # JSON Web Token
    r"|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bsk-[\w-]{20,}|\bhf_\w{20,}"
    r"|://[^/\s:@]+:[^/\s@]+@"  # a password in an address
)
_WORD = re.compile(r"[A-Za-z0-9+/=_-]{32,}")
_PATH = re.compile(r"(?:~|\.{0,2})/|[\w.+-]+://")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\b")


def is_reference(text: str) -> bool:
    """Whether it names where a key is kept, and holds nothing else."""
    return bool(_VARIABLE.fullmatch(text) or _KEYRING.fullmatch(text))


def has_known_key(text: str) -> bool:
    """Whether it holds something in the form of a well-known kind of key."""
    return bool(_KNOWN_KEYS.search(text))


def looks_like_key(name: str, text: str) -> bool:
    """Whether `text`, the value of `name`, seems to be a key: by its form, by its name, or because it looks random."""
    if not text or is_reference(text):
        return False
    named = bool(_SECRET_NAME.fullmatch(name.lower())) and name.lower() not in _PUBLIC_NAMES
    words = (word for word in _DIGEST.sub("", text).split() if not _PATH.match(word))
    parts = (part for word in words for part in re.split("[:;,'\"]", word))
    return named or has_known_key(text) or any(_is_random(part) for part in parts)


def broken_reference(text: str) -> str:
    """What is wrong with a text that seems meant as a reference; empty where nothing is."""
    if "$" in _VARIABLE.sub("", text):
        return "is not a reference to a variable; write '${NAME}'"
    if text.startswith("keyring:") and not _KEYRING.fullmatch(text):
        return "is not a reference to the keyring; write 'keyring:SERVICE/USER'"
    return ""


def with_keyring(
    options: Mapping[str, str], environment: Mapping[str, str], ask: Callable[[str, str], str | None] | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """Options and environment where each `keyring:` reference has become one to a variable.

    ask: gives the secret of a service and user; None for the keyring of the operating system. Raises
    InputError for an entry that is not there.
    """
    found, known = dict(options), dict(environment)
    for name, text in options.items():
        if match := _KEYRING.fullmatch(text):
            variable = f"MOTLEY_KEYRING_{len(known)}"
            known[variable] = _secret(name, match["service"], match["user"], ask or _system_keyring())
            found[name] = f"${{{variable}}}"
    return found, known


def _secret(option: str, service: str, user: str, ask: Callable[[str, str], str | None]) -> str:
    secret = ask(service, user)
    if secret is None:
        raise InputError(f"option '{option}': the keyring has no entry; add it with: keyring set {service} {user}")
    return secret


def _system_keyring() -> Callable[[str, str], str | None]:
    try:
        keyring = importlib.import_module("keyring")
    except ModuleNotFoundError:
        raise InputError("a 'keyring:' reference needs the package keyring; install it, or write '${NAME}'") from None

    def ask(service: str, user: str) -> str | None:
        try:
            secret: str | None = keyring.get_password(service, user)
        except keyring.errors.KeyringError as error:
            raise InputError(
                f"the keyring does not answer ({type(error).__name__}); unlock it, or write '${{NAME}}'"
            ) from None
        return secret

    return ask


def _is_random(word: str) -> bool:
    """A long word of letters and digits that holds many bits of information a character."""
    if _PATH.match(word) or not _WORD.fullmatch(word):
        return False
    shares = [count / len(word) for count in Counter(word).values()]
    bits = -sum(share * math.log2(share) for share in shares)
    if not word.lower().strip(string.hexdigits):
        return bits >= 3.0 and not word.isdigit()
    has_cases = word != word.lower() and word != word.upper()
    return bits >= 3.5 and has_cases and any(map(str.isdigit, word))
