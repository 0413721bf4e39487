"""Trusted public keys of other issuers, to verify their tokens with.

The header of a token names the key that it was signed with, and can only choose among the trusted ones: of a
key embedded in the header only the id is used, and a chain of certificates must end at a trusted one.

Source: distribution 3, ``registry/auth/token`` (which keys, which ids); RFC 7517, 7638; docker/libtrust for
the ids of older issuers.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509.verification import VerificationError
from jwt import PyJWK
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from dualreg.image.certificate_chains import CHAIN_LIMIT, chain_verifier
from dualreg.image.jws import key_id

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
_HMAC = frozenset({"HS256", "HS384", "HS512"})
#: Members of a JWK that its thumbprint is computed from.  Source: RFC 7638, section 3.2; RFC 8037, section 2.
_THUMBED = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
#: Errors of certificates and keys that cannot be used.
_UNUSABLE = (
    ValueError, TypeError, binascii.Error, x509.InvalidVersion, UnsupportedAlgorithm, RecursionError,
)  # fmt: skip


class Key(NamedTuple):
    """A key, and the signature algorithms that fit it; no other is accepted with it."""

    key: PublicKey | bytes
    algorithms: frozenset[str]


@dataclass(frozen=True)
class TrustedKeys:
    """Keys by each of their ids, and the certificates that chains may end at."""

    keys: Mapping[str, Key] = field(default_factory=dict)
    roots: tuple[x509.Certificate, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the keys of a JSON Web Key Set, or of certificates and public keys in PEM.

        Raises:
            ValueError: it is neither, contains no usable key, or contains a broken one.
        """
        try:
            return cls._parse(data)
        except _UNUSABLE as error:
            raise ValueError(f"not keys that can be used: {error}") from error

    @classmethod
    def _parse(cls, data: bytes) -> Self:
        certificates = []
        keys: dict[str, Key] = {}
        if data.lstrip().startswith(b"{"):
            for ids, key in _from_set(data):
                keys |= dict.fromkeys(ids, key)
        for match in _PEM.finditer(data):
            if match[1] == b"CERTIFICATE":
                certificate = x509.load_pem_x509_certificate(match[0])
                certificates.append(certificate)
                keys |= _by_ids(certificate.public_key())
            elif match[1] == b"PUBLIC KEY":
                keys |= _by_ids(load_pem_public_key(match[0]))
        if not keys:
            raise ValueError("no usable key")
        return cls(keys, tuple(certificates))

    def key_for(self, header: dict[str, Any]) -> Key | None:
        """Return the trusted key that a token's *header* names; None if there is none."""
        embedded = header.get("jwk")
        embedded = embedded if isinstance(embedded, dict) else {}
        chain = header.get("x5c", embedded.get("x5c"))
        if chain is not None:
            return self._key_of_chain(chain)
        kid = header.get("kid", embedded.get("kid"))
        return self.keys.get(kid) if isinstance(kid, str) else None

    def _key_of_chain(self, chain: object) -> Key | None:
        """Return the key of the first certificate in *chain*, if the chain ends at a trusted one."""
        if not isinstance(chain, list) or not 0 < len(chain) <= CHAIN_LIMIT or not self.roots:
            return None
        try:
            leaf, *others = (x509.load_der_x509_certificate(base64.b64decode(each)) for each in chain)
            now = datetime.now(UTC)
            if leaf in self.roots:
                valid = leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc
            else:
                chain_verifier(self.roots, now).verify(leaf, others)
                valid = True
            return _fit(leaf.public_key()) if valid else None
        except (*_UNUSABLE, VerificationError):
            return None


def _from_set(data: bytes) -> Iterator[tuple[list[str], Key]]:
    """Yield the ids and the key of each member that is supported.

    Raises:
        ValueError: it is not a key set.
    """
    document = json.loads(data)
    members = document.get("keys")
    if not isinstance(members, list):
        raise ValueError("not a JSON Web Key Set")  # noqa: TRY004 -- a ValueError by contract
    for member in members:
        try:
            parsed = PyJWK.from_dict(member)
        except (PyJWTError, ValueError, TypeError, AttributeError, KeyError):
            continue
        if member.get("use", "sig") != "sig" or isinstance(parsed.key, str):
            continue
        key = _fit(parsed.key)
        if key is None:
            continue
        if stated := member.get("alg"):
            key = Key(key.key, key.algorithms & {stated})
        ids = [*_ids(key.key)] + ([member["kid"]] if isinstance(member.get("kid"), str) else [])
        yield ids, key


def _by_ids(public: object) -> dict[str, Key]:
    key = _fit(public)
    return dict.fromkeys(_ids(key.key), key) if key else {}


def _fit(public: object) -> Key | None:
    """Return the key with the algorithms that fit its type; None if the type is not supported."""
    if isinstance(public, rsa.RSAPublicKey):
        return Key(public, _RSA)
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES:
        return Key(public, frozenset({_CURVES[public.curve.name]}))
    if isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return Key(public, frozenset({"EdDSA"}))
    return Key(public, _HMAC) if isinstance(public, bytes) else None


def _ids(key: PublicKey | bytes) -> Iterator[str]:
    """Yield the key's libtrust id and its thumbprint; none for a shared secret, which they would reveal."""
    if isinstance(key, bytes):
        return
    if not isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        yield key_id(key)
    if isinstance(key, rsa.RSAPublicKey):
        jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        jwk = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        jwk = OKPAlgorithm.to_jwk(key, as_dict=True)
    members = {name: jwk[name] for name in _THUMBED[jwk["kty"]]}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
    yield base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()
