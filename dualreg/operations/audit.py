"""The audit log: who changed what, and who was denied what."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dualreg.auth.audit_reading import AuditLine, AuditPlace, WantedLines, read_page
from dualreg.operations.session import Group, page_size
from dualreg.patterns import check_pattern

#: What a line is about, where it is no repository.
_SUBJECTS = ("who", "pattern", "key", "id", "task", "mirror", "source")


@dataclass(frozen=True, slots=True)
class AuditListing:
    """A page of the audit log.

    Attributes:
        rows: The lines, the newest first.
        instance: The host whose log it is: each instance has its own.
        damaged: How many lines were left out, as they are damaged.
        next: What to give as *after* for the next page; null: this is the last one.
    """

    rows: Sequence[AuditLine]
    instance: str
    damaged: int = 0
    next: str | None = None


@dataclass(frozen=True, slots=True)
class AuditWords:
    """What a line of the audit log says, for people; empty: it does not say that.

    Attributes:
        who: The account, or who ran a command.
        what: The command, action, or request.
        about: The repository with its tag, or what else the line is about.
    """

    who: str
    what: str
    about: str


def words_of(line: AuditLine) -> AuditWords:
    """Return what a line says, for people."""
    uid = line.fact("uid")
    request = f"{line.fact('method')} {line.fact('path')}".strip()
    subject = next((line.fact(name) for name in _SUBJECTS if line.fact(name)), "")
    return AuditWords(
        line.fact("account") or (f"uid {uid}" if uid else ""),
        line.fact("command") or line.fact("action") or request,
        ":".join(filter(None, (line.fact("repository"), line.fact("tag")))) or subject,
    )


@dataclass(frozen=True)
class AuditLog(Group):
    """The audit log of one instance."""

    def read(
        self,
        pattern: str | None = None,
        *,
        account: str = "",
        action: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        n: int = 100,
        after: str | None = None,
    ) -> AuditListing:
        """List lines of the audit log, the newest first: writes, denials, and commands.

        The log is that of the instance that answers. A page that is not the last may have fewer lines, or
        none.

        Args:
            pattern: Only of repositories that it matches; * matches anything.
            account: Only of this account.
            action: Only this action (push), command (tag delete), group of commands (tag), or event (denied).
            since: Only what is not older.
            until: Only what is not newer.
            n: The length of the page.
            after: The end of the page before.

        Raises:
            ValueError: the pattern is invalid, or there is no log that can be read.
            PageInvalid.
        """
        wanted = WantedLines(account, action, check_pattern(pattern or ""), since, until)
        place = AuditPlace.parse(after) if after else None
        try:
            page = read_page(self._file(), wanted, limit=page_size(n), after=place)
        except OSError as error:
            raise ValueError(f"cannot read the audit log: {error}") from error
        end = str(page.end) if page.end else None
        return AuditListing(page.lines, socket.gethostname(), page.damaged, end)

    def _file(self) -> Path:
        """Return the file of the log.

        Raises:
            ValueError: there is none.
        """
        target = self.session.settings.audit_target
        if not target:
            raise ValueError("there is no audit log: the setting audit is off")
        if target == "-":
            raise ValueError("the audit log goes to the output (audit = -): read it where that is collected")
        return Path(target)
