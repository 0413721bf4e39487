"""Imports of docker-registry's storage: everything that is whole, and a reason for everything else."""

import gzip
import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from dualreg.assembly import prepare
from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.v1_files import stated_checksums
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import builders
from tests.builders import V1Pushed
from tests.migrate.commands import command, content, here, named, snapshot, source
from tests.migrate.trees import Expected, Tree, image_id
from tests.programs import DUALREG, dualreg_server, environment, running, until
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.state import blob_file


def test_inspect_names_everything(expected: Expected, data: Path) -> None:
    """Each kind of finding is reported, and nothing is written to source or registry."""
    before = snapshot(expected.tree.root)
    told = json.loads(command(data, f"inspect {source(expected)} --json", code=1).stdout)
    found = Counter(finding["kind"] for finding in told["findings"])
    assert set(found) == expected.kinds
    assert found["phantom-tag"] == 1
    unread = {"lost/truncated:1", "lost/changed:1", "lost/above:1"}
    lost = {(finding["where"], finding["kind"]) for finding in told["findings"]}
    assert lost >= {
        (named(tag) if kind != "bad-name" else "Upper/Case", kind)
        for tag, kind in expected.bad.items()
        if tag not in unread
    }
    assert told["tags"] == len(expected.good) + len(expected.bad)
    assert told["bytes"] == sum(
        len((expected.tree.root / "images" / id_ / "layer").read_bytes())
        for id_ in expected.tree.layers
        if id_ not in map(image_id, ("nojson", "moved", "garbage", "unproven"))
    )
    deep = json.loads(command(data, f"inspect {source(expected)} --deep --json --jobs 3", code=1).stdout)
    read = Counter(finding["kind"] for finding in deep["findings"]) - found
    assert read == {"corrupt": 2, "unsure": 1}
    text = command(data, f"inspect {source(expected)}", code=1).output
    assert "findings: " in text
    assert snapshot(expected.tree.root) == before
    assert not data.exists()


def test_a_tree_with_nothing_wrong(tmp_path: Path, data: Path) -> None:
    """0, and what to do next."""
    tree = Tree(tmp_path / "old")
    tree.tag("a", "b", "")  # a namespace needs a folder more
    tree = Tree(tmp_path / "clean")
    tree.tag("team/app", "1", tree.image("x", gzip.compress(bytes(1024))))
    (tmp_path / "clean" / "images").mkdir(exist_ok=True)
    result = command(data, f"inspect v1-tree:{tmp_path / 'clean'}")
    assert "no problems found" in result.output
    assert "dualreg migrate run" in result.output


@pytest.mark.parametrize("where", ["absent", "file", "empty"])
def test_no_source(tmp_path: Path, data: Path, where: str) -> None:
    """2, and what was looked for."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("dev: 1")
    for line in ("inspect", "plan", "run", "verify"):
        result = command(data, f"{line} v1-tree:{tmp_path / where}", code=2)
        assert "Traceback" not in result.output
        command(data, f"{line} {tmp_path}", code=2)


@pytest.mark.slow
@pytest.mark.parametrize("link", ["auto", "copy", "hard"])
def test_everything_that_can_be_is_taken_in(
    expected: Expected, data: Path, opened: Registry, link: str
) -> None:
    """Good tags become the same images, others are reported with a reason, and the source is unchanged."""
    before = snapshot(expected.tree.root)
    result = command(data, f"run {source(expected)} --link {link} --json --jobs 4", code=1)
    told = {tag["tag"]: tag for tag in json.loads(result.stdout)["tags"]}
    assert set(told) == {named(tag) for tag in (*expected.good, *expected.bad)}
    for tag, image in expected.good.items():
        assert told[named(tag)]["status"] == "done", told[named(tag)]
        repository, name = here(tag)
        assert opened.bridge.resolve(repository, name) == image
        for row in opened.v1_images.ancestry(repository, image):  # type: ignore[arg-type]  # an id's text
            assert opened.v1_images.json(row) == expected.tree.jsons[row.id]
            assert row.layer == Digest.of(expected.tree.layers[row.id])
    for tag, kind in expected.bad.items():
        assert told[named(tag)]["status"] in ("failed", "skipped")
        assert told[named(tag)]["reason"].startswith(kind), told[named(tag)]
    assert snapshot(expected.tree.root) == before
    assert not list((data / "uploads").iterdir())
    some = "--include mark/* --include team/*:1 --include team/*:2"
    assert command(data, f"verify {source(expected)} {some}").exit_code == 0


def test_hard_links_cost_no_disk(expected: Expected, data: Path) -> None:
    """Layers share files with the source, and dualreg never writes to these."""
    command(data, f"run {source(expected)} --link hard", code=1)
    blobs = {path for path in (data / "docker").rglob("data") if path.stat().st_nlink > 1}
    layers = {Digest.of(layer).hex for layer in expected.tree.layers.values()}
    linked = {path.parent.name for path in blobs}
    assert linked <= layers
    assert len(linked) >= len(expected.good) - 4
    own = sum(path.stat().st_size for path in (data / "docker").rglob("data") if path.stat().st_nlink == 1)
    assert own < 40_000  # JSONs, configs and manifests, and two layers made gzip


@pytest.mark.slow
def test_a_second_run_reads_nothing(expected: Expected, data: Path) -> None:
    """Imported tags are kept, and a new tag on known layers, in any repository, needs no layer read."""
    command(data, f"run {source(expected)}", code=1)
    before = content(data)
    tree = expected.tree
    tree.tag("team/app", "new", image_id("top"))
    tree.tag("team/third", "new", image_id("top"))
    unread = tree.root / "images" / image_id("top") / "layer"
    stat = unread.stat()
    unread.write_bytes(bytes(stat.st_size))
    os.utime(unread, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    told = json.loads(command(data, f"run {source(expected)} --json", code=1).stdout)
    assert told["counts"]["done"] == 2
    assert told["counts"]["same"] == len(expected.good)
    assert before.items() <= content(data).items()
    # A file that has changed since is read again, and found out.
    os.utime(unread)
    tree.tag("team/fourth", "new", image_id("top"))
    again = json.loads(command(data, f"run {source(expected)} --json", code=1).stdout)
    reasons = {tag["tag"]: tag["reason"] for tag in again["tags"]}
    assert reasons["team/fourth:new"].startswith("corrupt")


@pytest.mark.slow
def test_equal_input_gives_equal_digests(expected: Expected, tmp_path: Path) -> None:
    """Digests depend neither on the number of jobs nor on the way of copying."""
    results = []
    for jobs, link in ((1, "copy"), (8, "hard")):
        command(tmp_path / str(jobs), f"run {source(expected)} --jobs {jobs} --link {link}", code=1)
        results.append(content(tmp_path / str(jobs)))
    assert results[0] == results[1]


@pytest.mark.parametrize("existing", ["skip", "overwrite", "fail"])
def test_tags_that_are_here_already(expected: Expected, data: Path, opened: Registry, existing: str) -> None:
    """Another image under the same tag: as the operator wants it; rollback puts back what was replaced."""
    command(data, f"run {source(expected)} --include team/app:1")
    name, tree = RepositoryName("team/app"), expected.tree
    tree.tag("team/app", "1", image_id("other"))
    line = f"run {source(expected)} --include team/app:1 --existing {existing} --json"
    told = json.loads(command(data, line, code=0 if existing == "overwrite" else 3).stdout)
    (tag,) = told["tags"]
    assert tag["status"] == {"skip": "skipped", "overwrite": "done", "fail": "failed"}[existing]
    seen = opened.bridge.resolve(name, Tag("1"))
    assert seen == image_id("other" if existing == "overwrite" else "top")
    command(data, f"rollback {told['run']}")
    assert opened.bridge.resolve(name, Tag("1")) == image_id("top")
    assert [row.origin for row in opened.tags.describe(name, limit=9).rows] == [Origin.V1]


def test_another_image_of_the_same_id(expected: Expected, data: Path) -> None:
    """If two sources use one id, content decides, and the second image is reported."""
    command(data, f"run {source(expected)} --include team/app:1")
    other = Tree(expected.tree.root.parent / "other")
    other.tag("team/app", "2", other.image("base", gzip.compress(bytes(512) + b"x" * 512)))
    told = json.loads(command(data, f"run v1-tree:{other.root} --json", code=3).stdout)
    assert told["tags"][0]["reason"].startswith("collision")


def test_images_that_no_tag_leads_to(expected: Expected, data: Path, opened: Registry) -> None:
    """--untagged imports them under tags of their own, in the repository that they were pushed to."""
    command(data, f"run {source(expected)} --include team/app", code=1)
    assert opened.repositories.list(last="", limit=9).rows == ["team/app"]
    line = f"run {source(expected)} --untagged --include team/app --include orphans --exclude *:a+b"
    told = json.loads(command(data, f"{line} --json").stdout)
    assert told["counts"]["done"] == 2
    for name, seed in (("team/app", "nobody's top"), ("orphans", "unlisted")):
        id_ = image_id(seed)
        assert opened.bridge.resolve(RepositoryName(name), Tag(f"orphan-{id_[:12]}")) == id_
    assert "5 of 5" in command(data, line.replace("run", "verify")).output


def test_one_name_that_lies_twice(tmp_path: Path, data: Path, opened: Registry) -> None:
    """Of a tag stored under two encodings of its name, the later push counts; the other is reported."""
    tree = Tree(tmp_path / "old")
    images = [tree.image(seed, gzip.compress(seed.encode() * 512)) for seed in "12"]
    for folder, image, updated in zip(
        ("a%2Fb", "a%252Fb"), images, (1_400_000_009, 1_400_000_001), strict=True
    ):
        tree.tag(f"team/{folder}", "1", image, updated)
    assert "collision: team/a/b:1" in command(data, f"inspect v1-tree:{tree.root}", code=1).output
    command(data, f"run v1-tree:{tree.root} --jobs 4", code=1)
    assert opened.bridge.resolve(RepositoryName("team/a/b"), Tag("1")) == images[0]


@pytest.mark.slow
def test_verify_needs_no_journal_and_finds_damage(expected: Expected, data: Path) -> None:
    """Lost tags, other images, and changed and missing bytes are found, in source and registry."""
    some = "--include team/* --include sort/* --include json/*"
    line = f"verify {source(expected)} {some} --json"
    prepare(Settings(data=data))
    assert json.loads(command(data, line, code=1).stdout)["verified"] == 0
    command(data, f"run {source(expected)} {some}", code=1)
    for path in (data / "migrations").iterdir():
        path.unlink()
    told = json.loads(command(data, line, code=1).stdout)
    assert (told["verified"], told["wrong"], [*told["skipped"]]) == (16, {}, ["team/app:a+b"])
    some += " --exclude *:a+b"
    line = f"verify {source(expected)} {some} --json"
    assert json.loads(command(data, line).stdout) == {"verified": 16, "wrong": {}, "skipped": {}}
    assert "16 of 16" in command(data, f"verify {source(expected)} {some} --quick").output
    blob = blob_file(data, Digest.of(expected.tree.layers[image_id("xz")]))
    size = blob.stat().st_size
    blob.chmod(0o644)
    blob.write_bytes(bytes(size))
    blob_file(data, Digest.of(expected.tree.layers[image_id("bz2")])).unlink()
    (expected.tree.root / "images" / image_id("tar") / "layer").write_bytes(b"another")
    expected.tree.tag("team/app", "2", image_id("top"))
    wrong = json.loads(command(data, line, code=1).stdout)["wrong"]
    assert {tag: problems[0].split(": ", 1)[-1] for tag, problems in wrong.items()} == {
        "sort/xz:1": "damaged in this registry",
        "sort/bz2:1": "missing from the store",
        "sort/tar:1": f"layer has {len(expected.tree.layers[image_id('tar')])} bytes, but 7 in the source",
        "team/app:2": image_id("other"),
    }


def test_strictly(expected: Expected, data: Path) -> None:
    """A mark of a push is reason enough, for who wants it so."""
    line = f"run {source(expected)} --include mark/* --strict --json"
    told = json.loads(command(data, line, code=3).stdout)
    (tag,) = [each for each in told["tags"] if each["tag"] == "mark/stale:1"]
    assert tag["reason"].startswith("stale-mark")


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("sha256:a", ("sha256:a",)),
        ('"sha256:a"\n', ("sha256:a",)),
        ('["sha256:a", "tarsum+sha256:b", 3]', ("sha256:a", "tarsum+sha256:b")),
        ("", ()),
        ("{}", ()),
    ],
)
def test_checksums_of_every_age(tmp_path: Path, text: str, stated: tuple[str, ...]) -> None:
    """As each release kept them."""
    (tmp_path / "_checksum").write_text(text)
    assert stated_checksums(tmp_path / "_checksum", tmp_path) == stated
    assert stated_checksums(tmp_path / "absent", tmp_path) == ()


@pytest.mark.slow
def test_clients_after_it(expected: Expected, data: Path) -> None:
    """V1 clients see the same ids and bytes, and send nothing when they push again; V2 clients can pull."""
    command(data, f"run {source(expected)} --link hard", code=1)
    tree = expected.tree
    with dualreg_server(data) as host:
        old, new = V1Client(host, "me"), V2Client(host)
        pulled = old.pull("team/app", "1")
        assert [image.id for image in pulled] == [image_id(seed) for seed in ("base", "middle", "top")]
        for image in pulled:
            assert (image.json, image.layer) == (tree.jsons[image.id], tree.layers[image.id])
        chain = [V1Pushed(image.id, image.json, image.layer) for image in pulled]  # type: ignore[arg-type]
        assert old.push("team/app", "again", chain) == []
        for tag in ("team/app:1", "sort/xz:1", "sort/tar:1", "sort/onlyempty:1", "short:latest"):
            name, _, reference = tag.partition(":")
            assert new.pull(name, reference).layers
        assert old.pull("short", "latest")[0].id == image_id("short")


@pytest.mark.slow
def test_asked_to_stop(expected: Expected, data: Path, tmp_path: Path) -> None:
    """Images in progress are finished, the others are reported, and the next run imports them."""
    for number in range(400):
        expected.tree.tag(f"many/r{number}", "1", expected.tree.image(f"many{number}", os.urandom(512)))
    log = tmp_path / "log"
    line = [DUALREG, "migrate", "run", source(expected), "--data", data, "--jobs", "2", "--include", "many/*"]
    with running(line, log, environment()) as process:
        journals = data / "migrations"
        assert until(lambda: any(b"pointing" in path.read_bytes() for path in journals.glob("*.jsonl")))
        process.terminate()
        assert process.wait(20) == 1
    assert "Run again to resume" in log.read_text()
    assert re.search(r"\d+ stopped", log.read_text())
    told = json.loads(command(data, f"run {source(expected)} --include many/* --json").stdout)
    assert told["counts"]["done"] + told["counts"]["same"] == 400
    assert told["counts"]["done"] > 0
    assert told["counts"]["same"] > 0


@pytest.mark.slow
def test_odd_trees_are_told_of(tmp_path: Path, data: Path) -> None:
    """Folders for files, files for folders, pipes, loops, names that are no text: none is a crash."""
    tree = Tree(tmp_path / "old")
    empty = gzip.compress(bytes(1024))
    tree.tag("team/app", "1", tree.image("ok", empty))
    images, repositories = tree.root / "images", tree.root / "repositories"
    odd = {name: tree.image(name, None) for name in ("folder", "pipe", "dangling", "passwd")}
    (images / odd["folder"] / "layer").mkdir()
    os.mkfifo(images / odd["pipe"] / "layer")
    (images / odd["dangling"] / "layer").symlink_to("/nowhere")
    (images / odd["passwd"] / "layer").symlink_to("/etc/passwd")
    odd["no tar"] = tree.image("no tar", b"text " * 300, checksum=None)
    odd["cut tar"] = tree.image("cut tar", builders.tar({"a": b"1" * 4000})[:2000], checksum=None)
    odd["deep"] = tree.image("deep", empty, document=b"[" * 100_000)
    odd["json folder"] = tree.image("json folder", empty)
    (images / odd["json folder"] / "json").unlink()
    (images / odd["json folder"] / "json").mkdir()
    (images / image_id("loop")).symlink_to(image_id("loop"))
    for number, image in enumerate(odd.values()):
        tree.tag("odd/tags", str(number), image)
    tree.tag("team/app", "huge", tree.image("huge", empty, checksum="x" * 3_000_000, author="huge"))
    (repositories / "team" / "app" / "taghuge_json").write_text("[" * 100_000)
    (images / image_id("ok") / "ancestry").write_text("[" * 100_000)
    for place in (images, repositories, repositories / "team"):
        (place / "file").write_text("x")
    (repositories / "team" / "app" / "tag_folder").mkdir()
    strange = os.fsencode(repositories / "team") + b"/\xff\xfe"
    os.mkdir(strange)  # noqa: PTH102 -- of bytes
    with open(strange + b"/tag_\xff", "w") as tag:  # noqa: PTH123 -- of bytes
        tag.write(image_id("ok"))
    line = f"v1-tree:{tree.root}"
    for way in ("", "--deep"):
        command(data, f"inspect {line} {way}", code=1)
    told = json.loads(command(data, f"run {line} --json", code=1).stdout)["tags"]
    status = Counter((tag["tag"].partition(":")[0], tag["status"]) for tag in told)
    assert status == {
        ("team/app", "done"): 2,
        ("odd/tags", "failed"): 2,
        ("odd/tags", "skipped"): len(odd) - 2,
        ("team/\ufffd\ufffd", "skipped"): 1,
    }
    text = command(data, f"run {line}", code=1).output
    assert "bad-name: map team/\ufffd\ufffd" in text
    command(data, "report", code=1)
    command(data, f"verify {line}", code=1)


def test_verify_sees_what_the_bridge_hides(
    expected: Expected, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bridge setting hides tags from clients, not from verify."""
    some = "--include team/* --exclude *:a+b"
    command(data, f"run {source(expected)} {some}")
    monkeypatch.setenv("DUALREG_BRIDGE", "off")
    assert command(data, f"verify {source(expected)} {some}").exit_code == 0
