"""Scopes, permission rules, htpasswd, passwords, secrets, workload rules and the audit log, each alone."""

import json
import logging
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualreg.auth import directories, passwords
from dualreg.auth.access import ANONYMOUS, Access, Action, Identity, parse_scopes
from dualreg.auth.attempts import Attempts
from dualreg.auth.audit import Audit
from dualreg.auth.directories import HtpasswdDirectory
from dualreg.auth.passwords import BYTES_LIMIT, Passwords, cost_of
from dualreg.auth.permissions import FileRules, catalog_rules, grant_by_rules, parse_rule
from dualreg.auth.secrets import Secret, SecretKind
from dualreg.auth.workloads import parse_workload_rules
from dualreg.catalog.database import Catalog
from dualreg.errors import AuditUnavailable
from dualreg.patterns import EVERYWHERE, Reach
from tests.conftest import Clock


def test_everywhere_is_everywhere() -> None:
    """And a group without patterns is nowhere."""
    assert EVERYWHERE.covers("x")
    assert not Reach(((),)).covers("x")


@given(
    st.builds(
        Access,
        st.sampled_from(["repository", "registry", "x1"]),
        st.sampled_from(["a", "a/b", "host:5000/a", "*"]),
        st.frozensets(st.sampled_from(["pull", "push", "delete", "*", "zap"])),
    )
)
def test_scopes_survive_being_written(access: Access) -> None:
    """Actions in the order in which clients write them."""
    assert parse_scopes([str(access)]) == (access,)


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        (("a b", "x", "pull"), "account"),
        (("", "x", "pull"), "account"),
        (("@", "x", "pull"), "account"),
        (("alice", "", "pull"), "pattern"),
        (("alice", "Team/*", "pull"), "pattern"),
        (("alice", "a?", "pull"), "pattern"),
        (("alice", "{who}", "pull"), "pattern"),
        (("alice", "x", "fly"), "fly"),
        (("alice", "x", ""), "action"),
        (("alice", "x", "pull,"), "action"),
        (("anonymous", "{account}/*", "pull"), "anonymous"),
    ],
)
def test_invalid_rules(rule: tuple[str, str, str], word: str) -> None:
    """The error names the part."""
    with pytest.raises(ValueError, match=word):
        parse_rule(*rule)


@pytest.mark.parametrize("account", ["*", "a/*", "a/b", "Alice", "a@b.c", "", "..", "a" * 300, "{account}"])
def test_no_account_is_a_pattern(catalog: Catalog, account: str) -> None:
    """A name that cannot be part of a repository's gets nothing by ``{account}``."""
    with catalog.begin() as tx:
        tx.permissions.grant(parse_rule("authenticated", "home/{account}/*", "pull"))
    given_ = grant_by_rules(Identity(account), catalog_rules(catalog))
    assert not given_.allows("home/bob/x", Action.PULL)
    assert not given_.allows("home/a/b/x", Action.PULL)
    assert grant_by_rules(Identity("bob"), catalog_rules(catalog)).allows("home/bob/x", Action.PULL)


def test_a_file_of_rules(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Comments and blanks; reloaded when it changes; an invalid version is logged, and ignored."""
    file = tmp_path / "rules"
    file.write_text(
        "# who may\n\n  alice team/* pull,push # all of it\n@dev x pull\nanonymous public/* pull\n"
    )
    rules = FileRules(file)
    alice = Identity("alice", frozenset({"dev"}))
    assert grant_by_rules(alice, rules).allows("team/x", Action.PUSH)
    assert grant_by_rules(alice, rules).allows("x", Action.PULL)
    assert not grant_by_rules(ANONYMOUS, rules).allows("x", Action.PULL)
    for broken in ("alice team/*\n", "alice x fly\n", "a b c d\n"):
        file.write_text(broken)
        assert grant_by_rules(alice, rules).allows("team/x", Action.PUSH)
        assert "line 1" in caplog.messages[-1]
    file.write_text("alice x pull\n")
    assert not grant_by_rules(alice, rules).allows("team/x", Action.PUSH)
    file.unlink()
    assert grant_by_rules(alice, rules).allows("x", Action.PULL)
    with pytest.raises(ValueError, match="cannot load"):
        FileRules(file)


def test_htpasswd(tmp_path: Path, catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    """Bcrypt only; comments; read again when it changes. Robots are the catalog's."""
    file = tmp_path / "htpasswd"
    hash_ = bcrypt.hashpw(b"pw", bcrypt.gensalt(4)).decode()
    file.write_text(
        f"# users\nalice:{hash_}\nbob:{hash_.replace('$2b$', '$2y$')}\n"
        f"old:$apr1$x$y\nplain:pw\nbroken\n@dev:{hash_}\n"
    )
    with caplog.at_level(logging.WARNING):
        directory = HtpasswdDirectory(file, catalog)
    assert len(caplog.messages) == 4
    assert not [message for message in caplog.messages if "pw" in message.replace("htpasswd", "")]
    passwords = Passwords(rounds=4)
    for account in ("alice", "bob"):
        entry = directory.find(account)
        assert entry
        assert passwords.verify("pw", entry.password_hash)
        assert not passwords.verify("pw ", entry.password_hash)
    for account in ("old", "plain", "broken", "nobody", "@dev"):
        assert directory.find(account) is None
    with catalog.begin() as tx:
        tx.accounts.add("ci", None)
        tx.accounts.add("carol", hash_)
    assert directory.find("ci") == (None, False, False)
    assert directory.find("carol") is None
    file.write_text(f"carol:{hash_}\n")
    assert (directory.find("alice") is None, directory.find("carol") is None) == (True, False)


def test_the_dearest_hash_is_looked_for_when_the_file_changes(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every login asks for its cost, and a file may have thousands of lines."""
    file, judged = tmp_path / "htpasswd", []
    monkeypatch.setattr(directories, "cost_of", lambda hash_: judged.append(hash_) or cost_of(hash_))
    hashes = {cost: bcrypt.hashpw(b"pw", bcrypt.gensalt(cost)).decode() for cost in (4, 5, 6)}
    file.write_text(f"alice:{hashes[4]}\nbob:{hashes[5]}\n")
    directory = HtpasswdDirectory(file, catalog)
    judged.clear()
    assert (directory.cost(), judged) == (5, [])
    file.write_text(f"alice:{hashes[6]}\nbob:{hashes[5]}\ncarol:{hashes[4]}\n")
    assert directory.cost() == 6
    file.write_text("# nobody\n")
    assert directory.cost() is None


def test_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared whole, and once."""
    own, checked = Passwords(rounds=4), []
    check = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *given_: checked.append(given_) or check(*given_))
    longest = "é" * (BYTES_LIMIT // 2)
    hash_ = own.hash(longest)
    for _ in range(2):
        assert own.verify(longest, hash_)
        for other in ("", "x", longest[:-1], longest + "x", longest + "\0"):
            assert not own.verify(other, hash_)
        assert not own.verify("x", None)
        assert not own.verify("x", "no hash")
    assert not own.verify(longest, own.hash("another one"))
    assert len(checked) == 4
    for bad in ("", "x", "a\0b" * 3, longest + "x"):
        with pytest.raises(ValueError, match="password"):
            own.hash(bad)


@pytest.mark.parametrize("cost", [4, 6, 9, None])
def test_wrong_passwords_take_the_same_time(monkeypatch: pytest.MonkeyPatch, cost: int | None) -> None:
    """Whatever the account's hash costs, and if there is none: that of the dearest in use."""
    rounds: list[int] = []
    fake = SimpleNamespace(
        gensalt=int,
        hashpw=lambda _, cost: rounds.append(2**cost),
        checkpw=lambda _, hash_: bool(rounds.append(2 ** int(hash_[4:6]))),
    )
    monkeypatch.setattr(passwords, "bcrypt", fake)
    own = Passwords(rounds=8)
    for hash_ in (None, "no hash", *(f"$2b$0{number}$" + "x" * 53 for number in range(4, (cost or 8) + 1))):
        for password in ("x", "", "x" * 100):
            rounds.clear()
            assert not own.verify(password, hash_, cost=cost)
            assert sum(rounds) == 2 ** (cost or 8), hash_


def test_a_wrong_password_tells_of_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was tried with one that does not exist takes its time with another."""
    checked: list[object] = []
    hashpw = bcrypt.hashpw
    monkeypatch.setattr(passwords.bcrypt, "hashpw", lambda *given: checked.append(given) or hashpw(*given))
    own = Passwords(rounds=4)
    for account in ("nobody", "nobody", "noone"):
        assert not own.verify("x", None, account=account)
    assert len(checked) == 2


def test_secrets_say_what_they_are_and_nothing_of_each_other() -> None:
    """So that a scanner finds them where they should not be."""
    key, other = Secret.generate(SecretKind.KEY), Secret.generate(SecretKind.KEY)
    assert Secret.parse(key.text) == key
    assert key.matches(key.hash)
    assert not key.matches(other.hash)
    assert key.text not in key.hash
    assert {key.text[:4], Secret.generate(SecretKind.REFRESH).text[:4]} == {"drk_", "drr_"}
    for text in ("", "drk_", key.text + "x", key.text[:-1], "drx" + key.text[3:], key.text + "\n"):
        assert Secret.parse(text) is None


def test_counting_is_shared_and_ends(catalog: Catalog, clock: Clock) -> None:
    """By every process with the same catalog; what is old is forgotten."""
    first, second = Attempts(catalog), Attempts(catalog)
    first.failed("alice", "192.0.2.1", "x")
    assert second.check("alice", "192.0.2.1") is True
    assert second.check("bob", "192.0.2.2") is False
    clock.advance(timedelta(minutes=15))
    assert second.check("alice", "192.0.2.1") is False
    second.failed("bob", "192.0.2.2", "x")
    with catalog.begin() as tx:
        assert len(tx.attempts.failures(["x"], clock())) == 0
    first.succeeded("bob", "192.0.2.2", failed_before=True)
    assert first.check("bob", "192.0.2.2") is False


@pytest.mark.parametrize(
    "text", ["x", "@a", "@a if", "@a if x", "@a if x=1 or y=2", "a if x=1", "@a if x=1 and", "@a b if x=1"]
)
def test_rules_that_are_none(text: str) -> None:
    """Said at the start."""
    with pytest.raises(ValueError, match="invalid rule"):
        parse_workload_rules(text)


def test_rules_need_all_their_claims() -> None:
    """Text to the letter, or one of a list."""
    (rule,) = parse_workload_rules(" @a if repo=acme/* and ref=main ; ")
    assert rule.matches({"repo": "acme/x", "ref": "main"})
    assert rule.matches({"repo": ["other", "acme/x"], "ref": "main"})
    for wrong in ({}, {"repo": "acme/x"}, {"repo": "acme", "ref": "main"}, {"repo": 1, "ref": "main"},
                  {"repo": "acme/x", "ref": True}):  # fmt: skip
        assert not rule.matches(wrong)
    assert parse_workload_rules("") == ()


def test_the_audit_log(tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    """A line an event, whatever is in it; the file may be moved away; - is standard output, empty nowhere."""
    file = tmp_path / "new" / "audit.jsonl"
    audit, other = Audit(str(file)), Audit(str(file))
    audit.write(clock(), "write", path='/v2/\n{"event":"forged"}\u2028', account="", status=201, none=None)
    other.write(clock(), "denied", account="é")
    moved = tmp_path / "moved"
    file.replace(moved)
    audit.write(clock(), "write")
    audit.close()
    other.close()
    first, second = moved.read_text().splitlines()
    assert json.loads(first) == {
        "time": clock().isoformat(),
        "event": "write",
        "path": '/v2/\n{"event":"forged"}\u2028',
        "status": 201,
    }
    assert json.loads(second)["account"] == "é"
    assert len(file.read_text().splitlines()) == 1
    Audit("-").write(clock(), "write")
    assert json.loads(capsys.readouterr().out)["event"] == "write"
    Audit("").write(clock(), "write")


def test_a_log_that_cannot_be_opened(tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asks before a change is refused; what happened nevertheless is in the server's log."""
    folder = tmp_path / "folder"
    audit = Audit(str(folder / "audit.jsonl"))
    audit.ready()
    folder.rename(tmp_path / "away")
    folder.write_text("")
    for _ in range(2):
        with pytest.raises(AuditUnavailable, match="cannot write the audit log: "):
            audit.ready()
        audit.write(clock(), "write", path="/v2/x")
    assert caplog.text.count('"event": "write", "path": "/v2/x"') == 2
    folder.unlink()
    audit.ready()
    audit.write(clock(), "write")
    audit.close()
    assert len((folder / "audit.jsonl").read_text().splitlines()) == 1


def test_a_log_on_a_full_disk(clock: Clock) -> None:
    """A line that does not fit is a failure too, for as long as it does not."""
    audit = Audit("/dev/full")
    audit.ready()
    audit.write(clock(), "write")
    with pytest.raises(AuditUnavailable, match="No space left"):
        audit.ready()
    audit.close()
