"""Passwords: found in addresses, so that a study file holds none, and put out of sight wherever a value is shown."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

Plain = TypeVar("Plain")
_HIDDEN = "***"
_NAMES = (
    r"(?:pass(?:word|wd|phrase)?|pwd|token|secret|(?:api|access|secret|account)[_-]?key|sig(?:nature)?|credentials?)"
)
_SECRET = re.compile(rf"(?:^|[_-]|ssl){_NAMES}$", re.IGNORECASE)
_QUERY = re.compile(rf"((?:^|[?&;\s])[^=&;?\s]*{_NAMES}=)[^&\s]*", re.IGNORECASE)
_AUTHORITY = re.compile(r"://([^\s/]*:.*|[^\s/]*)@")
"""A password may hold any character, so it goes on to the line's last ``@``."""
_PORT = re.compile(r"[^@]*:\d*/")


def without_passwords(plain: Plain) -> Plain:
    """The same with passwords put out of sight; rather too much of it than too little.

    Of an address that is what stands before the ``@`` (the password, or all of it where it is one word, a token) and
    query parts that are named after a secret; of a mapping the texts under such names.

    Args:
        plain: A text of any length, or plain values that hold texts. Better the values than a dump of them, which
            breaks and quotes what belongs together.
    """
    return cast(Plain, _hidden(plain))


def passwords_in(plain: Any, place: str = "") -> Iterator[str]:
    """Key paths of the texts that are addresses with a password in them.

    Args:
        plain: Plain values: mappings, lists, texts.
        place: Key path of the whole.
    """
    if isinstance(plain, str):
        found = _AUTHORITY.search(plain)
        named = found is not None and ":" in found[1] and not _PORT.match(found[1])
        if "://" in plain and (named or _QUERY.search(plain)):
            yield place
    elif isinstance(plain, Mapping | list | tuple):
        entries = plain.items() if isinstance(plain, Mapping) else enumerate(plain)
        for name, value in entries:
            yield from passwords_in(value, f"{place}.{name}" if place else f"{name}")


def _hidden(plain: Any) -> Any:
    if isinstance(plain, Mapping):
        return {
            name: _HIDDEN if isinstance(value, str) and _SECRET.search(str(name)) else _hidden(value)
            for name, value in plain.items()
        }
    if isinstance(plain, list | tuple):
        return type(plain)(_hidden(value) for value in plain)
    return _AUTHORITY.sub(_user_alone, _QUERY.sub(rf"\1{_HIDDEN}", plain)) if isinstance(plain, str) else plain


def _user_alone(found: re.Match[str]) -> str:
    user, colon, _ = found[1].partition(":")
    return f"://{user}:{_HIDDEN}@" if colon and "@" not in user else f"://{_HIDDEN}@"
