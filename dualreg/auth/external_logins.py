"""External logins: from the first request of a browser or terminal to an account."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, NamedTuple

from dualreg.auth.external import ExternalAccounts, ExternalRules
from dualreg.auth.keyring import ALGORITHM, Keyring
from dualreg.auth.login_issuer import Attempt, Claims, LoginIssuer, Pending
from dualreg.auth.logins import Logins
from dualreg.auth.sessions import Sessions
from dualreg.auth.tokens import TokenInvalid, Verifier, sign
from dualreg.errors import LoginRefused

#: How long somebody may take to log in at the issuer.
LIFETIME = timedelta(minutes=10)


class Way(NamedTuple):
    """An issuer, with what is made of its claims, and how long a browser stays logged in."""

    issuer: LoginIssuer
    rules: ExternalRules
    session: timedelta


@dataclass(frozen=True)
class ExternalLogins:
    """Logs people in by their issuers.

    Attributes:
        ways: By the name of the issuer.
        service: The registry, as its own tokens name it.
    """

    ways: Mapping[str, Way]
    accounts: ExternalAccounts
    logins: Logins
    keyring: Keyring
    service: str

    def begin(self, name: str, redirect_uri: str) -> tuple[str, str]:
        """Return the URL at which a browser logs in, and what it has to keep until it comes back.

        Raises:
            LoginRefused: there is no such issuer.
            IssuerUnavailable, ServerBusy.
        """
        issuer, attempt = self._way(name).issuer, Attempt.new(name)
        url = issuer.authorization_url(attempt, redirect_uri)
        now = self.logins.catalog.now()
        claims = {"iss": self.service, "aud": self._audience, "attempt": list(attempt)}
        return url, sign(self.keyring.active(), now=now, lifetime=LIFETIME, **claims)

    def complete(
        self, name: str, kept: str, answer: Mapping[str, str], *, redirect_uri: str, address: str
    ) -> tuple[str, str, timedelta]:
        """Return the account of who has logged in, a new session, and how long it lasts.

        Args:
            kept: What the browser has kept since ``begin``.
            answer: The query with which the issuer sent it back.
            address: That of the client, at which failed logins count.

        Raises:
            LoginRefused: the login was not begun by this browser, or fails.
            IssuerUnavailable, ServerBusy.
            TooManyAttempts: too many logins from the address have failed.
        """
        way, attempt = self._way(name), self._unsealed(kept)
        if attempt is None or attempt.issuer != name:
            raise LoginRefused(reason="this browser has begun no login within ten minutes; begin again")
        self.logins.attempts.check_address(address)
        try:
            account = self._account(way, way.issuer.complete(attempt, answer, redirect_uri))
        except LoginRefused:
            self.logins.attempts.failed_at(address)
            raise
        return account, Sessions(self.logins).begin(account, way.session), way.session

    def begin_device(self, name: str) -> Mapping[str, Any]:
        """Return the answer of the issuer to a device that wants to log in, as RFC 8628 has it.

        Raises:
            LoginRefused: there is no such issuer, or it logs in no devices.
            IssuerUnavailable, ServerBusy.
        """
        return self._way(name).issuer.begin_device()

    def poll_device(self, name: str, code: str, address: str) -> str | Pending:
        """Return the account of who confirmed the device, if somebody has.

        Raises:
            LoginRefused, IssuerUnavailable, ServerBusy, TooManyAttempts: as ``complete``.
        """
        way = self._way(name)
        self.logins.attempts.check_address(address)
        try:
            found = way.issuer.poll_device(code)
            return found if isinstance(found, Pending) else self._account(way, found)
        except LoginRefused:
            self.logins.attempts.failed_at(address)
            raise

    def _account(self, way: Way, claims: Claims) -> str:
        return self.accounts.log_in(way.issuer.metadata.issuer, way.rules, claims)

    def _way(self, name: str) -> Way:
        way = self.ways.get(name)
        if way is None:
            raise LoginRefused(reason="there is no such issuer")
        return way

    def _unsealed(self, kept: str) -> Attempt | None:
        try:
            return Attempt(*self._attempts.verify(kept)["attempt"])
        except (TokenInvalid, TypeError, KeyError):
            return None

    @cached_property
    def _attempts(self) -> Verifier:
        algorithms, now = frozenset({ALGORITHM}), self.logins.catalog.now
        return Verifier(self.service, self._audience, self.keyring, algorithms, timedelta(0), now)

    @property
    def _audience(self) -> str:
        """That of what browsers keep, so that it is valid for nothing else."""
        return f"{self.service}/login"
