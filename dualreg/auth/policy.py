"""Policy: the permission lines. Each says who may do what with which repositories; nothing takes away."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from dualreg.auth.access import CATALOG, Access, Action, Grant, Identity
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import PermissionRow
from dualreg.image.names import RepositoryName
from dualreg.patterns import matches
from dualreg.reloading import ReloadingFile

#: Stands in patterns for the name of the account.
_ACCOUNT = "{account}"
_WHO = re.compile(r"@?[A-Za-z0-9][A-Za-z0-9._@+:/-]{0,127}", re.ASCII)
_PATTERN = re.compile(r"(?:[a-z0-9._/*-]|\{account\}){1,255}", re.ASCII)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*", re.ASCII)

#: Returns the lines of any of the names that an identity goes by.
Lines = Callable[[Collection[str]], Sequence[PermissionRow]]


def parse_line(who: str, pattern: str, actions: str) -> PermissionRow:
    """Read the three parts of a line.

    Args:
        actions: By comma.

    Raises:
        ValueError: one of them means nothing; it says which.
    """
    if _WHO.fullmatch(who) is None:
        raise ValueError(f"{who!r} is no account, @group, authenticated or anonymous")
    if _PATTERN.fullmatch(pattern) is None:
        raise ValueError(
            f"{pattern!r} is no pattern: a repository's name, in which * and {_ACCOUNT} may stand"
        )
    if _ACCOUNT in pattern and who == "anonymous":
        raise ValueError(f"{_ACCOUNT} means nothing for anonymous")
    chosen = frozenset(actions.split(","))
    if unknown := chosen - {*Action}:
        raise ValueError(f"{min(unknown)!r} is no action: {', '.join(Action)}")
    return PermissionRow(who, pattern, chosen)


def catalog_lines(catalog: Catalog) -> Lines:
    """Return the lines that ``dualreg access`` manages, as they are whenever they are asked for."""

    def find(names: Collection[str]) -> Sequence[PermissionRow]:
        with catalog.read() as tx:
            return tx.permissions.of(names)

    return find


def file_lines(path: Path) -> Lines:
    """Return the lines of a file: ``WHO PATTERN ACTIONS``, ``#`` before comments; read again if it changes.

    Raises:
        ValueError: the file cannot be read, or a line means nothing.
    """
    lines = ReloadingFile(lambda: _parse_file(path.read_text(encoding="utf-8")), path)
    return lambda names: [line for line in lines.get() if line.who in names]


def _parse_file(text: str) -> Sequence[PermissionRow]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.partition("#")[0].split()
        if parts and len(parts) != 3:  # noqa: PLR2004 -- who, pattern, actions
            raise ValueError(f"line {number}: not WHO PATTERN ACTIONS")
        try:
            found += [parse_line(*parts)] if parts else []
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return found


def grant(identity: Identity, lines: Lines) -> Grant:
    """Return what *lines* allow."""
    accesses = [access for _, access in _meant(identity, lines)]
    held = [*accesses, CATALOG] if identity.account else accesses
    return Grant(identity, held)


def deciding_line(
    identity: Identity, lines: Lines, repository: RepositoryName, action: Action
) -> PermissionRow | None:
    """Return the first line that allows *action* upon the repository; None if none does."""
    for line, access in _meant(identity, lines):
        if access.permits(action) and matches(access.name, repository):
            return line
    return None


def _meant(identity: Identity, lines: Lines) -> Iterator[tuple[PermissionRow, Access]]:
    """Yield the lines that mean somebody, and what they allow them."""
    for line in lines(identity.names):
        pattern = _pattern_for(line, identity.account)
        if pattern is not None:
            yield line, Access.of(pattern, *line.actions)


def _pattern_for(line: PermissionRow, account: str) -> str | None:
    """Return the line's pattern with the account's name in it.

    None if that cannot be part of a repository's name: nobody may take a name that is a pattern.
    """
    if _ACCOUNT not in line.pattern:
        return line.pattern
    return line.pattern.replace(_ACCOUNT, account) if _COMPONENT.fullmatch(account) else None
