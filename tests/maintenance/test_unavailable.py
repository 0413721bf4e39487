"""While an object store does not answer, nothing is taken for damaged or lost."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry, prepare
from dualreg.catalog.rows import BlobRow
from dualreg.cli import main
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.scrubbing import Scrubber
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.base import StoreUnavailable
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.apps import client_of
from tests.properties.registries import push_v1, push_v2

NAME = RepositoryName("team/app")
IMAGE = builders.image(builders.layer({"a": b"a" * 900}))
CHAIN = builders.v1_chain(builders.layer({"b": b"b" * 900}))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a registry with images of both generations."""
    settings = Settings(data=tmp_path, audit="off")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        push_v2(registry, NAME, Tag("v2"), IMAGE)
        push_v1(registry, NAME, Tag("v1"), CHAIN)
    return settings


def _fail(*_: Any, **__: Any) -> None:
    raise StoreUnavailable("it does not answer")


def _pull(registry: Registry, settings: Settings) -> None:
    answer = client_of(registry, settings).get(
        f"/v2/{NAME}/manifests/v2", headers={"Accept": IMAGE.media_type}
    )
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)


def _scrub(registry: Registry, settings: Settings) -> None:
    scrubber = Scrubber(registry.state.catalog, registry.integrity, settings.fsck_rate)
    with pytest.raises(StoreUnavailable):
        scrubber._is_sound(BlobRow(Digest.of(IMAGE.layers[0]), len(IMAGE.layers[0])))


@pytest.mark.parametrize("work", [_pull, _scrub])
def test_services_mark_nothing_as_damaged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, work: Callable[[Registry, Settings], None]
) -> None:
    """What is read is read again later."""
    with closing(open_registry(settings)) as registry:
        monkeypatch.setattr(FilesystemStore, "open", _fail)
        work(registry, settings)
        assert registry.integrity.damaged() == 0


@pytest.mark.parametrize("broken", ["open", "read_link"])
@pytest.mark.parametrize("command", [["fsck", "--read"], ["fsck", "--read", "--repair"], ["db", "rebuild"]])
def test_commands_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, command: list[str], broken: str
) -> None:
    """They name the cause, find nothing, and set nothing aside."""
    if command[0] == "db":
        (settings.data / "catalog.sqlite3").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(FilesystemStore, broken, _fail)
        result = CliRunner().invoke(main, [*command, "--data", str(settings.data)])
    assert result.exit_code not in (0, None), result.output
    assert "it does not answer" in result.output
    assert str(Digest.of(IMAGE.layers[0])) not in result.output
    assert not (settings.data / "corrupt").exists()
    with closing(open_registry(settings)) as registry:
        assert registry.integrity.damaged() == 0
