"""Signatures and attestations of cosign that are found by a tag, such as ``sha256-….sig``.

Each is a layer of the manifest of that tag: its payload is the blob, the signature is an annotation.

Source: cosign, specs/SIGNATURE_SPEC.md; containers/image, ``signature/sigstore``, which writes the same.
"""

from collections.abc import Mapping

from cryptography import x509

from dualreg.image.digest import CANONICAL, Digest
from dualreg.image.documents import parse_object, respelt
from dualreg.image.signatures.certificates import signer_of
from dualreg.image.signatures.dsse import Envelope, Statement
from dualreg.image.signatures.trust import Trust, TrustedKey, decode_signature
from dualreg.image.signatures.verdict import Checked, Malformed, Target, Validity, Verdict, malformed

#: Media types of the payloads.
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_CERTIFICATES = ("dev.sigstore.cosign/certificate", "dev.cosignproject.cosign/certificate")
_TYPE = "cosign container image signature"
#: What is known of a signature that no trusted key made.
UNKNOWN_KEY = "made with none of the keys in the settings"
KEYLESS = "keyless: only keys are verified, not identities"
NO_KEYS = "there is no key for it in the settings"

_SUFFIXES = ("sig", "att", "sbom")


def tags_of(digest: Digest) -> tuple[str, ...]:
    """Return the tags by which what is attached to an image is found.

    Source: cosign, specs/SIGNATURE_SPEC.md, "Tag-based Discovery".
    """
    if digest.algorithm != CANONICAL:
        return ()  # the tag would be too long
    return tuple(f"{digest.algorithm}-{digest.hex}.{suffix}" for suffix in _SUFFIXES)


def check_simple(payload: bytes, annotations: Mapping[str, str], target: Target, trust: Trust) -> Checked:
    """Return what is known of a signature in the form of simple signing.

    Args:
        payload: The blob of the layer.
        annotations: Those of the layer.
        target: The manifest that it should be of.
    """
    claimed = _identity(annotations)
    try:
        named, signature = _signed_digest(payload), decode_signature(annotations.get(_SIGNATURE))
    except Malformed as error:
        return malformed(error, claimed)
    if named != str(target.digest):
        return Checked(Verdict(Validity.INVALID, claimed, f"of another image: {named[:150]}"))
    return Checked(judged(trust.signer(signature, payload), trust, claimed))


def check_attestation(
    envelope: bytes, annotations: Mapping[str, str], target: Target, trust: Trust
) -> Checked:
    """Return what is known of a signed in-toto statement in an envelope; see ``check_simple``."""
    try:
        document = parse_object(envelope)
    except ValueError as error:
        return malformed(error)
    return check_envelope(document, target, trust, _identity(annotations))


def check_envelope(document: object, target: Target, trust: Trust, claimed: str) -> Checked:
    """Return what is known of the envelope that a JSON object is.

    Args:
        claimed: Who made it, as a certificate says; empty: there is none.
    """
    try:
        envelope = Envelope.read(document)
        statement = Statement.in_envelope(envelope)
    except Malformed as error:
        return malformed(error, claimed)
    if (target.digest.algorithm, target.digest.hex) not in statement.subjects:
        verdict = Verdict(Validity.INVALID, claimed, "of another image")
    else:
        verdict = judged(envelope.signer(trust), trust, claimed)
    return Checked(verdict, statement.predicate_type, statement.predicate)


def judged(signer: TrustedKey | None, trust: Trust, claimed: str) -> Verdict:
    """Return the verdict on an intact signature, given who made it of those that are trusted."""
    if signer:
        return Verdict(Validity.VALID, str(signer))
    if claimed:
        return Verdict(Validity.UNVERIFIED, claimed, KEYLESS)
    return Verdict(Validity.UNVERIFIED, "", UNKNOWN_KEY if trust.keys else NO_KEYS)


def is_statement(document: bytes) -> bool:
    """Return whether a blob is JSON, as all payloads are: then it is no layer of an image."""
    try:
        parse_object(document)
    except ValueError:
        return False
    return True


def _signed_digest(payload: bytes) -> str:
    """Return the digest that a payload says is signed.

    Raises:
        Malformed: it says none.
    """
    try:
        critical = respelt(parse_object(payload), ["critical"]).get("critical")
        if not isinstance(critical, dict):
            raise Malformed("the payload has no critical")
        critical = respelt(critical, ["image", "type"])
        image = critical.get("image")
        named = respelt(image, ["docker-manifest-digest"]) if isinstance(image, dict) else {}
    except ValueError as error:
        raise Malformed(f"the payload: {error}") from error
    digest = named.get("docker-manifest-digest")
    if critical.get("type") != _TYPE or not isinstance(digest, str):
        raise Malformed("the payload is not that of a signature of an image")
    return digest


def _identity(annotations: Mapping[str, str]) -> str:
    """Return who made a signature, as its certificate says; empty: there is none that can be read."""
    pem = next(filter(None, map(annotations.get, _CERTIFICATES)), "")
    try:
        return signer_of(x509.load_pem_x509_certificate(pem.encode())) if pem else ""
    except (ValueError, x509.InvalidVersion):
        return "a certificate that cannot be read"
