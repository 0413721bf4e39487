"""``dualreg growth``, and the task that notes what is stored."""

import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main, turns
from dualreg.image.names import RepositoryName, Tag
from dualreg.settings import Settings
from tests import builders
from tests.programs import unannounced
from tests.properties.registries import push_v2

IMAGE = builders.image(builders.layer({"a": b"1"}))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A registry with one image."""
    monkeypatch.setattr(turns, "end_with", lambda _: None)  # these runs have no server
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        push_v2(registry, RepositoryName("team/app"), Tag("v1"), IMAGE)
        registry.tags.record_pushes(1)
        for _ in range(3):
            registry.tags.record_pull(RepositoryName("team/app"), Tag("v1"))
    return settings


def run(settings: Settings, line: str, *, code: int = 0, **env: str) -> Result:
    """Run a command, which must exit with *code*."""
    words = [*line.split(), "--data", str(settings.data)]
    result = unannounced(CliRunner().invoke(main, words, env={"DUALREG_CONFIG": None, **env}))
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
    return result


def _days(settings: Settings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(settings, "growth --json").stdout)
    return found


def test_growth_is_shown_by_day(settings: Settings) -> None:
    """Pulls and pushes at once; what is stored once it was noted, which anybody may have done now."""
    before = run(settings, "growth").stdout.splitlines()
    assert before[0].split() == ["DAY", "PULLS", "PUSHES", "REPOSITORIES", "TAGS", "BLOBS", "BYTES"]
    assert before[-2].split()[1:] == ["3", "1", "-", "-", "-", "-"]
    assert before[-1] == "What is stored was not noted yet. Do it now:  dualreg tasks run growth"
    blobs = len(IMAGE.blobs) + 1
    assert run(settings, "tasks run growth").stdout.startswith(
        f"growth: noted {blobs} blobs (0.0 MiB) and 1 tag in 1"
    )
    size = sum(map(len, IMAGE.blobs.values())) + len(IMAGE.manifest)
    after = run(settings, "growth").stdout.splitlines()
    assert after[-1].split()[3:] == ["1", "1", f"{blobs}", f"{size}"]
    assert (_days(settings)[-1]["stored"]["manifest_bytes"], len(_days(settings))) == (len(IMAGE.manifest), 1)
    run(settings, "growth --days 0", code=2)
    run(settings, "growth --days 732", code=2)


def test_it_is_noted_once_a_day(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server, of which each looks every hour; also while the registry is read-only."""
    run(settings, "readonly on --reason moving")
    run(settings, "growth --scheduled")
    first = _days(settings)[-1]["noted_at"]
    run(settings, "growth --scheduled")
    assert _days(settings)[-1]["noted_at"] == first
    (task,) = [each for each in json.loads(run(settings, "tasks --json").stdout) if each["name"] == "growth"]
    assert (task["schedule"], task["status"]) == ("24h", "done")
    monkeypatch.setattr(turns, "_EARLY", 2.0)  # as if a day had passed
    run(settings, "growth --scheduled")
    assert _days(settings)[-1]["noted_at"] > first


def test_followers_note_what_they_have(settings: Settings, tmp_path: Path) -> None:
    """They change nothing but that, and count their own pulls."""
    own = Settings(data=tmp_path / "follower", follow=settings.data)
    run(own, "follow update", DUALREG_FOLLOW=str(settings.data))
    run(own, "growth --scheduled", DUALREG_FOLLOW=str(settings.data))
    (day,) = json.loads(run(own, "growth --json", DUALREG_FOLLOW=str(settings.data)).stdout)
    assert (day["pulls"], day["stored"]["tags"]) == (0, 1)
    refused = run(own, "tasks preview gc", code=1, DUALREG_FOLLOW=str(settings.data))
    assert "deletes nothing by itself" in refused.output


def test_days_begin_in_utc(settings: Settings) -> None:
    """Whatever the zone of the machine."""
    with closing(open_registry(settings)) as registry:
        now = registry.now()
        assert now.utcoffset() == timedelta()
        assert registry.growth.days(1)[-1].day == now.date().isoformat()
