"""The signatures that the test clients make and check are the ones that Docker made."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests import builders
from tests.protocol.clients.generation import SCHEMA1_RELEASES, Generation
from tests.protocol.clients.libtrust import signed, unsigned, verified
from tests.protocol.clients.schema1 import daemon_key, digest_of, schema1_payload
from tests.protocol.clients.wire import ProtocolError
from tests.protocol.layers import NO_END

GOLDEN = Path(__file__).with_name("golden")


@pytest.mark.parametrize(
    ("version", "digest"),
    [
        ("1.6.2", "sha256:211639ad59f0789dc8601d592ed3f22fb757d0d4f73e8a158fe271091dc889cd"),
        ("1.9.1", "sha256:7c1e8f96d7da60f9d1f348e516a5df54b2291a3f055f10554ae8b128c11c8dc2"),
    ],
)
def test_a_recorded_manifest_is_verified(version: str, digest: str) -> None:
    """The payload of a manifest that a real daemon pushed has the digest that a real registry stated."""
    body = (GOLDEN / f"schema1-{version}.json").read_bytes()
    assert digest_of(verified(body)) == digest
    assert unsigned(body) == verified(body)
    with pytest.raises(ProtocolError, match="not of this payload"):
        verified(body.replace(b"team/verb", b"team/vera"))


@pytest.mark.parametrize("version", ["1.6.2", "1.9.1"])
def test_a_recorded_payload_signed_anew_looks_the_same(version: str) -> None:
    """Same indentation, same order, same members: only the key, the time and the signature differ."""
    body = (GOLDEN / f"schema1-{version}.json").read_bytes()
    again = signed(verified(body), daemon_key())
    old, new = (json.loads(text)["signatures"][0] for text in (body, again))
    assert verified(again) == verified(body)
    for path in (("header", "jwk", "kid"), ("header", "jwk", "x"), ("header", "jwk", "y")):
        again = again.replace(
            new[path[0]][path[1]][path[2]].encode(), old[path[0]][path[1]][path[2]].encode()
        )
    for member in ("signature", "protected"):
        again = again.replace(new[member].encode(), old[member].encode())
    assert again == body


@pytest.mark.parametrize("generation", SCHEMA1_RELEASES, ids=lambda release: release.version)
def test_payloads_have_the_order_of_the_release(generation: Generation) -> None:
    """1.6 and 1.7 write the version last, the next two first; Go escapes what HTML minds."""
    chain = builders.v1_chain(NO_END)
    payload = schema1_payload(generation, "a/b", "c", chain, [digest_of(NO_END)])
    recorded = "1.9.1" if generation.since(1, 8) else "1.6.2"
    golden = verified((GOLDEN / f"schema1-{recorded}.json").read_bytes())
    assert [*json.loads(payload)] == [*json.loads(golden)]
    assert b"\\u003c0\\u003e" in payload
    assert payload.endswith(b"\n}")


def test_a_signature_by_another_key_is_refused() -> None:
    """A key id that is not the key's is as bad as a signature that is not the payload's."""
    body = signed(b'{\n   "a": 1\n}', ec.generate_private_key(ec.SECP256R1()))
    other = signed(b'{\n   "a": 1\n}', daemon_key())
    kids = [json.loads(text)["signatures"][0]["header"]["jwk"]["kid"].encode() for text in (body, other)]
    with pytest.raises(ProtocolError, match="another key"):
        verified(body.replace(*kids))
    with pytest.raises(ProtocolError, match="no signatures"):
        verified(b"{}")
