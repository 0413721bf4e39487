"""The setting ``bridge``: whose tags each generation lists and finds."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from dualreg.assembly import build_registry, open_registry, prepare
from dualreg.cli import main
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.settings import Settings, SettingsInvalid
from tests import builders
from tests.apps import client_of
from tests.programs import unannounced
from tests.properties.registries import push_v1, push_v2

NAME = RepositoryName("a/b")
MODES = ("both", "v1-to-v2", "v2-to-v1", "off")


def bridged(registry: Registry, bridge: str) -> FlaskClient:
    """Return a client of the same content under another setting."""
    state, settings = registry.blobs.state, Settings(bridge=bridge)
    return client_of(build_registry(state.catalog, state.store, settings), settings)


def sees(mode: str, reader: str, origin: str) -> bool:
    """Return what a generation should see: its own tags always, those of the other as the mode says."""
    return reader == origin or mode in ("both", f"{origin}-to-{reader}")


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """A repository with a tag of either generation, and each generation's own image."""
    layer = builders.layer({"file": b"1"})
    push_v1(registry, NAME, Tag("v1"), builders.v1_chain(layer))
    push_v2(registry, NAME, Tag("v2"), builders.image(layer))
    return registry


SETTINGS = {
    **{mode: mode for mode in MODES},
    "off, a/*=both": "both",
    "a/*=v1-to-v2, a/b=off, off": "v1-to-v2",
    "*/b=v2-to-v1": "v2-to-v1",
    "x/*=off": "both",
    "A/*=off": "both",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_generation_sees_what_the_mode_says(filled: Registry, setting: str) -> None:
    """In lists, by tag, and in the tags extension; by digest, everything is as it was."""
    client, mode = bridged(filled, setting), SETTINGS[setting]
    for reader in ("v1", "v2"):
        expected = [origin for origin in ("v1", "v2") if sees(mode, reader, origin)]
        if reader == "v1":
            listed = sorted(json.loads(client.get("/v1/repositories/a/b/tags").data))
            path = "/v1/repositories/a/b/tags/"
        else:
            listed = json.loads(client.get("/v2/a/b/tags/list").data)["tags"]
            path = "/v2/a/b/manifests/"
            entries = json.loads(client.get("/v2/a/b/_dualreg/tags").data)["tags"]
            assert [(entry["name"], entry["origin"]) for entry in entries] == [(tag, tag) for tag in expected]
        assert listed == expected
        found = [tag for tag in ("v1", "v2") if client.get(path + tag).status_code == 200]
        assert found == expected
    digest = filled.manifests.find(NAME, Tag("v1")).digest
    assert client.get(f"/v2/a/b/manifests/{digest}").status_code == 200


def test_nothing_is_derived_for_nobody(filled: Registry) -> None:
    """Views are derived only when a client reads them."""
    client = bridged(filled, "off")
    client.get("/v1/repositories/a/b/images")
    assert len(filled.v1_images.list(NAME)) == 1
    assert len(json.loads(bridged(filled, "both").get("/v1/repositories/a/b/images").data)) == 2


def test_a_push_over_a_hidden_tag_replaces_it(filled: Registry) -> None:
    """Names are one space: the tag is now the other generation's."""
    client = bridged(filled, "off")
    image = builders.image(builders.layer({"file": b"2"}))
    push_v2(filled, NAME, Tag("v1"), image)
    assert json.loads(client.get("/v2/a/b/tags/list").data)["tags"] == ["v1", "v2"]
    assert client.get("/v1/repositories/a/b/tags").status_code == 404
    assert client.get("/v2/a/b/manifests/v1").data == image.manifest


@pytest.mark.parametrize(
    "bridge",
    [
        "", "on", "both,off", "a/*=", "=both", "a b=off", "both,,off", "a/*=both;off", "BOTH", "a?=off",
        "a/[bc]=off, both",
    ],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(bridge: str) -> None:
    """What would be guessed at is not served with."""
    with pytest.raises(SettingsInvalid, match=r"^bridge = .* \(from DUALREG_BRIDGE\)$"):
        Settings.from_env({"DUALREG_BRIDGE": bridge})


def test_the_command_shows_origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator sees every tag and its origin, whatever clients are shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUALREG_BRIDGE", "off")
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    registry = open_registry(settings)
    layer = builders.layer({"file": b"1"})
    push_v1(registry, NAME, Tag("old"), builders.v1_chain(layer))
    push_v2(registry, NAME, Tag("new"), builders.image(layer))
    registry.close()
    show = ["repository", "show", "a/b", "--data", str(settings.data)]
    lines = unannounced(CliRunner().invoke(main, show)).output.splitlines()
    assert [(line.split()[0], line.split()[3]) for line in lines[:2]] == [("new", "v2"), ("old", "v1")]
    assert lines[2] == "2 tags, 1 of them pushed over V1."
    rows = json.loads(CliRunner().invoke(main, [*show, "--json"]).stdout)
    assert [(row["name"], row["origin"]) for row in rows] == [("new", "v2"), ("old", "v1")]
    absent = ["repository", "show", "no/where", "--data", str(settings.data)]
    missing = unannounced(CliRunner().invoke(main, absent))
    assert (missing.exit_code, missing.output.count("\n")) == (1, 1)
