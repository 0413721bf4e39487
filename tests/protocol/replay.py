"""Exchanges of real daemons, recorded once, replayed word for word with an image of the test's own.

A file in ``golden`` has one block an exchange. ``>`` is a header sent; ``body`` and ``chunked`` what followed
them; ``<`` the status needed, then headers that the release reads, as patterns; ``without`` one that must not
come; ``keep`` gives a header a name for later; ``bytes``, ``json``, ``contains`` and ``signed`` are of the
answer's body. ``$`` stands before what differs from run to run, ``@`` before what is bytes.
"""

import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from string import Template
from urllib.parse import urlsplit
from uuid import uuid4

from tests import builders
from tests.protocol.clients.generation import Generation
from tests.protocol.clients.libtrust import signed, verified
from tests.protocol.clients.schema1 import daemon_key, digest_of, schema1_payload
from tests.protocol.clients.wire import Answer, Wire
from tests.protocol.layers import NO_END

GOLDEN = Path(__file__).with_name("golden")


def replay(version: str, host: str, texts: Mapping[str, str], contents: Mapping[str, bytes]) -> int:
    """Replay what *version* was recorded to do; return the number of exchanges.

    Args:
        texts: What ``$`` names.
        contents: What ``@`` names.
    """
    known, wire = {"host": host, **texts}, Wire(host)
    blocks = (GOLDEN / f"{version}.txt").read_text().rstrip("\n").split("\n\n")
    for block in blocks:
        _exchange(wire, block.split("\n"), known, contents)
    return len(blocks)


def replay_schema1(version: str, host: str) -> int:
    """Replay a recording with a signed manifest in it; return the number of exchanges."""
    name, generation = f"team/verb{uuid4().hex[:8]}", Generation(version)
    chain = builders.v1_chain(NO_END, seed=f"{version} {name}")
    if version == "1.6.2":
        chain *= 2  # the top comes twice, a bug of its own
    digest = digest_of(NO_END)
    payload = schema1_payload(generation, name, "one", chain, [digest] * len(chain))
    texts = {
        "agent": generation.agent,
        "name": name,
        "hex": digest.removeprefix("sha256:"),
        "size": str(len(NO_END)),
        "last": str(len(NO_END) - 1),
        "digest": digest_of(payload),
    }
    contents = {"layer": NO_END, "payload": payload, "manifest": signed(payload, daemon_key())}
    return replay(version, host, texts, contents)


def _exchange(wire: Wire, lines: list[str], known: dict[str, str], contents: Mapping[str, bytes]) -> None:
    def bytes_of(text: str) -> bytes:
        if text.startswith("@"):
            return contents[text[1:]]
        return Template(text).substitute(known).encode()

    request, *rest = lines
    method, path = Template(request).substitute(known).split(" ")
    parts = [line.partition(" ")[::2] for line in rest]
    headers = [text.partition(":")[::2] for key, text in parts if key == ">"]
    sent = [(name, Template(value.removeprefix(" ")).substitute(known)) for name, value in headers]
    body = next((bytes_of(text) for key, text in parts if key == "body"), None)
    pieces = next(([bytes_of(text)] for key, text in parts if key == "chunked"), None)
    answer = wire.send(method, path, sent, pieces or body)
    for key, text in parts:
        if key not in (">", "body", "chunked"):
            assert _holds(answer, key, text, bytes_of), f"{request}: {key} {text}: {answer}"
        if key == "keep":
            _keep(answer, text, known)


def _holds(answer: Answer, key: str, text: str, bytes_of: Callable[[str], bytes]) -> bool:
    """Return whether the answer is what the line says."""
    if key == "<" and ":" in text:
        name, _, value = text.partition(": ")
        return fnmatchcase(answer.headers.get(name.lower(), ""), bytes_of(value).decode())
    checks = {
        "<": lambda: answer.status == int(text),
        "keep": lambda: text.split()[1].lower() in answer.headers,
        "without": lambda: text.lower() not in answer.headers,
        "bytes": lambda: answer.body == bytes_of(text),
        "contains": lambda: bytes_of(text) in answer.body,
        "json": lambda: json.loads(answer.body) == json.loads(bytes_of(text)),
        "signed": lambda: verified(answer.body) == bytes_of(text),
    }
    return checks[key]()


def _keep(answer: Answer, text: str, known: dict[str, str]) -> None:
    """Remember a header; of a URL, what follows the host, and how a parameter is appended."""
    name, header = text.split()
    value = answer.headers[header.lower()]
    if name == "location":
        parts = urlsplit(value)
        value = parts.path + (f"?{parts.query}" if parts.query else "")
        known["joint"] = "&" if parts.query else "?"
    known[name] = value
