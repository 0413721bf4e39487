"""Trust: the public keys and certificates by which signatures are verified."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from dualreg.image.signatures.verdict import Malformed

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
#: Bits of RSA keys: fewer are not safe, and more take too long.
_RSA_BITS = (2048, 8192)
#: Hex digits by which a key is told from others.
_SHOWN = 12
#: Bytes of the longest signature: that of the largest RSA key.
_SIGNATURE_LIMIT = 1024


class TrustedKey(NamedTuple):
    """A public key that may sign.

    Attributes:
        name: What operators call it.
    """

    key: PublicKey
    name: str

    def __str__(self) -> str:
        """Return it as people read it, with the beginning of its fingerprint."""
        return f"key {self.name} ({fingerprint(self.key)[:_SHOWN]})"

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Return whether *signature* is one of *data* with this key, by the algorithm that fits it.

        Source: cosign, specs/SIGNATURE_SPEC.md, "Signature Schemes"; sigstore, ``pkg/signature``
        (LoadVerifier), for RSA and Ed25519.
        """
        try:
            match self.key:
                case ec.EllipticCurvePublicKey():
                    self.key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
                case rsa.RSAPublicKey():
                    self.key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
                case ed25519.Ed25519PublicKey():
                    self.key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Trust:
    """What signatures are verified by.

    Attributes:
        keys: Keys of cosign.
        roots: Certificates that the chains of notation may end at.
    """

    keys: tuple[TrustedKey, ...] = ()
    roots: tuple[x509.Certificate, ...] = ()

    @classmethod
    def joined(cls, several: Iterable[Self]) -> Self:
        """Return all that *several* trust."""
        every = [*several]
        keys = (key for each in every for key in each.keys)
        roots = (root for each in every for root in each.roots)
        return cls(tuple(keys), tuple(roots))

    def signer(self, signature: bytes, data: bytes) -> TrustedKey | None:
        """Return the key that made *signature* of *data*; None: it is none of these."""
        return next((key for key in self.keys if key.verifies(signature, data)), None)


def read_keys(name: str, pem: bytes) -> tuple[TrustedKey, ...]:
    """Return the public keys in *pem*.

    Args:
        name: What operators call them.

    Raises:
        ValueError: there is none, or one that is broken or cannot be used.
    """
    try:
        found = [load_pem_public_key(match[0]) for match in _PEM.finditer(pem) if match[1] == b"PUBLIC KEY"]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"broken public key: {error}") from error
    if not found:
        raise ValueError("no public key in PEM, which begins with -----BEGIN PUBLIC KEY-----")
    return tuple(TrustedKey(_usable(key), name) for key in found)


def _usable(key: object) -> PublicKey:
    """Return a key of a type that verifies.

    Raises:
        ValueError: it is another one.
    """
    match key:
        case ec.EllipticCurvePublicKey() if key.curve.name == ec.SECP256R1.name:
            return key
        case rsa.RSAPublicKey() if _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]:
            return key
        case ed25519.Ed25519PublicKey():
            return key
    raise ValueError("expected keys of ECDSA on P-256, RSA of 2048 to 8192 bits, or Ed25519")


def read_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Return the certificates in *pem*.

    Raises:
        ValueError: there is none, or a broken one.
    """
    try:
        found = [
            x509.load_pem_x509_certificate(match[0])
            for match in _PEM.finditer(pem)
            if match[1] == b"CERTIFICATE"
        ]
        for each in found:
            each.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError(f"broken certificate: {error}") from error
    if not found:
        raise ValueError("no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----")
    return tuple(found)


def fingerprint(key: PublicKey) -> str:
    """Return the SHA-256 of a public key in DER, in hex."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def decode_signature(text: object) -> bytes:
    """Return the bytes of a signature in base64.

    Raises:
        Malformed: it is none.
    """
    decoded = decode(text, "the signature")
    if not 0 < len(decoded) <= _SIGNATURE_LIMIT:
        raise Malformed("the signature is empty or too long")
    return decoded


def decode(text: object, what: str) -> bytes:
    """Return what *text* encodes in base64.

    Raises:
        Malformed: it is no text in base64; the error names *what*.
    """
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # a character that is not ASCII is the latter
        pass
    raise Malformed(f"{what} is not base64")
