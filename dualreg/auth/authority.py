"""Authority: the one place that says who sends a request, and what they may do.

The modes differ in the parts that it is made of, and in nothing else.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any, NamedTuple

from dualreg.auth import policy
from dualreg.auth.access import (
    ANONYMOUS,
    EVERYTHING,
    Access,
    Action,
    Grant,
    Identity,
    claimed,
    parse_scopes,
)
from dualreg.auth.keyring import ALGORITHM, Keyring
from dualreg.auth.logins import Logins
from dualreg.auth.policy import Lines
from dualreg.auth.tokens import TokenInvalid, Verifier, looks_like_token, sign, unverified_issuer
from dualreg.auth.workloads import WORKLOAD, Workloads
from dualreg.errors import Unauthenticated
from dualreg.image.names import RepositoryName

#: How long a V1 session lasts: its client gets no other token within a push, and old ones push for hours.
SESSION = timedelta(hours=6)


class Issued(NamedTuple):
    """A token, what it carries, and how long it is good."""

    text: str
    accesses: tuple[Access, ...]
    lifetime: timedelta


@dataclass(frozen=True)
class Authority:
    """What decides who may, in every mode.

    Attributes:
        mode: ``none``, ``accounts``, ``htpasswd`` or ``token``.
        service: What our own tokens are for.
        lifetime: How long they are good.
        logins: Who checks passwords; None: nobody here.
        issuer: Whose tokens are taken instead of our own.
    """

    mode: str
    service: str
    lifetime: timedelta
    leeway: timedelta
    keyring: Keyring
    lines: Lines
    logins: Logins | None = None
    issuer: Verifier | None = None
    workloads: Workloads | None = None

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        return self.mode == "none"

    @property
    def issues(self) -> bool:
        """Whether clients get their tokens here."""
        return self.logins is not None

    def anonymous(self) -> Grant:
        """Return what those may who say nothing of themselves."""
        if self.is_open:
            return Grant(ANONYMOUS, EVERYTHING)
        return self._live(ANONYMOUS)

    def by_password(self, account: str, password: str, address: str) -> Grant:
        """Return what the owner of Basic credentials may: a password, an API key, or a token in its place.

        Both empty is how old Docker says that nobody is logged in.

        Raises:
            Unauthenticated, TooManyAttempts.
        """
        if self.is_open or not (account or password):
            return self.anonymous()
        if looks_like_token(password):
            return self.by_token(password)
        if self.logins is None:
            raise Unauthenticated(reason="this registry takes tokens only")
        return self._live(self.logins.by_password(account, password, address))

    def by_token(self, token: str) -> Grant:
        """Return what a bearer token grants.

        Raises:
            Unauthenticated: it is not, or no longer, good.
        """
        if self.is_open:
            return self.anonymous()
        try:
            if self.workloads and unverified_issuer(token) == self.workloads.verifier.issuer:
                return self._live(self.workloads.identify(token))
            if self.issuer:
                claims = self.issuer.verify(token)
                return _granted(Identity(str(claims.get("sub", ""))), claims)
            return _own(token, self._access)
        except TokenInvalid as error:
            raise _invalid_token(error) from error

    def by_refresh(self, token: str, service: str, address: str) -> Grant:
        """Return what the owner of a refresh token may.

        Raises:
            Unauthenticated, TooManyAttempts.
        """
        if self.logins is None:
            raise Unauthenticated(reason="no refresh tokens here")
        return self._live(self.logins.by_refresh(token, service, address))

    def by_session(self, token: str) -> tuple[RepositoryName, Grant]:
        """Return the repository of a V1 session, and what its token grants there.

        Raises:
            Unauthenticated: the token is not, or no longer, good.
        """
        try:
            grant = _own(token, self._sessions)
        except TokenInvalid as error:
            raise _invalid_token(error) from error
        (access,) = grant.accesses  # as it was signed
        return RepositoryName(access.name), grant

    def session_token(self, grant: Grant, repository: RepositoryName, *actions: Action) -> str:
        """Return a token for a V1 session: those of *actions* upon *repository* that *grant* allows."""
        accesses = grant.cut_to([Access.of(repository, *actions)])
        return self._sign(grant, accesses, self._sessions, SESSION).text

    def access_token(self, grant: Grant, wanted: Iterable[Access]) -> Issued:
        """Return a token for V2 requests: what of *wanted* is granted."""
        return self._sign(grant, grant.cut_to(wanted), self._access, self.lifetime)

    def listing(self, grant: Grant) -> Grant:
        """Return what decides which repositories the owner of *grant* is shown in lists.

        A token names the repositories that it was got for; one that was got for the catalog shows all that
        its owner may pull.
        """
        if self.is_open:
            return self.anonymous()
        if not grant.bearer or not grant.lists():
            return grant
        if self.issuer:
            return Grant(grant.identity, EVERYTHING)
        return self._live(self.logins.refreshed(grant.identity) if self.logins else grant.identity)

    @cached_property
    def _access(self) -> Verifier:
        """What takes our tokens for V2 requests."""
        return self._verifier(self.service)

    @cached_property
    def _sessions(self) -> Verifier:
        """What takes those of V1 sessions, which live long, and are no good for V2."""
        return self._verifier(f"{self.service}/v1")

    def _verifier(self, service: str) -> Verifier:
        """Return what takes our own tokens; those that one mode gave away, another does not take."""
        issuer, algorithms = f"dualreg:{self.mode}", frozenset({ALGORITHM})
        return Verifier(issuer, service, self.keyring, algorithms, self.leeway)

    def _live(self, identity: Identity) -> Grant:
        return policy.grant(identity, self.lines)

    def _sign(
        self, grant: Grant, accesses: tuple[Access, ...], taker: Verifier, longest: timedelta
    ) -> Issued:
        """Return a token for *taker*, which lasts no longer than what it was got by."""
        identity = grant.identity
        access = [
            {"type": each.type, "name": each.name, "actions": sorted(each.actions)} for each in accesses
        ]
        claims: dict[str, object] = {
            "iss": taker.issuer,
            "sub": identity.account,
            "aud": taker.audience,
            "access": access,
        }
        if identity.groups and identity.account.startswith(WORKLOAD):
            # Those of accounts the catalog knows, as they are then.
            claims["groups"] = sorted(identity.groups)
        if identity.limits is not None:
            claims["limits"] = " ".join(map(str, identity.limits))
        left = longest if identity.until is None else timedelta(seconds=max(identity.until - time.time(), 1))
        lifetime = min(longest, left)
        return Issued(sign(self.keyring.active(), lifetime=lifetime, **claims), accesses, lifetime)


def _own(token: str, taker: Verifier) -> Grant:
    """Return what a token of ours grants.

    Raises:
        TokenInvalid.
    """
    claims = taker.verify(token)
    return _granted(_identity(claims), claims)


def _granted(identity: Identity, claims: Mapping[str, Any]) -> Grant:
    """Return what a verified token with *claims* grants."""
    until = float(claims["exp"])
    return Grant(replace(identity, until=until), claimed(claims.get("access")), bearer=True)


def _identity(claims: Mapping[str, Any]) -> Identity:
    limits = claims.get("limits")
    return Identity(
        str(claims.get("sub", "")),
        frozenset(claims.get("groups", ())),
        None if limits is None else parse_scopes([limits]),
    )


def _invalid_token(error: TokenInvalid) -> Unauthenticated:
    return Unauthenticated(error="invalid_token", reason=str(error))
