"""Signers: what cosign, current and former, and notation push beside an image, made with keys of tests.

Written after their specifications, by which ``dualreg.image.signatures`` reads the same.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.signatures import bundle, cosign, dsse, notation
from dualreg.image.signatures.verdict import SIGN_PREDICATE, Target
from dualreg.registry import Registry
from tests.builders import Image, descriptor

EMPTY = "application/vnd.oci.empty.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT = "https://in-toto.io/Statement/v1"
NOW = datetime.now(UTC).replace(microsecond=0)
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def target_of(image: Image) -> Target:
    """Return an image as what is signed."""
    return Target(image.media_type, image.digest, image.manifest)


@cache
def key_of(kind: str, number: int = 0) -> Private:
    """Return one of the keys of a kind: ``ecdsa``, ``rsa``, ``ed25519``, or the name of a curve."""
    del number
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"ecdsa": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


def public_pem(key: Private) -> bytes:
    """Return the public key in PEM."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def sign(key: Private, data: bytes) -> str:
    """Return the signature that cosign makes, in base64."""
    match key:
        case ec.EllipticCurvePrivateKey():
            signature = key.sign(data, ec.ECDSA(hashes.SHA256()))
        case rsa.RSAPrivateKey():
            signature = key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        case _:
            signature = key.sign(data)
    return base64.b64encode(signature).decode()


@dataclass(frozen=True)
class Pushed:
    """A manifest with what it names, to be pushed under a tag or, if that is None, by digest."""

    manifest: bytes
    blobs: Sequence[bytes]
    tag: str | None = None
    media_type: str = media_types.OCI_MANIFEST

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return Digest.of(self.manifest)


def push(registry: Registry, repository: RepositoryName, pushed: Pushed) -> None:
    """Push something that is attached to an image."""
    for blob in pushed.blobs:
        registry.uploads.ingest(repository, [blob])
    reference = Tag(pushed.tag) if pushed.tag else pushed.digest
    registry.manifests.put(repository, reference, pushed.media_type, pushed.manifest)


def simple_payload(digest: object, **critical: Any) -> bytes:
    """Return the payload that is signed of a digest."""
    members = {
        "identity": {"docker-reference": "registry.example/team/app"},
        "image": {"docker-manifest-digest": str(digest)},
        "type": "cosign container image signature",
        **critical,
    }
    return json.dumps({"critical": members, "optional": None}).encode()


def simple_annotations(key: Private, payload: bytes, **more: str) -> dict[str, str]:
    """Return the annotations of a layer with that payload."""
    return {"dev.cosignproject.cosign/signature": sign(key, payload), **more}


def cosign_signature(image: Image, *keys: Private, payload: bytes | None = None, **more: str) -> Pushed:
    """Return the manifest under the tag ``sha256-….sig``, with a signature of each key."""
    signed = simple_payload(image.digest) if payload is None else payload
    layers = [
        descriptor(cosign.SIMPLE_SIGNING, signed, annotations=simple_annotations(key, signed, **more))
        for key in keys
    ]
    return attached(image, "sig", layers, signed)


def attached(image: Image, suffix: str, layers: Sequence[Mapping[str, Any]], *blobs: bytes) -> Pushed:
    """Return a manifest under one of the tags of cosign."""
    config = json.dumps({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptor(media_types.OCI_CONFIG, config),
        "layers": layers,
    }
    tag = f"sha256-{image.digest.hex}.{suffix}"
    return Pushed(json.dumps(manifest).encode(), [*blobs, config], tag)


def referrer(
    image: Image,
    artifact_type: str,
    layer_type: str,
    content: bytes,
    *,
    old: bool = False,
    **annotations: str,
) -> Pushed:
    """Return the manifest of a referrer; an *old* one has its type as that of its config."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        **({} if old else {"artifactType": artifact_type}),
        "config": descriptor(artifact_type if old else EMPTY, b"{}"),
        "layers": [descriptor(layer_type, content)],
        "subject": descriptor(image.media_type, image.manifest),
        "annotations": annotations,
    }
    return Pushed(json.dumps(manifest).encode(), [content, b"{}"])


def statement(digest: Digest, predicate_type: str, predicate: Any = None) -> bytes:
    """Return an in-toto statement."""
    subject = [{"name": "", "digest": {digest.algorithm: digest.hex}}]
    members = {"_type": STATEMENT, "subject": subject, "predicateType": predicate_type}
    return json.dumps(members | {"predicate": predicate or {}}).encode()


def envelope(key: Private, payload: bytes, payload_type: str = dsse.IN_TOTO) -> dict[str, Any]:
    """Return the signed envelope of a statement."""
    signed = dsse.Envelope(payload_type, payload, ()).signed_bytes
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": sign(key, signed)}],
    }


def bundle_of(content: Mapping[str, Any], **material: Any) -> bytes:
    """Return a bundle with an envelope or a signature."""
    material = {"tlogEntries": [], **(material or {"publicKey": {"hint": "a2V5"}})}
    return json.dumps({"mediaType": BUNDLE, "verificationMaterial": material, **content}).encode()


def statement_bundle(
    key: Private, digest: Digest, predicate_type: str = SIGN_PREDICATE, predicate: Any = None
) -> bytes:
    """Return the bundle of a signed statement; without further arguments, that of ``cosign sign``."""
    return bundle_of({"dsseEnvelope": envelope(key, statement(digest, predicate_type, predicate))})


def message_bundle(key: Private, image: Image) -> bytes:
    """Return the bundle of a signature of the manifest itself."""
    digest = {"algorithm": "SHA2_256", "digest": base64.b64encode(bytes.fromhex(image.digest.hex)).decode()}
    return bundle_of({"messageSignature": {"messageDigest": digest, "signature": sign(key, image.manifest)}})


def cosign_bundle(
    image: Image, key: Private, predicate_type: str = SIGN_PREDICATE, predicate: Any = None
) -> Pushed:
    """Return the referrer that current releases of cosign push."""
    content = statement_bundle(key, image.digest, predicate_type, predicate)
    return referrer(image, BUNDLE, BUNDLE, content, **{bundle.PREDICATE_TYPE: predicate_type})


@dataclass(frozen=True)
class Authority:
    """A certificate with its key: that of an authority, or of somebody who signs."""

    key: Private
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def issue(
        self, name: str, key: Private, *, ca: bool = False, uses: Sequence[Any] | None = None, **validity: Any
    ) -> "Authority":
        """Return a certificate for *key*; unless *ca*, it is one to sign code with."""
        return _certificate(name, key, self, ca=ca, uses=uses, **validity)


def authority(name: str = "Example CA", key: Private | None = None) -> Authority:
    """Return an authority of its own."""
    return _certificate(name, key or key_of("ecdsa", 100), None, ca=True)


def self_signed(name: str, key: Private) -> Authority:
    """Return the certificate that ``notation certificate generate-test`` makes."""
    return _certificate(name, key, None, ca=False)


def _certificate(
    name: str,
    key: Private,
    issuer: Authority | None,
    *,
    ca: bool,
    uses: Sequence[Any] | None = None,
    begin: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=1),
    signs: bool = True,
) -> Authority:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(signs and not ca, *[False] * 4, ca, ca, *[False] * 2)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(own, critical=False)
    )
    if issuer:
        parent = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(parent, critical=False)
    if not ca:
        named = x509.ExtendedKeyUsage(uses or [ExtendedKeyUsageOID.CODE_SIGNING])
        builder = builder.add_extension(named, critical=False)
    signer = issuer.key if issuer else key
    return Authority(key, builder.sign(signer, hashes.SHA256()))


def url64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_ALGORITHMS = {
    256: ("ES256", hashes.SHA256()),
    384: ("ES384", hashes.SHA384()),
    521: ("ES512", hashes.SHA512()),
}


def notation_envelope(image: Image, *chain: Authority, **changed: Any) -> bytes:
    """Return the JWS that notation writes of an image.

    Args:
        chain: Who signs, and the certificates that lead to the root.
        changed: Members of the target or of the protected header that are others.
    """
    target = {"mediaType": image.media_type, "digest": str(image.digest), "size": len(image.manifest)}
    target |= {name: changed.pop(name) for name in [*changed] if name in target}
    signer = chain[0].key
    algorithm = "PS256" if isinstance(signer, rsa.RSAPrivateKey) else _ALGORITHMS[signer.curve.key_size][0]
    header = {
        "alg": algorithm,
        "cty": "application/vnd.cncf.notary.payload.v1+json",
        "io.cncf.notary.signingScheme": "notary.x509",
        "io.cncf.notary.signingTime": f"{NOW:%Y-%m-%dT%H:%M:%SZ}",
        "crit": ["io.cncf.notary.signingScheme"],
        **changed,
    }
    protected, payload = (url64(json.dumps(each).encode()) for each in (header, {"targetArtifact": target}))
    document = {
        "payload": payload,
        "protected": protected,
        "header": {"x5c": [base64.b64encode(each.der).decode() for each in chain]},
        "signature": url64(_jws(signer, f"{protected}.{payload}".encode())),
    }
    return json.dumps(document).encode()


def _jws(key: Private, data: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    bits = key.curve.key_size
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(_ALGORITHMS[bits][1])))
    half = (bits + 7) // 8
    return r.to_bytes(half, "big") + s.to_bytes(half, "big")


def notation_signature(image: Image, *chain: Authority, **changed: Any) -> Pushed:
    """Return the referrer that notation pushes."""
    content = notation_envelope(image, *chain, **changed)
    return referrer(image, notation.ARTIFACT, notation.JWS, content, old=True)
