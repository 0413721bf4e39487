"""Changes of texts, bytes and JSON documents that are likely to find what a parser forgets."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

#: Texts that have broken parsers of names, digests, numbers, ranges and headers.
TEXTS: Sequence[str] = (
    "", ".", "..", "a/../b", "a//b", "%2e%2e", "%2f", "%", "%zz", "%ff%fe", "a%00b", "a%0d%0aX-Injected:%201",
    "%c3%a4", "%e2%80%a8", "%d9%a1%d9%a2", "%f0%9f%90%b3", "%ed%a0%80", "9" * 5000, "9" * 20, "-1", "1e9",
    "+1", "0x10", "00", "1_000", " 1", "a" * 129, "a" * 256, "a/" * 200 + "a", "a" * 9000, "*", "?", "#", ";",
    "\\", "_catalog", "uploads", "blobs", "tags/list", "manifests", "library/", "sha256:",
    "sha256:" + "0" * 64, "sha256:" + "A" * 64, "sha256:" + "0" * 63, "sha512:" + "0" * 128,
    "md5:" + "0" * 32, "sha256+b64u:abc", "bytes=0-", "bytes=-1", "bytes=1-0", "bytes=0-0,2-2", "bytes=-0",
    "bytes=99999999999999999999-", "0-4", "5-", "99999999999999999-a", "*/*", "*/*;q=0", "a/b;q=x", ",,,",
    '"', 'W/"x"', "null", "true", "[]", "{}",
)  # fmt: skip
#: Values where JSON has others; a lone surrogate is text that UTF-8 cannot express.
VALUES: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1.5, -0.0, 1e308, float("inf"), float("nan"),
    "", "\0", "\ud800", "\u2028", "x" * 70_000, "latest", "sha256:" + "0" * 64, [], {}, [[]], [None], [{}],
    {"": ""}, {"\ud800": "a"}, {"\0": "\0"}, "2014-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "99999-13-41",
)  # fmt: skip
#: Members that documents of some form have.
MEMBERS: Sequence[str] = (
    "schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "subject", "annotations",
    "artifactType", "data", "urls", "platform", "os", "architecture", "blobs", "fsLayers", "history",
    "signatures", "name", "tag", "id", "parent", "Tag", "checksum", "created", "rootfs", "diff_ids", "Size",
    "v1Compatibility", "container_config", "throwaway", "empty_layer", "username", "password", "email",
)  # fmt: skip


def changed_text(chance: random.Random, text: str) -> str:
    """Return *text* with one change."""
    at = chance.randint(0, len(text))
    end = chance.randint(at, len(text))
    changes: Sequence[Callable[[], str]] = (
        lambda: chance.choice(TEXTS),
        lambda: text[:at] + chance.choice(TEXTS) + text[at:],
        lambda: text[:at] + chance.choice("/:@%._-+=&?;, \"'\\~\x7fäA0") + text[at:],
        lambda: text[:at] + text[end:],
        lambda: text + text,
        text.swapcase,
        lambda: text[:at] + text[at:end][::-1] + text[end:],
        lambda: text[:at] + _quoted(text[at:end]) + text[end:],
    )
    return chance.choice(changes)()[:20_000]


def _quoted(text: str) -> str:
    """Return every byte of a text percent-encoded; of one that is no Unicode, too."""
    return "".join(f"%{byte:02x}" for byte in text.encode(errors="surrogatepass"))


def changed_bytes(chance: random.Random, data: bytes) -> bytes:
    """Return *data* with one change."""
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.choice((1, 2, 4, 16, 512, len(data))))
    changes: Sequence[Callable[[], bytes]] = (
        lambda: data[:at],
        lambda: data[:at] + data[end:],
        lambda: data[:at] + chance.randbytes(end - at) + data[end:],
        lambda: data[:at] + bytes(end - at) + data[end:],
        lambda: data[:at] + data[at:end] * 2 + data[end:],
        lambda: data + chance.randbytes(8),
        lambda: chance.choice(
            (b"", b"\0", b"null", b"{}", b"[]", b'""', b"\xff\xfe", b"\x1f\x8b", b"[" * 100_000)
        ),
    )
    return chance.choice(changes)()


def changed_json(chance: random.Random, data: bytes) -> bytes:
    """Return a JSON document with one member or element changed; other bytes changed as such."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return changed_bytes(chance, data)
    place: Any = document
    while True:
        keys = (
            [*place] if isinstance(place, dict) else [*range(len(place))] if isinstance(place, list) else []
        )
        if not keys:
            break
        key = chance.choice(keys)
        if not isinstance(place[key], dict | list) or not place[key] or chance.random() < 0.3:
            break
        place = place[key]
    if isinstance(place, dict):
        _change_object(chance, place)
    elif isinstance(place, list):
        _change_list(chance, place)
    else:
        document = chance.choice(VALUES)
    text = json.dumps(document)
    if chance.random() < 0.05:
        text = text.replace("{", '{"schemaVersion": 1, ', 1)  # a member twice
    return text.encode()


def _change_object(chance: random.Random, place: dict[str, Any]) -> None:
    key = chance.choice([*place, *MEMBERS])
    match chance.randrange(4):
        case 0 if key in place:
            del place[key]
        case 1 if key in place:
            place[changed_text(chance, key)] = place[key]
        case 2 if isinstance(place.get(key), str):
            place[key] = changed_text(chance, place[key])
        case _:
            place[key] = chance.choice((*VALUES, dict(place)))


def _change_list(chance: random.Random, place: list[Any]) -> None:
    at = chance.randint(0, len(place))
    match chance.randrange(4):
        case 0 if place[at:]:
            del place[at:]
        case 1 if place:
            place.extend(place[:1] * chance.choice((1, 2, 300)))
        case 2 if place[1:]:
            place.reverse()
        case _:
            place.insert(at, chance.choice(VALUES))
