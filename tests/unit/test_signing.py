"""The tables ``[signatures.NAME]``: what they take, and which of them are about a request."""

import json
from pathlib import Path
from typing import Any

import pytest

from dualreg.assembly import signing_policies
from dualreg.image.names import RepositoryName
from dualreg.registry.signing import On
from dualreg.settings import Settings, SettingsInvalid
from tests import signers

TABLE = {"repositories": "team/*", "keys": "release.pub"}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"keys": "x"}, "signatures.x.repositories: required"),
        (TABLE | {"repositories": []}, "signatures.x.repositories"),
        (TABLE | {"repositories": "team/app:1"}, "expected names of repositories, without tags"),
        (TABLE | {"repositories": "team/[ab]"}, "signatures.x.repositories"),
        ({"repositories": "*"}, "expected keys or certificates"),
        (TABLE | {"mode": "block"}, "expected off, warn or refuse"),
        (TABLE | {"on": "tag"}, "expected pull, push or both"),
        (TABLE | {"key": "x"}, 'unknown setting "signatures.x.key"'),
    ],
)
def test_what_is_no_policy(table: dict[str, Any], expected: str) -> None:
    """The operator hears which member of which table is wrong."""
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env({"DUALREG_SIGNATURES": json.dumps({"x": table})})
    assert expected in str(caught.value)


def test_names_of_tables() -> None:
    """They appear in what clients are told, so they are plain."""
    with pytest.raises(SettingsInvalid, match="invalid name"):
        Settings.from_env({"DUALREG_SIGNATURES": json.dumps({"a b": TABLE})})


def test_which_policies_are_about_a_request(tmp_path: Path) -> None:
    """By repository, mode and request; files are relative to the configuration, one or several."""
    (tmp_path / "release.pub").write_bytes(signers.public_pem(signers.key_of("ecdsa")))
    (tmp_path / "ca.pem").write_bytes(signers.authority().pem)
    config = tmp_path / "dualreg.toml"
    config.write_text(
        """
        [signatures.both]
        repositories = ["team/*", "base"]
        keys = ["release.pub", "release.pub"]
        mode = "warn"
        [signatures.pulls]
        repositories = "*"
        certificates = "ca.pem"
        mode = "refuse"
        on = "pull"
        [signatures.shown]
        repositories = "*"
        keys = "release.pub"
        """
    )
    policies = signing_policies(Settings.from_env({}, config=config))
    found = {
        (name, on): [each.name for each in policies.of(RepositoryName(name), on)]
        for name in ("team/app", "base", "other")
        for on in On
    }
    assert found == {
        ("team/app", On.PULL): ["both", "pulls"], ("team/app", On.PUSH): ["both"],
        ("base", On.PULL): ["both", "pulls"], ("base", On.PUSH): ["both"],
        ("other", On.PULL): ["pulls"], ("other", On.PUSH): [],
    }  # fmt: skip
    trust = policies.trust(RepositoryName("team/app"))
    assert (len(trust.keys), len(trust.roots)) == (3, 1)
