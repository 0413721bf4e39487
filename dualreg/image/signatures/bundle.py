"""Bundles of sigstore: a signature or a signed statement in one document, beside what it is verified by.

Source: sigstore, protobuf-specs, ``sigstore_bundle.proto``; cosign, specs/BUNDLE_SPEC.md.
"""

from collections.abc import Mapping
from typing import Any

from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.signatures.certificates import read_certificate, signer_of
from dualreg.image.signatures.cosign import check_envelope, judged
from dualreg.image.signatures.trust import Trust, decode, decode_signature
from dualreg.image.signatures.verdict import Checked, Malformed, Target, Validity, Verdict, malformed

#: What the media types of all versions begin with.
PREFIX = "application/vnd.dev.sigstore.bundle"
#: The type of the manifests of bundles that cosign attaches as referrers.
ARTIFACT = f"{PREFIX}.v0.3+json"
#: The annotation in which the manifest of a bundle repeats what is stated.
PREDICATE_TYPE = "dev.sigstore.bundle.predicateType"


def check_bundle(bundle: bytes, target: Target, trust: Trust) -> Checked:
    """Return what is known of a bundle about the manifest *target*.

    Only signatures with a key can be valid: the certificate of a keyless one would need the time stamps of a
    transparency log, too.
    """
    try:
        document = parse_object(bundle)
        if not str(document.get("mediaType")).startswith(PREFIX):
            raise Malformed("no bundle of sigstore")
        claimed = _identity(document.get("verificationMaterial"))
    except ValueError as error:
        return malformed(error)
    if "dsseEnvelope" in document:
        return check_envelope(document["dsseEnvelope"], target, trust, claimed)
    try:
        return Checked(_of_message(document.get("messageSignature"), target, trust, claimed))
    except Malformed as error:
        return malformed(error, claimed)


def _of_message(message: object, target: Target, trust: Trust, claimed: str) -> Verdict:
    """Return the verdict on a signature of the manifest itself.

    Raises:
        Malformed: there is none.
    """
    if not isinstance(message, dict):
        raise Malformed("the bundle has neither an envelope nor a signature")
    signature, stated = decode_signature(message.get("signature")), message.get("messageDigest")
    if isinstance(stated, dict) and stated.get("algorithm") == "SHA2_256":
        digest = decode(stated.get("digest"), "the digest").hex()
        if digest != Digest.of(target.payload).hex:
            return Verdict(Validity.INVALID, claimed, f"of another image: sha256:{digest[:64]}")
    return judged(trust.signer(signature, target.payload), trust, claimed)


def _identity(material: object) -> str:
    """Return who made the signature, as its certificate says; empty: it was made with a key.

    Raises:
        Malformed: the certificate cannot be read.
    """
    if not isinstance(material, dict):
        return ""
    chain = material.get("x509CertificateChain")
    listed = chain.get("certificates") if isinstance(chain, dict) else None
    first: Any = listed[0] if isinstance(listed, list) and listed else material.get("certificate")
    if not isinstance(first, Mapping):
        return ""
    return signer_of(read_certificate(decode(first.get("rawBytes"), "the certificate")))
