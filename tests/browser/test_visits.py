"""What people do with the pages, by real clicks, with scripts and without."""

import shlex
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError

import pytest
from playwright.sync_api import Page, expect

from dualreg.assembly import open_registry, prepare
from dualreg.migrate import journal
from dualreg.migrate.journal import Journal
from dualreg.settings import Settings
from tests.auth.conftest import PASSWORD
from tests.browser.conftest import Begin
from tests.browser.examination import examine
from tests.browser.world import CHANGED, SHOP, World, accounts_of, tag_line
from tests.clients.tools import Tools, layout_manifest
from tests.programs import dualreg_server, require, until
from tests.ui.conftest import APP, HOOK, IMAGES

pytestmark = [pytest.mark.client, pytest.mark.slow]

scripts_or_not = pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])


def heading(page: Page, text: str) -> None:
    """Wait for a page with a heading."""
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


@scripts_or_not
def test_a_first_visit(begin: Begin, *, scripts: bool) -> None:
    """A browser is led to the pages; one logs in, searches, and finds an image that strangers do not."""
    page = (visit := begin(scripts=scripts)).page
    visit.open("/")
    assert page.url == f"{visit.url}/ui/"
    expect(page.get_by_role("main")).to_contain_text(f"docker push {visit.url.removeprefix('http://')}/")
    page.get_by_role("link", name="Log in").click()
    heading(page, "Log in")
    page.get_by_label("Account").fill("reader")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    expect(page.get_by_role("banner")).to_contain_text("reader")
    page.get_by_label("Find a repository").fill("EAM/AP")
    page.keyboard.press("Enter")
    expect(page.locator("tbody th")).to_have_text([APP])
    visit.follow(APP)
    visit.follow("latest")
    heading(page, f"{APP}:latest")
    expect(page.get_by_role("main")).to_contain_text(str(IMAGES[2].digest))
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


def test_a_search_while_one_types(begin: Begin) -> None:
    """The list follows what is typed, and so does the address; the page is not loaded again."""
    page = (visit := begin("root")).page
    visit.open("/ui/repositories")
    page.evaluate("window.untouched = true")
    page.get_by_label("Find a repository").press_sequentially("rontend")
    expect(page.locator("tbody th")).to_have_text(["shop/frontend"])
    expect(page.get_by_role("status")).to_have_text("1 on this page")
    page.wait_for_url("**/ui/repositories?search=rontend")
    assert page.evaluate("window.untouched")


@scripts_or_not
def test_times(begin: Begin, *, scripts: bool) -> None:
    """They are local with scripts, and in UTC when one points at them; without, they are in UTC."""
    page = (visit := begin("root", scripts=scripts, zone="Asia/Kolkata")).page
    visit.open(f"/ui/history?repository={SHOP}&tag=latest")
    first = page.locator("time").first
    at = datetime.fromisoformat(first.get_attribute("datetime") or "")
    shown = at + timedelta(hours=5, minutes=30) if scripts else at
    expect(first).to_have_text(f"{shown:%Y-%m-%d %H:%M}")
    if scripts:
        expect(first).to_have_attribute("title", f"{at:%Y-%m-%d %H:%M:%S} UTC")
    expect(page.get_by_role("contentinfo")).to_contain_text("local" if scripts else "Times are in UTC")


def test_a_command_is_copied_and_run(begin: Begin, tmp_path: Path) -> None:
    """What the page has copied for skopeo pulls the image, as it is."""
    require("skopeo", package="skopeo")
    page = (visit := begin("reader")).page
    visit.open(f"/ui/image?repository={APP}&reference=latest")
    page.get_by_role("button", name="Copy the command for skopeo").click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    tools = Tools(tmp_path / "home", visit.url.removeprefix("http://"))
    tools.skopeo("login", "--tls-verify=false", "-u", "reader", "-p", PASSWORD, tools.host)
    tools.run(*shlex.split(command))
    digest, _ = layout_manifest(tools.home / "app", "latest")
    assert digest == str(IMAGES[2].digest)


@scripts_or_not
def test_a_tag_is_deleted_and_restored(begin: Begin, *, scripts: bool) -> None:
    """After a page that says what that frees, with a button that undoes it."""
    page, repository = (visit := begin("writer", scripts=scripts)).page, CHANGED[scripts]
    visit.open(f"/ui/repository?repository={repository}")
    visit.follow("doomed")
    visit.follow("Delete the tag…")
    page.get_by_role("button", name="Delete the tag").click()
    expect(page.get_by_role("status").first).to_contain_text("The tag doomed was deleted")
    if scripts:
        assert examine(page) == []
    assert (
        page.context.request.get(f"{visit.url}/ui/image?repository={repository}&reference=doomed").status
        == 404
    )
    page.get_by_role("button", name="Undo").click()
    heading(page, f"History of {repository}:doomed")
    visit.open(f"/ui/image?repository={repository}&reference=doomed")
    expect(page.get_by_role("main")).to_contain_text(str(IMAGES[0].digest))


@scripts_or_not
def test_a_move_is_undone_by_the_history(begin: Begin, *, scripts: bool) -> None:
    """The tag points at what it pointed at before; the history tells who did that."""
    page, repository = (visit := begin("writer", scripts=scripts)).page, CHANGED[scripts]
    visit.open(f"/ui/image?repository={repository}&reference=moved")
    expect(page.get_by_role("main")).to_contain_text(str(IMAGES[1].digest))
    visit.follow("History")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Restore").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.locator("tbody tr").first).to_contain_text("writer")
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="moved").click()
    expect(page.get_by_role("main")).to_contain_text(str(IMAGES[0].digest))


@scripts_or_not
def test_access_is_granted_and_revoked(begin: Begin, *, scripts: bool) -> None:
    """Who was granted it sees at once what was absent; the page explains why."""
    page, pattern = (visit := begin("root", scripts=scripts)).page, f"secret/{'*' if scripts else 'app'}"
    other = begin("reader", scripts=scripts)
    other.open("/ui/repositories?search=secret")
    expect(other.page.locator("tbody th")).to_have_count(0)
    visit.open("/ui/access")
    page.get_by_label("An account, @GROUP, authenticated, or anonymous").fill("reader")
    page.get_by_label("Repositories, in which * matches anything").fill(pattern)
    page.get_by_label("Actions: ").fill("pull")
    page.get_by_role("button", name="Grant").click()
    heading(page, "Granted")
    if scripts:
        assert examine(page) == []
    other.page.reload()
    expect(other.page.locator("tbody th")).to_have_text(["secret/app"])
    visit.open("/ui/access")
    page.get_by_role("textbox", name="May").fill("reader")
    page.get_by_label("do this").select_option("pull")
    page.get_by_label("in the repository").fill("secret/app")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("status").first).to_contain_text(f"Yes: by the rule reader {pattern} pull")
    visit.open("/ui/access")
    page.get_by_role("button", name=f"Revoke the rule of reader for {pattern}").click()
    heading(page, "Access")
    other.page.reload()
    expect(other.page.locator("tbody th")).to_have_count(0)


@scripts_or_not
def test_an_event_is_sent_again(begin: Begin, world: World, *, scripts: bool) -> None:
    """One that is ticked, and no other; then it is not listed any longer."""
    page, before = (visit := begin("root", scripts=scripts)).page, len(world.receiver.taken)
    visit.open("/ui/webhooks")
    visit.follow(HOOK)
    visit.follow("Given up")
    rows = page.locator("tbody tr")
    expect(rows.first).to_contain_text("503")
    count, number = rows.count(), page.locator("tbody th").first.inner_text().strip()
    page.get_by_role("checkbox", name=number, exact=True).check()
    page.get_by_role("button", name="Send the ticked events").click()
    assert until(lambda: len(world.receiver.taken) > before, 120)
    visit.follow("Given up")
    expect(rows).to_have_count(count - 1)
    expect(page.get_by_role("checkbox", name=number, exact=True)).to_have_count(0)
    assert len(world.receiver.taken) == before + 1


@scripts_or_not
def test_a_migration_is_followed(begin: Begin, world: World, *, scripts: bool) -> None:
    """While it goes on, its page does so by itself, or by a link; then that it has ended."""
    page, folder = (visit := begin("root", scripts=scripts)).page, world.data / "migrations"
    writing = Journal(folder, datetime.now(UTC), "v1-tree:/srv/older-registry")
    with journal.exclusive(folder):
        writing.write_all("tag", [tag_line(1)])
        visit.open("/ui/migrations")
        visit.follow(writing.path.stem)
        facts = page.get_by_role("main")
        expect(facts).to_contain_text("running")
        expect(facts).to_contain_text("1 done")
        writing.write_all("tag", [tag_line(2), tag_line(3, "skipped", "partial: an unfinished push")])
        if not scripts:
            visit.follow("Look again")
        expect(facts).to_contain_text("2 done, 1 skipped")
        expect(facts).to_contain_text("push it to the old registry again, or leave it out")
        writing.write("end", stopped=False)
    if not scripts:
        visit.follow("Look again")
    expect(facts).to_contain_text("ended")
    expect(page.get_by_role("link", name="Look again")).to_have_count(0)


def test_v1_is_limited_on_the_evidence(begin: Begin, tmp_path: Path) -> None:
    """Where V1 is in use, the page says so; where it is not, a button refuses pushes over V1 at once."""
    visit = begin("root")
    visit.open("/ui/farewell")
    expect(visit.page.get_by_role("main")).to_contain_text("Not yet.")
    expect(visit.page.get_by_role("main")).to_contain_text("docker/1.5.0")
    data = tmp_path / "data"
    settings = Settings.model_validate({"data": data, "auth": "accounts", "audit": "off"})
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        accounts_of(registry).add("root", PASSWORD)
        accounts_of(registry).grant("root", "*", "admin,manage")
    with dualreg_server(data, auth="accounts", workers=1) as host:
        page = (other := begin("root", url=f"http://{host}")).page
        page.get_by_role("link", name="Farewell to V1").click()
        expect(page.get_by_role("main")).to_contain_text("Yes.")
        page.get_by_role("button", name="Switch V1 to readonly").click()
        expect(page.get_by_role("main")).to_contain_text("V1 is readonly now")
        expect(page.get_by_role("button", name="Serve all of V1 again")).to_be_visible()
        assert until(lambda: _push_over_v1(host) == 405)
        other.page.context.close()


def _push_over_v1(host: str) -> int:
    """Return how a push over V1 is answered that has no credentials."""
    request = urllib.request.Request(f"http://{host}/v1/repositories/team/app/", b"[]", method="PUT")
    with pytest.raises(HTTPError) as error:
        urllib.request.urlopen(request, timeout=60)  # noqa: S310 -- our own server
    error.value.close()
    return error.value.code
