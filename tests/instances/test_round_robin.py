"""Each request of every push and pull goes to another instance."""

import os
from pathlib import Path

import pytest

from tests import builders
from tests.clients.tools import Tools
from tests.instances.fleet import Fleet
from tests.programs import require
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.everyone import push_by_some, require_some_pull

pytestmark = [pytest.mark.postgres, pytest.mark.client, pytest.mark.slow]


def test_all_generations_push_and_pull(three: Fleet) -> None:
    """What clients of one generation push, those of all generations pull; all instances take part."""
    push_by_some(three.host)
    require_some_pull(three.host)
    counts = three.counts()
    assert min(counts) > 30
    assert max(counts) - min(counts) <= 3


@pytest.mark.parametrize("mode", ["stream", "chunks", "monolithic", "single"])
def test_large_blobs_hop(three: Fleet, mode: str) -> None:
    """In every way in which clients upload, and over V1."""
    image = builders.image(builders.layer({"big": os.urandom(12 << 20)}), builders.layer({"a": b"1"}))
    V2Client(three.host, mode=mode).push(f"team/{mode}", "1", image)
    assert [*V2Client(three.host).pull(f"team/{mode}", "1").layers] == [*image.layers]
    if mode == "stream":
        chain = builders.v1_chain(builders.layer({"big": os.urandom(9 << 20)}))
        V1Client(three.host).push("team/old", "1", chain)
        assert [each.layer for each in V1Client(three.host).pull("team/old", "1")] == [chain[0].layer]


def test_skopeo_pushes_and_pulls(three: Fleet, tmp_path: Path) -> None:
    """In all formats, on many connections at once."""
    require("skopeo", package="skopeo")
    image = builders.image(*(builders.layer({f"{number}": os.urandom(50_000)}) for number in range(5)))
    V2Client(three.host).push("team/source", "1", image)
    tools = Tools(tmp_path / "home", three.host)
    tools.pull("team/source:1", f"dir:{tmp_path}/image")
    for form in ("oci", "v2s2", "v2s1"):
        tools.push("--format", form, f"dir:{tmp_path}/image", name=f"team/skopeo:{form}")
        tools.pull(f"team/skopeo:{form}", f"dir:{tmp_path}/{form}")
        assert (tmp_path / form / "manifest.json").exists()
