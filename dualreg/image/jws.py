"""JWS: signatures of Docker schema 1 manifests, made and verified as by libtrust.

A signature proves that a manifest is intact, not who made it: the key is part of the signature.

Source: docker/libtrust, ``jsonsign.go``, ``key.go``; RFC 7515 and RFC 7518 for the algorithms.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509 import InvalidVersion, load_der_x509_certificate

from dualreg.errors import ManifestUnverified

_Key = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_HASHES: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_CURVES: dict[str, type[ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}
#: The algorithm of each curve, and the length of each half of its signatures, in bytes.
_CURVE_ALGORITHMS = {"secp256r1": ("ES256", 32), "secp384r1": ("ES384", 48), "secp521r1": ("ES512", 66)}
_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512"})
#: Limits of RSA keys, in bits, and of the signatures of a manifest: verification takes time.
_RSA_LIMIT = 8192
_SIGNATURES_LIMIT = 16


class SigningKey:
    """A P-256 key that signs with ES256."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Use *key*, which must be on the curve P-256."""
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """Return a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: str) -> Self:
        """Return the key that ``pem`` encoded.

        Raises:
            ValueError: *pem* is not a private elliptic curve key.
        """
        key = serialization.load_pem_private_key(pem.encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not an elliptic curve key")  # noqa: TRY004 -- a ValueError by contract
        return cls(key)

    @property
    def pem(self) -> str:
        """The private key, as unencrypted PKCS 8."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem.decode()

    @cached_property
    def id(self) -> str:
        """The libtrust ID of the key, which every signature of a token or manifest gives."""
        return key_id(self._key.public_key())

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as JWK, the form in which signatures include it."""
        point = self._key.public_key().public_numbers()
        x, y = (_encode(number.to_bytes(32, "big")) for number in (point.x, point.y))
        return {"crv": "P-256", "kid": self.id, "kty": "EC", "x": x, "y": y}

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        """The private key, for libraries that sign with it."""
        return self._key

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        """The public key."""
        return self._key.public_key()

    def sign(self, data: bytes) -> bytes:
        """Return the ES256 signature of *data*: r and s, 32 bytes each."""
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def sign(payload: bytes, key: SigningKey, at: datetime) -> bytes:
    """Return *payload* with a member ``signatures`` that signs it.

    Args:
        payload: A JSON object, indented.
        at: The time of the signature, in UTC.
    """
    length = len(payload[:-1].rstrip())
    frame = {
        "formatLength": length,
        "formatTail": _encode(payload[length:]),
        "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
    }
    protected = _encode(json.dumps(frame, separators=(",", ":")).encode())
    signature = {
        "header": {"jwk": key.jwk, "alg": "ES256"},
        "signature": _encode(key.sign(f"{protected}.{_encode(payload)}".encode())),
        "protected": protected,
    }
    return add_signatures(payload, [signature])


def add_signatures(payload: bytes, signatures: Sequence[Mapping[str, Any]]) -> bytes:
    """Return *payload*, an indented JSON object, with its *signatures* as an additional member.

    Source: docker/libtrust, ``jsonsign.go``, ``PrettySignature``.
    """
    length = len(payload[:-1].rstrip())
    lines = json.dumps([*signatures], indent=3).replace("\n", "\n   ")
    return payload[:length] + f',\n   "signatures": {lines}'.encode() + payload[length:]


def verified_payload(body: bytes) -> bytes:
    """Return the payload that the signatures in *body* sign; nothing else of *body* is verified.

    Raises:
        ManifestUnverified: there is no signature, there are too many, or one of them is invalid.
    """
    try:
        signatures = json.loads(body)["signatures"]
        if len(signatures) > _SIGNATURES_LIMIT:
            raise ValueError("too many signatures")
        (payload,) = {_payload(body, signature) for signature in signatures}
        encoded = _encode(payload)
        for signature in signatures:
            _verify(signature, encoded)
    except _FAULTS as error:
        raise ManifestUnverified(reason=str(error)[:200] or "invalid signature") from error
    return payload


#: Everything that parsing and verifying an arbitrary document may raise.
_FAULTS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
    InvalidSignature,
    InvalidVersion,
    UnsupportedAlgorithm,
)


def _payload(body: bytes, signature: Mapping[str, Any]) -> bytes:
    frame = json.loads(_decode(signature["protected"]))
    length, tail = frame["formatLength"], _decode(frame["formatTail"])
    if type(length) is not int or not 0 < length <= len(body):
        raise ValueError("formatLength is out of bounds")
    return body[:length] + tail


def _verify(signature: Mapping[str, Any], encoded_payload: str) -> None:
    """Raise one of _FAULTS unless *signature* signs the payload with the key that it includes."""
    header = signature["header"]
    algorithm, key = header["alg"], _public_key(header)
    signed = f"{signature['protected']}.{encoded_payload}".encode()
    given = _decode(signature["signature"])
    if isinstance(key, rsa.RSAPublicKey):
        if algorithm not in _RSA_ALGORITHMS or key.key_size > _RSA_LIMIT:
            raise ValueError("alg does not match the key")
        key.verify(given, signed, padding.PKCS1v15(), _HASHES[algorithm[2:]]())
        return
    expected, half = _CURVE_ALGORITHMS[key.curve.name]
    if algorithm != expected or len(given) != 2 * half:
        raise ValueError("alg does not match the key")
    numbers = (int.from_bytes(given[:half], "big"), int.from_bytes(given[half:], "big"))
    key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(_HASHES[algorithm[2:]]()))


def _public_key(header: Mapping[str, Any]) -> _Key:
    """Return the key of a signature: that of the first certificate of its chain, else its JWK.

    Clients that verify the manifest prefer the certificate too.

    Source: docker/libtrust, ``jsonsign.go``, ``Verify``.
    """
    if chain := header.get("x5c") or header.get("chain"):
        certified = load_der_x509_certificate(base64.b64decode(chain[0], validate=True)).public_key()
        if not isinstance(certified, _Key):
            raise TypeError("certificate has an unsupported type of key")
        return certified
    jwk = header["jwk"]
    key = _rsa_key(jwk) if jwk["kty"] == "RSA" else _curve_key(jwk)
    if "kid" in jwk and jwk["kid"] != key_id(key):
        raise ValueError("kid does not match the key")
    return key


def _rsa_key(jwk: Mapping[str, Any]) -> _Key:
    return rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()


def _curve_key(jwk: Mapping[str, Any]) -> _Key:
    if jwk["kty"] != "EC":
        raise ValueError("unsupported type of key")
    x, y = _number(jwk["x"]), _number(jwk["y"])
    return ec.EllipticCurvePublicNumbers(x, y, _CURVES[jwk["crv"]]()).public_key()


def key_id(key: _Key) -> str:
    """Return the libtrust ID of a key: 30 bytes of its SHA-256 in base 32, in groups of four letters."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    letters = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def _number(text: str) -> int:
    return int.from_bytes(_decode(text), "big")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
