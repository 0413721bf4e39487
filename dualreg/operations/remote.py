"""Remote: operations on a server, by its API, called the same way as those on this machine."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from urllib.parse import urlencode

from dualreg.operations.operation import PREFIX, Operation
from dualreg.operations.table import OPERATIONS, Administration, groups
from dualreg.operations.values import decode
from dualreg.remote.challenge import Scope
from dualreg.remote.client import Client
from dualreg.remote.endpoint import RemoteError, endpoint_of, is_loopback, redact
from dualreg.remote.response import Response
from dualreg.remote.transport import ONCE

#: The first digit of statuses of success, and the status of wrong credentials.
_SUCCESS, _UNAUTHORIZED = 2, 401


class ServerRefused(ValueError):
    """A server refused an operation; the text is the server's, in one line."""


@dataclass(frozen=True)
class Server:
    """A server, and the account that asks it.

    Attributes:
        url: ``https://HOST[:PORT]``.
        account, key: An account, and an API key of it, or its password.
        ca: PEM file of the authorities that are trusted; None: the system's.
    """

    url: str
    account: str
    key: str = field(repr=False)
    ca: str | None = None

    def administration(self) -> Administration:
        """Return the operations on the server.

        Raises:
            RemoteError: the URL is invalid, or would send the key in the clear.
        """
        endpoint = endpoint_of(self.url)
        if endpoint.scheme == "http" and not is_loopback(endpoint.host):
            raise RemoteError(f"{redact(self.url)}: the key would be sent in the clear; use https")
        client = Client(self.url, self.account, self.key, self.ca, repeat_failed=False, effort=ONCE)
        found = {
            name: _Group(
                client, {each.call.__name__: each for each in OPERATIONS if each.group == kind.__name__}
            )
            for name, kind in groups().items()
        }
        return Administration(**cast("Any", found))


@dataclass(frozen=True)
class _Group:
    """Stands in for a group: its methods ask the server."""

    client: Client
    operations: dict[str, Operation]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return what asks the server for the operation of this name."""
        if name not in self.operations:
            raise AttributeError(name)
        return partial(_ask, self.client, self.operations[name])


@dataclass(frozen=True)
class _Unasked:
    """Sends the credentials with each request, as the API expects."""

    basic: str

    def preemptive(self, scope: Scope, *, durable: bool) -> str:
        del scope, durable
        return self.basic

    def respond(self, scope: Scope, challenge: str, rejected: str) -> Iterator[str]:
        del scope, challenge, rejected
        yield from ()


def _ask(client: Client, operation: Operation, /, *arguments: object, **named: object) -> Any:  # noqa: ANN401 -- as the type says
    """Return what the server answers.

    Raises:
        ServerRefused: the server refuses it.
        RemoteError: there is no answer, or not one of such a server.
    """
    given, path, body, headers = operation.given(*arguments, **named), f"{PREFIX}{operation.path}", None, {}
    if operation.in_query:
        path += f"?{urlencode(_texts(given), doseq=True)}" if given else ""
    else:
        body, headers = json.dumps(given).encode(), {"Content-Type": "application/json"}
    answer = client.request(operation.method, path, headers, body, authenticator=_Unasked(client.basic))
    if answer.status // 100 != _SUCCESS:
        raise _refusal(answer, operation)
    return decode(operation.answer, answer.json()) if operation.has_answer else None


def _texts(given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments as a query has them."""
    return {
        name: value if isinstance(value, str | list) else json.dumps(value) for name, value in given.items()
    }


def _refusal(answer: Response, operation: Operation) -> Exception:
    """Return what the server said against an operation."""
    try:
        text = str(answer.objects("errors")[0]["message"])
        if answer.status == _UNAUTHORIZED:
            return ServerRefused(f"{redact(answer.url)}: {text.partition(': ')[2] or text}")
        return ServerRefused(text)
    except (RemoteError, IndexError, KeyError):
        what = f"{answer.status} for {PREFIX}{operation.path}; another version of dualreg, or another program"
        return RemoteError(f"{redact(answer.url)}: {what}")
