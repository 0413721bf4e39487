"""Access: what may be done with which resource, and the scope grammar that says so.

Source: Docker Registry, "Token Scope Documentation" and "Token Authentication Implementation".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from dualreg.errors import NameInvalid, RequestInvalid
from dualreg.image.names import RepositoryName
from dualreg.image.reach import Reach


class Action(StrEnum):
    """What can be done with a repository. ``admin`` is all of it, and deleting it whole."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    ADMIN = "admin"


#: In a scope, every action that there is.
ALL = "*"

REPOSITORY = "repository"
#: Characters of the longest scope taken, and resources in one request.
_SCOPE_LIMIT = 4096
_RESOURCES_LIMIT = 64
_RESOURCE = re.compile(r"([a-z0-9]+)(?:\([a-z0-9]+\))?:(.+):((?:[a-z]*|\*)(?:,(?:[a-z]*|\*))*)", re.ASCII)
_ORDER = [*Action]


@dataclass(frozen=True, slots=True)
class Access:
    """Actions upon one resource; in what somebody holds, a repository's name may be a pattern (``Reach``)."""

    type: str
    name: str
    actions: frozenset[str]

    @classmethod
    def of(cls, name: str, *actions: str) -> Self:
        """Return those *actions* upon a repository."""
        return cls(REPOSITORY, name, frozenset(actions))

    def permits(self, action: str) -> bool:
        """Tell whether *action* is among the actions, or implied by them."""
        return not self.actions.isdisjoint((action, Action.ADMIN, ALL))

    def __str__(self) -> str:
        """Return the resource scope, its actions in the order in which clients write them."""
        known = [action for action in _ORDER if action in self.actions]
        return f"{self.type}:{self.name}:{','.join([*known, *sorted(self.actions - {*known})])}"


#: What somebody needs to list all that they may pull.
CATALOG = Access("registry", "catalog", frozenset({ALL}))
#: All of it.
EVERYTHING = (Access(REPOSITORY, ALL, frozenset({ALL})), CATALOG)


def parse_scopes(texts: Iterable[str]) -> tuple[Access, ...]:
    """Read scopes: each a resource scope, or several with blanks between them.

    A name may contain a colon (that of a port), so the type ends at the first one and the actions begin after
    the last. A type's class is out of use, and left out.

    Raises:
        RequestInvalid: one does not follow the grammar.
    """
    found: list[Access] = []
    joined = " ".join(texts)
    if len(joined) > _SCOPE_LIMIT:
        raise RequestInvalid(reason="too many scopes")
    for text in joined.split():
        match = _RESOURCE.fullmatch(text)
        if match is None or len(found) == _RESOURCES_LIMIT:
            raise RequestInvalid(reason="invalid scope", scope=text[:200])
        found.append(Access(match[1], match[2], frozenset(filter(None, match[3].split(",")))))
    return tuple(found)


def claimed(entries: object) -> tuple[Access, ...]:
    """Read the ``access`` claim of a verified token; entries that mean nothing here are left out.

    A name is taken literally: one that is no repository's, such as a pattern, grants nothing.
    """
    return tuple(filter(None, map(_claimed, entries))) if isinstance(entries, list) else ()


def _claimed(entry: object) -> Access | None:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("actions"), list):
        return None
    type_, name = str(entry.get("type")), str(entry.get("name"))
    if type_ == REPOSITORY and not is_repository(name):
        return None
    return Access(type_, name, frozenset(map(str, entry["actions"])))


def is_repository(name: str) -> bool:
    """Tell whether *name* can be a repository's."""
    try:
        RepositoryName.parse(name)
    except NameInvalid:
        return False
    return True


#: Whom lines can mean beside accounts and groups.
EVERYBODY = ("authenticated", "anonymous")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is.

    Attributes:
        account: Empty: nobody in particular.
        limits: What the credential, an API key, is limited to, whatever its account may; None: nothing less.
        password: Whether a password proved it.
        until: When the credential ends, in seconds since the epoch; None: nobody knows. What is got
            by it lasts no longer.
    """

    account: str = ""
    groups: frozenset[str] = frozenset()
    limits: tuple[Access, ...] | None = None
    password: bool = False
    until: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What permission lines may call them: lines for everybody count for those who say who they are."""
        if not self.account:
            return ("anonymous",)
        return (self.account, *sorted(f"@{group}" for group in self.groups), "authenticated", "anonymous")


#: Who said nothing.
ANONYMOUS = Identity()


@dataclass(frozen=True, slots=True)
class Grant:
    """What the sender of a request may do.

    Attributes:
        bearer: Whether a token says so, which may be less than its owner could have.
    """

    identity: Identity
    accesses: Sequence[Access]
    bearer: bool = False

    def reach(self, action: Action) -> Reach:
        """Return the repositories upon which it allows *action*."""
        groups = [self.accesses] if self.identity.limits is None else [self.accesses, self.identity.limits]
        return Reach(tuple(_patterns(group, action) for group in groups))

    def allows(self, repository: str, action: Action) -> bool:
        """Tell whether *action* may be done with the repository."""
        return self.reach(action).covers(repository)

    @property
    def anonymous(self) -> bool:
        """Whether nobody has said who they are, where that is asked for."""
        return not self.bearer and not self.lists()

    def lists(self) -> bool:
        """Tell whether it lets its owner ask for the catalog: a token must say so."""
        return CATALOG in self.accesses

    def cut_to(self, wanted: Iterable[Access]) -> tuple[Access, ...]:
        """Return what of *wanted* it allows; what it does not is left out, and no error."""
        return tuple(filter(None, map(self._cut, wanted)))

    def _cut(self, wanted: Access) -> Access | None:
        if wanted.type != REPOSITORY:
            return wanted if wanted == CATALOG else None
        if not is_repository(wanted.name):
            return None
        allowed = frozenset(
            action for action in Action if wanted.permits(action) and self.allows(wanted.name, action)
        )
        return Access(REPOSITORY, wanted.name, allowed) if allowed else None


def _patterns(accesses: Iterable[Access], action: Action) -> tuple[str, ...]:
    return tuple(access.name for access in accesses if access.type == REPOSITORY and access.permits(action))
