"""Mirror rules: what they copy and leave out, when, and how they go on."""

import json
import os
import signal
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg.assembly import catalog_of, open_registry, prepare
from dualreg.cli import main
from dualreg.cli.mirror.schedule import due_at
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.mirrored import MirrorNotes
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.settings.mirrors import MirrorRule
from dualreg.settings.schedules import next_run
from tests import builders
from tests.migrate import stock_trees
from tests.migrate.commands import command
from tests.migrate.fronts import front
from tests.programs import DUALREG, dualreg_process, dualreg_server, running, unannounced, until

APP, AT_LATEST = RepositoryName("hub/team/app"), Tag("latest")


@pytest.fixture
def there(tmp_path: Path) -> stock_trees.StockTree:
    """A registry with an index, a signature under a tag as cosign's, and referrers of index and image."""
    tree = stock_trees.small(tmp_path / "stock")
    images = [builders.image(stock_trees.LAYERS[letter]) for letter in "cde"]
    index = json.loads(tree.data(_index(tree)).read_bytes())
    tree.image("team/app", images[0], f"sha256-{_index(tree).hex}.sig")
    tree.manifest("team/app", stock_trees.referrer(Digest.parse(index["manifests"][0]["digest"])))
    tree.image("team/app", images[1], "nightly")
    tree.image("team/secret", images[2], "1")
    command(tmp_path / "there", f"run registry-tree:{tree.root}")
    return tree


def _index(tree: stock_trees.StockTree) -> Digest:
    """Return the digest of ``team/app:latest``."""
    link = tree.v2 / "repositories/team/app/_manifests/tags/latest/current/link"
    return Digest.parse(link.read_text())


def mirror(
    data: Path, line: str, rules: Mapping[str, Mapping[str, Any]], code: int | None = 0, upstreams: str = ""
) -> Result:
    """Run a command of ``mirror`` over *data* with *rules*; it must exit with *code*, unless that is None."""
    env = {
        "DUALREG_CONFIG": None,
        "DUALREG_MIRRORS": json.dumps(rules),
        "DUALREG_UPSTREAMS": upstreams,
    }
    words = ["mirror", *line.split(), "--data", str(data)]
    result = unannounced(CliRunner().invoke(main, words, env=env, catch_exceptions=False))
    assert code is None or result.exit_code == code, result.output
    return result


def listed(data: Path, rules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what ``mirror list`` says of the only rule."""
    (found,) = json.loads(mirror(data, "list --json", rules).stdout)["mirrors"]
    return dict(found)


@pytest.mark.slow
def test_pull(there: stock_trees.StockTree, tmp_path: Path) -> None:
    """Selected tags under their prefix, with what is about them and without other platforms; then no more."""
    data, chosen = tmp_path / "here", {"include": ["team/app:latest"], "prefix": "hub"}
    with dualreg_server(tmp_path / "there") as host, front(host) as before:
        rule = {"pull": f"v2+{before.url}", **chosen, "platforms": ["linux/amd64"]}
        assert "copy as hub/team/app:latest" in mirror(data, "run --dry-run", {"hub": rule}).output
        assert not data.exists()
        assert "4 done" in mirror(data, "run hub", {"hub": rule}).output
        first = listed(data, {"hub": rule})
        assert (first["images"], first["failures"], first["runs"]) == (4, 0, 1)
        registry = open_registry(Settings(data=data))
        assert registry.manifests.find(APP, AT_LATEST).digest == _index(there)
        amd64, arm64 = json.loads(there.data(_index(there)).read_bytes())["manifests"]
        assert registry.manifests.peek(APP, Digest.parse(amd64["digest"]))
        assert registry.manifests.peek(APP, Digest.parse(arm64["digest"])) is None
        for subject in (_index(there), Digest.parse(amd64["digest"])):
            assert len(registry.referrers.list(APP, subject).rows) == 1
        assert {*registry.tags.list_all(APP)} == {"latest", f"sha256-{_index(there).hex}.sig"}
        assert [*registry.repositories.list(last="", limit=9).rows] == [APP]
        before.seen.clear()
        assert "4 same" in mirror(data, "run", {"hub": rule}).output
        assert [path for method, path in before.seen if method == "GET" and "/blobs/" in path] == []
        mirror(data, "run", {"hub": rule | {"platforms": []}})
        assert registry.manifests.peek(APP, Digest.parse(arm64["digest"]))
        registry.close()
    again = listed(data, {"hub": rule})
    assert (again["runs"], again["images"], again["bytes"] > first["bytes"]) == (3, 5, True)


def test_platforms_that_an_index_has_not(there: stock_trees.StockTree, tmp_path: Path) -> None:
    """Its tag is not copied, and the reason is said; images that are no index are."""
    rule = {
        "pull": f"registry-tree:{there.root}",
        "platforms": ["linux/s390x"],
        "include": ["team/*:latest", "*:1"],
    }
    output = mirror(tmp_path / "here", "run", {"all": rule}, code=1).output
    assert "team/app:latest: skipped: no-platform" in output
    assert "no image for linux/s390x" in output
    assert "4 done" in output


def test_under_the_prefix_of_an_upstream(there: stock_trees.StockTree, tmp_path: Path) -> None:
    """No tag is copied there, as none can be pushed there; other names are copied to."""
    rule = {"pull": f"registry-tree:{there.root}", "include": ["team/*:latest", "team/*:1"]}
    upstreams = "hub/*=https://hub.test, hub/team/*=https://team.test, *=https://all.test"
    below = {"a": rule | {"prefix": "hub"}}
    for line, code in (("run --dry-run", 0), ("run", 1)):
        output = mirror(tmp_path / "here", line, below, code, upstreams).output
        assert "team/app:latest: skipped: owned: hub/team/app is a name of https://team.test" in output
        assert "done" not in output
    assert "done" in mirror(tmp_path / "here", "run", {"a": rule}, 0, upstreams).output


@pytest.mark.slow
def test_to_what_was_pulled_from_an_upstream_of_all_names(
    there: stock_trees.StockTree, tmp_path: Path
) -> None:
    """No tag is copied there, until the repository is deleted."""
    rule = {"a": {"pull": f"registry-tree:{there.root}", "include": ["team/app:latest"]}}
    upstreams, app = "*=https://all.test", RepositoryName("team/app")
    mirror(tmp_path / "here", "run --dry-run", rule, 0, upstreams)
    settings = Settings(data=tmp_path / "here")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        registry.loaded.claim(app, "https://all.test")
        for line, code in (("run --dry-run", 0), ("run", 1)):
            output = mirror(tmp_path / "here", line, rule, code, upstreams).output
            assert "team/app:latest: skipped: owned: team/app was pulled from https://all.test" in output
            assert registry.tags.list_all(app) == ()
        registry.repositories.delete(app)
        assert "done" in mirror(tmp_path / "here", "run", rule, 0, upstreams).output


@pytest.mark.slow
def test_push(there: stock_trees.StockTree, tmp_path: Path) -> None:
    """The same, to another registry, below the prefix of the URL; a second run sends nothing."""
    with dualreg_server(tmp_path / "other", sparse_indexes="true") as host:
        rule = {"push": f"v2+http://{host}/hub", "include": ["team/app"], "platforms": ["linux/arm64"]}
        assert "3 done" in mirror(tmp_path / "there", "run", {"out": rule}).output
        assert "3 same" in mirror(tmp_path / "there", "run", {"out": rule}).output
    registry = open_registry(Settings(data=tmp_path / "other"))
    assert registry.manifests.find(APP, AT_LATEST).digest == _index(there)
    amd64, arm64 = json.loads(there.data(_index(there)).read_bytes())["manifests"]
    assert registry.manifests.peek(APP, Digest.parse(amd64["digest"])) is None
    assert registry.manifests.peek(APP, Digest.parse(arm64["digest"]))
    assert len(registry.referrers.list(APP, _index(there)).rows) == 1
    registry.close()
    done = listed(tmp_path / "there", {"out": rule})
    assert (done["images"], done["blobs"], done["failures"]) == (3, 7, 0)
    assert len([*(tmp_path / "there/mirrors/out").glob("*.jsonl")]) == 1


@pytest.mark.slow
def test_killed_and_run_again(there: stock_trees.StockTree, tmp_path: Path) -> None:
    """What was stored is not requested again; small blobs are recorded together."""
    layers = [builders.layer({"f": os.urandom(17 << 20)}) for _ in "abc"]
    there.image("team/large", builders.image(*layers), "1")
    command(tmp_path / "there", f"run registry-tree:{there.root}")
    data = tmp_path / "here"
    with dualreg_server(tmp_path / "there") as host, front(host) as before:
        rule = {"pull": f"v2+{before.url}", "include": ["team/large"], "jobs": 1}
        env = {"DUALREG_MIRRORS": json.dumps({"hub": rule})}

        def blobs() -> list[str]:
            return [path for method, path in before.seen if method == "GET" and "/blobs/" in path]

        def hold(path: str, _: str) -> int | None:
            if "/blobs/" not in path or len(blobs()) < 3 or killed.is_set():
                return None
            killed.wait(120)
            return 0

        killed, before.answer = Event(), hold  # however fast it is, it is killed before the last blob
        line = [DUALREG, "mirror", "run", "hub", "--data", data]
        try:
            with running(line, tmp_path / "log", env, end=signal.SIGKILL):
                assert until(lambda: len(blobs()) == 3)
        finally:
            killed.set()
        mirror(data, "run", {"hub": rule})
    digests = [path.rpartition("/")[2] for path in blobs()]
    assert len({*digests}) == 4
    assert len(digests) <= 6  # the config, and what was on its way


@pytest.mark.slow
def test_by_the_server(there: stock_trees.StockTree, tmp_path: Path) -> None:
    """What has a schedule is copied when it is due; a failure is noted, and the next run goes on."""
    config = tmp_path / "dualreg.toml"
    config.write_text(
        '[mirrors.hub]\npull = "registry-tree:stock"\ninclude = ["team/other"]\nschedule = "1s"\n'
        '[mirrors.lost]\npull = "oci-layout:nowhere"\nschedule = "1h"\n'
        '[mirrors.manual]\npull = "oci-layout:x"\n'
    )
    data = tmp_path / "here"
    with dualreg_process(data, config=config) as serving:
        registry = open_registry(Settings(data=data))
        other = RepositoryName("team/other")
        assert until(lambda: [*registry.tags.list_all(other)] == ["1"])
        there.image("team/other", builders.image(stock_trees.LAYERS["f"]), "2")
        assert until(lambda: [*registry.tags.list_all(other)] == ["1", "2"])
        registry.close()
        assert "mirror lost failed" in serving.log.read_text()
    rows = json.loads(
        CliRunner()
        .invoke(main, ["mirror", "list", "--json", "--config", str(config), "--data", str(data)])
        .stdout
    )
    found = {each["name"]: each for each in rows["mirrors"]}
    assert found["hub"]["runs"] >= 2
    assert (found["lost"]["failures"], found["lost"]["succeeded"], found["manual"]["next"]) == (1, "", "")
    assert "not an OCI layout" in found["lost"]["error"]


@pytest.mark.parametrize(
    ("schedule", "last", "due"),
    [
        ("", None, None),
        ("6h", None, "2026-03-01T12:00"),
        ("6h", "2026-03-01T10:00", "2026-03-01T16:00"),
        ("6h", "2026-02-27T10:00", "2026-03-01T12:00"),
        ("03:30", None, "2026-03-02T03:30"),
        ("03:30", "2026-03-01T03:30", "2026-03-02T03:30"),
        ("03:30", "2026-02-28T03:31", "2026-03-01T12:00"),
        ("13:00", "2026-02-28T13:00", "2026-03-01T13:00"),
    ],
)
def test_when_a_rule_is_due(schedule: str, last: str | None, due: str | None) -> None:
    """An interval after the last run began, or at a time of day; what was missed is made up for at once."""
    moments = [
        datetime.fromisoformat(f"{each}+01:00") if each else None for each in ("2026-03-01T12:00", last, due)
    ]
    now, begun, expected = moments
    assert now
    assert next_run(schedule, begun, now) == expected
    assert next_run("13:00", None, now, since=now - timedelta(days=2)) == now


def test_a_run_that_did_not_end_goes_on_at_once(data: Path, opened: Registry) -> None:
    """Whatever its schedule; one that began in the future, as its clock was wrong, is due again.

    Two processes that note something lose nothing of each other's.
    """
    notes, now = MirrorNotes(catalog_of(opened)), datetime.now().astimezone()
    rule = MirrorRule(pull="oci-layout:x", schedule="7d")
    notes.begin("a")
    notes.begin("b")
    assert due_at(rule, notes.of("a"), now) == now
    notes.end("a", data / "none", "", [])
    assert due_at(rule, notes.of("a"), now) == notes.of("a").begun + timedelta(days=7)  # type: ignore[operator]
    set_back = now - timedelta(days=400)
    assert due_at(rule, notes.of("a"), set_back) == set_back
    notes.fail("b", "reason")
    notes.begin("b")
    found = notes.read()
    assert (found["a"].succeeded, found["b"].succeeded) == (found["a"].ended, "")
    assert (found["b"].runs, found["b"].failures, found["b"].is_unfinished) == (2, 1, True)
