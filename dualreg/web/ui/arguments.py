"""Arguments: parameters of a query, as the operations take them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from flask import request

from dualreg.errors import RequestInvalid
from dualreg.settings.values import parse_bytes

Choice = TypeVar("Choice", bound=str)
_DAY = timedelta(days=1)
#: The most bytes that a database can hold the number of.
_MOST = (1 << 63) - 1


def choice(name: str, choices: Iterable[Choice], default: Choice) -> Choice:
    """Return which one of *choices* a parameter is.

    Raises:
        RequestInvalid: it is none of them.
    """
    return one_of(name, request.args.get(name, default), choices)


def one_of(name: str, given: str, choices: Iterable[Choice]) -> Choice:
    """Return which one of *choices* was given as a parameter.

    Raises:
        RequestInvalid: it is none of them.
    """
    found = next((each for each in choices if each == given), None)
    if found is None:
        raise RequestInvalid(reason=f"{name} is {given[:200]}; expected {', '.join(choices)}")
    return found


def day(name: str, *, end: bool = False) -> datetime | None:
    """Return when the day begins, or ends, that a parameter names in UTC; None: it is empty.

    Raises:
        RequestInvalid: it is no day.
    """
    given = request.args.get(name, "")
    if not given:
        return None
    try:
        found = datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC)
        return found + _DAY if end else found
    except (ValueError, OverflowError) as error:
        reason = f"{name} is {given[:200]}; expected a day such as 2026-01-31"
        raise RequestInvalid(reason=reason) from error


def size_of(name: str, text: str) -> int | None:
    """Return the bytes that the text of a field means, such as 20g; None: it is empty.

    Raises:
        RequestInvalid: it is no number of bytes.
    """
    if not text.strip():
        return None
    try:
        found = parse_bytes(text.strip())
    except ValueError as error:
        raise RequestInvalid(reason=f"{name}: {error}") from error
    if found > _MOST:
        raise RequestInvalid(reason=f"{name}: expected {_MOST} bytes or less")
    return found
