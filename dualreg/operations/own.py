"""What accounts ask about themselves, and about the rules that they manage, as it is described and answered.

These requests have no commands. ``web/api`` has their routes; the types here say what they take and answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from http import HTTPStatus
from inspect import getdoc
from types import NoneType
from typing import Any, get_type_hints

from dualreg.auth.access import Action
from dualreg.operations.operation import IN_QUERY, Parameter
from dualreg.operations.values import documented


class SecretId(str):
    """The id of an API key, refresh token, or session."""

    __slots__ = ()
    PATTERN = "^[0-9a-f]{16}$"


class Credential(StrEnum):
    """What an account has logged in with."""

    PASSWORD = "password"  # noqa: S105 -- a kind of credential
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Me:
    """The account of the credentials.

    Attributes:
        key: The id of the API key; null: it is the password.
        scope: What the API key is limited to; null: it may do what the account may do.
        manages: The patterns within which the account manages permission rules.
    """

    account: str
    groups: Sequence[str]
    credential: Credential
    key: str | None
    scope: str | None
    manages: Sequence[str]


@dataclass(frozen=True, slots=True)
class PasswordChange:
    """A password that is to be changed.

    Attributes:
        old: The password until now; a wrong one counts as a failed login.
        new: Of 2 to 72 bytes of UTF-8, without NUL.
    """

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class OwnKey:
    """An API key of the account.

    Attributes:
        scope: What it is limited to; null: it may do what the account may do.
        expires_at: When it ends; null: not by itself.
        used_at: When it was last used, to about five minutes; null: never.
    """

    id: SecretId
    note: str
    scope: str | None
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """API keys of the account, the oldest first."""

    keys: Sequence[OwnKey]


@dataclass(frozen=True, slots=True)
class WantedKey:
    """An API key that is to be created.

    Attributes:
        note: What it is for: up to 200 printable characters.
        scope: Limit it to repository:PATTERN:ACTIONS; several are separated by spaces.
        expires: It ends after this duration, such as 12h or 90d; null: not by itself.
    """

    note: str | None = None
    scope: str | None = None
    expires: str | None = None


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """An API key that was created.

    Attributes:
        secret: Its text, with which the account logs in. It is not shown again.
    """

    id: SecretId
    note: str
    scope: str | None
    expires_at: datetime | None
    secret: str


@dataclass(frozen=True, slots=True)
class NamedKey:
    """An API key of the account.

    Attributes:
        key: Its id, as listed.
    """

    key: SecretId


@dataclass(frozen=True, slots=True)
class OwnLogin:
    """A refresh token, or a session of a browser, of the account.

    Attributes:
        kind: refresh or session.
        service: The service for which a refresh token was issued.
        expires_at: When it ends; null: not by itself.
        used_at: When a session was last used, to about five minutes; null: never, or it is a refresh token.
    """

    id: SecretId
    kind: str
    service: str | None
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class OwnLogins:
    """Refresh tokens and sessions of the account, the oldest first."""

    logins: Sequence[OwnLogin]


@dataclass(frozen=True, slots=True)
class NamedLogin:
    """A refresh token, or a session of a browser, of the account.

    Attributes:
        login: Its id, as listed.
    """

    login: SecretId


@dataclass(frozen=True, slots=True)
class ManagedRule:
    """A permission rule, or what is left of it.

    Attributes:
        actions: Of pull, push, delete, admin and manage; none: it is removed.
    """

    who: str
    pattern: str
    actions: Sequence[str]


@dataclass(frozen=True, slots=True)
class ManagedRules:
    """Permission rules, by who and pattern."""

    permissions: Sequence[ManagedRule]


@dataclass(frozen=True, slots=True)
class AddedActions:
    """Actions that are to be added to a permission rule.

    Attributes:
        who: An account, a group as @GROUP, or authenticated.
        pattern: A repository, in which * matches anything and {account} is the name of the account.
        actions: One or more.
    """

    who: str
    pattern: str
    actions: Sequence[Action]


@dataclass(frozen=True, slots=True)
class RemovedActions:
    """Actions that are to be removed from a permission rule.

    Attributes:
        who: An account, a group as @GROUP, or authenticated.
        pattern: That of the rule.
        actions: Separated by commas; without any, the rule is removed.
    """

    who: str
    pattern: str
    actions: str = ""


@dataclass(frozen=True)
class OwnRequest:
    """A request of an account about itself. It has the members of an operation that describe it.

    Attributes:
        name: The name of the request, which no other one, and no operation, has.
        method, path: Where it is served, below PREFIX.
        summary: What it does, in a sentence.
        answer: The type of the answer; NoneType: there is none.
        given: A record of its parameters; None: it has none.
        about: What else there is to know.
        status: That of success.
    """

    name: str
    method: str
    path: str
    summary: str
    answer: Any = NoneType
    given: type | None = None
    about: str = ""
    status: int = HTTPStatus.OK.value
    command: str = ""

    @property
    def in_query(self) -> bool:
        """Whether parameters are in the query or the path, and not in the body."""
        return self.method in IN_QUERY

    @property
    def has_answer(self) -> bool:
        """Whether it answers anything."""
        return self.answer is not NoneType

    @property
    def required_permission(self) -> str:
        """What it requires, in words."""
        manages = self.path.startswith("/permissions")
        return "an account that manages the pattern" if manages else "an account, for itself"

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters by name, as the record has them."""
        if self.given is None:
            return {}
        types, said = get_type_hints(self.given), documented(getdoc(self.given), "Attributes")
        return {
            each.name: Parameter(
                each.name,
                types[each.name],
                each.default is MISSING,
                each.default,
                said.get(each.name, ""),
            )
            for each in fields(self.given)
        }


_NO_CONTENT, _CREATED = HTTPStatus.NO_CONTENT.value, HTTPStatus.CREATED.value

#: Each request, of which the test of the description holds that it has a route.
OWN_REQUESTS = (
    OwnRequest("me", "GET", "/me", "Show the account of the credentials.", Me),
    OwnRequest(
        "me_password", "PUT", "/me/password", "Change the password.",
        given=PasswordChange, status=_NO_CONTENT,
        about="With the password, not with an API key. Refresh tokens of the account end at once, tokens and "
        "V1 sessions within a minute. API keys stay.",
    ),
    OwnRequest(
        "me_keys", "GET", "/me/keys", "List the API keys of the account.", OwnKeys,
        about="With an API key, only those that allow no more than it does.",
    ),
    OwnRequest(
        "me_add_key", "POST", "/me/keys", "Create an API key.", CreatedKey, WantedKey, status=_CREATED,
        about="With an API key, the new one allows no more than it does, expires no later, and ends when it "
        "is revoked. An account creates at most 100 keys.",
    ),
    OwnRequest(
        "me_revoke_key", "DELETE", "/me/keys/{key}",
        "Revoke an API key, and those that were created with it.", given=NamedKey, status=_NO_CONTENT,
    ),
    OwnRequest(
        "me_logins", "GET", "/me/logins", "List the refresh tokens and sessions of browsers of the account.",
        OwnLogins, about="With an API key that is limited, there are none.",
    ),
    OwnRequest(
        "me_end_logins", "DELETE", "/me/logins",
        "Revoke all refresh tokens, and end all sessions of browsers, of the account.", status=_NO_CONTENT,
        about="Tokens and V1 sessions end within a minute. Not with an API key that is limited.",
    ),
    OwnRequest(
        "me_end_login", "DELETE", "/me/logins/{login}",
        "Revoke a refresh token, or end a session of a browser.", given=NamedLogin, status=_NO_CONTENT,
    ),
    OwnRequest(
        "permissions", "GET", "/permissions",
        "List the permission rules within the patterns that the account manages.", ManagedRules,
    ),
    OwnRequest(
        "permissions_grant", "POST", "/permissions", "Add actions to a permission rule, or create it.",
        ManagedRule, AddedActions, about="It answers with the whole rule.",
    ),
    OwnRequest(
        "permissions_revoke", "DELETE", "/permissions",
        "Remove actions, or all of them, from a permission rule.", ManagedRule, RemovedActions,
        about="It answers with what is left of the rule.",
    ),
)  # fmt: skip
