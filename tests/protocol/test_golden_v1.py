"""What real daemons before V2 sent, word for word, gets the answers that they need."""

import hashlib
from uuid import uuid4

import pytest

from tests import builders
from tests.protocol.clients.generation import Generation
from tests.protocol.clients.tarsum import tarsum, unpacked
from tests.protocol.conftest import Served
from tests.protocol.layers import NO_END
from tests.protocol.replay import replay


@pytest.mark.parametrize("version", ["0.6.0", "0.9.1", "1.5.0"])
def test_a_recorded_push_and_pull(served: Served, version: str) -> None:
    """Every request of the recording, every status, header and body of the answers that the daemon reads."""
    name, generation = f"team/verb{uuid4().hex[:8]}", Generation(version)
    (image,) = builders.v1_chain(NO_END, seed=f"{version} {name}")
    hashed = image.layer if generation.since(0, 10) else unpacked(image.layer)
    texts = {
        "agent": generation.agent,
        "name": name,
        "id": image.id,
        "size": str(len(image.layer)),
        "tarsum": tarsum(image.json, image.layer),
        "payload_sum": "sha256:" + hashlib.sha256(image.json + b"\n" + hashed).hexdigest(),
    }
    replayed = replay(version, served.host, texts, {"document": image.json, "layer": image.layer})
    assert replayed == (16 if generation.since(1, 5) else 14)
