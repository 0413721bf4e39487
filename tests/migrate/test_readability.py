"""``migrate inspect --for`` says which clients cannot read the tags of a source, over every transport."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import builders
from tests.migrate.commands import command, export
from tests.migrate.stock_trees import LAYERS, StockTree
from tests.migrate.trees import Tree
from tests.programs import dualreg_server

CLIENTS = ("containerd-2.1", "docker-1.13", "docker-1.9", "v1")
Unreadable = Mapping[str, Mapping[str, str]]


def _old(client_reads: str, as_stored: str) -> Mapping[str, str]:
    """Return that all clients but one meet the same."""
    return dict.fromkeys((client for client in CLIENTS if client != client_reads), as_stored)


_SCHEMA1 = {"containerd-2.1": "schema 1", "v1": "schema 1"}
_SCHEMA2 = {"docker-1.9": "schema 2", "v1": "schema 2"}
_OCI = _old("containerd-2.1", "OCI")
_INDEX = {"docker-1.13": "OCI", "docker-1.9": "index, OCI", "v1": "index, OCI"}
#: What clients cannot read of each source; exports to a layout are OCI, and those to an archive schema 2.
EXPECTED: Mapping[str, Unreadable] = {
    "v1-tree": {"team/old:1": _old("v1", "V1 image")},
    "registry-tree": {"team/app:oci": _OCI, "team/app:old": _SCHEMA1, "team/app:many": _INDEX},
    "oci-layout": {"team/app:oci": _OCI, "team/app:old": _OCI},
    "docker-archive": {"team/app:oci": _SCHEMA2, "team/app:old": _SCHEMA2},
    "v2+http": {"team/app:oci": _OCI, "team/app:old": _SCHEMA1},
    "v1+http": {f"team/app:{tag}": _old("v1", "V1 image") for tag in ("oci", "old")},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source for each transport; the registry in it has what can be imported."""
    folder = tmp_path_factory.mktemp("sources")
    old = Tree(folder / "v1-tree")
    old.tag("team/old", "1", old.image("base", LAYERS["a"]))
    tree = StockTree(folder / "registry-tree")
    tree.image("team/app", oci := builders.image(LAYERS["a"], oci=True), "oci")
    tree.schema1("team/app", "old", LAYERS["b"])
    tree.manifest("team/app", builders.index(oci), "many")
    command(folder / "data", f"run registry-tree:{tree.root} --exclude *:many")
    for transport in ("oci-layout", "docker-archive"):
        export(folder / "data", f"{transport}:{folder / transport}")
    return folder


@contextmanager
def _source(folder: Path, transport: str) -> Iterator[str]:
    if not transport.endswith("+http"):
        yield f"{transport}:{folder / transport}"
        return
    with dualreg_server(folder / "data") as host:
        yield f"{transport}://{host}/team/app"


@pytest.mark.slow
@pytest.mark.parametrize("transport", EXPECTED)
def test_what_clients_cannot_read_of_a_source(folder: Path, tmp_path: Path, transport: str) -> None:
    """As it is stored there, without a registry; what is wrong with the source is said besides."""
    with _source(folder, transport) as source:
        line = f"inspect {source} --for {','.join(CLIENTS)}"
        document = json.loads(command(tmp_path, f"{line} --json", code=1).stdout)
        text = command(tmp_path, line, code=1).stdout
    found = {
        each["tag"]: {
            client: ", ".join(one["obstacles"]) for one in each["unreadable"] for client in one["clients"]
        }
        for each in document["unreadable"]
    }
    assert found == EXPECTED[transport]
    assert "not readable by a client as stored" in text
    assert all(tag in text for tag in found)


def test_without_clients(folder: Path, tmp_path: Path) -> None:
    """Nothing is looked at, and the output is as it was."""
    document = json.loads(command(tmp_path, f"inspect v1-tree:{folder / 'v1-tree'} --json").stdout)
    assert "unreadable" not in document
