"""Policies of signatures, as skopeo meets them: push by digest, sign, tag."""

import json
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry
from dualreg.cli import main
from dualreg.image.names import RepositoryName
from dualreg.settings import Settings
from tests import builders, signers
from tests.programs import dualreg_server, require
from tests.signers import key_of, push

pytestmark = pytest.mark.client

NAME = RepositoryName("team/app")
IMAGE = builders.image(builders.layer({"a": b"a"}), oci=True)
KEY = key_of("ecdsa")


def copy(source: str, target: str) -> CompletedProcess[str]:
    """Copy an image with skopeo."""
    insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
    command = ["skopeo", "--insecure-policy", "copy", "--preserve-digests", *insecure, source, target]
    return run(command, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_skopeo_tags_and_pulls_what_is_signed(tmp_path: Path) -> None:
    """What is refused comes with its reason; a signature changes that at once."""
    require("skopeo", package="skopeo")
    folder, data = builders.skopeo_folder(tmp_path / "image", IMAGE), tmp_path / "data"
    (tmp_path / "release.pub").write_bytes(signers.public_pem(KEY))
    table = {"repositories": "team/*", "keys": str(tmp_path / "release.pub"), "mode": "refuse"}
    with dualreg_server(data, workers=1, signatures=json.dumps({"release": table})) as host:
        repository = f"docker://{host}/{NAME}"
        refused = copy(f"dir:{folder}", f"{repository}:1")
        assert refused.returncode
        assert f"the image has no valid signature: {NAME}@{IMAGE.digest}: it is not signed" in refused.stderr
        pushed = copy(f"dir:{folder}", f"{repository}@{IMAGE.digest}")
        assert (pushed.returncode, pushed.stderr) == (0, "")
        refused = copy(f"{repository}@{IMAGE.digest}", f"dir:{tmp_path / 'refused'}")
        assert refused.returncode
        assert "denied" in refused.stderr
        with closing(open_registry(Settings(data=data))) as registry:
            push(registry, NAME, signers.cosign_signature(IMAGE, KEY))
        for source, target in (
            (f"dir:{folder}", f"{repository}:1"),
            (f"{repository}:1", f"dir:{tmp_path / 'pulled'}"),
        ):
            copied = copy(source, target)
            assert (copied.returncode, copied.stderr) == (0, "")
    assert (tmp_path / "pulled/manifest.json").read_bytes() == IMAGE.manifest


def test_a_server_needs_its_keys(tmp_path: Path) -> None:
    """One readable line says which file is unusable, before anything is served."""
    settings = tmp_path / "dualreg.toml"
    settings.write_text(
        f'data = "{tmp_path / "data"}"\n[signatures.release]\nrepositories = "*"\nkeys = "no.pub"\n'
    )
    result = CliRunner().invoke(main, ["serve", "--config", str(settings)])
    assert result.exit_code == 1
    expected = f"Error: signatures.release: {tmp_path / 'no.pub'}: No such file or directory"
    assert result.stderr.splitlines()[-1] == expected
