"""Every page, for everybody: what it shows, what it hides, and what all pages have in common."""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dualreg.image import media_types
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import tags as tags_module
from dualreg.registry import usage as usage_module
from dualreg.web.ui.navigation import ENTRIES
from tests import builders
from tests.auth.conftest import Guarded
from tests.properties.registries import push_v2
from tests.ui.conftest import APP, IMAGES, SECRET, WEB, Browser

#: Accounts; the first one is nobody.
PEOPLE = ("", "reader", "writer", "root")
#: Leads who has not logged in to the form.
ACCOUNT = "/ui/account"
#: Pages, the people that they exist for, and what those read there.
PAGES: dict[str, tuple[tuple[str, ...], str]] = {
    "/ui/": (PEOPLE, "Push an image"),
    "/ui/login": (PEOPLE, "API keys are for clients"),
    "/ui/repositories": (PEOPLE, "Find a repository"),
    "/ui/repositories?own=1": (PEOPLE, "My repositories"),
    "/ui/repositories?under=team/": (PEOPLE, "team"),
    "/ui/repositories?search=app": (PEOPLE, "Names that contain app"),
    "/ui/repositories?search=app:v1": (PEOPLE, "The first tag that begins with v1"),
    f"/ui/repository?repository={APP}": (("reader", "writer", "root"), "Same image"),
    f"/ui/repository?repository={SECRET}": (("root",), "Same image"),
    "/ui/repository?repository=team/none": ((), ""),
    f"/ui/image?repository={APP}&reference=latest": (("reader", "writer", "root"), "docker pull"),
    f"/ui/image?repository={APP}&reference={IMAGES[0].digest}": (("reader", "writer", "root"), "podman"),
    f"/ui/image?repository={WEB}&reference=old": (("reader", "writer", "root"), "docker before 1.6"),
    f"/ui/comparison?repository={APP}&reference=v1&other=latest": (PEOPLE[1:], "say differently"),
    f"/ui/comparison?repository={SECRET}&reference=v1&other=v1": (("root",), "say differently"),
    "/ui/comparison?repository=team/none&reference=v1&other=v2": ((), ""),
    f"/ui/faces?repository={APP}&tag=v1": (
        ("reader", "writer", "root"),
        "V1 clients see it, by bridge = both",
    ),
    f"/ui/faces?repository={WEB}&tag=old": (
        ("reader", "writer", "root"),
        "converted to schema 2 by this registry",
    ),
    f"/ui/faces?repository={SECRET}&tag=v1": (("root",), "Two faces"),
    f"/ui/faces?repository={APP}&tag=none": ((), ""),
    f"/ui/image?repository={SECRET}&reference=v1": (("root",), "skopeo"),
    f"/ui/image?repository={APP}&reference=none": ((), ""),
    f"/ui/layer?repository={APP}&reference=latest": (PEOPLE[1:], "in the order of its archive"),
    f"/ui/layer?repository={APP}&reference=v1&changes=1": (PEOPLE[1:], "What the layer adds"),
    f"/ui/layer?repository={WEB}&reference=old": (PEOPLE[1:], "in the order of its archive"),
    f"/ui/layer?repository={SECRET}&reference=v1": (("root",), "in the order of its archive"),
    f"/ui/layer?repository={APP}&reference=v1&layer=ffff": ((), ""),
    "/ui/farewell": (("root",), "Is it safe to switch"),
    "/ui/formats": (("root",), "V1 image"),
    "/ui/formats?pattern=team/app&client=docker-1.9": (("root",), "schema 1"),
    "/ui/formats?pattern=none/*&unsolved=1": (("root",), "can read all that was checked"),
    f"/ui/history?repository={APP}&tag=latest": (("reader", "writer", "root"), "Moves of the tag"),
    f"/ui/history?repository={SECRET}&tag=v1": (("root",), "Moves of the tag"),
    "/ui/migrations": (("root",), "Nothing was imported yet."),
    "/ui/operations": (("root",), "Storage by day"),
    "/ui/operations/preview?name=gc": (("root",), "Nothing was changed."),
    "/ui/operations/preview?name=retention": (("root",), "would delete 0 tags of 0"),
    "/ui/usage": (("root",), "How many bytes the repositories"),
    "/ui/usage?depth=2&after=team/app": (("root",), "Bytes of namespaces"),
    "/ui/tasks": (("root",), "What the service does by itself"),
    "/ui/webhooks": (("root",), "https://ci.example"),
    "/ui/webhook?name=ci": (("root",), "Events that wait"),
    "/ui/webhook?name=ci&dead=1": (("root",), "Events that were given up"),
    "/ui/webhook/remove?name=ci": (("root",), "This cannot be undone"),
    "/ui/audit": (("root",), "log in"),
    "/ui/audit?account=reader&action=denied&since=2026-01-01&until=2026-01-02": (("root",), "No line"),
    "/ui/access": (("root",), "Permission rules"),
    "/ui/access/explain?who=reader&repository=team/app&action=push": (("root",), "no rule allows it"),
    "/ui/accounts": (("root",), "which of them may not log in now"),
    "/ui/groups": (("root",), "Groups and their members"),
    "/ui/access/keys": (("root",), "the oldest first"),
    ACCOUNT: (("reader", "writer", "root"), "What you may do"),
    "/ui/nothing/of/that/name": ((), ""),
}
#: Pages of the registry as a whole, which others than administrators are refused.
ADMINISTRATION = (
    "/ui/farewell",
    "/ui/formats",
    "/ui/migrations",
    "/ui/operations",
    "/ui/usage",
    "/ui/tasks",
    "/ui/webhook",
    "/ui/audit",
    "/ui/access",
    "/ui/accounts",
    "/ui/groups",
)


class Parsed(HTMLParser):
    """The elements of a page: their names and attributes."""

    def __init__(self, text: str) -> None:
        """Read *text*."""
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a name."""
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.slow
@pytest.mark.parametrize("account", PEOPLE)
def test_who_sees_what(own: Guarded, account: str) -> None:
    """What one may not pull looks as if it did not exist; no page of anybody names it."""
    browser = Browser.of(own, account)
    absent = browser.get("/ui/repository", repository="secret/none")
    for path, (people, text) in PAGES.items():
        answer = browser.get(path)
        refused = 403 if path.startswith(ADMINISTRATION) else 303 if path == ACCOUNT else 404
        assert answer.status_code == (200 if account in people else refused), (path, answer.text)
        assert account not in people or text in answer.text
        if account != "root":
            assert "secret" not in answer.text
        if account not in people and refused == 404:
            assert answer.text.replace(CURRENT, "") == absent.text.replace(CURRENT, "")


def _labels(parsed: Parsed) -> set[str | None]:
    return {each["for"] for each in parsed.all("label") if "for" in each}


@pytest.mark.slow
def test_what_all_pages_have(own: Guarded) -> None:
    """Landmarks, one heading, a skip link, labels, captions; no script or style inside, nothing foreign."""
    browser = Browser.of(own, "root")
    for path, (people, _) in PAGES.items():
        answer = browser.get(path)
        parsed = Parsed(answer.text)
        assert answer.headers["Cache-Control"] == "no-store"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert parsed.all("html") == [{"lang": "en"}]
        assert [len(parsed.all(tag)) for tag in ("main", "header", "footer", "h1", "title")] == [1] * 5
        assert {"class": "skip", "href": "#content"} in parsed.all("a")
        assert parsed.all("style") == []
        assert all(each.get("src") for each in parsed.all("script"))
        assert not [
            each for _, each in parsed.found if {name for name in each if name.startswith(("on", "style"))}
        ]
        assert len(parsed.all("caption")) == len(parsed.all("table"))
        assert all(each.get("scope") for each in parsed.all("th"))
        texts = [each for each in parsed.all("input") if each.get("type") not in ("hidden", "checkbox")]
        assert {each["id"] for each in texts} <= _labels(parsed)
        ids = [each["id"] for _, each in parsed.found if "id" in each]
        assert len(ids) == len(set(ids))
        links = [
            each.get(name) or ""
            for _, each in parsed.found
            for name in ("href", "src", "action")
            if name in each
        ]
        assert [link for link in links if not link.startswith(("/ui/", "#"))] == [], path
        for form in (each for each in parsed.all("form") if each.get("method") == "post"):
            assert form["action"]
        assert people is not None


@pytest.mark.slow
def test_links_lead_somewhere(own: Guarded) -> None:
    """Each link of each page is a page that the account may see."""
    for account in PEOPLE:
        browser, seen, waiting = Browser.of(own, account), set[str](), ["/ui/"]
        while waiting:
            path = waiting.pop()
            if path in seen:
                continue
            seen.add(path)
            answer = browser.get(path)
            assert answer.status_code == 200, (account, path)
            links = [each.get("href") or "" for each in Parsed(answer.text).all("a")]
            waiting += [link for link in links if link.startswith("/ui")]
        assert {"/ui/repositories"} <= seen
        assert any("reference=latest" in path for path in seen) == bool(account)


@pytest.mark.slow
def test_the_current_page(own: Guarded) -> None:
    """Navigation says where one is, below a page too; every entry is a page."""
    browser = Browser.of(own, "root")
    for path, title in (
        ("/ui/", "Home"),
        ("/ui/repositories", "Repositories"),
        ("/ui/operations", "Operations"),
        ("/ui/usage", "Operations"),
        (f"/ui/image?repository={APP}&reference=v1", "Repositories"),
        (f"/ui/comparison?repository={APP}&reference=v1&other=v2", "Repositories"),
    ):
        nav = browser.get(path).text.partition('aria-label="Pages"')[2].partition("</nav>")[0]
        assert re.findall(r'aria-current="page">(\w+)<', nav) == [title]
    assert len({each.view for each in ENTRIES}) == len(ENTRIES)


def _rows(text: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="[^"]*">([^<]*)</a>', text)


def _walk(browser: Browser, path: str) -> Iterator[str]:
    """Yield the names in the rows of a list, on all its pages."""
    while path:
        text = browser.get(path).text
        yield from _rows(text)
        found = re.search(r'rel="next" href="([^"]*)"', text)
        path = found[1].replace("&amp;", "&") if found else ""


@pytest.mark.slow
def test_the_tree_of_repositories(guarded: Guarded) -> None:
    """Names of one level, also where a repository is named like a namespace, over any number of pages."""
    names = ["a", "a-b", "a/b", "a/b/c", "a.x/y", "z"] + [f"many/r{number:03}" for number in range(60)]
    for name in names:
        push_v2(guarded.registry, RepositoryName(name), Tag("v1"), IMAGES[0])
    guarded.account("root", ("*", "admin,manage"))
    guarded.account("some", ("a/b/*", "pull"), ("many/r00*", "pull"))
    browser = Browser.of(guarded, "root")
    assert [*_walk(browser, "/ui/repositories")] == ["a", "a-b", "a.x/", "a/", "many/", "z"]
    assert [*_walk(browser, "/ui/repositories?under=a/")] == ["b", "b/"]
    assert [*_walk(browser, "/ui/repositories?under=a/b/")] == ["c"]
    assert [*_walk(browser, "/ui/repositories?under=many/")] == [f"r{number:03}" for number in range(60)]
    assert [*_walk(browser, "/ui/repositories?search=R00")] == [f"many/r{number:03}" for number in range(10)]
    some = Browser.of(guarded, "some")
    assert [*_walk(some, "/ui/repositories")] == ["a/", "many/"]
    assert [*_walk(some, "/ui/repositories?under=a/")] == ["b/"]
    assert len([*_walk(some, "/ui/repositories?search=r")]) == 10
    assert [*_walk(some, "/ui/repositories?own=1")] == []
    assert browser.get("/ui/repositories?under=a").status_code == 400


def test_a_search_for_a_tag(own: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a part of the name and how the tag begins; it leads to the tag, if the account may pull it."""
    for account, found in (("root", [f"{SECRET}:v1", f"{APP}:v1"]), ("reader", [f"{APP}:v1"]), ("", [])):
        text = Browser.of(own, account).get("/ui/repositories", search=" APP:v ").text
        assert _rows(text) == found
        for name, tag in (each.split(":") for each in found):
            assert f"/ui/image?repository={name}&amp;reference={tag}" in text
        assert "The first tag that begins with v, of names that contain app" in text
    browser = Browser.of(own, "root")
    for search, found in (
        ("team/app:latest", [f"{APP}:latest"]),
        ("app:V", []),
        ("app:", [f"{SECRET}:v1", f"{APP}:latest"]),
        (":old", [f"{WEB}:old"]),
        (":", [f"{SECRET}:v1", f"{APP}:latest", f"{WEB}:old"]),
        ("app", [SECRET, APP]),
        ("a*p", [SECRET, APP]),
        ("app?", []),
        ("[a]pp", []),
        ("app é:v", []),
        (256 * "a", []),
    ):
        assert _rows(browser.get("/ui/repositories", search=search).text) == found
    monkeypatch.setattr(usage_module, "SCAN_LIMIT", 1)
    text = browser.get("/ui/repositories", search=":old").text
    assert "None up to here: the next page goes on." in text
    assert [*_walk(browser, "/ui/repositories?search=:old")] == [f"{WEB}:old"]
    assert [*_walk(Browser.of(own, "reader"), "/ui/repositories?search=:")] == [f"{APP}:latest", f"{WEB}:old"]


def test_a_repository_with_many_tags(guarded: Guarded) -> None:
    """All of them, on several pages; those that point at the same manifest name each other."""
    guarded.account("root", ("*", "admin,manage"))
    for number in range(55):
        push_v2(guarded.registry, APP, Tag(f"t{number}"), IMAGES[number % 2])
    browser = Browser.of(guarded, "root")
    assert sorted(_walk(browser, f"/ui/repository?repository={APP}")) == sorted(f"t{n}" for n in range(55))
    text = browser.get(f"/ui/repository?repository={APP}").text
    assert "and more" in text
    assert "linux/amd64" in text


def test_tags_in_an_order_of_choice(guarded: Guarded) -> None:
    """By links in the headings, over all pages; a heading says how the list is ordered, and turns it."""
    guarded.account("root", ("*", "admin,manage"))
    for number in range(55):
        image = builders.image(builders.layer({"a": bytes(number * 9)}))
        push_v2(guarded.registry, APP, Tag(f"t{number * 7 % 55:02}"), image)
    browser, page = Browser.of(guarded, "root"), f"/ui/repository?repository={APP}"
    rows = guarded.registry.tags.describe(APP, limit=99, newest_first=True).rows
    sizes = guarded.registry.usage.sizes(APP, rows)
    by_size = sorted(rows, key=lambda row: (sizes[row.digest].bytes, row.name), reverse=True)
    expected = {
        "pushed": [row.name for row in rows],
        "name": sorted((row.name for row in rows), reverse=True),
        "size": [row.name for row in by_size],
        "pulled": sorted((row.name for row in rows), reverse=True),
    }
    for key, names in expected.items():
        for order, direction, wanted in (
            (f"-{key}", "descending", names),
            (key, "ascending", names[::-1]),
        ):
            assert [*_walk(browser, f"{page}&sort={order}")] == wanted
            heads = Parsed(browser.get(f"{page}&sort={order}").text).all("th")
            assert [each["aria-sort"] for each in heads if "aria-sort" in each] == [direction]
    links = re.findall(r"sort=([a-z-]+)", browser.get(f"{page}&sort=size").text)
    assert {"name", "-size", "-pulled"} <= {*links}
    assert [*_walk(browser, f"{page}&prefix=t1&sort=name")] == [f"t1{number}" for number in range(10)]
    assert "No tag begins so" in browser.get(f"{page}&prefix=é").text
    assert browser.get(f"{page}&sort=color").status_code == 400


def test_tags_of_a_prefix_among_many(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the usual order, all that begin so; where too many tags have to be looked at, over more pages."""
    guarded.account("root", ("*", "admin,manage"))
    for number in range(12):
        push_v2(guarded.registry, APP, Tag(f"{'ab'[number // 6]}{number:02}"), IMAGES[0])
    browser, page = Browser.of(guarded, "root"), f"/ui/repository?repository={APP}&prefix=a"
    monkeypatch.setattr(tags_module, "ORDER_LIMITS", {"pulled": 5, "size": 5})
    expected = [f"a{number:02}" for number in reversed(range(6))]
    assert [*_walk(browser, page)] == expected
    monkeypatch.setattr(tags_module, "_FEW", 5)
    monkeypatch.setattr(tags_module, "_SCAN", 4)
    assert "go on to the next page" in browser.get(page).text
    assert [*_walk(browser, page)] == expected
    assert [*_walk(browser, f"{page}&sort=pushed")] == expected[::-1]
    for key in ("pulled", "size"):
        answer = browser.get(f"{page}&sort=-{key}")
        assert answer.status_code == 400
        assert f"more than 5 tags that begin with a, too many to order by {key}" in answer.text


def test_an_index(own: Guarded) -> None:
    """Its platforms are links, of which the one that is shown is the current one."""
    index = builders.index(*IMAGES[:2])
    for image in IMAGES[:2]:
        push_v2(own.registry, APP, Tag("part"), image)
    own.registry.manifests.put(APP, Tag("both"), media_types.OCI_INDEX, index)
    browser = Browser.of(own, "reader")
    for platform in ("linux/amd64", "linux/arm64"):
        text = browser.get("/ui/image", repository=APP, reference="both", platform=platform).text
        assert re.findall(r'aria-current="page">(linux/\w+)<', text) == [platform]


CURRENT = ' aria-current="page"'
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"


@pytest.mark.slow
def test_hostile_texts(own: Guarded) -> None:
    """What clients write into images is shown as the text that it is, on every page."""
    image = builders.image(
        builders.layer({"a": b"hostile"}),
        author=HOSTILE,
        config={"Labels": {HOSTILE: HOSTILE}, "Cmd": [HOSTILE], "Env": [f"A={HOSTILE}"], "User": HOSTILE},
        history=[{"created_by": HOSTILE, "created": HOSTILE}],
    )
    push_v2(own.registry, APP, Tag("hostile"), image)
    browser = Browser.of(own, "root")
    paths = [*PAGES, f"/ui/image?repository={APP}&reference=hostile"]
    paths += [
        f"{path}?{urlencode({name: HOSTILE})}"
        for path in (
            "/ui/repositories",
            "/ui/repository",
            "/ui/image",
            "/ui/login",
            "/ui/webhook",
            "/ui/audit",
            "/ui/usage",
            "/ui/operations/preview",
        )
        for name in (
            "search",
            "under",
            "after",
            "repository",
            "reference",
            "platform",
            "own",
            "name",
            "account",
        )
    ]
    shown = 0
    for path in paths:
        text = browser.get(path).text
        assert "alert(1)</script>" not in text
        assert Parsed(text).all("img") == [], path
        shown += "&lt;script&gt;alert(1)" in text
    assert shown >= 3


@pytest.mark.parametrize("host", ["a b", "x/y", ""])
@pytest.mark.parametrize("auth", ["none", "accounts"])
def test_what_is_no_host(guard: Callable[..., Guarded], auth: str, host: str) -> None:
    """A page says so, although no address of this registry is known for it."""
    answer = guard(auth=auth).client.get("/ui/", headers={"Host": host})
    assert answer.status_code == 400
    assert "the Host header is not a host" in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def test_too_many_requests(guard: Callable[..., Guarded]) -> None:
    """A page says so, and when to come back; to who has logged in, too."""
    own = guard(request_limit="6/h")
    own.account("writer")
    for browser in (Browser.of(own, "writer"), Browser.of(own)):
        answers = [browser.get("/ui/") for _ in range(7)]
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert "Not possible" in answers[-1].text


def test_what_no_database_stores(own: Guarded) -> None:
    """A NUL is refused, as the API does: PostgreSQL fails with it."""
    browser = Browser.of(own, "reader")
    for path in ("/ui/repositories?after=%00", "/ui/repositories?under=%00/", "/ui/repositories?search=%00"):
        assert browser.get(path).status_code == 400, path


def test_commands_of_an_image_without_a_tag(own: Guarded) -> None:
    """All of them name its digest as such; V1 clients, which know none, have no command."""
    digest = str(IMAGES[0].digest)
    text = Browser.of(own, "reader").get("/ui/image", repository=APP, reference=digest).text
    assert f"docker pull localhost/{APP}@{digest}" in text
    assert f"{APP}:{digest}" not in text.partition('id="pull"')[2]
    assert "over V1" not in text


@pytest.mark.parametrize("auth", ["none", "token"])
def test_registries_without_accounts(guard: Callable[..., Guarded], auth: str, tmp_path: Any) -> None:
    """Everybody sees what anybody may pull, nobody can log in, and no form changes anything."""
    keys = tmp_path / "keys.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    keys.write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    token = {"token_realm": "https://login.example/token", "token_issuer": "x", "token_keys": str(keys)}
    own = guard(auth=auth, **(token if auth == "token" else {}))
    push_v2(own.registry, APP, Tag("v1"), IMAGES[0])
    browser = Browser.of(own)
    home = browser.get("/ui/")
    assert home.status_code == 200
    assert "Log in" not in home.text
    assert browser.get("/ui/repository", repository=APP).status_code == (200 if auth == "none" else 404)
    assert browser.get("/ui/farewell").status_code == (200 if auth == "none" else 403)
    assert [browser.get(f"/ui/{page}").status_code for page in ("audit", "webhooks")] == [403, 403]
    assert "/ui/audit" not in home.text
    assert browser.log_in("root").status_code == 403


@pytest.mark.parametrize(
    ("accept", "ui", "leads"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "on", True),
        ("text/html", "readonly", True),
        ("text/html", "off", False),
        ("*/*", "on", False),
        ("application/json", "on", False),
        ("", "on", False),
    ],
)
def test_only_browsers_are_led_here(guard: Callable[..., Guarded], accept: str, ui: str, leads: bool) -> None:  # noqa: FBT001 -- a column
    """Registry clients get what they always got; so does everybody without the pages."""
    own = guard(ui=ui)
    answer = own.client.get("/", headers={"Accept": accept} if accept else {})
    assert (answer.status_code == 303) == leads
    assert (answer.headers.get("Location") == "/ui/") == leads
    assert ("container registry" in answer.text) != leads
    assert own.client.get("/ui/").status_code == (404 if ui == "off" else 200)
    assert own.client.get("/v2/").status_code == 401


def test_behind_a_path(guard: Callable[..., Guarded]) -> None:
    """With a public_url that has a path, all links begin with it."""
    own = guard(public_url="https://registry.example/sub")
    text = own.client.get("/ui/").text
    found = [
        value
        for _, each in Parsed(text).found
        for name in ("href", "src", "action")
        if (value := each.get(name))
    ]
    assert {link.startswith(("/sub/ui/", "#")) for link in found} == {True}
    assert "docker push registry.example/" in text
