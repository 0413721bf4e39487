"""Signatures of images: whose are valid, of what, and what a hostile one can do, which is nothing."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from dualreg.image.layered import Annotated, annotated_layers
from dualreg.image.signatures import cosign, dsse
from dualreg.image.signatures.checking import Checking
from dualreg.image.signatures.trust import Trust, TrustedKey, read_certificates, read_keys
from dualreg.image.signatures.verdict import Checked, Validity
from tests import builders, signers
from tests.signers import NOW, Pushed, key_of

IMAGE, OTHER = (builders.image(builders.layer({name: b""}), oci=True) for name in "ab")
KEY, STRANGER = key_of("ecdsa"), key_of("ecdsa", 1)
ROOT, FOREIGN = signers.authority(), signers.authority("Other CA", key_of("ecdsa", 101))
VALID, INVALID, UNVERIFIED = Validity


def trusting(*keys: Any, roots: tuple[x509.Certificate, ...] = ()) -> Trust:
    """Return the trust in keys and certificates, as read from files."""
    read = [key for each in keys for key in read_keys("release.pub", signers.public_pem(each))]
    return Trust(tuple(read), roots)


def check(pushed: Pushed, trust: Trust, image: builders.Image = IMAGE, now: Any = NOW) -> list[Checked]:
    """Return what is known of the documents that a manifest names, in the order of its layers."""
    blobs = {builders.Digest.of(blob): blob for blob in pushed.blobs}
    checking = Checking(signers.target_of(image), trust, now)
    found = [(each, blobs[each.descriptor.digest]) for each in annotated_layers(pushed.manifest)]
    return [each for each in (checking.check(*one) for one in found) if each]


def verdict(pushed: Pushed, trust: Trust, **more: Any) -> tuple[Validity, str]:
    """Return whether the only signature is valid, and why not."""
    (found,) = check(pushed, trust, **more)
    assert found.is_signature or found.verdict.validity is not VALID
    return found.verdict.validity, found.verdict.reason


FORMS: Mapping[str, Callable[..., Pushed]] = {
    "tag": signers.cosign_signature,
    "bundle": signers.cosign_bundle,
    "message": lambda image, key: signers.referrer(
        image, signers.BUNDLE, signers.BUNDLE, signers.message_bundle(key, image)
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
def test_signatures_with_keys(form: str, kind: str) -> None:
    """One is valid by the key that made it, of that image alone; another key says nothing of it."""
    key = key_of(kind)
    pushed = FORMS[form](IMAGE, key)
    (found,) = check(pushed, trusting(STRANGER, key))
    assert (found.verdict.validity, found.is_signature) == (VALID, True)
    assert found.verdict.by.startswith("key release.pub (")
    assert verdict(pushed, trusting(STRANGER)) == (UNVERIFIED, cosign.UNKNOWN_KEY)
    assert verdict(pushed, Trust()) == (UNVERIFIED, cosign.NO_KEYS)
    (moved,) = check(pushed, trusting(key), image=OTHER)
    assert moved.verdict.validity is INVALID
    assert "of another image" in moved.verdict.reason


def _bundle(content: bytes) -> Pushed:
    return signers.referrer(IMAGE, signers.BUNDLE, signers.BUNDLE, content)


def _bundle_with(**members: Any) -> Pushed:
    """Return the bundle of a signature with other members in its envelope."""
    signed = signers.statement(IMAGE.digest, signers.SIGN_PREDICATE)
    return _bundle(signers.bundle_of({"dsseEnvelope": signers.envelope(KEY, signed) | members}))


def _simple(payload: bytes, **annotations: str) -> Pushed:
    return signers.cosign_signature(IMAGE, KEY, payload=payload, **annotations)


SIGNATURE = "dev.cosignproject.cosign/signature"
_SIGNED = base64.b64encode(signers.statement(IMAGE.digest, signers.SIGN_PREDICATE)).decode()
_TWICE = {"docker-manifest-digest": str(IMAGE.digest), "Docker-manifest-digest": "x"}
BROKEN: Mapping[str, tuple[Pushed, Validity]] = {
    "a signature that is none": (
        signers.cosign_signature(IMAGE, KEY, **{SIGNATURE: "ää"}), INVALID,
    ),
    "an empty one": (signers.cosign_signature(IMAGE, KEY, **{SIGNATURE: ""}), INVALID),
    "a long one": (signers.cosign_signature(IMAGE, KEY, **{SIGNATURE: "AAAA" * 400}), INVALID),
    "one of another payload": (
        signers.cosign_signature(IMAGE, KEY, **{SIGNATURE: signers.sign(KEY, b"other")}), UNVERIFIED,
    ),
    "a payload that is no JSON": (_simple(b"\x1f\x8b"), INVALID),
    "a deep one": (_simple(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), INVALID),
    "a number of many digits": (_simple(b'{"critical": ' + b"1" * 100_000 + b"}"), INVALID),
    "an ambiguous one": (_simple(b'{"critical": {}, "critical": {}}'), INVALID),
    "one of another type": (_simple(signers.simple_payload(IMAGE.digest, type="atomic")), INVALID),
    "no digest": (_simple(signers.simple_payload(IMAGE.digest, image=None)), INVALID),
    "a digest of two spellings": (
        _simple(signers.simple_payload(IMAGE.digest, image=_TWICE)), INVALID,
    ),
    "an empty bundle": (_bundle(b"{}"), INVALID),
    "a bundle of nothing": (_bundle(signers.bundle_of({})), INVALID),
    "another type of payload": (_bundle_with(payloadType="text/plain"), INVALID),
    "no signatures": (_bundle_with(signatures=[]), INVALID),
    "a list of nothing": (_bundle_with(signatures=[1]), UNVERIFIED),
    "too many signatures": (_bundle_with(signatures=[{"sig": "AAAA"}] * 17), INVALID),
    "a payload that is no statement": (_bundle_with(payload="e30="), INVALID),
    "a payload that is not base64": (_bundle_with(payload="e30"), INVALID),
    "a signed payload with something added": (
        _bundle_with(payload=base64.b64encode(base64.b64decode(_SIGNED) + b" ").decode()), UNVERIFIED,
    ),
    "a certificate that is none": (
        _bundle(signers.bundle_of({}, certificate={"rawBytes": "AAAA"})), INVALID,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_valid_signature(name: str) -> None:
    """What is malformed, tampered with or ambiguous is not valid, by any key."""
    pushed, expected = BROKEN[name]
    found, reason = verdict(pushed, trusting(KEY))
    assert (found, bool(reason)) == (expected, True)


def test_spelling_of_the_digest() -> None:
    """The specification's example writes ``Docker-manifest-digest``, which programs in Go read as well."""
    payload = signers.simple_payload(IMAGE.digest, image={"Docker-manifest-digest": str(IMAGE.digest)})
    assert verdict(_simple(payload), trusting(KEY)) == (VALID, "")


def test_several_signatures() -> None:
    """Each layer is one of its own."""
    found = check(signers.cosign_signature(IMAGE, STRANGER, KEY), trusting(KEY))
    assert [each.verdict.validity for each in found] == [UNVERIFIED, VALID]


@pytest.mark.parametrize("predicate", ["https://slsa.dev/provenance/v1", "https://spdx.dev/Document"])
def test_attestations_sign_no_image(predicate: str) -> None:
    """Whoever says how an image was built does not approve of it: a valid statement is no signature."""
    envelope = json.dumps(signers.envelope(KEY, signers.statement(IMAGE.digest, predicate))).encode()
    layer = builders.descriptor(cosign.DSSE, envelope, annotations={"predicateType": predicate})
    for pushed in (
        signers.cosign_bundle(IMAGE, KEY, predicate),
        signers.attached(IMAGE, "att", [layer], envelope),
    ):
        (found,) = check(pushed, trusting(KEY))
        assert (found.verdict.validity, found.predicate_type) == (VALID, predicate)
        assert not found.is_signature
        (moved,) = check(pushed, trusting(KEY), image=OTHER)
        assert moved.verdict.validity is INVALID


def _fulcio() -> signers.Authority:
    """A certificate as Fulcio issues it."""
    issued = signers.authority("sigstore").issue("unnamed", STRANGER)
    names = x509.SubjectAlternativeName([x509.RFC822Name("alice@example.com")])
    issuer = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8"), b"\x0c\x1bhttps://accounts.example.com"
    )
    old = issued.certificate
    builder = x509.CertificateBuilder(
        x509.Name([]), x509.Name([]), old.public_key(), 1, old.not_valid_before_utc, old.not_valid_after_utc
    )
    builder = builder.add_extension(names, critical=True).add_extension(issuer, critical=False)
    return replace(issued, certificate=builder.sign(ROOT.key, signers.hashes.SHA256()))


def test_keyless_signatures_are_shown_but_not_verified() -> None:
    """Of a certificate of Fulcio, the identity and who vouched for it are shown; neither proves anything."""
    signer = _fulcio()
    material = {"rawBytes": base64.b64encode(signer.der).decode()}
    envelope = signers.envelope(STRANGER, signers.statement(IMAGE.digest, signers.SIGN_PREDICATE))
    chain = {"certificates": [material]}
    for pushed in (
        _bundle(signers.bundle_of({"dsseEnvelope": envelope}, certificate=material)),
        _bundle(signers.bundle_of({"dsseEnvelope": envelope}, x509CertificateChain=chain)),
        signers.cosign_signature(IMAGE, STRANGER, **{"dev.sigstore.cosign/certificate": signer.pem.decode()}),
    ):
        (found,) = check(pushed, trusting(KEY, roots=(signer.certificate,)))
        assert found.verdict[:3] == (
            UNVERIFIED, "alice@example.com by https://accounts.example.com", cosign.KEYLESS,
        )  # fmt: skip


def test_envelopes_by_the_example_of_their_specification() -> None:
    """The bytes that are signed, and a signature of them, are those that DSSE's ``protocol.md`` prints."""
    envelope = dsse.Envelope("http://example.com/HelloWorld", b"hello world", ())
    assert envelope.signed_bytes == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    x = 46950820868899156662930047687818585632848591499744589407958293238635476079160
    y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    raw = base64.b64decode(
        "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    )
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    trust = Trust((TrustedKey(key, "example"),))
    assert replace_signatures(envelope, signature).signer(trust) == trust.keys[0]
    assert replace_signatures(envelope._replace(payload=b"hello"), signature).signer(trust) is None


def replace_signatures(envelope: dsse.Envelope, *signatures: bytes) -> dsse.Envelope:
    """Return an envelope with other signatures."""
    return envelope._replace(signatures=signatures)


INTERMEDIATE = ROOT.issue("Intermediate", key_of("ecdsa", 102), ca=True)


def _leaf(kind: str = "ecdsa", issuer: signers.Authority = ROOT, **more: Any) -> signers.Authority:
    return issuer.issue("release", key_of(kind), **more)


SERVER, CODE = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING
_SOON, _GONE = NOW + timedelta(minutes=1), NOW - timedelta(minutes=1)
_FUTURE, _PAST = (f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in (_SOON, _GONE))
_CRITICAL = _SCHEME, _EXPIRY = "io.cncf.notary.signingScheme", "io.cncf.notary.expiry"
_ALIEN = ROOT.issue("alien", key_of("ed25519"))
NOTATION: Mapping[str, tuple[tuple[signers.Authority, ...], Mapping[str, Any], Validity, str]] = {
    "ecdsa": ((_leaf(), ROOT), {}, VALID, ""),
    "rsa": ((_leaf("rsa"), ROOT), {}, VALID, ""),
    "p384": ((_leaf("p384"), ROOT), {}, VALID, ""),
    "p521": ((_leaf("p521"), ROOT), {}, VALID, ""),
    "without the root": ((_leaf(),), {}, VALID, ""),
    "intermediate": ((_leaf(issuer=INTERMEDIATE), INTERMEDIATE, ROOT), {}, VALID, ""),
    "a gap": ((_leaf(issuer=INTERMEDIATE), ROOT), {}, UNVERIFIED, "issued by none"),
    "another authority": ((_leaf(issuer=FOREIGN), FOREIGN), {}, UNVERIFIED, "issued by none"),
    "self-signed": ((signers.self_signed("x", KEY),), {}, UNVERIFIED, "issued by none"),
    "an authority signs": ((ROOT,), {}, UNVERIFIED, "authority"),
    "issued by no authority": (
        (_leaf("rsa", _leaf()), _leaf(), ROOT), {}, UNVERIFIED, "issued by none",
    ),
    "for servers": ((_leaf(uses=[SERVER]), ROOT), {}, UNVERIFIED, "not for signing code"),
    "for both": ((_leaf(uses=[SERVER, CODE]), ROOT), {}, UNVERIFIED, "not for signing code"),
    "not for signatures": ((_leaf(signs=False), ROOT), {}, UNVERIFIED, "not for signatures"),
    "certificate expired": ((_leaf(end=_GONE), ROOT), {}, UNVERIFIED, "valid from"),
    "certificate of the future": ((_leaf(begin=_SOON), ROOT), {}, UNVERIFIED, "valid from"),
    "not expired": ((_leaf(), ROOT), {_EXPIRY: _FUTURE, "crit": _CRITICAL}, VALID, ""),
    "expired": ((_leaf(), ROOT), {_EXPIRY: _PAST, "crit": _CRITICAL}, INVALID, "expired on"),
    "expired, not critical": ((_leaf(), ROOT), {_EXPIRY: _PAST}, INVALID, "expired on"),
    "expiry is no time": ((_leaf(), ROOT), {_EXPIRY: "soon"}, INVALID, "expiry"),
    "another digest": ((_leaf(), ROOT), {"digest": str(OTHER.digest)}, INVALID, "of another image"),
    "another size": ((_leaf(), ROOT), {"size": 1}, INVALID, "another size"),
    "another media type": ((_leaf(), ROOT), {"mediaType": "x/y"}, INVALID, "media type"),
    "another payload type": ((_leaf(), ROOT), {"cty": "text/plain"}, INVALID, "unknown type"),
    "another algorithm": ((_leaf(), ROOT), {"alg": "ES384"}, INVALID, "alg does not belong"),
    "none": ((_leaf(), ROOT), {"alg": "none"}, INVALID, "alg does not belong"),
    "unknown scheme": ((_leaf(), ROOT), {_SCHEME: "notary.x509.signingAuthority"}, UNVERIFIED, "scheme"),
    "scheme is not critical": ((_leaf(), ROOT), {"crit": []}, UNVERIFIED, "not critical"),
    "demands a plugin": (
        (_leaf(), ROOT), {"crit": [_SCHEME, "io.cncf.notary.verificationPlugin"]}, UNVERIFIED, "demands",
    ),
    "demands no text": ((_leaf(), ROOT), {"crit": [_SCHEME, {"a": []}]}, UNVERIFIED, "demands"),
    "expired before the first day": (
        (_leaf(), ROOT),
        {"crit": [_SCHEME, _EXPIRY], _EXPIRY: "0001-01-01T00:00:00+23:59"},
        INVALID, "expired on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTATION)
def test_signatures_of_notation(name: str) -> None:
    """The table of the rules of the Notary Project's specification, each broken in turn."""
    chain, changed, expected, reason = NOTATION[name]
    found, why = verdict(
        signers.notation_signature(IMAGE, *chain, **changed), trusting(roots=(ROOT.certificate,))
    )
    assert found is expected, why
    assert reason in why


def test_certificates_that_are_trusted_themselves() -> None:
    """The test certificates of notation are self-signed: they are trusted by themselves, if at all."""
    own = signers.self_signed("example.com", KEY)
    pushed = signers.notation_signature(IMAGE, own)
    (root,) = read_certificates(own.pem)
    (found,) = check(pushed, Trust(roots=(root,)))
    assert found.verdict == (VALID, "certificate CN=example.com", "", own.certificate.not_valid_after_utc)
    assert verdict(pushed, trusting(KEY)) == (UNVERIFIED, "there is no certificate for it in the settings")
    later = own.certificate.not_valid_after_utc + timedelta(seconds=1)
    assert verdict(pushed, Trust(roots=(root,)), now=later)[0] is UNVERIFIED


def test_envelopes_of_notation_that_were_tampered_with() -> None:
    """Any part that is changed, lost or of another type makes it malformed."""
    document = json.loads(signers.notation_envelope(IMAGE, _leaf(), ROOT))
    other = json.loads(signers.notation_envelope(OTHER, _leaf(), ROOT))
    changes: list[dict[str, Any]] = [{part: other[part]} for part in ("payload", "signature")]
    changes += [{part: value} for part in document for value in (None, 1, "", "ä", "e30", {}, [])]
    changes += [{"header": {"x5c": chain}} for chain in (["AAAA"], [], [1], document["header"]["x5c"] * 9)]
    changes.append({"header": {"x5c": [base64.b64encode(_ALIEN.der).decode()]}})
    for change in changes:
        content = json.dumps(document | change).encode()
        pushed = signers.referrer(IMAGE, "x", "application/jose+json", content)
        assert verdict(pushed, trusting(roots=(ROOT.certificate,)))[0] is INVALID, change


def test_cose_is_not_verified() -> None:
    """It is shown, and why it does not count."""
    pushed = signers.referrer(IMAGE, "x", "application/cose", b"\xd2\x84")
    assert verdict(pushed, trusting(KEY))[0] is UNVERIFIED


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_MEMBERS = ("payload", "protected", "header", "signature", "dsseEnvelope", "messageSignature",
            "verificationMaterial", "critical", "payloadType", "signatures")  # fmt: skip
_TYPES = (cosign.SIMPLE_SIGNING, cosign.DSSE, signers.BUNDLE, "application/jose+json", "application/cose")


@pytest.mark.slow
@given(
    st.one_of(
        st.binary(max_size=100),
        st.dictionaries(st.sampled_from(_MEMBERS), _JSON).map(
            lambda members: json.dumps({"mediaType": signers.BUNDLE, **members}).encode()
        ),
    ),
    st.dictionaries(st.sampled_from([SIGNATURE, "dev.sigstore.cosign/certificate"]), st.text(max_size=20)),
)
def test_no_document_breaks_the_check(content: bytes, annotations: dict[str, str]) -> None:
    """Whatever is in it: it is not valid, and nothing is raised."""
    checking = Checking(signers.target_of(IMAGE), trusting(KEY, roots=(ROOT.certificate,)), NOW)
    for media_type in _TYPES:
        descriptor = builders.descriptor(media_type, content)
        (layer,) = annotated_layers(json.dumps({"layers": [descriptor]}).encode())
        found = checking.check(Annotated(layer.descriptor, annotations), content)
        assert found
        assert found.verdict.validity is not VALID


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (b"", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "broken"),
        (signers.public_pem(key_of("p384")), "expected keys"),
        (ROOT.pem, "no public key"),
    ],
)
def test_keys_that_cannot_be_used(pem: bytes, reason: str) -> None:
    """An operator hears what is wrong with the file."""
    with pytest.raises(ValueError, match=reason):
        read_keys("release.pub", pem)


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (signers.public_pem(KEY), "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "broken"),
    ],
)
def test_certificates_that_cannot_be_used(pem: bytes, reason: str) -> None:
    """So they do with certificates."""
    with pytest.raises(ValueError, match=reason):
        read_certificates(pem)


def test_tags_of_cosign() -> None:
    """The tags are made of the digest."""
    tags = [f"sha256-{IMAGE.digest.hex}.{suffix}" for suffix in ("sig", "att", "sbom")]
    assert [*cosign.tags_of(IMAGE.digest)] == tags
