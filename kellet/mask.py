"""One mask for secrets: where text of a configuration, an address or an error leaves, its credentials do not.

Reports, parameter files, MLflow's parameters and tags, Prefect's pages, logs and error lines go through here. It hides
too much rather than too little: everything between ``://`` and the last ``@`` before white space, because a password
may hold ``/``, ``@`` and ``:``; the value of every query parameter whose name sounds like a secret; what follows
``password=`` and its like; the credentials of an Authorization header.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
_TOKEN = re.compile(r"\S+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PARAMETER = re.compile(r"""([?&;#])([^?&;#=\s]+)=([^&;#\s]*?)(?=["'`<>()\[\]{},;.]*(?:[&;#\s]|$))""")
_SOUNDS_SECRET = re.compile(r"token|key|secret|sig|passw|pwd|credential|auth|session", re.IGNORECASE)
_NAMED = re.compile(
    r"\b(password|passwd|pwd|secret|(?:api|access|secret|account)[_-]?key|(?:access|auth|session|security)[_-]?token)"
    r"(\\?[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s\"',;}&]+)",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"\b(authorization\\?[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|digest|token)\s+)?)[^\s\"',;]+", re.IGNORECASE
)


def masked(text: str) -> str:
    """``text`` without the credentials in it; what is masked already stays as it is."""
    if "://" in text:
        text = _TOKEN.sub(lambda found: _without_user(found[0]), text)
    if "=" in text:
        text = _PARAMETER.sub(_without_value, text)
    return _HEADER.sub(rf"\1{HIDDEN}", _NAMED.sub(rf"\1\2{HIDDEN}", text))


def masked_values(value: Any) -> Any:
    """Nested values with every text masked; one that begins as an address is one as a whole, blanks too."""
    if isinstance(value, Mapping):
        return {key: masked_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked_values(item) for item in value]
    if not isinstance(value, str):
        return value
    return masked(_without_user(value) if _SCHEME.match(value) else value)


def is_masked(address: str) -> bool:
    """Whether the credentials of an address are hidden, so that it leads nowhere."""
    return f"://{HIDDEN}@" in address


def _without_user(token: str) -> str:
    """An address, maybe between quotes or brackets, without user and password; one of a file (``:///``) has neither."""
    start, end = token.find("://") + 3, token.rfind("@")
    if start < 3 or end < start or token[start] == "/":
        return token
    return token[:start] + HIDDEN + token[end:]


def _without_value(found: re.Match[str]) -> str:
    before, name, value = found.groups()
    held = unquote(unquote(value))  # an address as a parameter
    if _SOUNDS_SECRET.search(unquote(name)) or ("://" in held and "@" in held):
        value = HIDDEN
    return f"{before}{name}={value}"
