"""The wire of V1 registries, which nobody needs to ask who we are: it is said with every request."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import BinaryIO

from dualreg.remote.challenge import Scope
from dualreg.remote.client import Client
from dualreg.remote.response import Response


@dataclass
class V1Client:
    """Speaks V1 over a wire; a Login.

    A list of images comes with a token for the other requests about the repository. docker-registry always
    gives one; but the password in front of it, of nginx mostly, is asked for with each request, and one
    request has room for one of the two. So the password is said first, and the token where that is refused.

    Source: docker-registry 0.9; Docker 1.5, which says Basic to registries that call themselves standalone.
    """

    wire: Client
    _known: dict[Scope, str] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def get(self, path: str, repository: str = "") -> Response:
        """Return what is at *path*, whatever its status.

        Args:
            repository: As a member of which it is asked for.

        Raises:
            WireError.
        """
        return self.wire.request("GET", path, scope=_scope(repository), login=self)

    def stream(self, path: str, repository: str = "") -> BinaryIO:
        """Return a reader; see ``Wire.stream`` and ``get``."""
        return self.wire.stream(path, scope=_scope(repository), login=self)

    def at_hand(self, scope: Scope, *, lasting: bool) -> str:
        """See Login: what was not refused before, or the password, or else a token."""
        del lasting
        with self._lock:
            known = self._known.get(scope)
        if known is None:
            known = self._keep(scope, self.wire.basic or self._token(scope))
        return known

    def answers(self, scope: Scope, challenge: str, refused: str) -> Iterator[str]:
        """See Login."""
        del challenge
        if self.wire.basic not in ("", refused):
            yield self._keep(scope, self.wire.basic)
        token = self._token(scope)
        if token:
            yield self._keep(scope, token)

    def _token(self, scope: Scope) -> str:
        """Begin a session with a repository; return what says so, or nothing if the registry has none."""
        if not scope:
            return ""
        path = f"/v1/repositories/{scope[0]}/images"
        reply = self.wire.request("GET", path, {"X-Docker-Token": "true"}, login=self)
        token = reply.headers.get("x-docker-token", "")
        return f"Token {token}" if token else ""

    def _keep(self, scope: Scope, said: str) -> str:
        with self._lock:
            self._known[scope] = said
        return said


def _scope(repository: str) -> Scope:
    return (repository,) if repository else ()
