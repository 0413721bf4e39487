"""Permission rules: each allows an account or group some actions on some repositories."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from dualreg.auth.access import CATALOG, MANAGE, Access, Action, Grant, Identity
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import PermissionRow
from dualreg.image.names import RepositoryName
from dualreg.patterns import matches
from dualreg.reloading import ReloadingFile

#: The actions of rules, in the order in which they are printed.
ACTIONS = (*Action, MANAGE)
#: Replaced by the name of the account.
ACCOUNT = "{account}"
_WHO = re.compile(r"@?[A-Za-z0-9][A-Za-z0-9._@+:/-]{0,127}", re.ASCII)
_PATTERN = re.compile(r"(?:[a-z0-9._/*-]|\{account\}){1,255}", re.ASCII)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*", re.ASCII)

#: Returns the current rules for any of the names of an identity.
RuleLookup = Callable[[Collection[str]], Sequence[PermissionRow]]


def parse_rule(who: str, pattern: str, actions: str) -> PermissionRow:
    """Return a rule, from its three parts.

    Args:
        actions: Separated by commas.

    Raises:
        ValueError: one of the parts is invalid; the message names it.
    """
    if _WHO.fullmatch(who) is None:
        raise ValueError(f"invalid name {who!r}; expected an account, @GROUP, authenticated or anonymous")
    if _PATTERN.fullmatch(pattern) is None:
        raise ValueError(
            f"invalid pattern {pattern!r}; expected a repository name, which may contain * and {ACCOUNT}"
        )
    if ACCOUNT in pattern and who == "anonymous":
        raise ValueError(f"invalid pattern {pattern!r}: anonymous clients have no {ACCOUNT}")
    parsed = frozenset(actions.split(","))
    if unknown := parsed - {*ACTIONS}:
        raise ValueError(f"invalid action {min(unknown)!r}; expected {', '.join(ACTIONS)}")
    if who == "anonymous" and MANAGE in parsed:
        raise ValueError("anonymous clients cannot manage permission rules")
    return PermissionRow(who, pattern, parsed)


def catalog_rules(catalog: Catalog) -> RuleLookup:
    """Return the lookup of the rules that ``dualreg access`` manages."""

    def find(names: Collection[str]) -> Sequence[PermissionRow]:
        with catalog.read() as tx:
            return tx.permissions.of(names)

    return find


class FileRules:
    """The lookup of the rules in a file, which is reloaded when it changes.

    A rule is a line ``WHO PATTERN ACTIONS``; ``#`` starts a comment.
    """

    def __init__(self, path: Path) -> None:
        """Read *path*.

        Raises:
            ValueError: the file cannot be read, or contains an invalid rule.
        """
        self.file = ReloadingFile(lambda: _parse_file(path.read_text(encoding="utf-8")), path)

    def __call__(self, names: Collection[str]) -> Sequence[PermissionRow]:
        """Return the current rules for any of *names*."""
        return [rule for rule in self.file.get() if rule.who in names]


def _parse_file(text: str) -> Sequence[PermissionRow]:
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.partition("#")[0].split()
        if parts and len(parts) != 3:  # noqa: PLR2004 -- who, pattern, actions
            raise ValueError(f"line {number}: expected WHO PATTERN ACTIONS")
        try:
            rules += [parse_rule(*parts)] if parts else []
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return rules


def grant_by_rules(identity: Identity, rules: RuleLookup) -> Grant:
    """Return what *rules* allow *identity*; every account may also list what it can pull."""
    accesses = [access for _, access in _applicable(identity, rules)]
    return Grant(identity, [*accesses, CATALOG] if identity.account else accesses)


def matching_rule(
    identity: Identity, rules: RuleLookup, repository: RepositoryName, action: Action
) -> PermissionRow | None:
    """Return the first rule that allows *identity* the action on the repository; None if there is none."""
    for rule, access in _applicable(identity, rules):
        if access.permits(action) and matches(access.name, repository):
            return rule
    return None


def own_patterns(identity: Identity, rules: RuleLookup, action: str) -> Sequence[str]:
    """Return the patterns on which *rules* give *identity* exactly that action."""
    return [access.name for _, access in _applicable(identity, rules) if action in access.actions]


def _applicable(identity: Identity, rules: RuleLookup) -> Iterator[tuple[PermissionRow, Access]]:
    """Yield the rules for *identity*, and what they allow it."""
    for rule in rules(identity.names):
        pattern = _expand(rule.pattern, identity.account)
        if pattern is not None:
            yield rule, Access.of(pattern, *rule.actions)


def _expand(pattern: str, account: str) -> str | None:
    """Return *pattern* with the account's name in place of ``{account}``.

    None if the name cannot be part of a repository's: an account whose name is a pattern would get more.
    """
    if ACCOUNT not in pattern:
        return pattern
    return pattern.replace(ACCOUNT, account) if _COMPONENT.fullmatch(account) else None
