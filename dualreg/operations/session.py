"""Session: what operations work with, on whose behalf, and what they answer in pages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Generic, TypeVar

from dualreg.auth.access import Action
from dualreg.auth.accounts import Accounts
from dualreg.auth.authority import Authority
from dualreg.image.names import RepositoryName
from dualreg.image.signatures.trust import Trust
from dualreg.operations.control import TaskControl
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry import Registry
from dualreg.registry.v1_mode import V1State
from dualreg.registry.writes import Writes
from dualreg.settings import Settings

Row_co = TypeVar("Row_co", covariant=True)
#: The longest page.
PAGE_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row_co]):
    """A page of a list.

    Attributes:
        rows: The entries, in the order of the list.
        next: What to give as *after* for the next page; null: this is the last one.
    """

    rows: Sequence[Row_co]
    next: str | None = None


def page_size(n: int) -> int:
    """Return how many rows a page has that a caller wants *n* of.

    Raises:
        ValueError: it is less than 1.
    """
    if n < 1:
        raise ValueError(f"invalid number {n} of entries; expected 1 or more")
    return min(n, PAGE_LIMIT)


def _everything(repository: RepositoryName, action: Action) -> bool:
    del repository, action
    return True


def _always() -> bool:
    return True


def _nothing() -> None:
    """Check nothing."""


@dataclass(frozen=True)
class Session:
    """What one command, or one request, works with.

    Attributes:
        record: Records a change in the audit log: the name of the command, and facts by name.
        accounts, authority, writes: Return the parts that not every operation needs.
        trust: Returns by which keys the signatures of a repository are verified.
        tasks: What runs tasks; None: this process cannot.
        require_changeable: Raises unless content may be changed or deleted now.
        require_deletable: Raises unless deletes are offered at all.
        allows: Returns whether an action on a repository is allowed, beyond what the operation requires.
        reach: The repositories that lists show.
        administers: Returns whether it is an administrator's, for whom no question is too large.
        pushable: Those that may be pushed to.
        failures: Returns what fails of what every push needs, by name; None: ask the registry.
        since: When the process began that answers, if it goes on after that.
        previews: Held by who makes a preview, one at a time: it takes a thread, and makes pushes wait.
    """

    registry: Registry
    settings: Settings
    record: Callable[..., None]
    accounts: Callable[[], Accounts]
    authority: Callable[[], Authority]
    writes: Callable[[], Writes]
    trust: Callable[[RepositoryName], Trust]
    tasks: TaskControl | None = None
    require_changeable: Callable[[], None] = _nothing
    require_deletable: Callable[[], None] = _nothing
    allows: Callable[[RepositoryName, Action], bool] = _everything
    reach: Reach = EVERYWHERE
    administers: Callable[[], bool] = _always
    pushable: Reach = EVERYWHERE
    failures: Callable[[], Mapping[str, str]] | None = None
    since: datetime | None = None
    previews: Lock = field(default_factory=Lock)

    def v1(self) -> V1State:
        """Return how much of the V1 API is served."""
        return self.registry.v1_switch.look(self.settings.v1)


@dataclass(frozen=True)
class Group:
    """The base of all groups of operations."""

    session: Session
