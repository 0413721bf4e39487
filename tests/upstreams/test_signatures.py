"""Policies of signatures for repositories whose content is another registry's."""

import json
from pathlib import Path

import pytest

from tests import signers
from tests.programs import dualreg_server
from tests.protocol.clients.wire import Wire
from tests.signers import Pushed, key_of
from tests.upstreams.world import ACCEPT, IMAGE, OTHER, There

KEY = key_of("ecdsa")


def push(there: There, pushed: Pushed) -> None:
    """Push a signature to the other registry."""
    for content in pushed.blobs:
        there.put_blob("team/app", content)
    there.put_manifest("team/app", pushed.tag or str(pushed.digest), pushed.manifest, pushed.media_type)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signers.cosign_signature, signers.cosign_bundle])
def test_signatures_are_loaded_with_their_image(tmp_path: Path, sign: object) -> None:
    """The first pull loads the image, and whatever form of signature the other registry has of it."""
    assert callable(sign)
    (tmp_path / "release.pub").write_bytes(signers.public_pem(KEY))
    table = {"repositories": "hub/*", "keys": str(tmp_path / "release.pub"), "mode": "refuse"}
    with dualreg_server(tmp_path / "there") as host:
        there = There(host)
        there.put("team/app", IMAGE, "signed")
        there.put("team/app", OTHER, "unsigned")
        push(there, sign(IMAGE, KEY))
        policies = json.dumps({"release": table})
        with dualreg_server(
            tmp_path / "here", workers=1, upstreams=f"hub/*=http://{host}", signatures=policies
        ) as here:
            wire = Wire(here)
            answers = {
                tag: wire.send("GET", f"/v2/hub/team/app/manifests/{tag}", ACCEPT)
                for tag in ("signed", "unsigned", str(IMAGE.digest), str(OTHER.digest))
            }
    assert [answer.status for answer in answers.values()] == [200, 403, 200, 403]
    assert answers["signed"].body == IMAGE.manifest
    assert b"it is not signed (policy release)" in answers["unsigned"].body
