"""The signatures of schema 1: made and verified from their description, without a look at the registry's."""

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from tests.protocol.clients.wire import ProtocolError

_TIME = "2015-05-01T12:00:00Z"


def encoded(data: bytes) -> str:
    """Return *data* in unpadded base64 for URLs."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Return what ``encoded`` made *text* of."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return the twelve groups of four that name a key."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, 48, 4))


def signed(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return *payload*, which ends in a brace on its own line, with a signature among its members."""
    length = len(payload.removesuffix(b"}").rstrip())
    tail = payload[length:]
    protected = encoded(
        json.dumps(
            {"formatLength": length, "formatTail": encoded(tail), "time": _TIME}, separators=(",", ":")
        ).encode()
    )
    r, s = decode_dss_signature(
        key.sign(f"{protected}.{encoded(payload)}".encode(), ec.ECDSA(hashes.SHA256()))
    )
    public = key.public_key()
    numbers = public.public_numbers()
    jwk = {
        "crv": "P-256",
        "kid": key_id(public),
        "kty": "EC",
        "x": encoded(numbers.x.to_bytes(32, "big")),
        "y": encoded(numbers.y.to_bytes(32, "big")),
    }
    signature = {
        "header": {"jwk": jwk, "alg": "ES256"},
        "signature": encoded(r.to_bytes(32, "big") + s.to_bytes(32, "big")),
        "protected": protected,
    }
    member = json.dumps({"signatures": [signature]}, indent=3)[1:-2]
    return payload[:length] + b"," + member.encode() + tail


def verified(body: bytes) -> bytes:
    """Return the payload of *body*, to the byte, after verifying every signature.

    Raises:
        ProtocolError: there is none, or one that is not the payload's.
    """
    signatures = json.loads(body).get("signatures")
    if not signatures:
        raise ProtocolError("no signatures")
    payloads = {_payload(body, signature["protected"]) for signature in signatures}
    if len(payloads) != 1:
        raise ProtocolError("signatures of different payloads")
    (payload,) = payloads
    for signature in signatures:
        _verify(payload, signature)
    return payload


def unsigned(body: bytes) -> bytes:
    """Return the payload of *body* without minding who signed it, as Docker 1.8 and 1.9 do."""
    signatures = json.loads(body).get("signatures")
    return _payload(body, signatures[0]["protected"]) if signatures else body


def _payload(body: bytes, protected: str) -> bytes:
    header = json.loads(decoded(protected))
    if not 0 < header["formatLength"] <= len(body):
        raise ProtocolError(f"formatLength {header['formatLength']} of {len(body)} bytes")
    return body[: header["formatLength"]] + decoded(header["formatTail"])


def _verify(payload: bytes, signature: dict[str, Any]) -> None:
    jwk = signature["header"]["jwk"]
    if (signature["header"]["alg"], jwk["kty"], jwk["crv"]) != ("ES256", "EC", "P-256"):
        raise ProtocolError(f"a key of another kind: {signature['header']}")
    x, y = (int.from_bytes(decoded(jwk[member]), "big") for member in "xy")
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    if jwk["kid"] != key_id(key):
        raise ProtocolError(f"{jwk['kid']} is the name of another key")
    raw = decoded(signature["signature"])
    if len(raw) != 64:
        raise ProtocolError(f"a signature of {len(raw)} bytes")
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        key.verify(der, f"{signature['protected']}.{encoded(payload)}".encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise ProtocolError("the signature is not of this payload") from error
