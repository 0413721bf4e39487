"""Remote registries as sources and targets: open, guarded and hostile ones."""

import json
import shutil
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry
from dualreg.cli import main
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate import scan_options
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.sources.v2_remote import V2Remote
from dualreg.migrate.targets.remote import RemoteTarget
from dualreg.registry import Registry
from dualreg.remote.client import Client
from dualreg.settings import Settings
from tests import builders
from tests.migrate import stock_trees
from tests.migrate.commands import command
from tests.migrate.fronts import Hostile, front, granting, hostile, issuing, status
from tests.migrate.trees import Tree
from tests.programs import dualreg_server

SECRET = "not for everybody"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[tuple[Path, str, str]]:
    """A registry that asks for a password, with images of every sort; its folder, host and options."""
    folder = tmp_path / "there"
    old = Tree(tmp_path / "old")
    base = old.image("base", stock_trees.LAYERS["a"])
    old.tag("team/old", "1", old.image("top", stock_trees.LAYERS["b"], parent=base))
    old.tag("library/short", "latest", base)
    command(folder, f"run v1-tree:{old.root}")
    tree = stock_trees.small(tmp_path / "stock")
    tree.schema1("team/one", "1", stock_trees.LAYERS["c"], stock_trees.LAYERS["d"])
    command(folder, f"run registry-tree:{tree.root}")
    admin(folder, "account", "add", "mover")
    admin(folder, "access", "grant", "mover", "*", "pull,push,delete")
    admin(folder, "access", "grant", "mover", "registry:catalog", "*", check=False)
    (tmp_path / "password").write_text(f"{SECRET}\n")
    with dualreg_server(folder, auth="accounts") as host:
        yield folder, host, f"--user mover --password-file {tmp_path / 'password'}"


def admin(folder: Path, *arguments: str, check: bool = True) -> None:
    """Run another command of dualreg."""
    done = CliRunner().invoke(main, [*arguments, "--data", str(folder)], input=f"{SECRET}\n{SECRET}\n")
    assert not check or done.exit_code == 0, done.output


def opened(folder: Path) -> Registry:
    """Return the registry of a folder."""
    return open_registry(Settings(data=folder))


def tags_of(folder: Path) -> dict[str, str]:
    """Return every tag, and its manifest."""
    registry = opened(folder)
    found = {}
    for name in registry.repositories.list(last="", limit=99).rows:
        for tag in registry.tags.list(name).rows:
            found[f"{name}:{tag}"] = str(registry.manifests.find(name, tag).digest)
    registry.close()
    return found


@pytest.mark.slow
def test_in_over_v2(there: tuple[Path, str, str], tmp_path: Path) -> None:
    """Digests, referrers and all, through a login; nothing is read twice."""
    folder, host, login = there
    repositories = sorted({tag.rpartition(":")[0] for tag in tags_of(folder)})
    for name in repositories:
        line = f"v2+http://{host}/{name} {login}"
        command(tmp_path / "here", f"run {line}")
        command(tmp_path / "here", f"verify {line}")
        assert "same" in command(tmp_path / "here", f"run {line}").output
    assert tags_of(tmp_path / "here") == tags_of(folder)
    assert SECRET not in "".join(path.read_text() for path in (tmp_path / "here/migrations").iterdir())
    registry = opened(tmp_path / "here")
    index = registry.manifests.find(RepositoryName("team/app"), Tag("latest"))
    assert len(registry.referrers.list(RepositoryName("team/app"), index.digest).rows) == 1
    registry.close()


@pytest.mark.slow
def test_in_over_v1(there: tuple[Path, str, str], tmp_path: Path) -> None:
    """Ids and JSONs, byte for byte."""
    folder, host, login = there
    line = f"v1+http://{host} {login}"
    command(tmp_path / "here", f"run {line}")
    command(tmp_path / "here", f"verify {line}")
    theirs, ours = opened(folder), opened(tmp_path / "here")
    for name, tag in (("team/old", "1"), ("short", "latest"), ("team/app", "latest"), ("team/one", "1")):
        place = (RepositoryName(name), Tag(tag))
        assert ours.bridge.resolve(*place) == theirs.bridge.resolve(*place)
        rows = [each.v1_images.ancestry(place[0], each.bridge.resolve(*place)) for each in (ours, theirs)]
        assert [row.json for row in rows[0]] == [row.json for row in rows[1]]
    for each in (theirs, ours):
        each.close()


@pytest.mark.slow
def test_two_spellings_of_one_name(tmp_path: Path) -> None:
    """``x`` and ``library/x`` are one name for V1 clients: both are refused until one is mapped."""
    tree = Tree(tmp_path / "old")
    for name, letter in (("library/short", "a"), ("team/short", "b")):
        tree.tag(name, "latest", tree.image(letter, stock_trees.LAYERS[letter]))
    (tmp_path / "names").write_text("team/short short\n")
    command(tmp_path / "there", f"run v1-tree:{tree.root} --library keep --map {tmp_path / 'names'}")
    with dualreg_server(tmp_path / "there") as host:
        output = command(tmp_path / "here", f"run v1+http://{host}", code=3).output
        assert "library/short:latest: skipped: collision: same destination as short:latest" in output
        command(tmp_path / "here", f"run v1+http://{host} --exclude library/short")
    assert tags_of(tmp_path / "here").keys() == {"short:latest"}


@pytest.mark.slow
def test_out_over_v2(there: tuple[Path, str, str], tmp_path: Path) -> None:
    """Pushed, mounted, and not sent again."""
    folder, _, login = there
    with dualreg_server(tmp_path / "other") as host:
        arguments = ["export", f"v2+http://{host}/moved", *login.split(), "--data", str(folder)]
        first, second = (CliRunner().invoke(main, arguments, catch_exceptions=False) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output
    assert "5 done" in first.output
    assert "5 same" in second.output
    theirs = tags_of(tmp_path / "other")
    ours = {f"moved/{name}": digest for name, digest in tags_of(folder).items()}
    assert theirs.keys() == ours.keys()
    assert {name for name in ours if ours[name] != theirs[name]} == {"moved/team/one:1"}  # it was schema 1


@pytest.mark.slow
def test_verify_over_http(there: tuple[Path, str, str], tmp_path: Path) -> None:
    """What clients of both generations get is compared too."""
    folder, host, login = there
    password = login.rpartition(" ")[2]
    http = f"--http http://{host} --http-user mover --http-password-file {password}"
    line = f"verify v1-tree:{tmp_path / 'old'} {http}"
    command(folder, line)
    command(folder, f"{line} --quick")
    ours = stock_trees.StockTree(folder).data(Digest.of(stock_trees.LAYERS["b"]))
    ours.chmod(0o644)
    ours.write_bytes(bytes(ours.stat().st_size))
    wrong = json.loads(command(folder, f"{line} --json", code=1).stdout)["wrong"]
    assert any(problem.startswith("V2 ") for problem in wrong["team/old:1"])
    without = line.partition(" --http-user")[0]
    output = command(folder, without, code=1).output
    assert "V2 manifest: status 401" in output


@pytest.fixture
def shared(tmp_path: Path) -> str:
    """The location of a tree of five tags on one base, which was imported."""
    tree = Tree(tmp_path / "shared")
    base = tree.image("base", stock_trees.LAYERS["a"])
    for letter in "12345":
        tree.tag("team/many", letter, tree.image(letter, stock_trees.LAYERS["b"], parent=base))
    command(tmp_path / "data", f"run v1-tree:{tree.root}")
    return f"v1-tree:{tree.root}"


@pytest.mark.slow
@pytest.mark.parametrize("quick", ["", "--quick"])
def test_what_tags_share_is_asked_for_once(shared: str, tmp_path: Path, quick: str) -> None:
    """Over both APIs; of V1 images the layers too, unless it shall be quick."""
    with dualreg_server(tmp_path / "data") as host, front(host) as before:
        command(tmp_path / "data", f"verify {shared} --http {before.url} {quick}")
    asked = [request for request in before.seen if not request[1].endswith("/images")]  # for tokens
    assert len(asked) == len(set(asked))
    layers = [path for _, path in before.seen if path.endswith("/layer")]
    assert len(layers) == (0 if quick else 6)
    assert len([path for _, path in before.seen if path.endswith("/json")]) == 6


@pytest.mark.slow
def test_what_indexes_share_is_asked_for_once(tmp_path: Path) -> None:
    """Manifests, whichever tag's index names them, and their blobs; a tag for each."""
    tree = stock_trees.StockTree(tmp_path / "stock")
    images = [builders.image(stock_trees.LAYERS[letter]) for letter in "ab"]
    for image in images:
        tree.image("team/app", image)
    tree.manifest("team/app", builders.index(*images), "one", "two")
    tree.manifest("team/app", builders.index(*reversed(images)), "other")
    command(tmp_path / "data", f"run registry-tree:{tree.root}")
    with dualreg_server(tmp_path / "data") as host, front(host) as before:
        command(tmp_path / "data", f"verify registry-tree:{tree.root} --http {before.url}")
    asked = [path for _, path in before.seen if path.startswith("/v2/team/app/")]
    assert len(asked) == len(set(asked))
    assert len([path for path in asked if "/manifests/" in path]) == 5


@pytest.mark.slow
def test_layers_that_old_clients_do_not_get(shared: str, tmp_path: Path) -> None:
    """A layer that V1 clients cannot download is reported for each tag that needs it, and requested once."""
    asked: list[str] = []

    def answer(path: str, _: str) -> int | None:
        if not path.endswith("/layer"):
            return None
        asked.append(path)
        return 404

    with dualreg_server(tmp_path / "data") as host, front(host) as before:
        before.answer = answer
        line = f"verify {shared} --http {before.url} --json"
        wrong = json.loads(command(tmp_path / "data", line, code=1).stdout)["wrong"]
    assert {name: len(problems) for name, problems in wrong.items()} == {f"team/many:{n}": 2 for n in "12345"}
    assert len(asked) == len(set(asked)) == 6


@pytest.mark.slow
def test_verify_where_v1_is_off(shared: str, tmp_path: Path) -> None:
    """That V1 is off is reported once, and is not a problem of any tag."""
    with dualreg_server(tmp_path / "data", v1="off") as host, front(host) as before:
        told = command(tmp_path / "data", f"verify {shared} --jobs 1 --http {before.url}").output
    assert told.count("V1 is off at") == 1
    assert len([path for _, path in before.seen if path.startswith("/v1/")]) <= 3


@pytest.mark.parametrize(
    "http",
    [
        "http://host/prefix",
        "http://host/?secret",
        "http://host?secret",
        "http://host#secret",
        "http://me:secret@host",
        "http://",
        "host",
        "ftp://host",
        "http://host --http-user me",
    ],
)
def test_no_registry_to_verify_over_http(tmp_path: Path, http: str) -> None:
    """One readable line without secrets, before anything is looked through."""
    output = command(tmp_path / "here", f"verify v1-tree:{tmp_path / 'none'} --http {http}", code=2).output
    assert output.count("\n") == 1
    assert "http" in output
    assert "none" not in output
    assert "secret" not in output


@pytest.mark.parametrize(
    "url",
    [
        "v2+http://",
        "v2+http://me:secret@host/x",
        "v2+http://me:secret@[::1/x",
        "v2+http://[::1",
        "v2+http://host:99999",
        "v2+http://host/x?password=secret",
        "v2+ftp://host",
        "v2+http://127.0.0.1:1",
        "v1+http://127.0.0.1:1",
    ],
)
def test_no_live_registry(tmp_path: Path, url: str) -> None:
    """One readable line without secrets."""
    output = command(tmp_path / "here", f"inspect {url}", code=2).output
    assert output.count("\n") == 1
    assert "secret" not in output


def test_registries_that_lie(tmp_path: Path) -> None:
    """Wrong bytes, lists without an end, no digest, no JSON."""
    with hostile() as server:
        server.answers["/v2/_catalog?n=1000"] = [
            status(200, b'{"repositories": ["a"]}', Link='</v2/_catalog?n=1000>; rel="next"')
        ]
        assert "no end" in command(tmp_path / "here", f"inspect v2+{server.url}", code=2).output
        body = b'{"schemaVersion": 2}'
        server.answers["/v2/a/tags/list"] = [status(200, b'{"tags": ["1"]}')]
        server.answers["/v2/a/manifests/1"] = [status(200, body)]
        (tag,) = V2Remote(Client(server.url), "a").tags()
        assert tag.image == str(Digest.of(body))  # type: ignore[union-attr]  # it is no finding
        server.answers[f"/v2/a/manifests/{Digest.of(body)}"] = [status(200, b"{}")]
        assert "corrupt" in command(tmp_path / "here", f"run v2+{server.url}/a", code=3).output
        del server.answers["/v2/a/manifests/1"]
        assert "dangling-tag" in command(tmp_path / "here", f"inspect v2+{server.url}/a", code=1).output
        listed = b'{"tags": ["1"]}'
        server.answers["/v2/a/tags/list"] = [status(200, listed)]
        server.answers["/v2/a/manifests/1"] = [status(200, body, Docker_Content_Digest=str(Digest.of(body)))]
        server.answers[f"/v2/a/manifests/{Digest.of(body)}"] = [status(200, body), status(500)]
        output = command(tmp_path / "here", f"run v2+{server.url}/a", code=3).output
        assert "1 failed" in output or "1 skipped" in output
        server.answers["/v2/a/tags/list"] = [status(200, b"<html>")]
        output = command(tmp_path / "here", f"inspect v2+{server.url}/a", code=2).output
        assert "not JSON" in output


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host of an open registry with images of several years, and some without a date."""
    folder = tmp_path_factory.mktemp("dated")
    tree = Tree(folder / "old")
    for tag, year in (("c", "2015"), ("a", "2021"), ("b", "2018")):
        image = tree.image(tag, stock_trees.LAYERS["a"], created=f"{year}-05-01T12:00:00.123456789Z")
        tree.tag("team/app", tag, image)
    tree.tag("team/none", "x", tree.image("x", stock_trees.LAYERS["b"], created="0001-01-01T00:00:00Z"))
    command(folder / "there", f"run v1-tree:{tree.root}")
    with dualreg_server(folder / "there") as host:
        yield host
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_dates(dated: str, tmp_path: Path, generation: str) -> None:
    """They are those of images; what has none is neither early nor late, and refused by that name."""
    data, url = tmp_path / "here", f"{generation}+http://{dated}/"

    def taken(choice: str, code: int = 0) -> set[str]:
        """Return the tags that would be."""
        lines = command(data, f"plan {url}{choice}", code=code).stdout.splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        assert all(entry["updated"] for entry in entries if entry["repository"] == "team/app")
        return {entry["tag"] for entry in entries if entry["action"] == "import"}

    assert taken("team/app") == {"a", "b", "c"}
    assert taken("team/app --latest 1") == {"a"}
    assert taken("team/app --since 2018-05-01") == {"a", "b"}
    assert taken("team/none") == {"x"}
    assert "its date is unknown" in command(data, f"run {url}team/none --latest 1", code=3).output
    assert "its date is unknown" in command(data, f"run {url}team/none --since 2000-01-01", code=3).output


@pytest.mark.slow
@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_what_was_pushed_here_later_stays(dated: str, tmp_path: Path, generation: str) -> None:
    """A tag pushed to this registry is only replaced by an image that was created later."""
    data, url = tmp_path / "here", f"{generation}+http://{dated}/team/app"
    tree = Tree(tmp_path / "mine")
    for tag in ("a", "b"):
        tree.tag("team/app", tag, tree.image(f"mine {tag}", stock_trees.LAYERS["c"]))
    command(data, f"run v1-tree:{tree.root}")
    before = tags_of(data)
    command(data, f"run {url} --existing newer", code=1)
    assert before.items() < tags_of(data).items()
    command(data, f"run {url} --existing overwrite")
    assert not before.items() & tags_of(data).items()


@pytest.mark.slow
@pytest.mark.parametrize(
    "accepts",
    [
        lambda _path, said: said.startswith("Basic "),
        lambda path, said: said.startswith("Basic " if path.endswith(("/images", "&page=1")) else "Token "),
        lambda path, said: said.startswith("Token ") or path.endswith(("/images", "&page=1")),
    ],
    ids=["password", "token", "either"],
)
def test_v1_behind_a_front(dated: str, tmp_path: Path, accepts: Callable[[str, str], bool]) -> None:
    """Whether it wants the password with each request, or the token that the registry gives."""
    (tmp_path / "password").write_text(SECRET)
    login = f"--user mover --password-file {tmp_path / 'password'}"
    with front(dated) as before:
        before.answer = lambda path, said: None if path.startswith("/v2/") or accepts(path, said) else 401
        line = f"v1+{before.url} {login}"
        command(tmp_path / "here", f"run {line}")
        command(tmp_path / "here", f"verify {line}")
        http = f"--http {before.url} --http-user mover --http-password-file {tmp_path / 'password'}"
        command(tmp_path / "here", f"verify {line} {http}")
    assert len(tags_of(tmp_path / "here")) == 4


@pytest.mark.slow
@pytest.mark.parametrize("generation", ["v1", "v2"])
@pytest.mark.parametrize("code", [403, 0])
def test_a_repository_that_is_refused(dated: str, tmp_path: Path, generation: str, code: int) -> None:
    """It is skipped with the reason, and counts in every exit status unless the selection excludes it."""
    with front(dated) as before:
        before.answer = lambda path, _: code if "team/none/tags" in path else None
        url = f"{generation}+{before.url}"
        assert "refused: team/none" in command(tmp_path / "here", f"inspect {url}", code=1).output
        output = command(tmp_path / "here", f"run {url}", code=1).output
        assert "team/none: skipped: refused: " in output
        assert "3 done" in output
        assert "1 skipped" in output
        command(tmp_path / "here", f"verify {url}", code=1)
        command(tmp_path / "here", "report", code=1)
        plan = command(tmp_path / "here", f"plan {url} -o {tmp_path / 'plan'}", code=1)
        assert "1 cannot be imported" in plan.output
        command(tmp_path / "here", f"run {url} --plan {tmp_path / 'plan'}", code=1)
        command(tmp_path / "here", f"run {url} --include team/none:1", code=3)
        for choice in ("--exclude team/none", "--include team/app:*"):
            command(tmp_path / "here", f"run {url} {choice}")
        command(tmp_path / "here", f"inspect {url}/team/none", code=2)


@pytest.mark.slow
@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_what_does_not_answer(dated: str, tmp_path: Path, generation: str) -> None:
    """One image that cannot be asked for keeps out its tag, and no other."""
    with front(dated) as before:
        url = f"{generation}+{before.url}/team/app"
        lines = command(tmp_path / "here", f"plan {url}").stdout.splitlines()
        image = next(json.loads(line)["image"] for line in lines if '"tag": "b"' in line)
        asked = f"/v1/images/{image}/json" if generation == "v1" else "/v2/team/app/manifests/b"
        before.answer = lambda path, _: 0 if path == asked else None
        assert "team/app" in command(tmp_path / "here", f"inspect {url}", code=1).output
        assert "2 done" in command(tmp_path / "here", f"run {url}", code=1).output


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_many_are_asked_at_a_time(dated: str, tmp_path: Path, generation: str) -> None:
    """--jobs requests run at a time, with the same result; nothing is requested twice or in vain."""
    with front(dated) as before:
        before.delay = 0.02
        url = f"{generation}+{before.url}/team/app"
        told = []
        for jobs in (1, 3):
            before.busiest = 0
            told += [command(tmp_path / "here", f"plan {url} --jobs {jobs}").stdout]
            assert before.busiest == jobs
        assert told[0] == told[1]
        before.seen.clear()
        command(tmp_path / "here", f"run {url} --include team/app:a")
        assert len(before.seen) == len(set(before.seen))
        assert not [path for _, path in before.seen if path.endswith(("manifests/b", "manifests/c"))]
        assert len(before.seen) <= 10


@pytest.fixture
def server() -> Iterator[Hostile]:
    """A registry that answers as a test says."""
    with hostile() as own:
        yield own


def test_token_servers_are_hosts(server: Hostile, tmp_path: Path) -> None:
    """In any case of letters; what no host can be is refused, instead of never being that of a server."""
    (tmp_path / "password").write_text(SECRET)
    with hostile() as other:
        port = other.url.rpartition(":")[2]
        realm = f"http://localhost:{port}/token"
        server.answers["/v2/_catalog?n=1000"] = [status(401, WWW_Authenticate=f'Bearer realm="{realm}"')]
        line = f"inspect v2+{server.url} --token-server"
        for host in (f"localhost:{port}", realm, "me@localhost", "[::1]", ""):
            assert "expected a name" in command(tmp_path / "here", line, host, code=2).output
        line = f"inspect v2+{server.url} --user me --password-file {tmp_path / 'password'} --token-server"
        command(tmp_path / "here", line, "::1", code=2)
        assert other.seen == []
        command(tmp_path / "here", line, "LocalHost", code=2)
        assert str(other.seen[0][1]).startswith("Basic ")


def test_errors_that_a_terminal_would_obey(server: Hostile, tmp_path: Path) -> None:
    """What a hostile server or the folders of a tree are called is printed with escapes, in one line."""
    server.answers["/v2/_catalog?n=1000"] = [status(401, WWW_Authenticate='Bearer realm="x://\x1bc\x7f"')]
    for name in ("1\x1bc", "2\n1 done"):
        for part in ("images", "repositories"):
            (tmp_path / "trees" / name / part).mkdir(parents=True)
    for source in (f"v2+{server.url}", f"v1-tree:{tmp_path / 'trees'}"):
        output = command(tmp_path / "here", f"inspect {source}", code=2).output
        assert "\\x1bc" in output
        assert not {*output} & {*"\x1b\x7f"}
        assert output.count("\n") == 1


def test_what_is_sent_once_has_a_token_that_lasts(server: Hostile) -> None:
    """One that is nearly at its end is renewed before."""
    challenge = f"Bearer realm={server.url}/token"
    digest = Digest.of(b"blob")
    server.answers["/token?service=&scope=repository%3Aa%3Apull%2Cpush"] = [issuing(20)]
    server.answers[f"/v2/a/blobs/{digest}"] = [granting(challenge, 404)]
    server.answers["/v2/a/blobs/uploads/"] = [granting(challenge, 202, Location="/put?x=1")]
    server.answers[f"/put?x=1&digest={digest}"] = [granting(challenge, 201)]
    target = RemoteTarget(Client(server.url, "me", SECRET), "")
    assert target.blob(RepositoryName("a"), digest, SourceBytes.of(b"blob")) == 4
    assert server.said("/v2/a/blobs/uploads/") == ["Bearer t1"]
    assert server.said(f"/put?x=1&digest={digest}") == ["Bearer t2"]


@pytest.mark.parametrize("mounted", [True, False])
def test_mounts_ask_for_both_repositories(server: Hostile, mounted: bool) -> None:  # noqa: FBT001 -- parametrised
    """A token for them; where it is not granted, the blob is sent."""
    digest = Digest.of(b"blob")
    mount = f"/v2/b/blobs/uploads/?mount={str(digest).replace(':', '%3A')}&from=a"
    scopes = ["repository%3Ab%3Apull%2Cpush", "repository%3Aa%3Apull"]
    for wanted in (scopes[:1], scopes):
        server.answers["/token?service=&scope=" + "&scope=".join(wanted)] = [issuing(300)]
    server.answers[f"/v2/a/blobs/{digest}"] = [status(200)]
    server.answers[mount] = [granting(f"Bearer realm={server.url}/token", 201 if mounted else 403)]
    server.answers["/v2/b/blobs/uploads/"] = [status(202, Location="put")]
    server.answers[f"/v2/b/blobs/uploads/put?digest={digest}"] = [status(201)]
    target = RemoteTarget(Client(server.url, "me", SECRET), "")
    sent = [target.blob(RepositoryName(name), digest, SourceBytes.of(b"blob")) for name in ("a", "b")]
    assert sent == [0, 0 if mounted else 4]
    assert server.said(mount)[-1] == "Bearer t1"


def test_pages(server: Hostile) -> None:
    """The next page is where the link says, relative to the current page."""
    server.answers["/v2/a/tags/list"] = [
        status(200, b'{"tags": ["1"]}', Link='<list?n=1&last=1>; rel="next"')
    ]
    server.answers["/v2/a/tags/list?n=1&last=1"] = [
        status(200, b'{"tags": ["2"]}', Link='<?last=2>; rel="next"')
    ]
    server.answers["/v2/a/tags/list?last=2"] = [status(200, b'{"tags": ["3"]}')]
    assert [tag.name for tag in V2Remote(Client(server.url), "a").tags()] == ["a:1", "a:2", "a:3"]  # type: ignore[union-attr]  # no findings


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_lists_without_end(
    server: Hostile, data: Path, monkeypatch: pytest.MonkeyPatch, generation: str
) -> None:
    """They end with an error when they are too large, however many pages that takes; none is cut off."""
    monkeypatch.setattr(scan_options, "_LIST_LIMIT", 20 * 2100)
    pages = 20
    for page in range(1, pages + 30):
        following = f'</v2/_catalog?n=1000&last={page}>; rel="next"'
        last = f"&last={page - 1}" if page > 1 else ""
        server.answers[f"/v2/_catalog?n=1000{last}"] = [
            status(200, f'{{"repositories": ["a/{page}"]}}'.encode(), Link=following)
        ]
        server.answers[f"/v1/search?q=&n=100&page={page}"] = [
            status(200, b'{"num_pages": 99, "results": [{"name": "a/%d"}]}' % page)
        ]
    output = command(data, f"inspect {generation}+{server.url}", code=2).output
    assert "has no end" in output
    assert len(server.seen) == pages + 1


_ODD = [b"[]", b"1", b"null", b'"x"', b"<html>", b'{"%s": 1}', b'{"%s": [1]}', b'{"%s": {"a": 1}}']


@pytest.mark.parametrize("body", _ODD)
def test_odd_answers(server: Hostile, body: bytes, tmp_path: Path) -> None:
    """Unexpected documents are reported in one line, and affect nothing else."""
    data = tmp_path / "here"

    def odd(key: str) -> list[Callable[[BaseHTTPRequestHandler], None]]:
        return [status(200, body.replace(b"%s", key.encode()))]

    for path, key, line in (
        ("/v2/_catalog?n=1000", "repositories", f"inspect v2+{server.url}"),
        ("/v2/a/tags/list", "tags", f"inspect v2+{server.url}/a"),
        ("/v1/search?q=&n=100&page=1", "results", f"inspect v1+{server.url}"),
    ):
        server.answers = {path: odd(key)}
        output = command(data, line, code=2).output
        assert output.count("\n") == 1, output
    image = b'{"schemaVersion": 2}'
    server.answers = {
        "/v2/a/tags/list": [status(200, b'{"tags": ["1"]}')],
        "/v2/a/manifests/1": [status(200, image)],
        f"/v2/a/referrers/{Digest.of(image)}": odd("manifests"),
    }
    assert "refused" in command(data, f"inspect v2+{server.url}/a", code=1).output
    server.answers = {
        "/v1/search?q=&n=100&page=1": [status(200, b'{"num_pages": "x", "results": [{"name": "a/b"}, {}]}')],
        "/v1/repositories/a/b/tags": odd("latest"),
    }
    command(data, f"inspect v1+{server.url}", code=1)
