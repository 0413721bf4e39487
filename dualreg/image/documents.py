"""JSON documents: parsed strictly, and written as Docker writes them.

Parsers disagree about duplicate keys, ``NaN`` and keys that differ only in case, and a document that two
programs read differently can be used for attacks. So anything ambiguous is refused.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, time
from functools import cache
from typing import Any

#: What Go's encoder escapes in strings though JSON does not require it; IDs and config digests depend on it.
_GO_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|[+-](\d\d):(\d\d))", re.ASCII)
#: How many characters of a member's name are in errors.
_SHOWN = 60
_GO_TABLE = str.maketrans(_GO_ESCAPES)


class NotJson(ValueError):
    """A document that is not JSON at all; of other ValueErrors the text says what its JSON must not have."""


def parse_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that *data* encodes.

    Raises:
        NotJson: *data* is not JSON.
        ValueError: *data* is not UTF-8, or not an object; has a duplicate member (at the top level even in
            another case, which Go ignores), a number that is not finite or half a surrogate pair; or is
            nested too deeply. The text says which, and names the member.
    """
    try:
        text = data.decode("utf-8")
        document = _decoder().decode(text)
        if "\\u" in text:
            dump(document)
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair") from error  # which cannot be encoded again
    except json.JSONDecodeError as error:
        raise NotJson(f"not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 -- a ValueError by contract
    _check_cases(document)
    return document


def without(document: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return *document* without the members *names*, in whatever case they are written: Go ignores it."""
    folded = {name.casefold() for name in names}
    return {key: value for key, value in document.items() if key.casefold() not in folded}


def respelt(document: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return *document* with the members *names* under these names, in whatever case they are written.

    Raises:
        ValueError: one is there twice.

    Source: Go, ``encoding/json`` (Unmarshal), which prefers no spelling to another.
    """
    spelt = {name.casefold(): name for name in names}
    found = {spelt.get(key.casefold(), key): value for key, value in document.items()}
    if len(found) != len(document):
        raise ValueError("keys differ only in case")
    return found


def misspelt(document: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """Return a member that only programs in Go take for one of *names*; None if there is none."""
    spelt = {name.casefold(): name for name in names}
    return next((key for key in document if spelt.get(key.casefold(), key) != key), None)


def is_time(value: object) -> bool:
    """Return whether *value* is a time that Go's ``encoding/json`` accepts.

    Source: RFC 3339; Go 1.20 and later, ``time/format_rfc3339.go`` (parseStrictRFC3339).
    """
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return False
    year, month, day, hour, minute, second, *offset = (int(part or 0) for part in match.groups())
    try:
        date(year or 400, month, day)  # Go accepts the year 0, which has the calendar of 400
        time(hour, minute, second), time(offset[0], offset[1])
    except ValueError:
        return False
    return True


def dump(document: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """Return *document* as Go's ``encoding/json`` writes it: compact unless *indent*, keys in their order.

    Source: the configs and manifests that Docker 1.10 and later write.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(document, ensure_ascii=False, indent=indent, separators=separators)
    return text.translate(_GO_TABLE).encode("utf-8")


@cache
def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_read_finite)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"duplicate member {_quoted(counts.most_common(1)[0][0])}")
    return members


def _check_cases(document: Mapping[str, Any]) -> None:
    """Raise ValueError if two members differ only in case."""
    if len({key.casefold() for key in document}) == len(document):
        return
    seen = dict[str, str]()
    for key in document:
        other = seen.setdefault(key.casefold(), key)
        if other != key:
            raise ValueError(f"members {_quoted(other)} and {_quoted(key)} differ only in case")


def _quoted(key: str) -> str:
    return json.dumps(key[:_SHOWN])


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _read_finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("number is not finite")
    return number
