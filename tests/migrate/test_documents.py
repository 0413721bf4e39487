"""What is wrong with a document is said exactly, to clients of both APIs and by migrations."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dualreg.image import media_types
from dualreg.registry import Registry
from tests.apps import client_of
from tests.documents import IMAGE
from tests.migrate.commands import command
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import LAYERS, Tree, image_id

#: How a good document is changed, and what is said of it then; {limit} is a number of bytes.
CHANGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "large": (lambda good: good + b" " * (9 << 20), "more than the limit of {limit}"),
    "duplicate": (lambda good: b'{"os":1,"os":2,' + good[1:], 'duplicate member "os"'),
    "inside": (lambda good: b'{"x":{"a b":1,"a b":2},' + good[1:], 'duplicate member "a b"'),
    "case": (lambda good: b'{"os":1,"OS":2,' + good[1:], 'members "os" and "OS" differ only in case'),
    "deep": (lambda good: b'{"x":' + b"[" * 9999 + b"]" * 9999 + b"," + good[1:], "nested too deeply"),
    "latin": (lambda good: b'{"x":"\xe4",' + good[1:], "not UTF-8"),
    "surrogate": (lambda good: b'{"x":"\\ud800",' + good[1:], "half of a surrogate pair"),
    "cut": (lambda good: good[:-1], "{cut}"),
    "list": (lambda good: b"[" + good + b"]", "not a JSON object"),
}
_MANIFEST = IMAGE.manifest


def _json(id_: str) -> bytes:
    return json.dumps({"id": id_}).encode()


def _findings(data: Path, source: str) -> dict[str, str]:
    found = json.loads(command(data, f"inspect {source} --json", code=1).stdout)["findings"]
    return {each["where"]: each["text"] for each in found if each["kind"] in ("corrupt", "unreadable")}


def test_documents_of_sources(tmp_path: Path, data: Path) -> None:
    """By inspect, and with the same words by run."""
    old, stock = Tree(tmp_path / "old"), StockTree(tmp_path / "stock")
    stock.image("team/app", IMAGE)
    named = dict[str, str]()
    for number, (name, (change, text)) in enumerate(CHANGES.items()):
        id_ = image_id(name)
        old.tag("team/old", name, old.image(name, LAYERS["a"], document=change(_json(id_))))
        named[id_] = text.format(limit=4 << 20, cut="Invalid JSON")
        digest = stock.manifest("team/app", change(_MANIFEST), f"t{number}")
        named[f"team/app@{digest}"] = text.format(limit=8 << 20, cut="not JSON: ")
    sources = f"v1-tree:{old.root}", f"registry-tree:{stock.root}"
    found = {where: text for source in sources for where, text in _findings(data, source).items()}
    assert found.keys() >= named.keys()
    for where, text in named.items():
        assert text in found[where]
    for source in sources:
        told = json.loads(command(data, f"run {source} --json", code=3).stdout)["tags"]
        assert len(told) == len(CHANGES)
        assert all(any(text in each["reason"] for text in found.values()) for each in told)


@pytest.mark.parametrize("name", CHANGES)
def test_pushed_documents(opened: Registry, name: str) -> None:
    """The reason is in the answer, in either dialect; of one that is too large, the limit."""
    change, text = CHANGES[name]
    client = client_of(opened)
    id_, token = image_id("a"), {"Authorization": 'Token repository="a/b"'}
    answer = client.put(f"/v1/images/{id_}/json", data=change(_json(id_)), headers=token)
    limit = {"large": "document too large: at most 4194304 bytes are accepted", "cut": "Invalid JSON"}
    refused = answer.json["error"]  # type: ignore[index]  # a document
    assert refused.startswith(limit[name]) if name in limit else refused == text
    answer = client.put("/v2/a/b/manifests/1", data=change(_MANIFEST), content_type=media_types.OCI_MANIFEST)
    assert answer.status_code in (400, 413)
    (error,) = answer.json["errors"]  # type: ignore[index]  # a document
    told = {"large": "at most 4194304 bytes are accepted", "cut": "not JSON: Expecting ',' delimiter: "}
    assert told.get(name, text) in error["message"]
