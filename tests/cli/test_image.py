"""``dualreg image show`` tells of an image, of any generation, and of what is attached to it."""

import gzip
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.jws import SigningKey, sign
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.signatures import cosign, dsse
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import builders, signers
from tests.builders import descriptor
from tests.migrate.stock_trees import schema1_payload
from tests.programs import unannounced
from tests.properties.registries import push_v1, push_v2
from tests.signers import Pushed, key_of, push
from tests.state import blob_file

NAME = RepositoryName("team/app")
LAYERS = [builders.layer({name: b""}) for name in "ab"]
HISTORY = [
    {"created": "2026-01-01T00:00:00Z", "created_by": "ADD rootfs /"},
    {"created": "2026-01-02T00:00:00Z", "created_by": "ENV A=1", "empty_layer": True},
    {"created": "2026-01-03T00:00:00Z", "created_by": "RUN \x1b[31mmake\n  all"},
]
CONFIG = {
    "Entrypoint": ["/init"],
    "Cmd": ["run"],
    "User": "app",
    "Labels": {"team": "a\x1b[0m"},
    "Env": ["A=1"],
}
IMAGE = builders.image(
    *LAYERS, oci=True, created="2026-01-03T00:00:00Z", author="Alice", history=HISTORY, config=CONFIG
)
ARM = builders.image(LAYERS[0], oci=True, architecture="arm64")
CHAIN = builders.v1_chain(*LAYERS)
KEY, STRANGER = key_of("ecdsa"), key_of("ecdsa", 1)
ROOT = signers.authority()
LEAF = ROOT.issue("release", key_of("rsa"))
SPDX = {
    "spdxVersion": "SPDX-2.3",
    "creationInfo": {"creators": ["Person: x", "Tool: syft-1.2"]},
    "packages": [1, 2],
}
CYCLONEDX = {
    "bomFormat": "CycloneDX",
    "metadata": {"tools": [{"name": "trivy", "version": "0.5"}]},
    "components": [1],
}
SARIF = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "grype"}}, "results": [1, 2, 3]}]}
TRIVY = {"SchemaVersion": 2, "Results": [{"Vulnerabilities": [1]}, {"Vulnerabilities": None}]}
PROVENANCE = {"buildDefinition": {}, "runDetails": {"builder": {"id": "https://ci.example/build"}}}
SPDX_PREDICATE = "https://spdx.dev/Document"
SLSA = "https://slsa.dev/provenance/v1"


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _report(image: builders.Image, media_type: str, document: Any, **annotations: str) -> Pushed:
    return signers.referrer(image, media_type, media_type, _json(document), **annotations)


def _old_sbom() -> Pushed:
    content = _json(CYCLONEDX)
    return signers.attached(IMAGE, "sbom", [descriptor("application/vnd.cyclonedx+json", content)], content)


def _old_attestation() -> Pushed:
    content = _json(signers.envelope(KEY, signers.statement(IMAGE.digest, SPDX_PREDICATE, SPDX)))
    return signers.attached(IMAGE, "att", [descriptor(cosign.DSSE, content)], content)


_OTHER = f"of another image: {ARM.digest}"
#: What is attached to the image, and the line that tells of it, but for its place.
ATTACHED: Sequence[tuple[Pushed, str]] = [
    (signers.cosign_signature(IMAGE, KEY), "Signature (cosign); valid, signed by key release.pub ("),
    (
        _old_attestation(),
        f"SBOM (SPDX); {SPDX_PREDICATE}; 2 packages; made by syft-1.2; valid, signed by key",
    ),
    (_old_sbom(), "SBOM (CycloneDX); 1 component; made by trivy 0.5; in sha256-"),
    (
        signers.cosign_bundle(IMAGE, STRANGER),
        "Signature (cosign bundle); NOT VERIFIED: made with none of the keys in the settings; in sha256:",
    ),
    (
        signers.cosign_bundle(IMAGE, KEY, SLSA, PROVENANCE),
        f"Attestation (SLSA provenance); {SLSA}; made by https://ci.example/build; valid, signed by key",
    ),
    (
        signers.notation_signature(IMAGE, LEAF, ROOT),
        "Signature (notation); valid, signed by certificate CN=release; in",
    ),
    (
        signers.notation_signature(IMAGE, LEAF, ROOT, digest=str(ARM.digest)),
        f"Signature (notation); INVALID, says to be by certificate CN=release: {_OTHER}; in",
    ),
    (_report(IMAGE, "application/spdx+json", SPDX), "SBOM (SPDX); 2 packages; made by syft-1.2; in"),
    (_report(IMAGE, "application/sarif+json", SARIF), "Scan report (SARIF); 3 results; made by grype; in"),
    (
        _report(IMAGE, "application/vnd.example.trivy", TRIVY),
        "Scan report (Trivy); 1 vulnerability; made by trivy; in",
    ),
    (_report(IMAGE, "application/vnd.example.\u202ething", {}), "Application/vnd.example.\\u202ething; in"),
    (
        signers.referrer(IMAGE, "application/spdx+json", "application/spdx+json", b"{" * 3_000_000),
        "SBOM (SPDX); in",
    ),
    (
        signers.referrer(IMAGE, "application/spdx+json", "application/spdx+json", b" " * (5 << 20)),
        "SBOM (SPDX); too large to be read, or lost; in",
    ),
]  # fmt: skip


def _buildkit_index() -> tuple[bytes, Pushed]:
    """Return an index as BuildKit writes it, and the manifest of its attestations."""
    provenance = signers.statement(ARM.digest, SLSA, PROVENANCE)
    layer = descriptor(dsse.IN_TOTO, provenance, annotations={"in-toto.io/predicate-type": SLSA})
    config = _json({"os": "unknown", "architecture": "unknown"})
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": descriptor(media_types.OCI_CONFIG, config),
            "layers": [layer],
        }
    )
    about = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(ARM.digest),
    }
    unknown = {"os": "unknown", "architecture": "unknown"}
    return builders.index_of(
        descriptor(IMAGE.media_type, IMAGE.manifest, platform={"os": "linux", "architecture": "amd64"}),
        descriptor(ARM.media_type, ARM.manifest, platform={"os": "linux", "architecture": "arm64"}),
        descriptor(IMAGE.media_type, manifest, platform=unknown, annotations=about),
    ), Pushed(manifest, [provenance, config])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a registry with images of all generations, and its configuration."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "release.pub").write_bytes(signers.public_pem(KEY))
    (folder / "ca.pem").write_bytes(ROOT.pem)
    table = '[signatures.release]\nrepositories = "team/*"\nkeys = ["release.pub"]\ncertificates = "ca.pem"\n'
    (folder / "dualreg.toml").write_text(f'data = "{folder / "data"}"\n{table}')
    settings = Settings(data=folder / "data")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        _fill(registry)
    return folder


def _fill(registry: Registry) -> None:
    push_v2(registry, NAME, Tag("1"), IMAGE)
    push_v2(registry, NAME, Tag("also"), IMAGE)
    push_v2(registry, NAME, Tag("arm"), ARM)
    for pushed, _ in ATTACHED:
        push(registry, NAME, pushed)
    index, attestations = _buildkit_index()
    push(registry, NAME, attestations)
    registry.manifests.put(NAME, Tag("latest"), media_types.OCI_INDEX, index)
    push_v1(registry, NAME, Tag("v1"), CHAIN)
    body = sign(schema1_payload(NAME, "schema1", *LAYERS), SigningKey.generate(), registry.now())
    registry.manifests.put(NAME, Tag("schema1"), media_types.SCHEMA1_SIGNED, body)
    push_v2(
        registry, NAME, Tag("chart"), builders.artifact("application/vnd.cncf.helm.config.v1+json", b"{}")
    )
    push_v2(registry, RepositoryName("other/app"), Tag("1"), IMAGE)
    push(registry, RepositoryName("other/app"), ATTACHED[0][0])


def show(data: Path, *arguments: str) -> Result:
    """Run the command."""
    return unannounced(
        CliRunner().invoke(main, ["image", "show", *arguments, "--config", str(data / "dualreg.toml")])
    )


def test_what_an_image_is(data: Path) -> None:
    """Digest, tags, what its config says, and each step of its build with the size of its layer."""
    lines = show(data, "team/app:1").stdout.splitlines()
    assert f"digest      {IMAGE.digest}" in lines
    assert "tags        1, also" in lines
    for line in (
        "platform     linux/amd64", "created      2026-01-03T00:00:00Z", "author       Alice",
        "entrypoint   /init", "command      run", "user         app", "environment  A=1",
        "label team   a\\x1b[0m",
    ):  # fmt: skip
        assert line in lines
    at = lines.index("CREATED     SIZE      LAYER         IMAGES  V1 IMAGES  COMMAND")
    digests = [Digest.of(layer).hex[:12] for layer in LAYERS]
    assert [line.split(maxsplit=3) for line in lines[at + 1 : at + 4]] == [
        ["2026-01-01", str(len(LAYERS[0])), "bytes", f"{digests[0]}  4       1          ADD rootfs /"],
        ["2026-01-02", "-", "-", "-       -          ENV A=1"],
        [
            "2026-01-03",
            str(len(LAYERS[1])),
            "bytes",
            f"{digests[1]}  3       1          RUN \\x1b[31mmake all",
        ],
    ]


def test_what_is_attached(data: Path) -> None:
    """One line each, in words; what clients wrote neither moves the cursor nor costs more than its bound."""
    lines = show(data, "team/app:1").stdout.splitlines()[-len(ATTACHED) :]
    for line, (pushed, expected) in zip(lines, ATTACHED, strict=True):
        assert line.startswith(expected), line
        assert line.endswith(pushed.tag or str(pushed.digest)), line


def test_other_repositories_have_other_keys(data: Path) -> None:
    """A key counts where the settings say so."""
    (line,) = (each for each in show(data, "other/app:1").stdout.splitlines() if each.startswith("Sig"))
    assert "NOT VERIFIED: there is no key for it in the settings" in line


def test_an_index(data: Path) -> None:
    """Its platforms are listed; the image for one of them is shown, with what BuildKit attached to it."""
    lines = show(data, "team/app", "--platform", "linux/arm64").stdout.splitlines()
    assert f"image     {ARM.digest}" in lines
    assert [line.split()[0] for line in lines if str(ARM.digest) in line] == ["linux/arm64", "image"]
    assert any(line.startswith(f"(attached to {ARM.digest.hex[:12]})") for line in lines)
    expected = f"Attestation (SLSA provenance); {SLSA}; made by https://ci.example/build; in sha256:"
    assert lines[-1].startswith(expected)
    assert lines[-1].endswith(f", about {ARM.digest.hex[:12]}")
    amd = show(data, "team/app:latest", "--json")
    assert json.loads(amd.stdout)["image"]["digest"] == str(IMAGE.digest)
    absent = show(data, "team/app", "--platform", "windows/amd64").stdout
    assert "The repository has no image for windows/amd64; give another --platform." in absent


@pytest.mark.parametrize(
    ("tag", "steps"),
    [
        ("v1", [(each.id, len(each.layer)) for each in CHAIN]),
        ("schema1", [(None, len(layer)) for layer in LAYERS]),
    ],
)
def test_old_generations(data: Path, tag: str, steps: Sequence[tuple[str | None, int]]) -> None:
    """The chain of a V1 image is shown as its clients pushed it; schema 1 as its documents say."""
    found = json.loads(show(data, f"team/app:{tag}", "--json").stdout)["image"]
    assert [each["size"] for each in found["steps"]] == [size for _, size in steps]
    if tag == "v1":
        assert [each["image"] for each in found["steps"]] == [image for image, _ in steps]
        assert (found["v1_image"], found["pushed_chain"]) == (CHAIN[-1].id, True)
    assert found["description"]["platform"] == "linux/amd64"
    assert show(data, f"team/app:{tag}").exit_code == 0


def test_json(data: Path) -> None:
    """Programs get the same, as it is."""
    found = json.loads(show(data, f"team/app@{IMAGE.digest}", "--json").stdout)
    assert (found["repository"], found["digest"], found["tags"]) == (
        "team/app",
        str(IMAGE.digest),
        ["1", "also"],
    )
    assert found["image"]["description"]["labels"] == {"team": "a\x1b[0m"}
    first = found["attachments"][0]
    expected: Mapping[str, Any] = {"sort": "signature", "format": "cosign", "validity": "valid", "reason": ""}
    assert {name: first[name] for name in expected} == expected
    assert [each["validity"] for each in found["attachments"]].count("valid") == 4
    assert found["more"] == []


def test_artifacts(data: Path) -> None:
    """What is no image is shown with its type."""
    lines = show(data, "team/app:chart").stdout.splitlines()
    assert "artifact type  application/vnd.cncf.helm.config.v1+json" in lines
    assert lines[-1] == "Nothing is attached to it."


@pytest.mark.slow
def test_thousands_of_attachments(tmp_path: Path) -> None:
    """They are not read; it is said that there are more."""
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    (tmp_path / "dualreg.toml").write_text(f'data = "{settings.data}"')
    with closing(open_registry(settings)) as registry:
        push_v2(registry, NAME, Tag("1"), ARM)
        for number in range(101):
            push(registry, NAME, _report(ARM, "application/x", {}, number=str(number)))
    lines = show(tmp_path, "team/app:1").stdout.splitlines()
    assert lines[-1] == "There are more attachments; only the first ones are shown."
    assert sum(line.startswith("Application/x; in") for line in lines) == 100


def test_lost_documents(data: Path, tmp_path: Path) -> None:
    """A lost config leaves out what it says; of a lost manifest there is nothing to say."""
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    (tmp_path / "dualreg.toml").write_text(f'data = "{settings.data}"')
    with closing(open_registry(settings)) as registry:
        push_v2(registry, NAME, Tag("1"), IMAGE)
    blob_file(settings.data, Digest.of(IMAGE.config)).unlink()
    assert json.loads(show(tmp_path, "team/app:1", "--json").stdout)["image"]["description"] is None
    blob_file(settings.data, IMAGE.digest).unlink()
    assert "manifest unknown" in show(tmp_path, "team/app:1").stderr
    (data / "broken.toml").write_text(
        f'data = "{settings.data}"\n[signatures.x]\nrepositories="*"\nkeys="no.pub"'
    )
    result = CliRunner().invoke(main, ["image", "show", "a", "--config", str(data / "broken.toml")])
    assert f"signatures.x: {data / 'no.pub'}: No such file or directory" in result.stderr


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("team/app:2", "manifest unknown"),
        ("team/none", "manifest unknown"),
        (f"team/app@sha256:{'0' * 64}", "manifest unknown"),
        ("team/app@sha256:0", "digest"),
        ("Team/app", "invalid repository name"),
        ("team/app:", "invalid tag name"),
    ],
)
def test_what_there_is_not(data: Path, reference: str, message: str) -> None:
    """An error names what is unknown or malformed, in one line."""
    result = show(data, reference)
    assert result.exit_code == 1
    assert message in result.stderr


GENERATIONS = ["1", "v1", "schema1", "latest"]


def run(data: Path, *arguments: str) -> Result:
    """Run a command of the group."""
    return unannounced(
        CliRunner().invoke(main, ["image", *arguments, "--config", str(data / "dualreg.toml")])
    )


@pytest.mark.parametrize("tag", GENERATIONS)
def test_files_of_a_layer(data: Path, tag: str) -> None:
    """Of images of all generations; the last layer, unless one is named by the beginning of its digest."""
    digests = [Digest.of(each) for each in LAYERS]
    found = run(data, "files", f"team/app:{tag}")
    assert found.exit_code == 0
    assert found.stdout.splitlines() == [
        f"Layer 2 of 2: {digests[1]}",
        "PERMISSIONS  OWNER  SIZE     MODIFIED              NAME",
        "-rw-r--r--   0:0    0 bytes  1970-01-01 00:00 UTC  /b",
        "1 entry.",
    ]
    other = run(data, "files", f"team/app:{tag}", "--layer", digests[0].hex[:12], "--json")
    assert [json.loads(line)["path"] for line in other.stdout.splitlines()] == ["/a"]
    assert run(data, "files", f"team/app:{tag}", "none").stdout.splitlines()[1:] == ["0 entries."]


@pytest.mark.parametrize("tag", GENERATIONS)
def test_changes_of_a_layer(data: Path, tag: str) -> None:
    """Against the layers below it in the image."""
    lines = run(data, "diff", f"team/app:{tag}").stdout.splitlines()
    assert lines[-2:] == [
        "added   -rw-r--r--   0:0    0 bytes  1970-01-01 00:00 UTC  /b",
        "1 added, 0 changed, 0 removed.",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["team/app:1", "--layer", "ffff"], "1: it has no layer ffff"),
        (["team/app:1", "--layer", "x"], "digest"),
        (["team/app:chart"], "chart: the repository has no image of it for linux/amd64"),
        (["team/app", "--platform", "windows/amd64"], "no image of it for windows/amd64"),
        (["team/app:none"], "manifest unknown"),
    ],
)
@pytest.mark.parametrize("command", ["files", "diff"])
def test_layers_that_there_are_not(data: Path, command: str, arguments: list[str], message: str) -> None:
    """One line says what is missing."""
    result = run(data, command, *arguments)
    assert (result.exit_code, message in result.stderr) == (1, True), result.stderr


def test_what_layers_remove_and_link(tmp_path: Path) -> None:
    """Whiteouts are shown as what they remove; a layer that cannot be read is listed as far as it can."""
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    (tmp_path / "dualreg.toml").write_text(f'data = "{settings.data}"')
    base = builders.layer({"etc/a": b"", "etc/b": b"", "opt/x": b""})
    top = gzip.compress(builders.tar({"etc/.wh.a": b"", "opt/.wh..wh..opq": b""})[:1024] + b"x" * 512)
    with closing(open_registry(settings)) as registry:
        push_v2(registry, NAME, Tag("1"), builders.image(base, top))
    lines = run(tmp_path, "files", "team/app:1").stdout.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[2:4]] == [
        "removes /etc/a",
        "removes what is below /opt",
    ]
    assert "The rest of the layer cannot be read" in lines[4]
    json_lines = run(tmp_path, "files", "team/app:1", "--json")
    assert len(json_lines.stdout.splitlines()) == 2
    assert "cannot be read" in json_lines.stderr
    assert "The layers cannot be compared" in run(tmp_path, "diff", "team/app:1").stdout
