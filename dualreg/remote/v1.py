"""Docker V1 registries, which expect credentials unasked and give a session token for each repository."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import BinaryIO

from dualreg.remote.challenge import Scope
from dualreg.remote.client import Client
from dualreg.remote.response import Response


@dataclass
class V1Client:
    """Speaks V1 by a client; also the Authenticator of these requests, with repositories as scopes.

    The list of a repository's images comes with a token for all other requests about the repository.
    docker-registry always gives one; but a proxy in front of it, nginx mostly, wants the password with every
    request, and a request has room for one of the two. So the password is sent first, and the token where
    the password is rejected.

    Source: docker-registry 0.9; Docker 1.5, which sends Basic to registries that call themselves standalone.
    """

    client: Client
    _accepted: dict[Scope, str] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def get(self, path: str, repository: str = "") -> Response:
        """Return the response to a GET, whatever its status.

        Args:
            repository: The repository that *path* belongs to, whose token may be needed.

        Raises:
            RemoteError: as of ``Client.request``.
        """
        return self.client.request("GET", path, scope=_scope(repository), authenticator=self)

    def stream(self, path: str, repository: str = "") -> BinaryIO:
        """Return a reader of the body at *path*; see ``get`` and ``Client.stream``."""
        return self.client.stream(path, scope=_scope(repository), authenticator=self)

    def preemptive(self, scope: Scope, *, durable: bool) -> str:
        del durable  # sessions last for hours
        with self._lock:
            known = self._accepted.get(scope)
        return self._keep(scope, self.client.basic or self._token(scope)) if known is None else known

    def respond(self, scope: Scope, challenge: str, rejected: str) -> Iterator[str]:
        del challenge  # V1 knows Basic and Token only
        if self.client.basic not in ("", rejected):
            yield self._keep(scope, self.client.basic)
        token = self._token(scope)
        if token:
            yield self._keep(scope, token)

    def _token(self, scope: Scope) -> str:
        """Start a session with a repository; return its ``Authorization``, empty if there is none."""
        if not scope:
            return ""
        path = f"/v1/repositories/{scope[0]}/images"
        response = self.client.request("GET", path, {"X-Docker-Token": "true"}, authenticator=self)
        token = response.headers.get("x-docker-token", "")
        return f"Token {token}" if token else ""

    def _keep(self, scope: Scope, value: str) -> str:
        with self._lock:
            self._accepted[scope] = value
        return value


def _scope(repository: str) -> Scope:
    return (repository,) if repository else ()
