"""Answering: how a worker finds the answer to a request that has arrived, at once or in a thread."""

from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from dualreg.cli import exchange
from dualreg.cli.connection import Connection
from dualreg.cli.fast_path import Answer, FastPath
from dualreg.cli.parsing import PlainRequest
from dualreg.web.lane import Looks


class AnsweringWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Answers requests; ``Worker`` has the rest."""

    _fast_path: FastPath | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- gunicorn's
        """Find out what the configuration leaves to gunicorn."""
        super().__init__(*args, **kwargs)
        self._is_usual = exchange.is_usual(self.cfg)
        self._keeps = bool(self.cfg.keepalive) and self.max_keepalived > 0

    def handle_request(self, req: Any, conn: Connection) -> bool:  # noqa: ANN401 -- gunicorn's
        """Answer a request; return whether the connection can take another one."""
        conn.request = req
        try:
            if not self._is_usual or not isinstance(req, PlainRequest) or not self._keeps_on():
                return bool(super().handle_request(req, conn))
            self.nr += 1
            return exchange.answer(self.wsgi, req, conn, self.log)
        finally:
            conn.request = None

    def _find_answer(self, connection: Connection, looks: Looks) -> Answer | None:
        """Return the answer to the request that has arrived, before *looks*, if that takes no wait."""
        if not self._fast_path or not connection.plain or not self._keeps_on():
            return None
        answer = self._fast_path.answer(connection.plain, connection.peer, looks)
        self.nr += answer is not None
        return answer

    def _keeps_on(self) -> bool:
        """Return whether worker and connections take another request after the next one."""
        return bool(self.alive and self._keeps and self.nr + 1 < self.max_requests)
