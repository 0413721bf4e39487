"""Fast path: requests that the worker's loop answers itself, without a thread.

They are plain requests whose answer is repeated without waiting for anything (``Lane.at_once``). The bytes
are those that gunicorn would send: its own class makes the head of the response, once in each second.
"""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple, Self

from gunicorn.http.wsgi import Response

from dualreg.cli import plain_requests
from dualreg.cli.exchange import is_usual
from dualreg.cli.plain_requests import Head
from dualreg.cli.server_log import LOG_FORMAT
from dualreg.web.identified import HEADER, ID
from dualreg.web.lane import Lane, Looks, Ready

#: Heads of responses that are remembered.
_HEADS = 1_000


class Answer(NamedTuple):
    """An answer to be sent.

    Attributes:
        data: All of its bytes.
        end: To be called once with how many of them were sent, when no more will be.
    """

    data: bytes
    end: Callable[[int], None]


class FastPath:
    """Answers requests, if that takes no wait.

    Attributes:
        count: Called with each request that was answered, if it is set: with its environment, status, seconds
            and bytes of the body that were sent.
    """

    count: Callable[[dict[str, Any], int, float, int], None] | None = None

    def __init__(self, lane: Lane, cfg: Any, log: Any) -> None:  # noqa: ANN401 -- gunicorn's
        """Answer what *lane* repeats, as a worker with this configuration and log would."""
        self._lane, self._cfg, self._log = lane, cfg, log
        self._head = lru_cache(_HEADS)(self._make_head)

    @classmethod
    def of(cls, app: object, cfg: Any, log: Any) -> Self | None:  # noqa: ANN401 -- gunicorn's
        """Return what answers for *app* in a worker; None if all requests need a thread there."""
        lane = getattr(app, "wsgi_app", None)
        if not is_usual(cfg) or not plain_requests.mean_the_same(cfg):
            return None
        keeps = cfg.keepalive and cfg.worker_connections > cfg.threads
        return cls(lane, cfg, log) if keeps and isinstance(lane, Lane) and lane.is_immediate else None

    def answer(self, head: Head, peer: Mapping[str, str], looks: Looks) -> Answer | None:
        """Return the answer to a request; None: a thread has to find it.

        Args:
            peer: As for ``plain_requests.read``.
            looks: As for ``Lane.at_once``.
        """
        began = time.perf_counter()
        environ = plain_requests.read(head, peer)
        if environ is None or (ready := self._lane.at_once(environ, looks)) is None:
            return None
        known = self._head(head.method, ready.status, ready.headers, int(time.time()))
        start = known + environ[ID].encode() + plain_requests.END
        return Answer(start + ready.body, partial(self._end, environ, ready, len(start), began))

    def _make_head(self, method: str, status: str, headers: tuple[tuple[str, str], ...], _: int) -> bytes:
        """Return the head of a response that keeps the connection, with the time of now, up to the id."""
        sent: list[bytes] = []
        request = SimpleNamespace(method=method, version=plain_requests.VERSION, should_close=lambda: False)
        response = Response(request, SimpleNamespace(sendall=sent.append), self._cfg)
        response.start_response(status, [*headers, (HEADER, "")])
        response.send_headers()
        return b"".join(sent).removesuffix(plain_requests.END)

    def _end(self, environ: dict[str, str], ready: Ready, head: int, began: float, sent: int) -> None:
        ready.release()
        status, seconds, body_sent = int(ready.status[:3]), time.perf_counter() - began, max(sent - head, 0)
        if self.count:
            self.count(environ, status, seconds, body_sent)
        if not self._log.access_log_enabled:
            return
        if self._cfg.access_log_format == LOG_FORMAT:
            is_cut = sent < head + len(ready.body)
            self._log.request(environ, status, body_sent, seconds, is_cut=is_cut)
            return
        request = SimpleNamespace(headers=plain_requests.headers_of(environ))
        response = SimpleNamespace(status=ready.status, headers=ready.headers, sent=body_sent)
        self._log.access(response, request, environ, timedelta(seconds=seconds))
