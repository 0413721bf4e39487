"""Fixtures: registries that want to know who asks, in this process."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient

from dualreg.auth import attempts
from dualreg.auth.accounts import Accounts
from dualreg.auth.authority import Authority
from dualreg.auth.passwords import Passwords
from dualreg.catalog.clock import utc_now
from dualreg.catalog.database import Catalog
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.web import context
from dualreg.web.app import create_app
from tests.conftest import Clock

PASSWORD = "correct horse"


def basic(account: str, password: str = PASSWORD) -> dict[str, str]:
    """Return the header of Basic credentials."""
    return {"Authorization": "Basic " + base64.b64encode(f"{account}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    """Return the header of a bearer token."""
    return {"Authorization": f"Bearer {token}"}


def ends(token: str) -> float:
    """Return when a token ends."""
    return float(jwt.decode(token, options={"verify_signature": False})["exp"])


@pytest.fixture
def clock() -> Clock:
    """The clock of the catalog, which begins with that of other issuers of tokens."""
    clock = Clock()
    clock.instant = utc_now()
    return clock


@dataclass(frozen=True)
class Guarded:
    """A registry with accounts, and a client of it.

    Attributes:
        accounts: Makes passwords of four rounds, for haste.
    """

    client: FlaskClient
    accounts: Accounts
    registry: Registry
    settings: Settings

    @property
    def authority(self) -> Authority:
        """What the application asks."""
        with self.client.application.app_context():
            return context.authority()

    def account(self, name: str, *lines: tuple[str, str], password: str = PASSWORD) -> dict[str, str]:
        """Make an account with permission lines; return its Basic header."""
        self.accounts.add(name, password)
        for pattern, actions in lines:
            self.accounts.grant(name, pattern, actions)
        return basic(name, password)

    def token(self, *scopes: str, headers: Mapping[str, str] | None = None, **query: str) -> str:
        """Return a token for *scopes*, got with the credentials of *headers*."""
        answer = self.ask(*scopes, headers=headers, **query)
        assert answer.status_code == 200, answer.data
        return str(answer.json["token"])

    def ask(self, *scopes: str, headers: Mapping[str, str] | None = None, **query: str) -> Any:
        """Ask ``/token``; return its answer."""
        asked = [("scope", scope) for scope in scopes]
        return self.client.get("/token", query_string=[*asked, *query.items()], headers=headers or {})


@pytest.fixture
def guard(
    request: pytest.FixtureRequest,
    registry: Registry,
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., Guarded]:
    """Makes a registry with settings of the test's choice; by default, with accounts.

    No two wrong passwords are mistaken for the same one. With two bytes of their hashes, as usual, one in 345
    runs of a test with twenty of them would count nineteen.
    """
    monkeypatch.setattr(attempts, "_TRACE_SIZE", 16)

    def make(**settings: object) -> Guarded:
        chosen = Settings.model_validate(
            {"data": tmp_path / "data", "auth": "accounts", "audit": "off"} | settings
        )
        chosen.data.mkdir(exist_ok=True)  # where the mark of a read-only registry is
        app = create_app(chosen, registry)
        with app.app_context():
            request.addfinalizer(context.audit().close)
        client = app.test_client(use_cookies=False)
        return Guarded(client, Accounts(catalog, Passwords(rounds=4)), registry, chosen)

    return make


@pytest.fixture
def guarded(guard: Callable[..., Guarded]) -> Guarded:
    """A registry with accounts."""
    return guard()
