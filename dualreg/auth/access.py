"""Actions on resources: the scope grammar that requests them, identities, and what they are granted.

Source: Docker Registry, "Token Scope Documentation" and "Token Authentication Implementation".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice
from typing import Self

from dualreg.errors import NameInvalid, RequestInvalid
from dualreg.image.names import RepositoryName
from dualreg.patterns import Reach


class Action(StrEnum):
    """An action on a repository. ``admin`` includes the others, and the deletion of the whole repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    ADMIN = "admin"


#: The action on permission rules: to change those within a pattern. It is not one on repositories: ``admin``
#: does not include it, and no token has it.
MANAGE = "manage"

#: In a scope, all actions; as a name, all repositories.
ALL = "*"

REPOSITORY = "repository"
#: Resources in the scopes of one request that are read. A token for that many is a header that this server,
#: and nginx as it is shipped, takes.
RESOURCES_LIMIT = 64
#: Characters of one resource: a name of 255, and all actions.
_RESOURCE_LENGTH = 320
_RESOURCE = re.compile(r"([a-z0-9]+)(?:\([a-z0-9]+\))?:(.+):((?:[a-z]*|\*)(?:,(?:[a-z]*|\*))*)", re.ASCII)
_ORDER = [*Action]


@dataclass(frozen=True, slots=True)
class Access:
    """Actions on one resource. In a grant, a repository's name may be a pattern (``Reach``)."""

    type: str
    name: str
    actions: frozenset[str]

    @classmethod
    def of(cls, name: str, *actions: str) -> Self:
        """Return *actions* on a repository."""
        return cls(REPOSITORY, name, frozenset(actions))

    def permits(self, action: str) -> bool:
        """Return whether *action* is one of the actions, or implied by them."""
        return not self.actions.isdisjoint((action, Action.ADMIN, ALL))

    def __str__(self) -> str:
        """Return the resource scope, with the actions in the order that clients use."""
        known = [action for action in _ORDER if action in self.actions]
        return f"{self.type}:{self.name}:{','.join([*known, *sorted(self.actions - {*known})])}"


#: Needed to list repositories.
CATALOG = Access("registry", "catalog", frozenset({ALL}))
#: Needed to search in all of them; ``docker search`` asks for it.
SEARCH = Access("registry", "catalog", frozenset({"search"}))
#: Everything, for an open registry.
EVERYTHING = (Access(REPOSITORY, ALL, frozenset({ALL})), CATALOG)


def parse_scopes(texts: Iterable[str]) -> tuple[Access, ...]:
    """Return the accesses that scopes request; a text may contain several, separated by spaces.

    A name may contain a colon (that of a port), so the type ends at the first one and the actions start after
    the last. The class of a type is obsolete, and ignored. Scopes beyond a limit are left out: clients ask
    for one more with every repository that they mount from, and first for the one that they push to.

    Raises:
        RequestInvalid: a scope is invalid.
    """
    found: list[Access] = []
    for text in islice(chain.from_iterable(each.split() for each in texts), RESOURCES_LIMIT):
        match = _RESOURCE.fullmatch(text)
        if match is None or len(text) > _RESOURCE_LENGTH:
            raise RequestInvalid(reason="invalid scope", scope=text[:200])
        found.append(Access(match[1], match[2], frozenset(filter(None, match[3].split(",")))))
    return tuple(found)


def parse_access_claim(entries: object) -> tuple[Access, ...]:
    """Return the ``access`` claim of a verified token, without invalid entries.

    Names are literal: an entry whose name is not a repository's, such as a pattern, is invalid.
    """
    return tuple(filter(None, map(_parse_entry, entries))) if isinstance(entries, list) else ()


def _parse_entry(entry: object) -> Access | None:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("actions"), list):
        return None
    type_, name = str(entry.get("type")), str(entry.get("name"))
    if type_ == REPOSITORY and not is_repository(name):
        return None
    return Access(type_, name, frozenset(map(str, entry["actions"])))


def is_repository(name: str) -> bool:
    """Return whether *name* is a valid repository name."""
    try:
        RepositoryName.parse(name)
    except NameInvalid:
        return False
    return True


#: Prefix of the account names of workloads, which no other account has.
WORKLOAD = "oidc:"
#: Names in permission rules that are neither accounts nor groups.
EVERYBODY = ("authenticated", "anonymous")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sent a request.

    Attributes:
        account: Empty for anonymous clients.
        limits: The accesses that an API key is limited to, whatever its account may do; None: no limit.
        password: Whether it was proved by a password.
        until: When the credential expires, in seconds since the epoch; None: unknown. Tokens issued for it
            expire no later.
        key: The id of the API key that proved it; empty: something else did.
    """

    account: str = ""
    groups: frozenset[str] = frozenset()
    limits: tuple[Access, ...] | None = None
    password: bool = False
    until: float | None = None
    key: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names in permission rules that apply to it; rules for anonymous clients apply to all.

        ``authenticated`` are the accounts: an issuer vouches for workloads that no operator has ever seen.
        """
        if not self.account:
            return ("anonymous",)
        authenticated = () if self.account.startswith(WORKLOAD) else ("authenticated",)
        return (self.account, *sorted(f"@{group}" for group in self.groups), *authenticated, "anonymous")


#: A client without credentials.
ANONYMOUS = Identity()


@dataclass(frozen=True, slots=True)
class Grant:
    """What the sender of a request may do.

    Attributes:
        accesses: Those without actions were requested and not granted.
        bearer: Whether it is that of a bearer token; another token of the same identity may allow more.
        settled: Whether it is pointless to ask for another token with optional accesses, named or not.
    """

    identity: Identity
    accesses: Sequence[Access]
    bearer: bool = False
    settled: bool = False

    def reach(self, action: Action) -> Reach:
        """Return the repositories on which it allows *action*."""
        groups = [self.accesses] if self.identity.limits is None else [self.accesses, self.identity.limits]
        return Reach(tuple(_patterns(group, action) for group in groups))

    def allows(self, repository: str, action: Action) -> bool:
        """Return whether it allows *action* on the repository."""
        return self.reach(action).covers(repository)

    @property
    def anonymous(self) -> bool:
        """Whether the client sent no credentials, and the registry is not open."""
        return not self.bearer and not self.lists()

    def lists(self) -> bool:
        """Return whether it allows to list repositories; a token needs that scope."""
        return CATALOG in self.accesses

    def searches(self) -> bool:
        """Return whether it allows to search in all repositories, which a token needs a scope for."""
        return self.lists() or SEARCH in self.accesses

    def could_include(self, access: Access) -> bool:
        """Return whether another token may include *access*: as far as is known, this one was not to.

        Never true twice: a token that is issued after a challenge names what the challenge asked for, or is
        settled.
        """
        named = any((each.type, each.name) == (access.type, access.name) for each in self.accesses)
        return self.bearer and not self.settled and not named

    def restricted_to(self, wanted: Iterable[Access]) -> tuple[Access, ...]:
        """Return the part of *wanted* that it allows; the rest is omitted without an error."""
        return tuple(filter(None, map(self._allowed_part, wanted)))

    def _allowed_part(self, wanted: Access) -> Access | None:
        if wanted.type != REPOSITORY:
            return wanted if wanted in (CATALOG, SEARCH) else None
        if not is_repository(wanted.name):
            return None
        allowed = frozenset(
            action for action in Action if wanted.permits(action) and self.allows(wanted.name, action)
        )
        return Access(REPOSITORY, wanted.name, allowed) if allowed else None


def _patterns(accesses: Iterable[Access], action: Action) -> tuple[str, ...]:
    return tuple(access.name for access in accesses if access.type == REPOSITORY and access.permits(action))
