"""Policies of signatures: what is pulled and tagged without one, over both APIs, by tag and by digest."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.test import TestResponse

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.signatures import cosign
from dualreg.image.signatures.trust import Trust, read_certificates, read_keys
from dualreg.registry import Registry
from dualreg.registry.signing import Mode, On, SigningPolicies, SigningPolicy
from tests import apps, builders, signers
from tests.apps import client_of
from tests.builders import descriptor
from tests.properties.registries import fresh_registry, push_v1, push_v2
from tests.signers import NOW, Pushed, key_of, push

NAME, OTHER_NAME = RepositoryName("team/app"), RepositoryName("other/app")
LAYER = builders.layer({"a": b"a"})
IMAGE, OTHER = builders.image(LAYER, oci=True), builders.image(builders.layer({"b": b"b"}), oci=True)
ZSTD = builders.zstd_image(LAYER)
INDEX = builders.index(IMAGE, OTHER)
KEY, STRANGER = key_of("ecdsa"), key_of("ecdsa", 1)
ROOT = signers.authority()
LEAF = ROOT.issue("release", key_of("rsa"))
TRUST = Trust(read_keys("release.pub", signers.public_pem(KEY)), read_certificates(ROOT.pem))
SLSA = "https://slsa.dev/provenance/v1"
MANIFESTS = ", ".join(sorted({*media_types.IMAGES, *media_types.INDEXES}))


def as_image(payload: bytes) -> builders.Image:
    """Return an index, as something that is signed."""
    return builders.Image(json.loads(payload)["mediaType"], payload, b"", ())


def policy(mode: Mode = Mode.REFUSE, *on: On, name: str = "release", trust: Trust = TRUST) -> SigningPolicy:
    """Return a policy for ``team/*``."""
    return SigningPolicy(name, ("team/*",), lambda: trust, mode, frozenset(on or On))


class Clock:
    """The time, as the registry has it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the registry."""
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> Iterator[Registry]:
    """A registry without policies, to fill."""
    with fresh_registry(clock) as registry:
        yield registry


def served(registry: Registry, *policies: SigningPolicy, **settings: Any) -> FlaskClient:
    """Return a client of the registry under policies; default: one that refuses."""
    return client_of(registry.requiring(SigningPolicies(policies or (policy(),))), **settings)


def get(client: FlaskClient, reference: object, repository: str = NAME, **headers: str) -> TestResponse:
    """Pull a manifest."""
    return client.get(f"/v2/{repository}/manifests/{reference}", headers={"Accept": MANIFESTS, **headers})


def put(
    client: FlaskClient, reference: object, image: builders.Image | Pushed, query: str = ""
) -> TestResponse:
    """Push a manifest."""
    url = f"/v2/{NAME}/manifests/{reference}{query}"
    return client.put(url, data=image.manifest, content_type=image.media_type)


def reason(answer: TestResponse) -> str:
    """Return the message of a denial."""
    assert answer.status_code == 403, answer.data
    (error,) = answer.json["errors"]
    assert error["code"] == "DENIED"
    return str(error["message"])


def test_what_is_not_signed_is_not_pulled(registry: Registry) -> None:
    """Neither by tag nor by digest; all else about it goes on, and so do other repositories."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    push_v2(registry, OTHER_NAME, Tag("1"), IMAGE)
    client = served(registry)
    expected = f"the image has no valid signature: {NAME}@{IMAGE.digest}: it is not signed (policy release)"
    for reference in ("1", IMAGE.digest):
        assert reason(get(client, reference)) == expected
    assert get(client, "1", OTHER_NAME).status_code == 200
    for path in (f"blobs/{Digest.of(LAYER)}", "tags/list", f"referrers/{IMAGE.digest}"):
        assert client.get(f"/v2/{NAME}/{path}").status_code == 200
    assert get(client, "2").status_code == 404


def test_who_signs_and_who_looks(registry: Registry) -> None:
    """A signing tool reads what it is about to sign; HEAD gives nothing out, so that GET says the reason."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    client = served(registry)
    for agent in ("cosign/v2.4.1 (linux; amd64) go-containerregistry/v0.20.2", "notation/1.3.0"):
        for reference in ("1", IMAGE.digest):
            assert get(client, reference, **{"User-Agent": agent}).status_code == 200
    for reference in ("1", IMAGE.digest):
        head = client.head(f"/v2/{NAME}/manifests/{reference}", headers={"Accept": MANIFESTS})
        assert (head.status_code, head.headers["Docker-Content-Digest"]) == (200, str(IMAGE.digest))
        assert get(client, reference).status_code == 403
        assert get(client, reference, **{"User-Agent": "containerd/2.1.4 cosign/2"}).status_code == 403


SIGNED: Mapping[str, Callable[[builders.Image], Pushed]] = {
    "tag": lambda image: signers.cosign_signature(image, STRANGER, KEY),
    "bundle": lambda image: signers.cosign_bundle(image, KEY),
    "bundle without a type": lambda image: signers.referrer(
        image, signers.EMPTY, signers.BUNDLE, signers.statement_bundle(KEY, image.digest), old=True
    ),
    "message": lambda image: signers.referrer(
        image, signers.BUNDLE, signers.BUNDLE, signers.message_bundle(KEY, image)
    ),
    "notation": lambda image: signers.notation_signature(image, LEAF, ROOT),
}


@pytest.mark.parametrize("form", SIGNED)
def test_what_is_signed_is_pulled(registry: Registry, form: str) -> None:
    """As soon as the signature is there; that it was not was remembered. It can be pulled itself."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    client = served(registry)
    assert get(client, "1").status_code == 403
    signature = SIGNED[form](IMAGE)
    push(registry, NAME, signature)
    for reference in ("1", IMAGE.digest, signature.tag or signature.digest, signature.digest):
        answer = get(client, reference)
        assert (answer.status_code, answer.headers.getlist("Warning")) == (200, [])


_OF_OTHER, _GONE = signers.simple_payload(OTHER.digest), NOW - timedelta(hours=1)
_LARGE = signers.simple_payload(IMAGE.digest) + b" " * (1 << 20)
UNSIGNED: Mapping[str, tuple[Callable[[], Pushed], str]] = {
    "another key": (lambda: signers.cosign_signature(IMAGE, STRANGER), cosign.UNKNOWN_KEY),
    "a bundle of another key": (lambda: signers.cosign_bundle(IMAGE, STRANGER), cosign.UNKNOWN_KEY),
    "another image": (
        lambda: signers.cosign_signature(IMAGE, KEY, payload=_OF_OTHER), "of another image",
    ),
    "an attestation": (lambda: signers.cosign_bundle(IMAGE, KEY, SLSA), "it is not signed"),
    "another authority": (
        lambda: signers.notation_signature(IMAGE, signers.self_signed("x", KEY)), "issued by none",
    ),
    "expired": (
        lambda: signers.notation_signature(IMAGE, ROOT.issue("x", STRANGER, end=_GONE), ROOT),
        "valid from",
    ),
    "too large": (
        lambda: signers.cosign_signature(IMAGE, KEY, payload=_LARGE),
        "it is not signed",
    ),
    "no JSON": (lambda: signers.cosign_signature(IMAGE, KEY, payload=b"\x1f\x8b"), "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSIGNED)
def test_what_does_not_count(registry: Registry, name: str) -> None:
    """The client hears what was found instead of a valid signature."""
    make, expected = UNSIGNED[name]
    push_v2(registry, NAME, Tag("1"), IMAGE)
    push(registry, NAME, make())
    assert expected in reason(get(served(registry), "1"))


def test_a_signed_index_vouches_for_its_images(registry: Registry) -> None:
    """They are pulled by digest; a signed image does not vouch for the index that lists it."""
    for image in (IMAGE, OTHER):
        push_v2(registry, NAME, Tag(f"is-{image.digest.hex[:8]}"), image)
    for tag, content in (
        ("index", INDEX),
        ("nested", builders.index_of(descriptor(media_types.OCI_INDEX, INDEX))),
    ):
        registry.manifests.put(NAME, Tag(tag), media_types.OCI_INDEX, content)
    client = served(registry)
    push(registry, NAME, signers.cosign_bundle(IMAGE, KEY))
    assert get(client, IMAGE.digest).status_code == 200
    for reference in ("index", "nested", OTHER.digest, f"is-{OTHER.digest.hex[:8]}"):
        assert get(client, reference).status_code == 403
    nested = registry.manifests.peek(NAME, Tag("nested"))
    assert nested
    push(registry, NAME, signers.cosign_bundle(as_image(registry.manifests.payload(nested)), KEY))
    for reference in ("index", "nested", Digest.of(INDEX), OTHER.digest, f"is-{OTHER.digest.hex[:8]}"):
        assert get(client, reference).status_code == 200


def test_the_last_indexes_vouch(registry: Registry, clock: Clock) -> None:
    """However many unsigned indexes list an image, those count that were pushed last."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    for number in range(60):
        clock.now += timedelta(seconds=1)
        index = json.loads(builders.index_of(descriptor(IMAGE.media_type, IMAGE.manifest)))
        index["annotations"] = {"number": f"{number}"}
        content = json.dumps(index).encode()
        registry.manifests.put(NAME, Tag(f"index-{number}"), media_types.OCI_INDEX, content)
    push(registry, NAME, signers.cosign_bundle(as_image(content), KEY))
    assert get(served(registry), IMAGE.digest).status_code == 200


def test_keys_are_read_again(registry: Registry, clock: Clock, tmp_path: Path) -> None:
    """A key that is added counts at once, one that is removed for a minute more."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    push(registry, NAME, signers.cosign_bundle(IMAGE, KEY))
    file = tmp_path / "release.pub"
    file.write_bytes(signers.public_pem(STRANGER))
    client = served(registry, SigningPolicy.read("release", ("team/*",), [file], [], mode="refuse"))
    assert reason(get(client, IMAGE.digest)).endswith(f"{cosign.UNKNOWN_KEY} (policy release)")
    for content, status in (
        (signers.public_pem(STRANGER) + signers.public_pem(KEY), 200),
        (b"no key at all", 200),
    ):
        file.write_bytes(content)
        assert get(client, IMAGE.digest).status_code == status
    file.write_bytes(signers.public_pem(STRANGER))
    clock.now += timedelta(minutes=2)
    assert get(client, IMAGE.digest).status_code == 403


def test_editions_of_signed_images(registry: Registry) -> None:
    """A client that cannot read zstd gets an edition by tag, and the digest that it was given."""
    push_v2(registry, NAME, Tag("1"), ZSTD)
    old = {"User-Agent": "docker/20.10.24 go/go1.19.8 os/linux arch/amd64"}
    client = served(registry)
    assert get(client, "1", **old).status_code == 403
    push(registry, NAME, signers.cosign_bundle(ZSTD, KEY))
    edition = get(client, "1", **old).headers["Docker-Content-Digest"]
    assert edition != str(ZSTD.digest)
    assert get(client, edition).status_code == 200
    oldest = {"User-Agent": "docker/1.9.1 go/go1.4.2 os/linux arch/amd64"}
    schema1 = client.get(f"/v2/{NAME}/manifests/1", headers=oldest)
    assert schema1.headers["Content-Type"] == media_types.SCHEMA1_SIGNED


def _disguised(name: str) -> Pushed:
    """Return an image that looks like something that is stated about another one."""
    document = json.loads(IMAGE.manifest)
    if name == "subject":
        document["subject"] = descriptor(OTHER.media_type, OTHER.manifest)
    if name == "vague config":
        document["subject"] = descriptor(OTHER.media_type, OTHER.manifest)
        document["config"]["mediaType"] = media_types.OCTET_STREAM
    if name == "another config":
        document["subject"] = descriptor(OTHER.media_type, OTHER.manifest)
        document["config"]["mediaType"] = "application/vnd.example.config.v1+json"
    if name == "layer of a signature":
        document["layers"] = [descriptor(cosign.SIMPLE_SIGNING, LAYER)]
    if name == "no layers":
        document["layers"] = []
    tag = cosign.tags_of(OTHER.digest)[0]
    return Pushed(json.dumps(document).encode(), [*IMAGE.blobs.values()], tag)


@pytest.mark.parametrize(
    "name", ["plain", "subject", "vague config", "another config", "layer of a signature", "no layers"]
)
def test_no_image_passes_for_a_signature(registry: Registry, name: str) -> None:
    """Not under the tag of a signature either: what clients could run must be signed, pulled or pushed."""
    pushed = _disguised(name)
    push(registry, NAME, pushed)
    client = served(registry)
    for reference in (pushed.tag, pushed.digest):
        assert get(client, reference).status_code == 403
    assert "it is not signed" in reason(put(client, pushed.tag, pushed))


def test_artifacts_about_an_image_need_no_signature(registry: Registry) -> None:
    """A bill of materials is pulled by its digest; a chart is an artifact of its own, and must be signed.

    oras calls every file a layer of an image, beside an empty config.
    """
    report = signers.referrer(IMAGE, "application/spdx+json", "application/spdx+json", b"{}")
    push(registry, NAME, report)
    plain = signers.referrer(IMAGE, "application/spdx+json", media_types.OCI_LAYER, b"{}")
    push(registry, NAME, plain)
    chart = builders.artifact("application/vnd.cncf.helm.config.v1+json", b"{}")
    push_v2(registry, NAME, Tag("chart"), chart)
    client = served(registry)
    assert [get(client, each.digest).status_code for each in (report, plain)] == [200, 200]
    assert get(client, "chart").status_code == 403
    push(registry, NAME, signers.cosign_bundle(chart, KEY))
    assert get(client, "chart").status_code == 200


@pytest.mark.slow
def test_pushes(registry: Registry) -> None:
    """By digest, everything is taken, and so are signatures; a tag only if the image is signed."""
    push_v2(registry, NAME, Tag("before"), IMAGE)
    client = served(registry)
    assert "it is not signed" in reason(put(client, "1", IMAGE))
    assert put(client, IMAGE.digest, IMAGE).status_code == 201
    assert reason(put(client, IMAGE.digest, IMAGE, "?tag=1"))
    assert registry.manifests.peek(NAME, Tag("1")) is None
    signature = signers.cosign_signature(IMAGE, KEY)
    for blob in signature.blobs:
        registry.uploads.ingest(NAME, [blob])
    assert put(client, signature.tag, signature).status_code == 201
    for reference, query in (("1", ""), (IMAGE.digest, "?tag=2&tag=3")):
        answer = put(client, reference, IMAGE, query)
        assert (answer.status_code, answer.headers.getlist("Warning")) == (201, [])
    assert get(client, "3").status_code == 200


def test_a_signature_may_come_before_its_image(registry: Registry) -> None:
    """A referrer is taken before its subject is; the tag then is the first that the registry has of it."""
    push(registry, NAME, signers.cosign_bundle(OTHER, KEY))
    for blob in OTHER.blobs.values():
        registry.uploads.ingest(NAME, [blob])
    assert put(served(registry), "1", OTHER).status_code == 201


@pytest.mark.parametrize(
    ("mode", "on", "pull", "pushed"),
    [
        (Mode.REFUSE, On.PULL, 403, 201),
        (Mode.REFUSE, On.PUSH, 200, 403),
        (Mode.WARN, On.PULL, 200, 201),
        (Mode.WARN, On.PUSH, 200, 201),
        (Mode.OFF, On.PULL, 200, 201),
        (Mode.OFF, On.PUSH, 200, 201),
    ],
)
def test_modes(registry: Registry, mode: Mode, on: On, pull: int, pushed: int) -> None:
    """Each is about pulls, pushes or both; a warning is in the answer, each time."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    client = served(registry, policy(mode, on))
    text = (
        f'299 - "the image has no valid signature: {NAME}@{IMAGE.digest}: it is not signed (policy release)"'
    )
    for _ in range(2):
        answers = {On.PULL: get(client, "1"), On.PUSH: put(client, "2", IMAGE)}
        assert [answer.status_code for answer in answers.values()] == [pull, pushed]
        for each, answer in answers.items():
            expected = [text] if (mode, on) == (Mode.WARN, each) else []
            assert answer.headers.getlist("Warning") == expected


def test_several_policies(registry: Registry) -> None:
    """Each that covers the repository counts, whatever another one says."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    stranger = Trust(read_keys("stranger.pub", signers.public_pem(STRANGER)))
    both = [policy(), policy(Mode.WARN, name="second", trust=stranger)]
    client = served(registry, *both)
    push(registry, NAME, signers.cosign_bundle(IMAGE, KEY))
    answer = get(client, "1")
    assert answer.status_code == 200
    assert "(policy second)" in answer.headers["Warning"]
    push(registry, NAME, signers.cosign_signature(IMAGE, STRANGER))
    assert "Warning" not in get(client, "1").headers


def test_a_deleted_signature(registry: Registry, clock: Clock) -> None:
    """What was signed may be pulled for a minute at most after its signature is gone."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    signature = signers.cosign_bundle(IMAGE, KEY)
    push(registry, NAME, signature)
    client = served(registry)
    assert get(client, "1").status_code == 200
    registry.manifests.delete(NAME, signature.digest)
    for seconds in (30, 29):
        clock.now += timedelta(seconds=seconds)
        for reference in ("1", IMAGE.digest):
            assert get(client, reference).status_code == 200
    clock.now += timedelta(seconds=2)
    for reference in ("1", IMAGE.digest):
        assert get(client, reference).status_code == 403


@pytest.mark.parametrize("kind", ["certificate", "signature"])
def test_what_expires(registry: Registry, clock: Clock, kind: str) -> None:
    """An answer is not repeated any longer when the certificate or the signature has expired."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    end = NOW + timedelta(seconds=30)
    scheme, expiry = "io.cncf.notary.signingScheme", "io.cncf.notary.expiry"
    signed = signers.notation_signature(
        IMAGE,
        ROOT.issue("x", STRANGER, **({"end": end} if kind == "certificate" else {})),
        ROOT,
        **({expiry: f"{end:%Y-%m-%dT%H:%M:%SZ}", "crit": [scheme, expiry]} if kind == "signature" else {}),
    )
    push(registry, NAME, signed)
    client = served(registry)
    assert get(client, "1").status_code == 200
    clock.now = end - timedelta(seconds=1)
    assert get(client, "1").status_code == 200
    clock.now = end + timedelta(seconds=1)
    assert get(client, "1").status_code == 403


CHAIN = builders.v1_chain(builders.layer({"a": b"a"}), builders.layer({"b": b"b"}))


def test_v1_pulls(registry: Registry) -> None:
    """A tag and the ancestry of its image are refused until its manifest is signed."""
    push_v1(registry, NAME, Tag("1"), CHAIN)
    image, row = CHAIN[-1].id, registry.manifests.peek(NAME, Tag("1"))
    assert row
    client = served(registry)
    paths = [f"repositories/{NAME}/tags/1", f"images/{image}/ancestry"]
    for path in paths:
        answer = client.get(f"/v1/{path}")
        assert answer.status_code == 403
        assert answer.json["error"].endswith(f" {NAME}@{row.digest}: it is not signed (policy release)")
    parent = client.get(f"/v1/images/{CHAIN[0].id}/ancestry")
    assert parent.status_code == 403
    assert client.get(f"/v1/repositories/{NAME}/images").status_code == 200
    signed = builders.Image(row.media_type, registry.manifests.payload(row), b"", ())
    push(registry, NAME, signers.cosign_bundle(signed, KEY))
    assert [client.get(f"/v1/{path}").status_code for path in paths] == [200, 200]


def test_v1_views_of_signed_images(registry: Registry) -> None:
    """What V2 clients pushed and signed, V1 clients pull; also the image of a signed index."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    registry.manifests.put(NAME, Tag("index"), media_types.OCI_INDEX, builders.index(IMAGE))
    push(registry, NAME, signers.cosign_bundle(as_image(builders.index(IMAGE)), KEY))
    client = served(registry)
    for tag in ("1", "index"):
        image = client.get(f"/v1/repositories/{NAME}/tags/{tag}")
        assert image.status_code == 200
        assert client.get(f"/v1/images/{image.json}/ancestry").status_code == 200


def test_v1_pushes(registry: Registry) -> None:
    """The image is taken, the tag refused with the digest that has to be signed; then it is set."""
    push_v1(registry, NAME, Tag("before"), CHAIN)
    client = served(registry)
    path = f"/v1/repositories/{NAME}/tags/1"
    refused = client.put(path, json=CHAIN[-1].id)
    assert refused.status_code == 403
    row = registry.manifests.peek(NAME, Tag("before"))
    assert row
    assert str(row.digest) in refused.json["error"]
    signed = builders.Image(row.media_type, registry.manifests.payload(row), b"", ())
    push(registry, NAME, signers.cosign_signature(signed, KEY))
    assert client.put(path, json=CHAIN[-1].id).status_code == 200


def test_a_remembered_verdict_takes_no_statement(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signed image is pulled with the one statement of any pull, though other rows change all the time."""
    monkeypatch.setattr(apps, "COMPARING", False)
    push_v2(registry, NAME, Tag("1"), IMAGE)
    push_v2(registry, OTHER_NAME, Tag("1"), IMAGE)
    push(registry, NAME, signers.cosign_bundle(IMAGE, KEY))
    client, seen = served(registry), list[str]()
    engine = registry.state.catalog.engine
    event.listen(engine, "before_cursor_execute", lambda *each: seen.append(each[2]))
    assert get(client, "1").status_code == 200
    for number, name in enumerate((NAME, OTHER_NAME)):
        push_v2(registry, OTHER_NAME, Tag(f"other-{number}"), OTHER)
        clock.now += timedelta(seconds=20)
        seen.clear()
        assert get(client, "1", name).status_code == 200
        found = [each for each in seen if not each.startswith(("BEGIN", "SELECT pg_current_snapshot"))]
        assert len(found) == 1


def test_hostile_referrers(registry: Registry) -> None:
    """Hundreds of false signatures neither hide the valid one before them nor take long to refuse."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    push_v2(registry, NAME, Tag("2"), OTHER)
    push(registry, NAME, signers.cosign_bundle(IMAGE, KEY))
    for image in (IMAGE, OTHER):
        for number in range(60):
            false = signers.bundle_of({"dsseEnvelope": {"number": number}})
            push(registry, NAME, signers.referrer(image, signers.BUNDLE, signers.BUNDLE, false))
    client = served(registry)
    assert get(client, "1").status_code == 200
    assert ", and 59 more (policy release)" in reason(get(client, "2"))


def test_tiny_hostile_signatures(registry: Registry) -> None:
    """How many are looked at is bounded, not only their bytes."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    payload = signers.simple_payload(IMAGE.digest)
    annotations = signers.simple_annotations(STRANGER, payload)
    layer = descriptor(cosign.SIMPLE_SIGNING, payload, annotations=annotations)
    for number in range(12):
        document = json.loads(signers.referrer(IMAGE, signers.BUNDLE, signers.BUNDLE, b"").manifest)
        document |= {"layers": [layer] * 100, "annotations": {"number": f"{number}"}}
        push(registry, NAME, Pushed(json.dumps(document).encode(), [payload, b"{}"]))
    match = re.search(r"and (\d+) more", reason(get(served(registry), "1")))
    assert match is not None
    assert 900 < int(match[1]) < 1024


def test_audit(registry: Registry, tmp_path: Path) -> None:
    """A refusal has a line in the audit log, although the client has the permission."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    log = tmp_path / "audit.jsonl"
    client = served(registry, audit=str(log))
    assert get(client, "1").status_code == 403
    line = json.loads(log.read_text().splitlines()[-1])
    assert (line["event"], line["repository"], line["status"]) == ("denied", NAME, 403)
