"""Signatures of notation: a JWS whose chain of certificates leads to a trusted one.

Source: Notary Project, specs/signature-specification.md and specs/signature-envelope-jws.md.
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from dualreg.image.certificate_chains import CHAIN_LIMIT
from dualreg.image.documents import is_time, parse_object
from dualreg.image.signatures.certificates import read_certificate, signer_of, untrusted
from dualreg.image.signatures.trust import Trust, decode
from dualreg.image.signatures.verdict import Checked, Malformed, Target, Validity, Verdict, malformed

#: The type of the manifests of signatures, and the media types of their layers.
ARTIFACT = "application/vnd.cncf.notary.signature"
JWS, COSE = "application/jose+json", "application/cose"
_PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
_SCHEME, _EXPIRY = "io.cncf.notary.signingScheme", "io.cncf.notary.expiry"
_SUPPORTED = "notary.x509"
#: What a signature may demand that verifiers understand.
_CRITICAL = (_SCHEME, _EXPIRY)
#: The algorithm that belongs to each key, by its size in bits or its curve, and its hash.
#: Source: specs/signature-specification.md, "Algorithm Selection".
_RSA = {2048: ("PS256", hashes.SHA256), 3072: ("PS384", hashes.SHA384), 4096: ("PS512", hashes.SHA512)}
_EC = {
    "secp256r1": ("ES256", hashes.SHA256),
    "secp384r1": ("ES384", hashes.SHA384),
    "secp521r1": ("ES512", hashes.SHA512),
}


class _Envelope(NamedTuple):
    signed: bytes
    signature: bytes
    header: Mapping[str, Any]
    payload: Mapping[str, Any]
    chain: tuple[x509.Certificate, ...]


def check_notation(envelope: bytes, target: Target, trust: Trust, now: datetime) -> Checked:
    """Return what is known of a signature in a JWS about the manifest *target*.

    Args:
        now: Aware; the certificates and the signature must be valid then.
    """
    by = ""
    try:
        read = _read(envelope)
        by = signer_of(read.chain[0])
        _require_intact(read)
    except Malformed as error:
        return malformed(error, by)
    problem = _problem(read, target, now)
    if problem:
        return Checked(Verdict(Validity.INVALID, by, problem))
    if scheme := _unsupported(read.header):
        return Checked(Verdict(Validity.UNVERIFIED, by, scheme))
    if not trust.roots:
        return Checked(Verdict(Validity.UNVERIFIED, by, "there is no certificate for it in the settings"))
    if reason := untrusted(read.chain, trust.roots, now):
        return Checked(Verdict(Validity.UNVERIFIED, by, reason))
    ends = [each.not_valid_after_utc for each in read.chain]
    expiry = _expiry(read.header)
    return Checked(Verdict(Validity.VALID, by, until=min([*ends, *([expiry] if expiry else [])])))


def check_cose() -> Checked:
    """Return what is known of a signature in COSE, which is not read."""
    return Checked(Verdict(Validity.UNVERIFIED, "", "in COSE, which is not verified; sign in JWS"))


def _read(envelope: bytes) -> _Envelope:
    """Return the parts of an envelope.

    Raises:
        Malformed.
    """
    try:
        document = parse_object(envelope)
        protected, payload = document.get("protected"), document.get("payload")
        if not isinstance(protected, str) or not isinstance(payload, str):
            raise Malformed("no JWS in the flattened form")
        header, content = parse_object(_decode(protected)), parse_object(_decode(payload))
        signed = f"{protected}.{payload}".encode("ascii")
    except ValueError as error:
        raise Malformed(str(error)) from error
    signature, chain = _decode(document.get("signature")), _chain(document.get("header"))
    return _Envelope(signed, signature, header, content, chain)


def _chain(header: object) -> tuple[x509.Certificate, ...]:
    given = header.get("x5c") if isinstance(header, dict) else None
    if not isinstance(given, list) or not 0 < len(given) <= CHAIN_LIMIT:
        raise Malformed(f"x5c has not 1 to {CHAIN_LIMIT} certificates")
    return tuple(read_certificate(decode(each, "a certificate")) for each in given)


def _require_intact(read: _Envelope) -> None:
    """Check that the first certificate's key made the signature, by the algorithm that belongs to it.

    Raises:
        Malformed: it did not.
    """
    try:
        key = read.chain[0].public_key()
        match key:
            case rsa.RSAPublicKey():
                name, kind = _RSA[key.key_size]
                _require_algorithm(read, name)
                scheme = padding.PSS(padding.MGF1(kind()), padding.PSS.DIGEST_LENGTH)
                key.verify(read.signature, read.signed, scheme, kind())
            case ec.EllipticCurvePublicKey():
                name, kind = _EC[key.curve.name]
                _require_algorithm(read, name)
                key.verify(_der(read.signature, key.curve.key_size), read.signed, ec.ECDSA(kind()))
            case _:
                raise Malformed("its key is neither RSA nor ECDSA")
    except (KeyError, ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed("its key cannot be used") from error
    except InvalidSignature:
        raise Malformed("the signature does not fit the payload") from None


def _require_algorithm(read: _Envelope, name: str) -> None:
    if read.header.get("alg") != name:
        raise Malformed("alg does not belong to the key")


def _der(signature: bytes, bits: int) -> bytes:
    """Return a signature of r and s, each as long as the curve, in DER."""
    half = (bits + 7) // 8
    if len(signature) != 2 * half:
        raise Malformed("the signature has the wrong length")
    return encode_dss_signature(
        int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    )


def _problem(read: _Envelope, target: Target, now: datetime) -> str:
    """Return why an intact signature is not one of *target* at *now*; empty: it is."""
    if read.header.get("cty") != _PAYLOAD:
        return "of a payload of an unknown type"
    named = read.payload.get("targetArtifact")
    named = named if isinstance(named, dict) else {}
    if named.get("digest") != str(target.digest):
        return f"of another image: {str(named.get('digest'))[:150]}"
    if named.get("size") != len(target.payload) or named.get("mediaType") != target.media_type:
        return "of an image of another size or media type"
    try:
        expiry = _expiry(read.header)
    except ValueError:
        return "malformed: the time of its expiry"
    if expiry and expiry <= now:
        return f"expired on {expiry:%Y-%m-%d}"
    return ""


def _unsupported(header: Mapping[str, Any]) -> str:
    """Return what a signature demands that is not understood here; empty: nothing."""
    critical = header.get("crit")
    if not isinstance(critical, list) or _SCHEME not in critical:
        return "its signing scheme is not critical"
    if header.get(_SCHEME) != _SUPPORTED:
        return f"only the signing scheme {_SUPPORTED} is verified"
    if unknown := [each for each in critical if each not in _CRITICAL]:
        return f"it demands what cannot be verified: {str(unknown[0])[:100]}"
    return ""


def _expiry(header: Mapping[str, Any]) -> datetime | None:
    """Return when a signature expires; None: never.

    Raises:
        ValueError: it is no time.
    """
    text = header.get(_EXPIRY)
    if text is None:
        return None
    if not is_time(text):
        raise ValueError("not a time")
    return datetime.fromisoformat(text)


def _decode(text: object) -> bytes:
    """Return what *text* encodes in base64url without padding.

    Raises:
        Malformed: it is no such text.
    """
    try:
        if isinstance(text, str) and text:
            return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Malformed("a part of it is not base64url")
