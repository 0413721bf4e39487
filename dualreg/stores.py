"""The kinds of stores: where the bytes of a registry can be, by the scheme of their URLs.

The settings check URLs by this table, and ``storage.open_store`` opens them by it. Another driver is a module
of ``storage`` and a line of the table.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

#: A bucket, and the beginning of the keys in it.  Source: Amazon S3, "Bucket naming rules".
_BUCKET = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[^?#\s]*)?"


class StoreKind(NamedTuple):
    """A kind of store.

    Attributes:
        driver: Its class as MODULE:CLASS below ``dualreg.storage``, which has ``at`` to open a URL.
        pattern: What a URL must match, without the options behind its question mark.
        form: How operators write it; empty if they do not.
        options: The options that a URL may have.
    """

    driver: str
    pattern: str
    form: str = ""
    options: tuple[str, ...] = ()


KINDS: Mapping[str, StoreKind] = {
    "file": StoreKind("filesystem:FilesystemStore", r"file:///[^?#]*", "file:///PATH"),
    "s3": StoreKind(
        "s3_store:S3Store",
        _BUCKET,
        "s3://BUCKET/PREFIX",
        ("endpoint", "region", "redirect_endpoint", "profile", "waiting"),
    ),
    "follow": StoreKind("followed:FollowedStore", r"follow:///.*", options=("own",)),
    "memory": StoreKind("memory:MemoryStore", r"memory:.*"),
}


def kind_of(url: str) -> StoreKind:
    """Return the kind of the store at *url*.

    Raises:
        ValueError: there is no such kind, or the URL is not of its form.
    """
    parts = urlsplit(url)
    kind = KINDS.get(parts.scheme)
    place, _, query = url.partition("?")
    if kind is None or not re.fullmatch(kind.pattern, place, re.ASCII):
        raise ValueError(f"expected {' or '.join(each.form for each in KINDS.values() if each.form)}")
    unknown = sorted(parse_qs(query, keep_blank_values=True).keys() - {*kind.options})
    if unknown:
        raise ValueError(f"unknown option {unknown[0]}")
    return kind


def folder_of(url: str) -> Path | None:
    """Return the folder of a store of files; None if the store at *url* is another one."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def place_of(url: str) -> tuple[str, ...]:
    """Return what two URLs have in common that lead to the same store, by links between folders, too."""
    parts, folder = urlsplit(url), folder_of(url)
    if folder:
        return (folder.resolve().as_uri(),)
    place = f"{parts.scheme}://{parts.netloc}/{unquote(parts.path).strip('/')}"
    return place.rstrip("/"), *(each.rstrip("/") for each in parse_qs(parts.query).get("endpoint", ()))


def with_options(url: str, settings: Mapping[str, str]) -> str:
    """Return *url* with the options of its kind that *settings* have, and that it does not state.

    The option NAME of a scheme is the setting SCHEME_NAME, such as ``s3_region``; for all schemes, NAME.
    """
    parts, kind = urlsplit(url), kind_of(url)
    stated = parse_qs(parts.query)
    found = {name: settings.get(f"{parts.scheme}_{name}") or settings.get(name) for name in kind.options}
    added = urlencode({name: value for name, value in found.items() if value and name not in stated})
    return f"{url}{'&' if parts.query else '?'}{added}" if added else url
