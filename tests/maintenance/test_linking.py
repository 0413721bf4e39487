"""Link files that a former version wrote are completed, so that a lost catalog comes back from them too."""

import json
import os
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_catalog, open_registry, prepare
from dualreg.catalog.notes import Note
from dualreg.cli import main
from dualreg.settings import Settings
from tests.apps import client_of
from tests.maintenance.test_rebuild import database, lose, rebuild, settings
from tests.maintenance.world import ONE, fill, known_rows
from tests.migrate import trees
from tests.migrate.commands import command
from tests.registry.test_damage import flip
from tests.state import blob_file

__all__ = ["database", "settings"]


def make_old(settings: Settings) -> None:
    """Have the link files, and the catalog, as a former version left them."""
    repositories = settings.data / "docker/registry/v2/repositories"
    for pattern in ("**/views/*", "**/revisions/*/*/type", "**/tags/*/origin"):
        for path in [*repositories.glob(pattern)]:
            path.unlink()
    for path in repositories.glob("**/_manifests/**/link"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    for path in repositories.glob("**/_v1/*"):
        facts = json.loads(path.read_text())
        del facts["tarsum_verified"]
        path.write_text(json.dumps(facts))
    with closing(open_catalog(settings)) as catalog, catalog.begin() as tx:
        tx.notes.remove(Note.LINKS)


@pytest.mark.slow
def test_old_link_files_are_completed(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the command that is named at the start; then nothing is lost any more."""
    registry = open_registry(settings)
    fill(client_of(registry, settings))
    command(settings.data, f"run v1-tree:{trees.everything(tmp_path / 'old').tree.root}", code=None)
    before = known_rows(registry.state.catalog)
    registry.close()
    make_old(settings)
    prepare(settings)
    assert "run `dualreg db upgrade`" in caplog.text
    line = ["db", "upgrade", "--data", str(settings.data)]
    done = CliRunner().invoke(main, line, env={"DUALREG_CONFIG": None})
    assert done.exit_code == 0, done.output
    caplog.clear()
    prepare(settings)
    assert caplog.text == ""
    lose(settings)
    assert rebuild(settings)["findings"] == []
    with closing(open_catalog(settings)) as catalog:
        after = known_rows(catalog)
    for name, rows in before.items():
        assert after[name] == rows, name
    prepare(settings)


@pytest.mark.slow
def test_damaged_manifests_do_not_stop_it(settings: Settings) -> None:
    """What they say is not known; the link files of others are completed."""
    with closing(open_registry(settings)) as registry:
        fill(client_of(registry, settings))
    make_old(settings)
    flip(blob_file(settings.data, ONE.digest))
    line = ["db", "upgrade", "--data", str(settings.data)]
    done = CliRunner().invoke(main, line, env={"DUALREG_CONFIG": None})
    assert done.exit_code == 0, done.output
    with closing(open_catalog(settings)) as catalog, catalog.read() as tx:
        assert tx.notes.read(Note.LINKS)
