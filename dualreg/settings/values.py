"""Values: the types of settings beyond text and numbers.

The text of a ValueError follows the setting's name and value: it says what is expected.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from datetime import time, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator

from dualreg.patterns import check_pattern
from dualreg.settings.redirects import Redirects
from dualreg.stores import kind_of
from dualreg.transports import LocationInvalid, Use, grammars, parse_location

_BRIDGE = re.compile(r"(?:[^=,\s]+=)?(?:both|v1-to-v2|v2-to-v1|off)", re.ASCII)
_ALGORITHMS = frozenset(
    {f"{family}{bits}" for family in ("RS", "PS", "ES", "HS") for bits in (256, 384, 512)} | {"EdDSA"}
)
_LOGIN_LIMIT = re.compile(r"(pair|address|account)=[1-9][0-9]{0,5}", re.ASCII)
_SHORTEST_TOKEN = timedelta(seconds=60)
_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)
#: The default of the setting ``upload_limits``.
UPLOAD_LIMITS = "open=1000,bytes=50%,total=80%"
_SIZE = re.compile(r"([0-9]{1,9})([kmgt]?)", re.ASCII | re.IGNORECASE)
_RATE = re.compile(r"0|([1-9][0-9]{0,8})/([smh])", re.ASCII)
_SHARE = re.compile(r"([0-9]{1,9})%", re.ASCII)
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> timedelta:
    """Return the duration that a text such as ``90s``, ``15m``, ``24h`` or ``7d`` means.

    Raises:
        ValueError: it is malformed.
    """
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text, re.ASCII)
    if match is None:
        raise ValueError("expected a duration such as 90s, 15m, 24h or 7d")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def parse_bytes(text: str) -> int:
    """Return the number of bytes that a text such as ``0``, ``500M`` or ``20g`` means; units are binary.

    Raises:
        ValueError: it is malformed.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("expected a number of bytes such as 0, 500M or 20G")
    return int(match[1]) << _SHIFTS[match[2].lower()]


class UploadShares(NamedTuple):
    """The setting ``upload_limits``; sizes are made of the size of the disk, and 0 is no limit."""

    open: int
    bytes: Callable[[int], int]
    total: Callable[[int], int]


def parse_upload_limits(text: str) -> UploadShares:
    """Return what *text* limits; what it leaves out is as in UPLOAD_LIMITS.

    Raises:
        ValueError: it is malformed.
    """
    given = [entry.strip().partition("=") for entry in text.split(",")]
    chosen = {name: value for name, _, value in given}
    expected = "expected a comma-separated list of open=N, bytes=SIZE and total=SIZE"
    if len(chosen) != len(given) or not chosen.keys() <= {*UploadShares._fields}:
        raise ValueError(expected)
    values = dict(entry.split("=") for entry in UPLOAD_LIMITS.split(",")) | chosen
    if _COUNT.fullmatch(values["open"]) is None:
        raise ValueError(expected)
    try:
        return UploadShares(
            int(values["open"]), *(_parse_size_or_share(values[name]) for name in ("bytes", "total"))
        )
    except ValueError as error:
        raise ValueError(f"{expected}, with sizes such as 500m, 20g, 50% or 0") from error


def parse_min_free(text: str) -> Callable[[int], int]:
    """Return what says how many bytes of a disk of so many stay free: the least of *text*'s sizes and shares.

    Raises:
        ValueError: it is malformed.
    """
    try:
        entries = [_parse_size_or_share(entry.strip()) for entry in text.split(",")]
    except ValueError as error:
        expected = "expected a size or a share of the disk such as 1g, 500m, 2% or 1g,2%, or 0"
        raise ValueError(expected) from error
    return lambda disk: min(reserve(disk) for reserve in entries)


def _parse_size_or_share(entry: str) -> Callable[[int], int]:
    """Return what says how many bytes of a disk of so many are meant by a size (1g) or a share (2%).

    Raises:
        ValueError: it is malformed.
    """
    if share := _SHARE.fullmatch(entry):
        percent = int(share[1])
        return lambda disk: disk * percent // 100
    size = parse_bytes(entry)
    return lambda _: size


def parse_rate(text: str) -> tuple[int, float]:
    """Return the number and the seconds that a text such as ``10/s`` or ``600/m`` means; ``0`` is no limit.

    Raises:
        ValueError: it is malformed.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError("expected a number of requests in a second, minute or hour such as 600/m, or 0")
    return (int(match[1]), float(_UNITS[match[2]])) if match[1] else (0, 1.0)


def format_duration(value: timedelta) -> str:
    """Return the shortest text of which ``parse_duration`` makes *value*, a number of whole seconds."""
    seconds = int(value.total_seconds())
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _duration(value: object) -> object:
    """Parse a duration that is text; leave other types to pydantic."""
    return parse_duration(value) if isinstance(value, str) else value


def _bytes(value: object) -> object:
    """Parse a number of bytes that is text; leave other types to pydantic."""
    return parse_bytes(value) if isinstance(value, str) else value


def _token_lifetime(value: timedelta) -> timedelta:
    if value < _SHORTEST_TOKEN:
        raise ValueError("expected 60s or more, which clients assume")
    return value


def _database_timeout(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("expected 1s or more")
    return value


ByteCount = Annotated[int, BeforeValidator(_bytes)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
DatabaseTimeout = Annotated[Duration, AfterValidator(_database_timeout)]
TokenLifetime = Annotated[Duration, AfterValidator(_token_lifetime)]


def _kept(value: object) -> object:
    """Return None of ``keep``, which means forever; parse a duration."""
    return None if value == "keep" else _duration(value)


def _window(value: str) -> str:
    """Check the form of a time of day, which may span midnight."""
    if value and not re.fullmatch(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:[01][0-9]|2[0-3]):[0-5][0-9]", value):
        raise ValueError("expected two times of day, such as 02:00-05:00")
    return value


def in_window(window: str, moment: time) -> bool:
    """Return whether a time of day is in a window as ``Window``.

    An empty one is always open; so is one that ends when it begins, since that is a day later.
    """
    if not window:
        return True
    start, end = map(time.fromisoformat, window.split("-"))
    return start <= moment < end if start < end else moment >= start or moment < end


def _bridge(value: str) -> str:
    """Check the form of the setting ``bridge``."""
    entries = [entry.strip() for entry in value.split(",")]
    if not all(_BRIDGE.fullmatch(entry) for entry in entries):
        raise ValueError(
            "expected both, v1-to-v2, v2-to-v1 or off, or a comma-separated list of PATTERN=MODE"
        )
    if sum("=" not in entry for entry in entries) > 1:
        raise ValueError("more than one mode without a pattern")
    for entry in entries:
        check_pattern(entry.rpartition("=")[0])
    return value


def _address(value: str) -> str:
    """Check an address, and return it with its host; a port alone is one of this machine."""
    if value.startswith("unix:") and value != "unix:":
        return _at_home(value, "unix:", "~")
    host, colon, port = value.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):  # noqa: PLR2004 -- ports are 16 bits
        raise ValueError("expected HOST:PORT, PORT or unix:PATH")
    if ":" in host and not re.fullmatch(r"\[.*\]", host):
        raise ValueError("expected an IPv6 address in brackets, such as [::1]:5000")
    return value if colon else f"127.0.0.1:{port}"


def _other_address(value: str) -> str:
    """Do the same with an address that may be empty."""
    return _address(value) if value else value


def _store(value: str) -> str:
    """Check the URL of a store, and return it with the home directory for ``~``."""
    if value and not kind_of(value).form and not value.startswith("memory:"):
        raise ValueError("not a store to write to")
    return _at_home(value, "file://", "/~")


def _database(value: str) -> str:
    """Return the URL of a database with the home directory for ``~``."""
    return _at_home(value, "sqlite:///", "~")


def _at_home(value: str, before: str, home: str) -> str:
    """Return *value* with the home directory for *home*, if the path after *before* begins with that."""
    start = f"{before}{home}"
    if not value.startswith(start):
        return value
    return f"{before}{os.path.expanduser('~' + value.removeprefix(start))}"  # noqa: PTH111 -- text


def _legacy_source(value: str) -> str:
    """Check the form of the setting ``legacy_source``."""
    try:
        if value:
            parse_location(value, Use.ON_DEMAND)
    except LocationInvalid as error:
        raise ValueError(f"expected {' or '.join(grammars(Use.ON_DEMAND))}") from error
    return value


def _login_limits(value: str) -> str:
    """Check the form of the setting ``login_limits``."""
    matches = [_LOGIN_LIMIT.fullmatch(entry.strip()) for entry in value.split(",")]
    names = [match[1] for match in matches if match]
    if len({*names}) != len(matches):
        raise ValueError("expected a comma-separated list of pair=N, address=N and account=N")
    return value


def _min_free(value: str) -> str:
    parse_min_free(value)
    return value


def _rate(value: str) -> str:
    parse_rate(value)
    return value


def _redirects(value: str) -> str:
    Redirects.parse(value)
    return value


def _upload_limits(value: str) -> str:
    parse_upload_limits(value)
    return value


def _url(value: str) -> str:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError("expected a URL that starts with http:// or https://")
    return value.rstrip("/")


def _issuer(value: str) -> str:
    """Check an issuer, which is compared exactly, including a trailing slash."""
    loopback = ("http://127.0.0.1", "http://localhost", "http://[::1]")
    if value and not value.startswith(("https://", *loopback)):
        raise ValueError("expected a URL that starts with https://, or with http:// on loopback")
    return value


def _header_text(value: str) -> str:
    if not value.isascii() or not value.isprintable() or len(value) > 1000:  # noqa: PLR2004 -- clients read headers of 4096
        raise ValueError("expected at most 1000 printable ASCII characters")
    return value


def _printable(value: str) -> str:
    if not value or not value.isprintable() or len(value) > 1000:  # noqa: PLR2004 -- as of header text
        raise ValueError("expected 1 to 1000 printable characters")
    return value


def _service_name(value: str) -> str:
    if not value or not value.isascii() or not value.isprintable() or '"' in value or len(value) > 200:  # noqa: PLR2004 -- part of every challenge
        raise ValueError("expected 1 to 200 printable ASCII characters without quotes")
    return value


def _proxies(text: str) -> str:
    try:
        for entry in filter(None, map(str.strip, text.split(","))):
            if entry != "*":
                ip_network(entry, strict=False)
    except ValueError:
        raise ValueError("expected addresses, or networks such as 10.0.0.0/8, separated by commas") from None
    return text


def _algorithms(value: str) -> str:
    if unknown := {name.strip() for name in value.split(",")} - _ALGORITHMS:
        raise ValueError(f'unknown algorithm "{min(unknown)}"; expected {", ".join(sorted(_ALGORITHMS))}')
    return value


def _listed(value: object) -> object:
    """Return the texts of a list, or of a text in which commas separate them."""
    if isinstance(value, str):
        return tuple(filter(None, map(str.strip, value.split(","))))
    return tuple(value) if isinstance(value, list) else value


def _patterns(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(check_pattern, values))


def _home(value: object) -> object:
    return os.path.expanduser(value) if isinstance(value, str) else value  # noqa: PTH111 -- text


def json_tables(value: object) -> object:
    """Return the tables that a text in JSON has; leave everything else."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError("expected a table for each; in the environment, all of them as JSON") from error


def chosen(tables: Mapping[str, BaseModel]) -> dict[str, dict[str, object]]:
    """Return what was chosen in each of some tables, as the configuration file takes it."""
    return {
        name: {key: _plain(getattr(each, key)) for key in sorted(each.model_fields_set)}
        for name, each in tables.items()
    }


def _plain(value: object) -> object:
    match value:
        case None:
            return "keep"
        case timedelta():
            return format_duration(value)
        case tuple():
            return [str(each) if isinstance(each, Path) else each for each in value]
        case Path():
            return str(value)
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Patterns = Annotated[Texts, AfterValidator(_patterns)]
HomePath = Annotated[Path, BeforeValidator(_home)]
HomePaths = Annotated[tuple[HomePath, ...], BeforeValidator(_listed)]
Kept = Annotated[timedelta | None, BeforeValidator(_kept)]
Window = Annotated[str, AfterValidator(_window)]
Address = Annotated[str, AfterValidator(_address)]
OtherAddress = Annotated[str, AfterValidator(_other_address)]
StoreUrl = Annotated[str, AfterValidator(_store)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]
HttpUrl = Annotated[str, AfterValidator(_url)]
Issuer = Annotated[str, AfterValidator(_issuer)]
HeaderText = Annotated[str, AfterValidator(_header_text)]
Proxies = Annotated[str, AfterValidator(_proxies)]
Printable = Annotated[str, AfterValidator(_printable)]
ServiceName = Annotated[str, AfterValidator(_service_name)]
LegacySource = Annotated[str, AfterValidator(_legacy_source)]
LoginLimits = Annotated[str, AfterValidator(_login_limits)]
Bridge = Annotated[str, AfterValidator(_bridge)]
Algorithms = Annotated[str, AfterValidator(_algorithms)]
MinFree = Annotated[str, AfterValidator(_min_free)]
Rate = Annotated[str, AfterValidator(_rate)]
RedirectsText = Annotated[str, AfterValidator(_redirects)]
UploadLimitsText = Annotated[str, AfterValidator(_upload_limits)]
