"""Addresses of tracking stores as messages may show them: without passwords, tokens and homes."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

from harness.records.files import scrub

__all__ = ["database_of", "is_server", "sentence", "shown"]


def is_server(uri: str) -> bool:
    """True for an address that is asked over HTTP."""
    return uri.partition(":")[0].lower() in ("http", "https")


def database_of(uri: str) -> Path | None:
    """The file of an SQLite store; None for any other, and for one in memory."""
    scheme, _, rest = uri.partition(":///")
    if scheme.partition("+")[0] != "sqlite":
        return None
    name = unquote(rest.partition("?")[0])
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name)


def shown(uri: str) -> str:
    """The file of an SQLite store, or the server alone of any other."""
    path = database_of(uri)
    if path is not None:
        return str(scrub(_relative(path)))
    scheme, mark, rest = uri.partition("://")
    place = re.split(r"[/?#;]", rest, maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme}://{place}" if mark and _PLACE.fullmatch(place) else f"{scheme}://..."


_PLACE = re.compile(r"[\w.-]*(:\d+)?|\[[\da-fA-F:.]+\](:\d+)?")


def sentence(text: str, uri: str) -> str:
    """A library's message on one line, without what the address keeps secret.

    Arguments:
        text: What the library said, which may repeat the address or parts of it.
        uri: The address.
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    said = (lines[0] if lines else "").replace(uri, shown(uri))
    # Longest first, since one may be a part of another.
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        said = said.replace(secret, "***")
    return str(scrub(said))


def _secrets(uri: str) -> set[str]:
    """What stands before `@` or after `?`, `#` or `;`, whole and in parts, in any quoting."""
    rest = uri.partition("://")[2]
    before = re.split(r"[?#;]", rest, maxsplit=1)[0]
    extra = rest[len(before) + 1 :]
    secrets = {extra, *re.split(r"[&;#]", extra), *re.findall(r"=([^&;#]*)", extra)}
    if database_of(uri) is None:
        user = before.rpartition("@")[0]
        secrets |= {user, *user.split(":")}
    return {
        form for text in secrets if text for form in (text, unquote(text), quote(text, safe=""))
    }


def _relative(path: Path) -> Path:
    """The path as somebody in the working directory would name it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
