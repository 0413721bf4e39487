"""Fixtures: registries with a web UI, in this process, and browsers of it that know no scripts."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient

from dualreg.catalog.webhooks import WebhookRow
from dualreg.cli.tasks import Control
from dualreg.image.names import RepositoryName, Tag
from dualreg.web import context
from tests import builders
from tests.auth.conftest import PASSWORD, Guarded, clock, guard, guarded
from tests.properties.registries import push_v1, push_v2

__all__ = ["clock", "guard", "guarded"]

ORIGIN = "http://localhost"
APP, WEB, SECRET = RepositoryName("team/app"), RepositoryName("team/web"), RepositoryName("secret/app")
IMAGES = [builders.image(builders.layer({"a": b"%d" % n}), oci=bool(n)) for n in range(3)]
CHAIN = builders.v1_chain(builders.layer({"a": b"v1"}))
HOOK = "ci"
#: Who there is, and what they may do.
ACCOUNTS = {
    "reader": (("team/*", "pull"),),
    "writer": (("team/*", "pull,push,delete"),),
    "root": (("*", "admin,manage"),),
}


@dataclass(frozen=True)
class Browser:
    """A browser without scripts, which keeps cookies."""

    client: FlaskClient

    @classmethod
    def of(cls, own: Guarded, account: str = "", password: str = PASSWORD) -> "Browser":
        """Open one, and log in."""
        browser = cls(own.client.application.test_client())
        if account:
            answer = browser.log_in(account, password)
            assert answer.status_code == 303, answer.text
        return browser

    def log_in(self, account: str, password: str = PASSWORD) -> Any:
        """Send the form of the login page."""
        return self.post("/ui/login", page="/ui/login", account=account, password=password)

    def get(self, path: str, /, **query: str | list[str]) -> Any:
        """Open a page; *query* is added to what its address has."""
        path += ("&" if "?" in path else "?") + urlencode(query, doseq=True) if query else ""
        return self.client.get(path)

    def post(self, path: str, *, page: str = "/ui/", **form: Any) -> Any:
        """Send a form of *page*, as browsers do."""
        data = {"token": self.token(page)} | form
        return self.client.post(path, data=data, headers={"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"})

    def token(self, page: str) -> str:
        """Return the token of the forms of a page; empty: it has no form."""
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.client.get(page).text)
        return found[1] if found else ""


@pytest.fixture
def own(guard: Callable[..., Guarded], tmp_path: Path) -> Guarded:
    """A registry with accounts, repositories of both generations, an audit log, tasks and a webhook."""
    made = guard(audit=str(tmp_path / "audit.jsonl"))
    fill(made)
    run_tasks(made, lambda _: None)
    made.registry.webhooks.add(WebhookRow(HOOK, "https://ci.example/hook", "cloudevents", ("*",), ("push",)))
    return made


def run_tasks(own: Guarded, start: Callable[[str], None]) -> None:
    """Let a registry have tasks, which *start* starts."""
    app = own.client.application
    with app.app_context():
        parts = replace(context.parts(), tasks=Control(own.registry, own.settings, start))
        context.install(parts, app.extensions)


def fill(own: Guarded) -> None:
    """Make accounts and push images."""
    for name, lines in ACCOUNTS.items():
        own.account(name, *lines)
    for number, tag in enumerate(("v1", "v2", "latest")):
        push_v2(own.registry, APP, Tag(tag), IMAGES[number])
    push_v2(own.registry, APP, Tag("same"), IMAGES[2])
    push_v2(own.registry, SECRET, Tag("v1"), IMAGES[0])
    push_v1(own.registry, WEB, Tag("old"), CHAIN)


Make = Callable[..., Guarded]
