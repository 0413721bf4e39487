"""The signatures of schema 1: what proves a payload, and what only looks as if it did."""

import base64
import datetime as dt
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dualreg.errors import ManifestUnverified
from dualreg.image.jws import SigningKey, sign, verified_payload
from tests.protocol.clients.libtrust import encoded, key_id, verified

PAYLOAD = json.dumps({"schemaVersion": 1, "name": "a/b", "fsLayers": []}, indent=3).encode()
NOW = dt.datetime(2015, 5, 1, 12, tzinfo=dt.UTC)
CURVE_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def _frame(payload: bytes) -> tuple[bytes, int, str]:
    length = len(payload[:-1].rstrip())
    protected = encoded(
        json.dumps({"formatLength": length, "formatTail": encoded(payload[length:])}).encode()
    )
    return f"{protected}.{encoded(payload)}".encode(), length, protected


def _body(signature: bytes, header: dict[str, Any], payload: bytes = PAYLOAD) -> bytes:
    _, length, protected = _frame(payload)
    entry = {"header": header, "signature": encoded(signature), "protected": protected}
    return payload[:length] + b', "signatures": ' + json.dumps([entry]).encode() + payload[length:]


def _rsa_jwk() -> dict[str, str]:
    numbers = RSA_KEY.public_key().public_numbers()
    return {
        "kty": "RSA",
        "n": encoded(numbers.n.to_bytes(256, "big")),
        "e": encoded(numbers.e.to_bytes(3, "big")),
    }


def _certificate() -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dualreg")])
    made = (
        x509.CertificateBuilder(name, name, RSA_KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=1))
        .sign(RSA_KEY, hashes.SHA256())
    )
    return base64.b64encode(made.public_bytes(Encoding.DER)).decode()


def _certificate_of_version_2() -> str:
    """Return a certificate that says it has a version which nobody wrote: only the first and third exist."""
    der = base64.b64decode(_certificate())
    return base64.b64encode(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01", 1)).decode()


def _rsa_signed(algorithm: str) -> bytes:
    hash_ = {"RS256": hashes.SHA256, "RS384": hashes.SHA384, "RS512": hashes.SHA512}[algorithm]
    return RSA_KEY.sign(_frame(PAYLOAD)[0], padding.PKCS1v15(), hash_())


def test_what_is_signed_here_is_verified_by_others_and_here() -> None:
    """A second implementation takes our signatures, and the payload comes back byte for byte."""
    key = SigningKey.generate()
    body = sign(PAYLOAD, key, NOW)
    assert verified(body) == verified_payload(body) == PAYLOAD
    jwk = json.loads(body)["signatures"][0]["header"]["jwk"]
    assert jwk["kid"] == key.id == SigningKey.from_pem(key.pem).id


def test_ids_are_libtrusts() -> None:
    """Twelve groups of four letters, hashed from the public key."""
    pem = SigningKey(CURVE_KEY)
    assert pem.id == key_id(CURVE_KEY.public_key())


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
@pytest.mark.parametrize("source", ["jwk", "x5c", "chain"])
def test_rsa_and_certificates_are_taken(algorithm: str, source: str) -> None:
    """The key may be an RSA one, and may come within the first of a list of certificates."""
    key: object = _rsa_jwk() if source == "jwk" else [_certificate()]
    assert verified_payload(_body(_rsa_signed(algorithm), {"alg": algorithm, source: key})) == PAYLOAD


def test_members_beside_the_payload_are_not_read() -> None:
    """What was put into the body after signing is not in the payload, and does not hurt."""
    body = sign(PAYLOAD, SigningKey.generate(), NOW)
    longer = body.replace(b',\n   "signatures"', b',\n   "fsLayers": ["evil"], "signatures"', 1)
    assert verified_payload(longer) == PAYLOAD


def _tampered() -> dict[str, bytes]:
    """Return documents that must not pass, by what is wrong with them."""
    key = SigningKey.generate()
    good = sign(PAYLOAD, key, NOW)
    entry = json.loads(good)["signatures"][0]
    jwk, signature = entry["header"]["jwk"], entry["signature"]
    other = SigningKey.generate()

    def signed(header: object, value: str = signature, protected: str = entry["protected"]) -> bytes:
        forged = {"header": header, "signature": value, "protected": protected}
        length = _frame(PAYLOAD)[1]
        return PAYLOAD[:length] + b',"signatures":' + json.dumps([forged]).encode() + PAYLOAD[length:]

    return {
        "another payload": good.replace(b"a/b", b"a/c"),
        "no signatures": PAYLOAD,
        "an empty list": PAYLOAD[:-1].rstrip() + b',"signatures":[]}',
        "signatures no list": PAYLOAD[:-1].rstrip() + b',"signatures":7}',
        "too many": PAYLOAD[:-1].rstrip() + b',"signatures":' + json.dumps([entry] * 17).encode() + b"}",
        "alg none": signed({"jwk": jwk, "alg": "none"}, ""),
        "HS256 with the public key": signed({"jwk": {"kty": "oct", "k": jwk["x"]}, "alg": "HS256"}),
        "alg of another curve": signed({"jwk": jwk, "alg": "ES384"}),
        "RS256 with a curve": signed({"jwk": jwk, "alg": "RS256"}),
        "ES256 with RSA": signed({"jwk": _rsa_jwk(), "alg": "ES256"}),
        "another key": signed({"jwk": other.jwk, "alg": "ES256"}),
        "another's kid": signed({"jwk": jwk | {"kid": other.id}, "alg": "ES256"}),
        "a point off the curve": signed({"jwk": {**jwk, "kid": jwk["kid"], "y": jwk["x"]}, "alg": "ES256"}),
        "no key": signed({"alg": "ES256"}),
        "an empty x5c": signed({"x5c": [], "alg": "ES256"}),
        "x5c no certificate": signed({"x5c": ["AAAA"], "alg": "ES256"}),
        "x5c of an unknown version": signed({"x5c": [_certificate_of_version_2()], "alg": "ES256"}),
        "x5c of another key beside the jwk": signed({"x5c": [_certificate()], "jwk": jwk, "alg": "ES256"}),
        "header no object": signed([]),
        "signature cut": signed({"jwk": jwk, "alg": "ES256"}, signature[:-4]),
        "signature no base64": signed({"jwk": jwk, "alg": "ES256"}, "!!!!"),
        "length beyond the body": signed(
            {"jwk": jwk, "alg": "ES256"}, signature, encoded(b'{"formatLength":99999,"formatTail":"Cn0"}')
        ),
        "length no number": signed(
            {"jwk": jwk, "alg": "ES256"}, signature, encoded(b'{"formatLength":true,"formatTail":"Cn0"}')
        ),
        "length zero": signed(
            {"jwk": jwk, "alg": "ES256"}, signature, encoded(b'{"formatLength":0,"formatTail":"Cn0"}')
        ),
        "no json": b"\xff",
        "a list": b"[]",
        "deep": b"[" * 100_000,
    }


TAMPERED = _tampered()


@pytest.mark.parametrize("fault", TAMPERED)
def test_what_does_not_prove_the_payload_is_refused(fault: str) -> None:
    """Every forgery is the same plain error."""
    with pytest.raises(ManifestUnverified) as caught:
        verified_payload(TAMPERED[fault])
    assert caught.value.reason
