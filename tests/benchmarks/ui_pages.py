"""Pages of the web UI in a small registry and a large one: how long each takes those who may see it."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from dualreg.assembly import build_authority, open_registry
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.auth.sessions import Sessions
from dualreg.catalog.webhooks import WebhookRow
from dualreg.migrate.journal import Journal
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.web.browser import SESSION
from tests.benchmarks import wire
from tests.benchmarks.filling import say
from tests.programs import Serving, children, dualreg_process
from tests.ui.conftest import HOOK
from tests.ui.test_pages import PAGES

#: Milliseconds within which 95 % of the answers of a page have to come.
GOAL = 100
#: An administrator, and who may pull a thousandth of the repositories.
_ROOT, _READER = "root", "reader"
_LIFETIME = timedelta(hours=12)
#: Parameters of pages that are about a repository, and what they are in one that is filled here.
_OWN: dict[str, Callable[[str], str]] = {
    "repository": lambda name: name,
    "under": lambda name: name.partition("/")[0] + "/",
    "pattern": lambda name: name.partition("/")[0] + "/*",
    "reference": lambda _: "latest",
    "tag": lambda _: "latest",
    "other": lambda _: "latest",
    "platform": lambda _: "linux/amd64",
}


@dataclass(frozen=True)
class _View:
    """A page as an account sees it.

    Attributes:
        address: Returns where it is, given the name of a repository.
    """

    account: str
    address: Callable[[str], str]


def _search(text: Callable[[str], str]) -> Callable[[str], str]:
    return lambda name: f"/ui/repositories?{urlencode({'search': text(name)})}"


#: What is searched for, given the name of a repository.
_SEARCHES: dict[str, Callable[[str], str]] = {
    "a part of all names": lambda _: "repository",
    "a part of some names": lambda name: name.partition("/")[0] + "/",
    "a part of the last ninth": lambda _: "group9",
    "a rare part": lambda name: name.partition("/")[2].removeprefix("repo"),
    "two characters": lambda name: name[-2:],
    "two that no name has": lambda _: "qz",
    "a character": lambda name: name[-1],
    "a character that no name has": lambda _: "q",
    "a part that no name has": lambda _: "nothing",
    "name:tag": lambda name: f"{name.partition('/')[2]}:late",
    "a tag of all": lambda _: ":latest",
    "a tag that nothing has": lambda _: "repository:v1",
}


def _pages() -> Iterator[tuple[str, _View]]:
    """Yield the pages that an administrator sees, by path and parameters, and some that others do."""
    for path in (path for path, (people, _) in PAGES.items() if _ROOT in people and "search" not in path):
        split = urlsplit(path)
        title = " ".join([split.path, *(name for name, _ in parse_qsl(split.query))])
        yield title, _View(_ROOT, _about(path))
    yield (
        "/ui/repositories after",
        _View(_ROOT, lambda name: f"/ui/repositories?{urlencode({'after': name})}"),
    )
    yield "/ui/migrations/run", _View(_ROOT, lambda _: f"/ui/migrations/run?run={_RUN}")
    yield "/ui/tag/delete", _View(_ROOT, _about("/ui/tag/delete?repository=x&tag=x"))
    yield "/ui/tags/delete", _View(_ROOT, _about("/ui/tags/delete?repository=x&tag=x"))
    for account in (_ROOT, _READER):
        for title, text in _SEARCHES.items():
            yield f"search for {title}, as {account}", _View(account, _search(text))
    for path in ("/ui/", "/ui/repositories", "/ui/repositories?own=1"):
        yield f"{path}, as {_READER}", _View(_READER, _about(path))


def _about(path: str) -> Callable[[str], str]:
    """Return what returns the address of a page about another repository."""
    split = urlsplit(path)
    given = parse_qsl(split.query)

    def address(repository: str) -> str:
        query = [(name, _OWN[name](repository) if name in _OWN else value) for name, value in given]
        return f"{split.path}?{urlencode(query)}" if query else split.path

    return address


#: The name of the run of a migration that is shown.
_BEGAN = datetime(2026, 3, 2, tzinfo=UTC)
_RUN = f"{_BEGAN:%Y%m%dT%H%M%S.%f}-1"
#: All views, by title.
VIEWS: dict[str, _View] = dict(_pages())


@dataclass(frozen=True)
class _Registry:
    """A registry that is served.

    Attributes:
        clients: Connections with a session, by account.
        names: The repositories that can be shown.
    """

    serving: Serving
    clients: dict[str, wire.Connection]
    names: Sequence[str]

    def view(self, view: _View, number: int) -> tuple[float, float]:
        """Return the milliseconds that a page takes, and those of a processor in the server."""
        address = view.address(self.names[number % len(self.names)])
        worked, began = self._worked(), time.perf_counter()
        self.clients[view.account].ask("GET", address)
        taken = time.perf_counter() - began
        return taken * 1e3, (self._worked() - worked) * 1e3

    def _worked(self) -> float:
        """Return the seconds that the threads of its processes have run.  Source: proc(5), schedstat."""
        pids = children(self.serving.process.pid)
        files = (file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def compare(filled: Sequence[tuple[Path, Sequence[str]]], views: int) -> None:
    """Print how long pages take, those first that take longest in the last registry.

    Args:
        filled: Data directories, each with the repositories that can be shown.
        views: Of each page, each about another repository.
    """
    found = sorted(_measured(filled, views), key=lambda each: -each[1][-1][0])
    for title, cuts in found:
        times, worked = (" and ".join(f"{cut:,.1f}" for cut in each) for each in zip(*cuts, strict=True))
        say(f"{title}: 95 % within {times} ms, and {worked} ms of a processor")
    for what, place in (("", 0), (" of a processor", 1)):
        slow = [title for title, cuts in found if cuts[-1][place] >= GOAL]
        say(f"pages of which less than 95 % take {GOAL} ms{what}: {', '.join(slow) or 'none'}")


def _measured(
    filled: Sequence[tuple[Path, Sequence[str]]], views: int
) -> Iterator[tuple[str, Sequence[tuple[float, float]]]]:
    """Yield each page, and below what 95 % of its views stay in each registry, as ``_Registry.view``."""
    with ExitStack() as stack:
        registries = [stack.enter_context(_served(data, names)) for data, names in filled]
        for title, view in VIEWS.items():
            taken: list[list[tuple[float, float]]] = [[] for _ in registries]
            for number in range(views):
                for registry, own in zip(registries, taken, strict=True):
                    own.append(registry.view(view, number))
            yield title, [_cuts(each) for each in taken]


def _cuts(taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    times, worked = (statistics.quantiles(each, n=20)[-1] for each in zip(*taken, strict=True))
    return times, worked


@contextmanager
def _served(data: Path, names: Sequence[str]) -> Iterator[_Registry]:
    """Serve a registry for the block."""
    sessions = _prepare(data)
    with (
        dualreg_process(data, auth="accounts", workers=1, fsck_rate=0, gc_interval="0s") as serving,
        ExitStack() as stack,
    ):
        clients = {
            account: stack.enter_context(wire.Connection(serving.host, {"Cookie": f"{SESSION}={secret}"}))
            for account, secret in sessions.items()
        }
        yield _Registry(serving, clients, names)


def _prepare(data: Path) -> dict[str, str]:
    """Make the accounts, a webhook and the run of a migration, unless they are there; return sessions."""
    settings = Settings.model_validate({"data": data, "auth": "accounts"})
    with closing(open_registry(settings)) as registry:
        accounts = Accounts(registry.state.catalog, Passwords())
        for account, rule in ((_ROOT, ("*", "admin,manage")), (_READER, ("group7/*", "pull"))):
            with suppress(ValueError):  # an earlier run made it
                accounts.add(account, "a password")
            accounts.grant(account, *rule)
        _add_others(settings, registry)
        logins = build_authority(settings, registry.state.catalog).logins
        assert logins is not None
        return {account: Sessions(logins).begin(account, _LIFETIME) for account in (_ROOT, _READER)}


def _add_others(settings: Settings, registry: Registry) -> None:
    with suppress(ValueError):
        registry.webhooks.add(WebhookRow(HOOK, "https://ci.example/hook", "cloudevents", ("*",), ("push",)))
    if not settings.journals.exists():
        writing = Journal(settings.journals, _BEGAN, "v1-tree:/srv/old-registry")
        writing.write("end", stopped=False)
        writing.path.rename(settings.journals / f"{_RUN}.jsonl")
