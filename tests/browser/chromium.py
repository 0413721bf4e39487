"""Chromium as people have it, without a screen: started, led to pages, and listened to."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.auth.conftest import PASSWORD

PROGRAM = "chromium"
#: It is alone with our server: it asks nobody for updates, and root may start it.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Milliseconds that anything may take: machines of tests are slow.
_PATIENCE = 60_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser for the block."""
    expect.set_options(timeout=_PATIENCE)
    with (
        sync_playwright() as playwright,
        closing(playwright.chromium.launch(executable_path=shutil.which(PROGRAM), args=_FLAGS)) as browser,
    ):
        yield browser


@dataclass
class Visit:
    """What somebody does with a window of the browser of their own.

    Attributes:
        complaints: What the browser has said of pages: errors of scripts, what the policy of contents
            forbids, files that are missing.
    """

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, context: BrowserContext, url: str) -> "Visit":
        """Open a window for pages of the registry at *url*."""
        context.set_default_timeout(_PATIENCE)
        visit = cls(context.new_page(), url)
        visit.page.on("console", visit._hear)
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        return visit

    def open(self, path: str) -> int:
        """Open a page; return the status of the answer."""
        answer = self.page.goto(self.url + path)
        assert answer is not None
        return answer.status

    def log_in(self, account: str, password: str = PASSWORD) -> None:
        """Log in by the form."""
        self.open("/ui/login")
        self.page.get_by_label("Account").fill(account)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("main").get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("banner")).to_contain_text(account)

    def follow(self, text: str) -> None:
        """Click a link in the content of the page."""
        self.page.get_by_role("main").get_by_role("link", name=text, exact=True).click()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)
