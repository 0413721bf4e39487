"""Repeatable: how handlers let the lane give their answer again, while what it depends on does not change."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, NamedTuple

from flask import Response, g, request

from dualreg.auth.access import Action, Grant
from dualreg.catalog.rows import BlobRow
from dualreg.image.names import RepositoryName
from dualreg.patterns import Reach
from dualreg.web.context import registry
from dualreg.web.credentials import known_repository

Environ = dict[str, Any]
#: Called with the address and the User-Agent of a client.
Note = Callable[[str, str], None]

#: Where the environment has what ``repeatable`` was called with, and who asked.
_REPEAT, _ASKER = "dualreg.repeat", "dualreg.asker"
#: Bytes of the longest body that is given again without a thread.
REPEATED_AT_ONCE = 64 << 10
#: For how long a grant is kept: keys of other issuers change without a commit, and keys of ours retire.
_GRANT_AGE = timedelta(seconds=10)


class Asker(NamedTuple):
    """What credentials stand for.

    Attributes:
        pulls: What the client may pull from.
        session: The repository of a V1 session.
        asked_at: When the authority was asked, by the registry's clock.
    """

    grant: Grant
    pulls: Reach
    session: RepositoryName | None
    asked_at: datetime

    def is_valid(self, now: datetime) -> bool:
        """Return whether the authority need not be asked again."""
        until = self.grant.identity.until
        return (until is None or now.timestamp() < until) and now - self.asked_at < _GRANT_AGE

    def may_get(self, repeat: "Repeat") -> bool:
        """Return whether the client may have the answer once more."""
        if repeat.is_personal:
            return True
        if repeat.repository is None:
            return not self.grant.anonymous
        return self.pulls.covers(repeat.repository)


class Repeat(NamedTuple):
    """How a handler's answer is given again.

    Attributes:
        repository: What the client has to be allowed to pull from; None: it has to be logged in.
        body: Returns the whole body, without waiting for a disk; None: the handler would fail, or has to be
            asked whether it would, or ``open`` returns the body.
        open: Returns a body that is not in memory, given the WSGI environment; raises RegistryError if it is
            lost.
        size: Bytes in memory that the body takes.
        until: When the answer may change without a change of the catalog; None: never.
        is_personal: Whether only the credentials that got the answer get it again.
        note: Called with the address and the User-Agent of each client that gets the answer.
    """

    repository: RepositoryName | None
    body: Callable[[], bytes | None]
    open: Callable[[Environ], Iterable[bytes]] | None
    size: int
    until: datetime | None
    is_personal: bool
    note: Note | None = None


def repeatable(
    body: Callable[[], bytes | None],
    open_: Callable[[Environ], Iterable[bytes]] | None = None,
    *,
    size: int = 0,
    until: datetime | None = None,
    is_personal: bool = False,
) -> None:
    """Let the lane repeat the answer to the current request; for the parameters, see ``Repeat``.

    Only for answers that depend on nothing but what the lane looks at.
    """
    repository, action = g.get("requested", (None, None))
    session = known_repository()
    is_known = request.blueprint != "v1" or session  # else any repository may have the image
    if is_known and action in (None, Action.PULL):
        request.environ[_REPEAT] = Repeat(repository, body, open_, size, until, is_personal)
        asker = Asker(g.grant, g.grant.reach(Action.PULL), session, registry().now())
        request.environ[_ASKER] = asker


def repeat_document(
    response: Response, *sources: BlobRow, until: datetime | None = None, is_personal: bool = False
) -> Response:
    """Let the lane repeat *response*, whose body is in memory, while the store has *sources*; return it."""
    sent = request.method != "HEAD" and response.status_code != HTTPStatus.NOT_MODIFIED
    content = response.get_data() if sent else b""
    has = registry().blobs.has
    repeatable(
        lambda: content if has(*sources) else None, size=len(content), until=until, is_personal=is_personal
    )
    return response


def note_repeats(note: Note) -> None:
    """Have *note* called, too, whenever the lane repeats the answer to the current request, if it does."""
    if repeat := request.environ.get(_REPEAT):
        earlier = repeat.note

        def notes(address: str, agent: str) -> None:
            if earlier:
                earlier(address, agent)
            note(address, agent)

        request.environ[_REPEAT] = repeat._replace(note=notes)


def take_repeat(environ: Environ) -> tuple[Repeat, Asker] | None:
    """Return how the answer to a request is given again, and who asked; None if it is not."""
    repeat = environ.pop(_REPEAT, None)
    return None if repeat is None else (repeat, environ.pop(_ASKER))
