"""Mirror rules between the reference registry and this one."""

import json
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests import builders
from tests.clients.stock import htpasswd, stock_registry
from tests.clients.tools import Tools
from tests.migrate import stock_trees
from tests.migrate.test_mirror import mirror
from tests.programs import dualreg_server


@pytest.mark.slow
def test_from_and_to_the_reference_registry(layout: Path, tmp_path: Path) -> None:
    """With a login, and cosign's tags; what was signed keeps its digest both ways, and clients pull it."""
    (tmp_path / "password").write_text("secret\n")
    tree, data = stock_trees.small(tmp_path / "stock"), tmp_path / "data"
    login = {"username": "me", "password_file": str(tmp_path / "password")}
    with stock_registry(tree.root, tmp_path, auth=htpasswd(tmp_path, "me", "secret")) as there:
        there.push("--dest-creds=me:secret", f"oci:{layout}:app", name="team/signed:1")
        source = f"docker://{there.host}/team/signed:1"
        line = ["inspect", "--creds=me:secret", "--tls-verify=false", "--format={{.Digest}}", source]
        digest = Digest.parse(there.skopeo(*line).strip())
        signature = tree.image(
            "team/signed", builders.image(stock_trees.LAYERS["c"]), f"sha256-{digest.hex}.sig"
        )
        rule = {"pull": f"v2+http://{there.host}", "include": ["team/signed:1", "*:latest"], "prefix": "copy"}
        assert "401" in mirror(data, "run", {"in": rule}, code=1).output
        mirror(data, "run", {"in": rule | login})
    with dualreg_server(data) as host:
        here = Tools(tmp_path / "tools", host)
        here.pull(f"copy/team/signed@{digest}", f"oci:{tmp_path / 'pulled'}:1")
        assert (
            Digest.of(json.dumps(here.raw(f"copy/team/signed:sha256-{digest.hex}.sig")).encode()) == signature
        )
    with stock_registry(tmp_path / "empty", tmp_path) as other:
        rule = {"push": f"v2+http://{other.host}/back", "include": ["copy/team/*"]}
        assert "3 done" in mirror(data, "run", {"out": rule}).output
        other.pull(f"back/copy/team/signed@{digest}", f"oci:{tmp_path / 'again'}:1")
        sparse = rule | {"platforms": ["linux/arm64"], "push": f"v2+http://{other.host}/sparse"}
        output = mirror(data, "run", {"out": sparse}, code=1).output
        assert "copy/team/app:latest: failed: no-place" in output
