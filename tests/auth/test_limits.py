"""What must not grow: rights beyond what they were got by, logs by what clients write, work by who asks."""

import base64
import json
import os
import stat
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import bcrypt
import jwt
import pytest
from click.testing import CliRunner

from dualreg.auth import key_sources
from dualreg.auth.access import CATALOG, Access
from dualreg.auth.accounts import Accounts
from dualreg.auth.attempts import KNOWN, Attempts, Limits
from dualreg.auth.audit import Audit
from dualreg.auth.key_sources import UrlKeys
from dualreg.auth.passwords import Passwords
from dualreg.auth.permissions import parse_rule
from dualreg.auth.secrets import SecretKind
from dualreg.auth.trust import TrustedKeys
from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import upgrade
from dualreg.cli import main
from dualreg.errors import ServerBusy
from dualreg.image.names import RepositoryName, Tag
from dualreg.reloading import ReloadingFile
from dualreg.settings import Settings
from tests import builders
from tests.auth import test_forged_tokens as forged
from tests.auth.conftest import Guarded, basic, bearer, ends
from tests.conftest import Clock
from tests.migrate.fronts import Step, hostile, status
from tests.programs import dualreg_process
from tests.properties.registries import push_v2
from tests.protocol.clients.wire import Wire

IMAGE = builders.image(builders.layer({"a": b"1"}))
REPOSITORY = "/v1/repositories/team/app/"


def begin(guarded: Guarded, headers: dict[str, str]) -> tuple[dict[str, str], float]:
    """Begin a V1 push; return the session's header, and when it ends."""
    answer = guarded.client.put(REPOSITORY, headers=headers, json=[])
    assert answer.status_code == 200, answer.data
    value = answer.headers["X-Docker-Token"]
    token = value.partition("signature=")[2].partition(",")[0]
    return {"Authorization": f"Token {value}"}, ends(token)


def login(guarded: Guarded, headers: dict[str, str], address: str) -> int:
    """Log in from an address; return the status."""
    place = {"REMOTE_ADDR": address}
    return guarded.client.get("/token", headers=headers, environ_overrides=place).status_code


def test_nothing_lasts_longer_than_what_it_was_got_by(guarded: Guarded, clock: Clock) -> None:
    """A session by a token ends with it, one by a session is no later, one by a key ends with the key."""
    alice = guarded.account("alice", ("team/*", "pull,push"))
    token = guarded.token("repository:team/app:pull,push", headers=alice)
    _, end = begin(guarded, bearer(token))
    assert end <= ends(token)
    session, end = begin(guarded, alice)
    assert end > time.time() + 3600
    for _ in range(3):
        session, again = begin(guarded, session)
        assert again <= end
    clock.instant += timedelta(seconds=time.time()) - timedelta(seconds=clock.instant.timestamp())
    guarded.accounts.add("ci", None)
    guarded.accounts.grant("ci", "team/*", "pull,push")
    key = guarded.accounts.add_key("ci", limits="", note="", lifetime=timedelta(minutes=2))
    _, end = begin(guarded, basic("ci", key.text))
    assert end <= time.time() + 121
    answer = guarded.ask(headers=basic("ci", key.text)).json
    assert answer["expires_in"] <= 120
    assert ends(answer["token"]) <= time.time() + 121
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == answer["expires_in"]


@pytest.mark.usefixtures("provider")
def test_nor_than_a_workloads_token(guard: Callable[..., Guarded]) -> None:
    """Whose issuer says when it ends."""
    own = guard(**forged.OIDC)
    own.accounts.grant("@builds", "team/*", "pull,push")
    job = forged.job(exp=int(time.time()) + 90)
    _, end = begin(own, bearer(job))
    assert end <= ends(job)
    assert ends(own.token(headers=bearer(job))) <= ends(job)


provider = forged.provider


@pytest.mark.usefixtures("provider")
def test_a_workload_beside_a_token_server_sees_its_own(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """Only the issuer's own tokens can be for the whole catalog."""
    (tmp_path / "bundle").write_bytes(forged.CA.pem)
    own = guard(
        auth="token", token_realm="https://a/token", token_issuer="a", token_keys=str(tmp_path / "bundle"),
        **forged.OIDC,
    )  # fmt: skip
    own.accounts.grant("@builds", "acme/*", "pull")
    for name in ("acme/app", "secret"):
        push_v2(own.registry, RepositoryName(name), Tag("one"), IMAGE)
    headers = bearer(forged.job())
    assert own.client.get("/v2/_catalog", headers=headers).json == {"repositories": ["acme/app"]}
    assert own.client.get("/v1/search?q=", headers=headers).json["num_results"] == 1


def test_a_narrow_token_lists_what_it_is_for(guarded: Guarded) -> None:
    """Not all that its owner may pull."""
    alice = guarded.account("alice", ("*", "pull,push"))
    for name in ("team/app", "secret"):
        push_v2(guarded.registry, RepositoryName(name), Tag("one"), IMAGE)
    narrow = bearer(guarded.token("repository:team/app:pull", headers=alice))
    session, _ = begin(guarded, alice)
    for headers in (narrow, session):
        found = guarded.client.get("/v1/search?q=", headers=headers).json["results"]
        assert [each["name"] for each in found] == ["team/app"]
    assert guarded.client.get("/v1/search?q=", headers=alice).json["num_results"] == 2


def test_no_credential_finds_less_than_none(guarded: Guarded) -> None:
    """Whatever docker search sends after a login, it finds what anybody may pull, and not too much."""
    alice = guarded.account("alice", ("team/*", "pull"))
    guarded.accounts.grant("anonymous", "public/*", "pull")
    for name in ("team/app", "team/tool", "public/app", "secret"):
        push_v2(guarded.registry, RepositoryName(name), Tag("one"), IMAGE)
    everybody, own = {"public/app"}, {"public/app", "team/app", "team/tool"}
    key = guarded.accounts.add_key("alice", limits="repository:team/app:pull", note="", lifetime=None).text
    for headers, expected in (
        ({}, everybody),
        (basic("alice", ""), everybody),
        (alice, own),
        (bearer(guarded.token(headers=alice)), everybody),
        (bearer(guarded.token("registry:catalog:search", headers=alice)), own),
        (bearer(guarded.token("registry:catalog:*", headers=alice)), own),
        (bearer(guarded.token("registry:catalog:search")), everybody),
        (bearer(guarded.token("repository:team/app:pull", headers=alice)), everybody | {"team/app"}),
        (basic("alice", key), everybody | {"team/app"}),
    ):
        found = guarded.client.get("/v1/search?q=", headers=headers).json["results"]
        assert {each["name"] for each in found} == expected, headers
    search = bearer(guarded.token("registry:catalog:search", headers=alice))
    assert guarded.client.get("/v2/_catalog", headers=search).status_code == 401


def test_groups_count_as_they_are(guarded: Guarded) -> None:
    """However many, they are not in the token; leaving one counts at once."""
    guarded.accounts.grant("@g299", "team/*", "pull")
    alice = guarded.account("alice")
    for number in range(300):
        guarded.accounts.join(f"g{number}", "alice")
    push_v2(guarded.registry, RepositoryName("team/app"), Tag("one"), IMAGE)
    token = guarded.token("registry:catalog:*", headers=alice)
    assert len(token) < 1000
    assert guarded.client.get("/v2/_catalog", headers=bearer(token)).json == {"repositories": ["team/app"]}
    guarded.accounts.leave("g299", "alice")
    assert guarded.client.get("/v2/_catalog", headers=bearer(token)).json == {"repositories": []}


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["x{}", "x{}/*"])
def test_thousands_of_rules(guarded: Guarded, pattern: str) -> None:
    """One for each repository, as scripts write them."""
    alice = guarded.account("alice")
    with guarded.registry.state.catalog.begin() as tx:
        for number in range(3000):
            tx.permissions.grant(parse_rule("alice", pattern.format(number), "pull"))
    name = pattern.format(2999).replace("*", "app")
    push_v2(guarded.registry, RepositoryName(name), Tag("one"), IMAGE)
    assert guarded.client.get("/v2/_catalog", headers=alice).json == {"repositories": [name]}
    assert guarded.client.get("/v1/search?q=", headers=alice).json["num_results"] == 1
    assert guarded.client.get(f"/v1/images/{'0' * 64}/json", headers=alice).status_code == 404


def test_a_failed_v1_login_counts_once(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its password is hashed once; where nothing is, or V1 is off, none is looked at."""
    guarded.account("alice")
    checked = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda *given: bool(checked.append(given)))
    for number in range(Limits().pair):
        assert guarded.client.get("/v1/users/", headers=basic("alice", f"{number}")).status_code == 401
        assert len(checked) == number + 1
    assert guarded.client.get("/v1/users/", headers=basic("alice", "x")).status_code == 429


@pytest.mark.parametrize(("mode", "path"), [("off", "/v1/users/"), ("on", "/v1/nowhere"), ("off", "/v1/x")])
def test_what_is_not_there_looks_at_no_password(guard: Callable[..., Guarded], mode: str, path: str) -> None:
    """So nobody can be locked out that way."""
    own = guard(v1=mode)
    alice = own.account("alice")
    for number in range(2 * Limits().pair):
        assert own.client.get(path, headers=basic("alice", f"{number}")).status_code == 404
    assert own.client.get("/v2/", headers=alice).status_code == 200


def test_keys_are_not_locked_out(guarded: Guarded) -> None:
    """By those who guess the account's password: a key cannot be guessed."""
    guarded.accounts.add("ci", None)
    key = basic("ci", guarded.accounts.add_key("ci", limits="", note="", lifetime=None).text)
    for number in range(Limits().pair):
        assert guarded.ask(headers=basic("ci", f"{number}")).status_code == 401
    assert guarded.ask(headers=basic("ci", "x")).status_code == 429
    assert guarded.ask(headers=key).status_code == 200


@pytest.mark.parametrize(
    "text", ["", "pair", "pair=0", "pair=1,pair=2", "all=3", "pair=-1", "pair=1;account=2"]
)
def test_limits_that_mean_nothing(text: str) -> None:
    """Are refused at the start."""
    with pytest.raises(ValueError, match="expected a comma-separated list of pair=N"):
        Settings.model_validate({"login_limits": text})


def test_the_right_password_has_to_wait_too(guarded: Guarded) -> None:
    """Though it is remembered: otherwise guessing would go on while its owner works."""
    alice = guarded.account("alice")
    for address in ("192.0.2.1", "192.0.2.2"):
        assert login(guarded, alice, address) == 200
    for number in range(Limits().pair):
        assert login(guarded, basic("alice", f"{number}"), "192.0.2.1") == 401
    assert login(guarded, alice, "192.0.2.1") == 429
    assert login(guarded, alice, "192.0.2.2") == 200


@pytest.mark.slow
def test_the_same_wrong_password_counts_once(guarded: Guarded) -> None:
    """From however many addresses: a job with an outdated one locks nobody out."""
    alice = guarded.account("alice")
    for number in range(2 * Limits().account):
        assert login(guarded, basic("alice", "outdated"), f"192.0.2.{number % 250}") == 401
    assert login(guarded, alice, "192.0.2.1") == 200
    assert login(guarded, basic("bob", "outdated"), "192.0.2.1") == 401
    with guarded.registry.state.catalog.read() as tx:
        text = str([*tx.attempts.connection.exec_driver_sql("SELECT * FROM login_failures")])
    assert "outdated" not in text
    assert "alice" not in text


@pytest.mark.parametrize(("address", "same"), [("192.0.2.1",) * 2, ("2001:db8::1", "2001:db8::2")])
def test_an_address_is_unlocked(guard: Callable[..., Guarded], address: str, same: str) -> None:
    """All accounts can log in from there again; one with too many failures of its own can not."""
    own = guard(login_limits="address=12,pair=10")
    alice, bob = own.account("alice"), own.account("bob")
    for number in range(12):
        account = "alice" if number < 10 else "bob"
        assert login(own, basic(account, f"{number}"), address) == 401
    assert login(own, bob, same) == 429
    assert own.accounts.unlock_address("198.51.100.1") == 0
    assert login(own, bob, same) == 429
    assert own.accounts.unlock_address(same) == 12
    assert (login(own, bob, address), login(own, alice, address)) == (200, 429)
    assert own.accounts.unlock("alice") == 10
    assert login(own, alice, address) == 200


@pytest.mark.slow
def test_others_cannot_lock_an_account_out(guard: Callable[..., Guarded], clock: Clock) -> None:
    """Where it has logged in lately; elsewhere it has to wait, until an operator unlocks it."""
    own = guard(login_limits="account=20")
    alice = own.account("alice")
    assert login(own, alice, "192.0.2.1") == 200
    clock.advance(KNOWN - timedelta(minutes=5))

    def lock() -> None:
        for number in range(20):
            assert login(own, basic("alice", f"{number}"), f"198.51.100.{number % 4}") == 401

    lock()
    assert login(own, alice, "192.0.2.2") == 429
    own.accounts.unlock("alice")
    assert login(own, alice, "192.0.2.2") == 200
    assert own.accounts.unlock("alice") == 0
    lock()
    assert login(own, alice, "192.0.2.1") == 200
    assert login(own, alice, "192.0.2.3") == 429
    clock.advance(timedelta(minutes=5))
    assert login(own, alice, "192.0.2.1") == 429
    assert login(own, alice, "192.0.2.2") == 200


def test_an_office_goes_on(guard: Callable[..., Guarded]) -> None:
    """Whatever is guessed from its address: who has logged in there is limited by own failures alone."""
    own = guard(login_limits="address=12,pair=10")
    alice, bob, office = own.account("alice"), own.account("bob"), "192.0.2.1"
    assert login(own, alice, office) == 200
    for number in range(12):
        assert login(own, basic(f"eve{number}", "guess"), office) == 401
    assert (login(own, bob, office), login(own, alice, office)) == (429, 200)
    for number in range(10):
        assert login(own, basic("alice", f"{number}"), office) == 401
    assert login(own, alice, office) == 429
    assert own.accounts.unlock("alice") == 10
    assert (login(own, alice, office), login(own, bob, "192.0.2.2")) == (200, 200)


@pytest.mark.slow
@pytest.mark.parametrize("strangers_first", [True, False])
def test_guesses_within_an_office_are_bounded(
    guard: Callable[..., Guarded], *, strangers_first: bool
) -> None:
    """By the limit of the address for all accounts, and that of the pair for each that is known there."""
    own, office = guard(login_limits="address=12,pair=3"), "192.0.2.1"
    known, strangers = [f"known{number}" for number in range(5)], [f"other{number}" for number in range(20)]
    for name in known:
        assert login(own, own.account(name), office) == 200
    order = [*strangers, *known] if strangers_first else [*known, *strangers]
    verified = [
        login(own, basic(name, f"guess {number}"), office) for name in order for number in range(10)
    ].count(401)
    assert verified == (12 + 3 * 5 if strangers_first else 3 * 5)


@pytest.mark.parametrize("way", ["key", "refresh"])
def test_secrets_that_nobody_can_guess_do_not_count(guarded: Guarded, way: str) -> None:
    """A revoked key in a job's configuration keeps nobody out, and takes no time."""
    alice = guarded.account("alice")
    secret = guarded.accounts.add_key("alice", limits="", note="", lifetime=None)
    guarded.accounts.revoke(SecretKind.KEY, secret.id)
    form = {
        "grant_type": "refresh_token",
        "service": "dualreg",
        "client_id": "x",
        "refresh_token": secret.text,
    }
    for _ in range(2 * Limits().address):
        if way == "key":
            assert guarded.ask(headers=basic("alice", secret.text)).status_code == 401
        else:
            assert guarded.client.post("/token", data=form).status_code == 401
    assert guarded.ask(headers=alice).status_code == 200


def test_addresses_that_one_client_can_choose_are_one(catalog: Catalog) -> None:
    """64 bits of IPv6; IPv4 is the same however it is written; a socket has none."""
    own = Attempts(catalog)
    own.failed("alice", "2001:db8:1:2::1", "x")
    assert own.check("alice", "2001:db8:1:2:ffff::9") is True
    assert own.check("alice", "2001:db8:1:3::1") is False
    own.failed("bob", "::ffff:192.0.2.1", "x")
    assert own.check("bob", "192.0.2.1") is True
    assert own.check("bob", "") is False


def test_refresh_tokens_end(guarded: Guarded) -> None:
    """With the password, and when there are too many of one account."""
    alice, bob = guarded.account("alice"), guarded.account("bob")
    guarded.ask(headers=bob, offline_token="true")
    tokens = [guarded.ask(headers=alice, offline_token="true").json["refresh_token"] for _ in range(52)]
    mine = [row for row in guarded.accounts.secrets(SecretKind.REFRESH) if row.account == "alice"]
    assert len(mine) == 50
    assert tokens[-1].split("_")[1] in {row.id for row in mine} or len(set(tokens)) == 52
    guarded.accounts.set_password("alice", "a new password")
    assert [row.account for row in guarded.accounts.secrets(SecretKind.REFRESH)] == ["bob"]


@pytest.mark.parametrize(
    "fields", [{}, {"username": "alice"}, {"password": "x"}, {"username": "", "password": ""}]
)
def test_a_form_without_a_login_is_none(guarded: Guarded, fields: dict[str, str]) -> None:
    """Nobody who tries to log in becomes anonymous."""
    form = {"grant_type": "password", "service": "dualreg", "client_id": "x"} | fields
    assert guarded.client.post("/token", data=form).status_code == 400


@pytest.mark.parametrize("name", ["eve", "e" * 10_000])
def test_failed_logins_are_in_the_trail_by_name(
    guard: Callable[..., Guarded], tmp_path: Path, name: str
) -> None:
    """By form, as today's clients log in, or by header; whatever they send, a line has a bounded length."""
    own = guard(audit=str(tmp_path / "audit"))
    form = {"grant_type": "password", "service": "dualreg", "client_id": "x"}
    assert own.client.post("/token", data=form | {"username": name, "password": "hush"}).status_code == 401
    agent = {"User-Agent": "a" * 10_000}
    assert own.client.get("/v2/", headers=basic(name, "hush") | agent).status_code == 401
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [(line["event"], line["account"]) for line in lines] == [("denied", name[:300])] * 2
    assert lines[1]["agent"] == "a" * 300


@pytest.mark.parametrize(("count", "letters"), [(65, 10), (60, 60), (70, 240), (2000, 1)])
def test_scopes_beyond_the_limit_are_left_out(guarded: Guarded, count: int, letters: int) -> None:
    """From the end, and never cut in the middle of a name; the token fits into a header."""
    alice = guarded.account("alice", ("team/*", "pull"))
    scopes = [f"repository:team/{'x' * letters}{number}:pull" for number in range(count)]
    answer = guarded.ask(*scopes, headers=alice)
    assert answer.status_code == 200
    granted = answer.json["scope"].split()
    assert granted == scopes[: len(granted)]
    assert len(granted) >= min(count, 60)
    assert len(answer.json["token"]) < 60_000
    path = f"/v2/team/{'x' * letters}0/tags/list"
    assert guarded.client.get(path, headers=bearer(answer.json["token"])).status_code == 404


def test_a_mounts_challenge_asks_for_the_source(guarded: Guarded) -> None:
    """So that a client which does what it is told can mount."""
    answer = guarded.client.post(f"/v2/t/blobs/uploads/?mount={IMAGE.digest}&from=s")
    assert 'scope="repository:t:pull,push repository:s:pull"' in answer.headers["WWW-Authenticate"]
    answer = guarded.client.post(f"/v2/t/blobs/uploads/?mount={IMAGE.digest}&from=%22,x=%22")
    assert 'scope="repository:t:pull,push"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "scope", ["registry:foo:pull", " ", "repository:home/{account}/*:pull", "repository:x:fly"]
)
def test_scopes_of_keys_mean_something(guarded: Guarded, scope: str) -> None:
    """Or are refused when the key is made."""
    guarded.accounts.add("ci", None)
    with pytest.raises(ValueError, match=r"\w"):
        guarded.accounts.add_key("ci", limits=scope, note="", lifetime=None)
    assert guarded.accounts.add_key("ci", limits="repository:x:*", note="", lifetime=None)


def test_a_slow_issuer_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """While keys are fetched anew, those that are known count."""
    fetching, go_on = Event(), Event()
    keys = TrustedKeys.parse(forged.SIGNER_PEM)
    pages = [forged.SIGNER_PEM]

    def fetch(*_: object) -> bytes:
        if pages:
            return pages.pop()
        fetching.set()
        go_on.wait(10)
        raise OSError("gone")

    monkeypatch.setattr(key_sources, "fetch_document", fetch)
    own = UrlKeys("https://x")
    kid = next(iter(keys.keys))
    assert own.key_for({"kid": kid}) is not None
    monkeypatch.setattr(key_sources, "_MAX_AGE_UNKNOWN_KEY", 0.0)
    waiting = Thread(target=own.key_for, args=({"kid": "unknown"},))
    waiting.start()
    assert fetching.wait(10)
    began = time.monotonic()
    assert own.key_for({"kid": kid}) is not None
    assert own.key_for({"kid": "another"}) is None
    assert time.monotonic() - began < 5
    go_on.set()
    waiting.join(10)


def test_a_stalled_issuer_without_keys_stops_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that come with the first one wait for its keys, but not until the fetch is given up."""
    fetching, go_on = Event(), Event()

    def fetch(*_: object) -> bytes:
        fetching.set()
        go_on.wait(10)
        return forged.SIGNER_PEM

    monkeypatch.setattr(key_sources, "fetch_document", fetch)
    monkeypatch.setattr(key_sources, "_PATIENCE", 0.2)
    own = UrlKeys("https://x")
    header = {"kid": next(iter(TrustedKeys.parse(forged.SIGNER_PEM).keys))}
    first = Thread(target=own.key_for, args=(header,))
    first.start()
    assert fetching.wait(10)
    began = time.monotonic()
    assert own.key_for(header) is None
    assert time.monotonic() - began < 5
    monkeypatch.setattr(key_sources, "_PATIENCE", 10.0)
    found: list[object] = []
    second = Thread(target=lambda: found.append(own.key_for(header)))
    second.start()
    go_on.set()
    for thread in (first, second):
        thread.join(10)
    assert found != [None]


@pytest.mark.parametrize(
    "step",
    [
        status(302, Location="/other"),
        status(200, b"{" + b" " * (1 << 20) + b"}"),
        status(500),
        status(200, b"{}"),
    ],
    ids=["redirect", "oversize", "status", "no key"],
)
def test_keys_that_cannot_be_fetched_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: Step
) -> None:
    """The last ones count, and the failure is logged once."""
    kid = next(iter(TrustedKeys.parse(forged.SIGNER_PEM).keys))
    with hostile() as server:
        server.answers |= {"/keys": [status(200, forged.SIGNER_PEM), step], "/other": [status(200, b"x")]}
        own = UrlKeys(f"{server.url}/keys")
        assert own.key_for({"kid": kid}) is not None
        monkeypatch.setattr(key_sources, "_MAX_AGE", 0.0)
        assert own.key_for({"kid": kid}) is not None
        assert [path for path, _ in server.seen] == ["/keys", "/keys"]
    (message,) = caplog.messages
    assert message.startswith(f"cannot fetch keys from {server.url}/keys: ")


def test_an_issuers_slash_is_part_of_its_name(
    guard: Callable[..., Guarded], provider: dict[str, bytes]
) -> None:
    """As OpenID Connect compares them; where its configuration is does not have it twice."""
    provider["https://ci.example/.well-known/openid-configuration"] = json.dumps(
        {"issuer": "https://ci.example/", "jwks_uri": "https://ci.example/keys"}
    ).encode()
    own = guard(**forged.OIDC | {"oidc_issuer": "https://ci.example/"})
    assert own.client.get("/v2/", headers=bearer(forged.job(iss="https://ci.example/"))).status_code == 200
    with pytest.raises(ValueError, match="https"):
        Settings.model_validate({"oidc_issuer": "http://ci.example", "oidc_rules": "@a if b=c"})


def test_a_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And what is wrong with it is said once, not at every request."""
    file, broken = tmp_path / "file", [False]
    file.write_text("one")

    def read() -> str:
        if broken[0]:
            raise ValueError("not now")
        return file.read_text()

    own = ReloadingFile(read, file)
    file.write_text("another")
    broken[0] = True
    assert [own.get() for _ in range(3)] == ["one"] * 3
    assert len(caplog.messages) == 1
    broken[0] = False
    assert own.get() == "another"


def test_files_with_secrets_are_not_everybodys(tmp_path: Path) -> None:
    """The catalog holds keys and hashes, the audit log names."""
    before = os.umask(0o022)
    try:
        catalog = Catalog(f"sqlite:///{tmp_path / 'new' / 'catalog.sqlite3'}")
        upgrade(catalog)
        audit = Audit(str(tmp_path / "audit"))
        audit.ready()
        with catalog.begin() as tx:
            tx.accounts.add("a", None)
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()]
        assert set(modes) == {0o600}
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o750
        assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o640
        audit.close()
        catalog.close()
    finally:
        os.umask(before)


def test_errors_of_the_database_name_no_values(catalog: Catalog) -> None:
    """A statement that fails brings its keys and hashes into no traceback."""
    with pytest.raises(Exception, match="hidden") as error, catalog.begin() as tx:  # noqa: PT012 -- as it is used
        tx.keys.add("k", "p", "-----BEGIN PRIVATE KEY-----")
        tx.keys.connection.exec_driver_sql("INSERT INTO accounts (name) VALUES (?)", ("hush",))
    assert "hush" not in str(error.value)


def test_an_audit_log_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is served without it."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DUALREG_AUDIT", str(tmp_path / "file" / "audit"))
    result = CliRunner().invoke(main, ["serve", "--data", str(tmp_path / "data")])
    assert (result.exit_code, "cannot write the audit log" in result.output) == (1, True)


@pytest.mark.slow
def test_access_logs_have_no_names_and_no_queries(tmp_path: Path) -> None:
    """A user name can be a key, or a line of its own; so can what follows a question mark."""
    with dualreg_process(tmp_path / "data", auth="accounts") as serving:
        wire = Wire(serving.host)
        for login in ("eve\n127.0.0.1 - FORGED:pw", "drk_hush", "drk_hush:x"):
            encoded = base64.b64encode(login.encode()).decode()
            assert wire.send("GET", "/v2/a/tags/list", {"Authorization": f"Basic {encoded}"}).status == 401
        wire.send("GET", "/token?service=dualreg&password=hush")
        time.sleep(0.2)
        text = serving.log.read_text()
    assert "FORGED" not in text
    assert "hush" not in text
    assert text.count('"GET /v2/a/tags/list HTTP/1.1" 401') == 3
    assert '"GET /token HTTP/1.1" 200' in text


def test_explain_in_every_mode(tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token server, lines count for anonymous and for groups of workloads, and for nobody else."""
    accounts = Accounts(catalog, Passwords(4))
    for who in ("alice", "@builds", "anonymous"):
        accounts.grant(who, "x", "pull")
    (tmp_path / "keys").write_bytes(forged.CA.pem)
    url = catalog.engine.url.render_as_string(hide_password=False)
    for name, value in (("AUTH", "token"), ("TOKEN_REALM", "https://a/t"), ("TOKEN_ISSUER", "a"),
                        ("TOKEN_KEYS", str(tmp_path / "keys")), ("DATA", str(tmp_path)),
                        ("DATABASE", url)):  # fmt: skip
        monkeypatch.setenv(f"DUALREG_{name}", value)
    answers = {
        who: CliRunner().invoke(main, ["access", "explain", who, "x", "pull"]).stdout
        for who in ("alice", "@builds", "anonymous")
    }
    assert answers["alice"].startswith("no: with auth = token, the tokens of the issuer decide")
    assert answers["@builds"].startswith("yes: by the rule @builds")
    assert answers["anonymous"].startswith("yes: by the rule anonymous")


def test_catalog_is_what_a_token_says(guarded: Guarded) -> None:
    """The scope for it is granted to whoever asks, and shows each what they may pull."""
    wanted = [CATALOG, Access.of("x", "pull")]
    assert guarded.authority.access_token(guarded.authority.anonymous(), wanted).accesses == (CATALOG,)


def test_few_passwords_are_verified_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are, some wait, and the others are asked to come back; what is known takes no slot."""
    passwords = Passwords(rounds=4)
    known, hashed, go_on, check = "known", passwords.hash("known"), Event(), bcrypt.checkpw
    assert passwords.verify(known, hashed)
    results: list[bool | None] = []

    def slow(*given: bytes) -> bool:
        assert go_on.wait(20)
        return check(*given)

    def log_in(number: int) -> None:
        try:
            results.append(passwords.verify(f"wrong {number}", hashed))
        except ServerBusy:
            results.append(None)

    monkeypatch.setattr(bcrypt, "checkpw", slow)
    threads = [Thread(target=log_in, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(results) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert results == [None] * 8
    assert passwords.verify(known, hashed)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert results == [None] * 8 + [False] * 12
