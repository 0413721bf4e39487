"""Accounts, groups, permission lines, secrets and failed logins."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import AccountRow, PermissionRow, SecretRow
from tests.conftest import Clock


class AccountsContract:
    """Accounts, groups, permission lines, secrets and failed logins."""

    def test_accounts_and_their_groups(self, catalog: Catalog, clock: Clock) -> None:
        """A name is taken once; what goes with it goes; a name with a NUL is nobody's."""
        with catalog.begin() as tx:
            assert tx.accounts.add("alice", "hash") is True
            assert tx.accounts.add("alice", "other") is False
            assert tx.accounts.add("ci", None) is True
            for group in ("dev", "ops", "dev"):
                tx.accounts.join(group, "alice")
            alice = AccountRow("alice", "hash", robot=False, created_at=clock())
            assert tx.accounts.list() == [alice, AccountRow("ci", None, robot=True, created_at=clock())]
            assert tx.accounts.find("alice") == alice
            assert tx.accounts.find("alice\0x") is None
            assert tx.accounts.groups("alice") == {"dev", "ops"}
            assert tx.accounts.groups("ci") == frozenset()
            assert tx.accounts.memberships() == [("dev", "alice"), ("ops", "alice")]
            assert [tx.accounts.leave("ops", "alice") for _ in range(2)] == [True, False]
            tx.accounts.set_password("alice", "new")
            assert tx.accounts.find("alice") == replace(
                alice, password_hash="new", password_changed_at=clock()
            )
            assert [tx.accounts.remove("alice") for _ in range(2)] == [True, False]
            assert tx.accounts.memberships() == []
            assert "hash" not in repr(alice)

    def test_disabled_accounts_and_new_passwords(self, catalog: Catalog, clock: Clock) -> None:
        """What tokens end with: since when an account is disabled is kept, and passwords are newer."""
        began = clock()
        with catalog.begin() as tx:
            for name in ("alice", "bob", "carol"):
                tx.accounts.add(name, "hash")
            tx.accounts.disable("alice")
            tx.accounts.set_password("bob", "new")
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            tx.accounts.disable("alice")
            tx.accounts.disable("nobody")
            assert [row.disabled_at for row in tx.accounts.list()] == [began, None, None]
            tx.accounts.set_password("carol", "new")
            tx.accounts.add("dave", None)
            since = {"alice": None, "bob": began, "carol": clock(), "dave": clock()}
            assert dict(tx.accounts.endings()) == since
            tx.accounts.enable("alice")
            tx.accounts.remove("bob")
            assert dict(tx.accounts.endings()) == {"alice": began, "carol": clock(), "dave": clock()}

    def test_an_account_that_is_removed_while_somebody_logs_in(self, catalog: Catalog, clock: Clock) -> None:
        """Nothing of it is left for another account of that name, whichever comes first."""
        with catalog.begin() as tx:
            assert tx.accounts.add_subject("https://issuer", "1", "alice") is True

        def remove() -> bool:
            with catalog.begin() as tx:
                return tx.accounts.remove("alice")

        with ThreadPoolExecutor(1) as pool:
            with catalog.begin() as tx:
                assert tx.accounts.renew("alice", clock(), ["dev"]) is True
                removing = pool.submit(remove)
                time.sleep(0.2)
            assert removing.result(10) is True
        with catalog.begin() as tx:
            assert tx.accounts.renew("alice", clock(), ["dev"]) is False
            assert tx.accounts.add("alice", "hash") is True
            assert tx.accounts.renew("alice", clock(), ["dev"]) is False
            assert tx.accounts.find("alice") == AccountRow("alice", "hash", robot=False, created_at=clock())
            assert tx.accounts.groups("alice") == frozenset()
            assert tx.accounts.subjects() == {}

    def test_uses_of_keys_and_keys_of_keys(self, catalog: Catalog, clock: Clock) -> None:
        """Uses are those of keys that there are; keys go with the key that they are bound to, in turn."""

        def key(id_: str, binding: str, account: str = "alice") -> SecretRow:
            return SecretRow(id_, "key", account, "h", "", "", "", binding, clock(), None)

        rows = [key("1", ""), key("2", "1"), key("3", "2"), key("4", ""), key("5", "4", "bob")]
        with catalog.begin() as tx:
            for row in rows:
                tx.secrets.add(row)
            tx.secrets.record_uses({"1": clock(), "gone": clock()})
        clock.advance(timedelta(minutes=1))
        with catalog.begin() as tx:
            tx.secrets.record_uses({"3": clock(), "1": clock()})
            assert [(row.id, row.used_at) for row in tx.secrets.of("alice", "key")] == [
                ("1", clock()),
                ("2", None),
                ("3", clock()),
                ("4", None),
            ]
            assert tx.secrets.of("alice", "refresh") == []
            assert [tx.secrets.lock(each) for each in ("1", "gone")] == [True, False]
            tx.secrets.remove("1")
            tx.secrets.remove_bound("key", "1")
            assert [row.id for row in tx.secrets.list("key")] == ["4", "5"]
            tx.secrets.record_uses({"4": clock()})
            assert [row.used_at for row in tx.secrets.list("key")] == [clock(), None]

    def test_permission_lines(self, catalog: Catalog) -> None:
        """One for each who and pattern, to which actions are added; found by any name of somebody."""
        with catalog.begin() as tx:
            for who, pattern, action in (("b", "x", "pull"), ("a", "y", "pull"), ("a", "x", "pull")):
                tx.permissions.grant(PermissionRow(who, pattern, frozenset({action})))
            both = PermissionRow("a", "x", frozenset({"pull", "push"}))
            assert tx.permissions.grant(replace(both, actions=frozenset({"push"}))) == both
            y = PermissionRow("a", "y", frozenset({"pull"}))
            assert tx.permissions.of(["a", "nobody"]) == [both, y]
            assert tx.permissions.of([]) == []
            assert [(line.who, line.pattern) for line in tx.permissions.list()] == [
                ("a", "x"),
                ("a", "y"),
                ("b", "x"),
            ]
            pulled = replace(both, actions=frozenset({"pull"}))
            assert tx.permissions.revoke("a", "nowhere", None) is None
            assert tx.permissions.revoke("a", "x", {"push", "delete"}) == pulled
            assert tx.permissions.revoke("a", "y", None) == replace(y, actions=frozenset())
            assert tx.permissions.revoke("a", "y", {"pull"}) is None
            assert tx.permissions.list()[0] == pulled
            assert tx.permissions.remove_all("a") == 1
            assert [line.who for line in tx.permissions.list()] == ["b"]

    def test_no_change_of_a_line_is_lost(self, catalog: Catalog) -> None:
        """Four at once add an action each to a line that is new; then two add to it, and two take from it."""
        gate = threading.Barrier(4)

        def put(action: str, pattern: str) -> None:
            gate.wait()
            with catalog.begin() as tx:
                tx.permissions.grant(PermissionRow("a", pattern, frozenset({action})))

        def take(action: str, pattern: str) -> None:
            gate.wait()
            with catalog.begin() as tx:
                assert tx.permissions.revoke("a", pattern, {action}) is not None

        for pattern in map(str, range(10)):
            for changes, left in (((put, put, put, put), "1234"), ((take, take, put, put), "34")):
                with ThreadPoolExecutor(4) as pool:
                    [*pool.map(lambda change, *given: change(*given), changes, "1234", [pattern] * 4)]
                with catalog.begin() as tx:
                    assert tx.permissions.list() == [PermissionRow("a", pattern, frozenset(left))]
                    tx.permissions.revoke("a", pattern, {"3", "4"})

    def test_secrets(self, catalog: Catalog, clock: Clock) -> None:
        """Found by their names, listed by their sorts, gone one by one or with their account."""
        rows = [
            SecretRow(f"{number}", kind, "alice", "h", "", "note", "", "", clock(), expires)
            for number, kind, expires in ((1, "key", None), (2, "refresh", None), (3, "key", clock()))
        ]
        with catalog.begin() as tx:
            for row in reversed(rows):
                tx.secrets.add(row)
            assert tx.secrets.list("key") == [rows[0], rows[2]]
            assert [tx.secrets.find(str(number)) for number in (1, 2, 3, 4)] == [*rows, None]
            tx.secrets.remove("1")
            assert tx.secrets.list("key") == [rows[2]]
            tx.secrets.remove_all("bob")
            tx.secrets.remove_all("alice")
            assert tx.secrets.list("key") + tx.secrets.list("refresh") == []

    def test_failed_logins(self, catalog: Catalog, clock: Clock) -> None:
        """Counted since the first, for each subject; old counts are gone, and start anew."""
        window, began = timedelta(minutes=15), clock()
        with catalog.begin() as tx:
            counts = [tx.attempts.count_failure(subject, "") for subject in ("a", "b", "b")]
        assert counts == [1, 1, 2]
        with catalog.begin() as tx:
            counted = tx.attempts.failures(["a", "b", "c"], clock() - window)
            assert counted == {"a": (1, began), "b": (2, began)}
            tx.attempts.reset("a")
        clock.advance(window)
        with catalog.begin() as tx:
            assert tx.attempts.failures(["a", "b"], clock() - window) == {}
            tx.attempts.forget_failures(window)
            assert tx.attempts.count_failure("b", "") == 1
            assert tx.attempts.failures(["b"], clock() - window) == {"b": (1, clock())}

    def test_failures_at_once_are_all_counted(self, catalog: Catalog) -> None:
        """Eight threads, two subjects each."""

        def fail(number: int) -> None:
            with catalog.begin() as tx:
                for subject in ("x", "y"):
                    tx.attempts.count_failure(subject, str(number % 2))

        with ThreadPoolExecutor(8) as pool:
            [*pool.map(fail, range(40))]
        with catalog.read() as tx:
            counted = tx.attempts.failures(["x", "y"], catalog.now() - timedelta(hours=1))
        assert {count for count, _ in counted.values()} == {40}

    def test_an_account_is_unlocked(self, catalog: Catalog, clock: Clock) -> None:
        """With all counters that belong to it; those of others stay."""
        with catalog.begin() as tx:
            for subject, account in (("a", "a"), ("pair", "a"), ("a", "a"), ("b", "b"), ("address", "")):
                tx.attempts.count_failure(subject, account)
            assert tx.attempts.unlock("a") == 2
            left = tx.attempts.failures(["a", "pair", "b", "address"], clock() - timedelta(hours=1))
            assert left.keys() == {"b", "address"}
            assert tx.attempts.unlock("a") == 0

    def test_successes(self, catalog: Catalog, clock: Clock) -> None:
        """The last of each subject counts; those that are old are deleted by the next."""
        began = clock()
        for subject in ("a", "b", "a"):
            clock.advance(timedelta(days=1))
            with catalog.begin() as tx:
                tx.attempts.record_success(subject, forget=began)
        with catalog.begin() as tx:
            assert tx.attempts.has_succeeded("a", began + timedelta(days=2))
            assert not tx.attempts.has_succeeded("b", began + timedelta(days=2))
            assert not tx.attempts.has_succeeded("c", began)
            tx.attempts.record_success("c", forget=began + timedelta(days=2))
            assert not tx.attempts.has_succeeded("b", began)
