"""Acting: on whose behalf tags are changed, as the rows of their history say.

A server sets it for the thread of each request, and a command once for its process. So nothing in between
has to pass it on to the queries that change tags.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Api(StrEnum):
    """How a change of a tag was asked for."""

    V1 = "v1"
    V2 = "v2"
    #: By the API of administration.
    API = "api"
    #: By a page of the web UI.
    UI = "ui"
    #: By a command, the garbage collection included.
    COMMAND = "command"
    #: By a migration, a mirror rule, or an import on demand.
    IMPORT = "import"
    #: What another registry has was loaded.
    UPSTREAM = "upstream"
    #: A follower found it in its copy.
    FOLLOWER = "follower"


class Actor(NamedTuple):
    """Who changes tags.

    Attributes:
        name: The account, as in the audit log; or the command, source, or URL of the other registry.
    """

    name: str
    api: Api


@dataclass
class _Process:
    """Who changes tags in threads of which nothing else is known."""

    actor: Actor = field(default_factory=lambda: Actor("", Api.COMMAND))


_process = _Process()
_thread: ContextVar[Actor | None] = ContextVar("dualreg_actor", default=None)


def actor() -> Actor:
    """Return on whose behalf this thread changes tags."""
    return _thread.get() or _process.actor


def act_as(name: str, api: Api) -> None:
    """Have this thread change tags for somebody from now on."""
    _thread.set(Actor(name, api))


def act_always_as(name: str, api: Api) -> None:
    """Have all threads of this process change tags for somebody, unless they act as somebody else."""
    _thread.set(None)
    _process.actor = Actor(name, api)


@contextmanager
def acting(name: str, api: Api) -> Iterator[None]:
    """Have this thread change tags for somebody in the block."""
    before = _thread.set(Actor(name, api))
    try:
        yield
    finally:
        _thread.reset(before)
