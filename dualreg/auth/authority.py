"""``Authority``: the only place that decides who sent a request, and what it may do.

The authentication modes differ in the parts that it is made of, and in nothing else.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from dualreg.auth.access import (
    ANONYMOUS,
    EVERYTHING,
    REPOSITORY,
    RESOURCES_LIMIT,
    WORKLOAD,
    Access,
    Action,
    Grant,
    Identity,
    is_repository,
    parse_access_claim,
    parse_scopes,
)
from dualreg.auth.endings import Endings
from dualreg.auth.keyring import ALGORITHM, Keyring
from dualreg.auth.logins import Logins
from dualreg.auth.permissions import RuleLookup, grant_by_rules
from dualreg.auth.tokens import TokenInvalid, Verifier, looks_like_token, sign, unverified_issuer
from dualreg.auth.workloads import Workloads
from dualreg.catalog.clock import utc_now
from dualreg.errors import Unauthenticated
from dualreg.image.names import RepositoryName
from dualreg.patterns import Reach
from dualreg.reloading import ReloadingFile

#: Lifetime of a V1 session: a client gets one token for a whole push, which may take hours.
SESSION = timedelta(hours=6)


class Session(NamedTuple):
    """A V1 session.

    Attributes:
        repository: The one that it is limited to.
        writes: Whether it is a push, and not a pull.
        grant: What it allows.
        narrowed: Whether its client may do more than *grant* says: it logged in with a password, or not at
            all.
    """

    repository: RepositoryName
    writes: bool
    grant: Grant
    narrowed: bool


class Issued(NamedTuple):
    """A token that was issued, the accesses it grants, and its lifetime."""

    text: str
    accesses: tuple[Access, ...]
    lifetime: timedelta


@dataclass(frozen=True)
class Authority:
    """Authenticates requests, authorizes them, and issues tokens.

    Attributes:
        mode: ``none``, ``accounts``, ``htpasswd`` or ``token``.
        service: The audience of tokens that this registry issues.
        lifetime: Their lifetime.
        leeway: How much clocks may differ.
        logins: Verifies passwords; None: this registry has no accounts.
        issuer: Verifies the tokens of another token server, which replace those of this registry.
        now: The clock, as of ``Verifier``.
    """

    mode: str
    service: str
    lifetime: timedelta
    leeway: timedelta
    keyring: Keyring
    rules: RuleLookup
    logins: Logins | None = None
    issuer: Verifier | None = None
    workloads: Workloads | None = None
    now: Callable[[], datetime] = utc_now

    def generation(self, *, wait: bool = True) -> Hashable | None:
        """Return what is another value after each change of a file that decides on grants.

        Args:
            wait: Whether to read files that have changed; otherwise None is returned instead.

        Raises:
            OSError: a file cannot be looked at, and *wait* is False.
        """
        found = tuple(file.generation(wait=wait) for file in self._files)
        return None if None in found else found

    @property
    def is_local(self) -> bool:
        """Whether all files that decide on grants are on this machine."""
        return all(file.is_local for file in self._files)

    @cached_property
    def _files(self) -> tuple[ReloadingFile[Any], ...]:
        parts = (self.rules, self.logins and self.logins.directory, self.issuer and self.issuer.keys)
        files = (getattr(part, "file", None) for part in parts)
        return tuple(file for file in files if isinstance(file, ReloadingFile))

    @property
    def is_open(self) -> bool:
        """Whether every client may do everything."""
        return self.mode == "none"

    @property
    def issues(self) -> bool:
        """Whether this registry is a token server."""
        return self.logins is not None

    def anonymous(self) -> Grant:
        """Return what clients without credentials may do."""
        if self.is_open:
            return Grant(ANONYMOUS, EVERYTHING)
        return self._grant(ANONYMOUS)

    def of_browser(self, identity: Identity | None) -> Grant:
        """Return what somebody may do whose browser has a session; without one, what anybody may."""
        return self._grant(identity) if identity else self.anonymous()

    def by_password(self, account: str, password: str, address: str) -> Grant:
        """Return what Basic credentials allow; the password may also be an API key or a token.

        Both empty is anonymous: old versions of Docker send that without a login.

        Raises:
            Unauthenticated: the credentials are wrong.
            TooManyAttempts: too many logins have failed.
            ServerBusy: too many passwords are being verified.
        """
        if self.is_open or not (account or password):
            return self.anonymous()
        if looks_like_token(password):
            return replace(self.by_token(password), settled=True)  # its sender cannot get another one
        if self.logins is None:
            raise Unauthenticated(reason="this registry accepts tokens only")
        return self._grant(self.logins.by_password(account, password, address))

    def by_token(self, token: str) -> Grant:
        """Return what a bearer token grants.

        Raises:
            Unauthenticated: it is invalid or expired, or has ended: see ``Endings``.
        """
        if self.is_open:
            return self.anonymous()
        try:
            if self.workloads and unverified_issuer(token) == self.workloads.verifier.issuer:
                return self._grant(self.workloads.identify(token))
            if self.issuer:
                claims = self.issuer.verify(token)
                grant = _grant_of_claims(Identity(str(claims.get("sub", ""))), claims)
                return replace(grant, settled=self._is_new(claims))
            claims = self._access_tokens.verify(token)
        except TokenInvalid as error:
            raise _invalid_token(error) from error
        return self._grant_of_own(claims)

    def by_workload(self, token: str) -> Grant:
        """Return what a token of the OpenID Connect issuer, and of no other, grants.

        Raises:
            Unauthenticated: it is invalid or expired, or no rule matches it.
        """
        if self.workloads is None:
            raise Unauthenticated(reason="this registry has no oidc_issuer")
        try:
            return self._grant(self.workloads.identify(token))
        except TokenInvalid as error:
            raise _invalid_token(error) from error

    def by_refresh(self, token: str, service: str) -> Grant:
        """Return what the account of a refresh token may do.

        Raises:
            Unauthenticated: the token is invalid or revoked.
        """
        if self.logins is None:
            raise Unauthenticated(reason="this registry issues no refresh tokens")
        return self._grant(self.logins.by_refresh(token, service))

    def by_session(self, token: str) -> Session:
        """Return the V1 session of a token; it allows everything if this registry is open.

        Raises:
            Unauthenticated: the token is invalid or expired, or has ended: see ``Endings``.
        """
        try:
            claims = self._session_tokens.verify(token)
        except TokenInvalid as error:
            raise _invalid_token(error) from error
        grant = self._grant_of_own(claims)
        (access,) = grant.accesses  # as it was signed
        if self.is_open:
            grant = self.anonymous()
        return Session(RepositoryName(access.name), access.permits(Action.PUSH), grant, "narrowed" in claims)

    def session_token(self, grant: Grant, repository: RepositoryName, *actions: Action) -> str:
        """Return a token for a V1 session: those of *actions* on *repository* that *grant* allows."""
        accesses = grant.restricted_to([Access.of(repository, *actions)])
        narrowed = not grant.bearer and (grant.identity.password or not grant.identity.account)
        more = {"narrowed": True} if narrowed else {}
        return self._sign(grant, accesses, self._session_tokens, SESSION, **more).text

    def access_token(self, grant: Grant, wanted: Iterable[Access]) -> Issued:
        """Return a token for V2 requests: the part of *wanted* that *grant* allows.

        It names the rest too, without actions, and says whether there may have been more than are read.
        """
        wanted = tuple(wanted)
        granted, more = grant.restricted_to(wanted), {"full": True} if len(wanted) >= RESOURCES_LIMIT else {}
        names, named = (
            {each.name for each in accesses if each.type == REPOSITORY and is_repository(each.name)}
            for accesses in (granted, wanted)
        )
        refused = map(Access.of, sorted(named - names))
        issued = self._sign(grant, (*granted, *refused), self._access_tokens, self.lifetime, **more)
        return issued._replace(accesses=granted)

    def listable(self, grant: Grant) -> Reach:
        """Return which repositories lists contain: never fewer than those that anybody may pull.

        A token is limited to the repositories in its scope; one with the scope of the catalog, or of a search
        in it, lists all that its owner can pull.
        """
        (public,) = self.anonymous().reach(Action.PULL).groups
        return self._listing(grant).reach(Action.PULL).including(public)

    def own(self, session: Session, grant: Grant) -> Reach:
        """Return which repositories a client may both pull from and push to.

        A session is limited to one repository because clients of V1 know no more; one that began with a
        password reaches all that its account may by now. Tokens and API keys reach what they say.

        Args:
            grant: That of the request, which is the session's own unless it has other credentials.
        """
        widened = session.narrowed and grant is session.grant and self._exists(grant.identity)
        whole = self._whole(grant) if widened else grant
        return Reach((*whole.reach(Action.PULL).groups, *whole.reach(Action.PUSH).groups))

    def _listing(self, grant: Grant) -> Grant:
        """Return the grant that decides which repositories lists contain."""
        if self.is_open:
            return self.anonymous()
        if not grant.bearer or not grant.searches():
            return grant
        return Grant(grant.identity, EVERYTHING) if self.issuer else self._whole(grant)

    def _exists(self, identity: Identity) -> bool:
        """Return whether there still is the account of a session; an open registry has none."""
        if not identity.account:
            return not self.is_open
        return self.logins is not None and self.logins.directory.find(identity.account) is not None

    def _grant_of_own(self, claims: Mapping[str, Any]) -> Grant:
        """Return what a verified token of this registry grants.

        Raises:
            Unauthenticated: it has ended, though it has not expired.
        """
        identity = _identity(claims)
        if self._endings and identity.account and not identity.account.startswith(WORKLOAD):
            self._endings.require_valid(identity.account, float(claims["iat"]))
        return _grant_of_claims(identity, claims)

    @cached_property
    def _endings(self) -> Endings | None:
        """What ends tokens of accounts; None: this registry has none."""
        return Endings(self.logins.catalog, self.logins.directory) if self.logins else None

    def _whole(self, grant: Grant) -> Grant:
        """Return all that the sender of a token of ours is granted by now."""
        identity = grant.identity
        return self._grant(self.logins.with_current_groups(identity) if self.logins else identity)

    @cached_property
    def _access_tokens(self) -> Verifier:
        """Verifies tokens of this registry for V2 requests."""
        return self._verifier(self.service)

    @cached_property
    def _session_tokens(self) -> Verifier:
        """Verifies those of V1 sessions, which last longer and are not valid for V2."""
        return self._verifier(f"{self.service}/v1")

    def _verifier(self, service: str) -> Verifier:
        """Return a verifier of this registry's tokens; a token of another mode is invalid."""
        issuer, algorithms = f"dualreg:{self.mode}", frozenset({ALGORITHM})
        return Verifier(issuer, service, self.keyring, algorithms, self.leeway, self.now)

    def _is_new(self, claims: Mapping[str, Any]) -> bool:
        """Return whether a token may have been issued for what this request needs, not long before it.

        Other issuers need not name what they do not grant.
        """
        issued = claims.get("iat")
        return not isinstance(issued, int | float) or issued >= (self.now() - self.leeway).timestamp()

    def _grant(self, identity: Identity) -> Grant:
        return grant_by_rules(identity, self.rules)

    def _sign(
        self,
        grant: Grant,
        accesses: tuple[Access, ...],
        verifier: Verifier,
        lifetime: timedelta,
        **more: object,
    ) -> Issued:
        """Return a token for *verifier*, which expires no later than the credential it is issued for.

        Args:
            more: Further claims.
        """
        identity = grant.identity
        access = [
            {"type": each.type, "name": each.name, "actions": sorted(each.actions)} for each in accesses
        ]
        claims: dict[str, object] = {
            "iss": verifier.issuer,
            "sub": identity.account,
            "aud": verifier.audience,
            "access": access,
            **more,
        }
        if identity.groups and identity.account.startswith(WORKLOAD):
            # The groups of accounts are not in tokens: the catalog has the current ones.
            claims["groups"] = sorted(identity.groups)
        if identity.limits is not None:
            claims["limits"] = " ".join(map(str, identity.limits))
        if identity.until is not None:
            left = max(identity.until - self.now().timestamp(), 1)
            lifetime = timedelta(seconds=min(lifetime.total_seconds(), left))
        token = sign(self.keyring.active(), now=self.now(), lifetime=lifetime, **claims)
        return Issued(token, accesses, lifetime)


def _grant_of_claims(identity: Identity, claims: Mapping[str, Any]) -> Grant:
    """Return what a verified token with *claims* grants."""
    until, accesses = float(claims["exp"]), parse_access_claim(claims.get("access"))
    return Grant(replace(identity, until=until), accesses, bearer=True, settled="full" in claims)


def _identity(claims: Mapping[str, Any]) -> Identity:
    limits = claims.get("limits")
    return Identity(
        str(claims.get("sub", "")),
        frozenset(claims.get("groups", ())),
        None if limits is None else parse_scopes([limits]),
    )


def _invalid_token(error: TokenInvalid) -> Unauthenticated:
    return Unauthenticated(error="invalid_token", reason=str(error))
