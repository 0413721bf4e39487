"""Settings of upstreams, names here and there, and what is asked of a registry that is down."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from dualreg.errors import UpstreamFailed
from dualreg.image.names import RepositoryName
from dualreg.settings import Settings, SettingsInvalid
from dualreg.upstreams.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker
from dualreg.upstreams.routes import Route

HUB = "https://registry-1.docker.io"


def test_both_forms_mean_the_same(tmp_path: Path) -> None:
    """A table with nothing but a URL, the URL alone, and the text in the environment."""
    config = tmp_path / "own.toml"
    config.write_text(f'[upstreams]\n"ghcr/*" = "https://ghcr.io"\n[upstreams."hub/*"]\nurl = "{HUB}"\n')
    text = f"hub/*={HUB}, ghcr/*=https://ghcr.io/"
    of_file, of_text = (
        Settings.from_env(environ, config=path).upstreams
        for environ, path in (({}, config), ({"DUALREG_UPSTREAMS": text}, tmp_path / "own.toml"))
    )
    assert of_file == of_text
    assert of_file["hub/*"].hosts == ("registry-1.docker.io", "docker.io", "index.docker.io")
    assert of_file["hub/*"].trusted_token_servers == ("auth.docker.io",)
    assert of_file["ghcr/*"].hosts == ("ghcr.io",)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """As those of other settings."""
    config = tmp_path / "own.toml"
    config.write_text(
        f'[upstreams."hub/*"]\nurl = "{HUB}"\nusername = "me"\npassword_file = "p"\nca = "/ca"\n'
    )
    hub = Settings.from_env({}, config=config).upstreams["hub/*"]
    assert (hub.password_file, hub.ca) == (tmp_path / "p", Path("/ca"))


@pytest.mark.parametrize(
    ("pattern", "url", "message"),
    [
        ("hub", HUB, 'upstreams: invalid pattern "hub": expected a prefix such as hub/*, or * alone'),
        (
            "hub/*",
            "ghcr.io",
            'upstreams."hub/*".url = "ghcr.io": expected a URL that starts with http:// or https://',
        ),
    ],
)
def test_mistakes_name_the_table(tmp_path: Path, pattern: str, url: str, message: str) -> None:
    """And what is expected instead."""
    config = tmp_path / "own.toml"
    config.write_text(f'[upstreams."{pattern}"]\nurl = "{url}"')
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env({}, config=config)
    assert str(caught.value) == f"{message} (from {config})"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hub/*", "expected PATTERN=URL, separated by commas"),
        (f"hub/*={HUB},hub/*=https://ghcr.io", "the same pattern is given twice"),
        (f"hub/*={HUB},*={HUB}", 'both "hub/*" and "*" have the namespace registry-1.docker.io'),
        (f"Hub/*={HUB}", 'invalid pattern "Hub/*"'),
        ("hub/*=https://me:secret@ghcr.io", "give username and password_file beside it"),
        ("hub/*=https://ghcr.io/v2/library", "with nothing but a host and a port"),
    ],
)
def test_mistakes_in_the_short_form(text: str, reason: str) -> None:
    """One line each, without secrets."""
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env({"DUALREG_UPSTREAMS": text})
    (line,) = str(caught.value).splitlines()
    assert reason in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ('username = "me"', "username and password_file are only valid together"),
        ('platforms = ["linux"]', "expected platforms such as linux/amd64"),
        ('repositories = ["a?"]', "only * is special"),
        ('check_interval = "soon"', "expected a duration"),
        ("wrong = 1", 'unknown setting "upstreams."hub/*".wrong"'),
    ],
)
def test_members_are_checked(tmp_path: Path, members: str, reason: str) -> None:
    """By the rules of other settings."""
    config = tmp_path / "own.toml"
    config.write_text(f'[upstreams."hub/*"]\nurl = "{HUB}"\n{members}\n')
    with pytest.raises(SettingsInvalid, match=None) as caught:
        Settings.from_env({}, config=config)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("route", "here", "there"),
    [
        (Route("hub/", HUB), "hub/team/app", "team/app"),
        (Route("", HUB), "team/app", "team/app"),
        (Route("hub/", HUB, has_library=True), "hub/alpine", "library/alpine"),
        (Route("a/b/", HUB, has_library=True), "a/b/x/y", "x/y"),
    ],
)
def test_names(route: Route, here: str, there: str) -> None:
    """A prefix is left out; names of Docker Hub without a slash are those of ``library/``."""
    assert route.covers(RepositoryName(here))
    assert route.there(RepositoryName(here)) == there
    assert route.there(RepositoryName(str(route.here(there)))) == there
    assert route.here("x" * 255) is None or not route.prefix


@pytest.mark.parametrize(
    ("platforms", "platform", "allowed"),
    [
        ((), {"os": "windows", "architecture": "amd64"}, True),
        (("linux/amd64",), {"os": "linux", "architecture": "amd64"}, True),
        (("linux/amd64",), {"os": "linux", "architecture": "arm64"}, False),
        (("linux/arm",), {"os": "linux", "architecture": "arm", "variant": "v7"}, True),
        (("linux/arm/v7",), {"os": "linux", "architecture": "arm", "variant": "v7"}, True),
        (("linux/arm/v7",), {"os": "linux", "architecture": "arm", "variant": "v6"}, False),
        (("linux/amd64",), {"os": "unknown", "architecture": "unknown"}, True),
        (("linux/amd64",), {}, True),
    ],
)
def test_platforms(platforms: tuple[str, ...], platform: dict[str, str], allowed: bool) -> None:  # noqa: FBT001 -- a column
    """Attestations, and entries that say nothing, belong to all of them."""
    assert Route("hub/", HUB, platforms=platforms).allows_platform(platform) is allowed


def _failing(status: int, retry_after: int | None = None) -> Callable[[], str]:
    def ask() -> str:
        raise UpstreamFailed(upstream=HUB, status=status, reason="down", retry_after=retry_after)

    return ask


def test_pauses_grow_and_end() -> None:
    """After a failure, nothing is sent for a while; then one request, whose failure doubles that."""
    now, sent = [0.0], list[float]()
    breaker = Breaker(lambda: now[0])

    def down() -> str:
        sent.append(now[0])
        return _failing(503)()

    while now[0] < 200:
        with pytest.raises(UpstreamFailed) as caught:
            breaker.call(down)
        assert caught.value.reason == "down"
        now[0] += 1
    gaps = [after - before for before, after in pairwise(sent)]
    assert gaps == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE, *[LONGEST_PAUSE] * 2]
    now[0] += LONGEST_PAUSE
    assert breaker.call(lambda: "up") == "up"
    assert breaker.call(lambda: "up") == "up"


@pytest.mark.parametrize(("status", "retry_after", "pause"), [(429, 30, 30), (429, 9999, 60), (404, None, 0)])
def test_what_a_registry_wishes(status: int, retry_after: int | None, pause: int) -> None:
    """It is left alone for as long, within reason; failures of one request concern no other."""
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    with pytest.raises(UpstreamFailed):
        breaker.call(_failing(status, retry_after))
    if pause:
        now[0] = pause - 1
        with pytest.raises(UpstreamFailed) as caught:
            breaker.call(lambda: "sent")
        assert caught.value.retry_after == 1
    now[0] = pause
    assert breaker.call(lambda: "sent") == "sent"
