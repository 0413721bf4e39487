"""Monitored: what a worker does for its monitoring, beside what it does for clients."""

import time
from functools import partial
from selectors import EVENT_WRITE
from typing import Any

from flask import Response

from dualreg.cli.answering import AnsweringWorker
from dualreg.cli.connection import Connection, MonitoringConnection
from dualreg.cli.fast_path import Answer
from dualreg.cli.metering import Meter
from dualreg.cli.monitoring import Monitor
from dualreg.cli.refusals import last_answer


class MonitoredWorker(AnsweringWorker):
    """Answers what is for monitoring, in its loop; ``Worker`` has the rest."""

    _monitor: Monitor | None = None
    _own_listener: Any = None

    def _begin_monitoring(self) -> None:
        folder, defer = getattr(self.app, "metrics_folder", None), self.method_queue.defer
        self._monitor = Monitor.of(self.wsgi, folder, self.pid, lambda: bool(self._stop[0]), defer)
        self._own_listener = self._monitor and self._monitor.own_listener(self.sockets)
        if meter := self._meter:
            self.log.access = meter.access(self.log.access)
            if self._fast_path:
                self._fast_path.count = meter.count_at_once

    @property
    def _meter(self) -> Meter | None:
        return self._monitor.meter if self._monitor else None

    def _kind_of_connection(self, listener: object) -> type[Connection]:
        return MonitoringConnection if listener is self._own_listener else Connection

    def _look_after_monitoring(self) -> None:
        """Do what is to be done about every second."""
        if self._monitor:
            self._monitor.look(self._gauges())

    def _end_monitoring(self) -> None:
        """Write what was counted, at the end of the process."""
        if self._meter:
            self._meter.flush()

    def _count_refusal(self, asked: bytes, status: int) -> None:
        if self._meter:
            self._meter.count_refusal(asked, status)

    def _answer_monitoring(self, connection: Connection) -> bool:
        """Answer the request that has arrived if it is for monitoring, now or later; return whether it is.

        No line in the log says so: load balancers ask every few seconds.
        """
        monitor = self._monitor
        if not monitor or not self._is_for_monitoring(connection):
            return False
        asked, peer, began = connection.asked, connection.peer, connection.began

        def send(response: Response) -> None:
            self._send_last(connection, last_answer(self.wsgi, None, response, asked, peer=peer, began=began))

        self._forget(connection)
        monitor.answer(connection.arrived, send)
        return True

    def _is_for_monitoring(self, connection: Connection) -> bool:
        """Return whether the request that has arrived is for monitoring. Threads may call this, too."""
        monitor, own, head = self._monitor, connection.monitored, connection.arrived
        return monitor is not None and monitor.takes(head, connection.peer, own=own)

    def _gauges(self) -> dict[str, int]:
        """Return what this worker is doing, by the names of metrics."""
        return {
            "threads": self.cfg.threads,
            "threads_busy": min(self._busy, self.cfg.threads),
            "requests_in_flight": len(self._handled),
            "connections_waiting": len(self._waiting),
        }

    def _send_last(self, connection: Connection, answer: Answer) -> None:
        """Send the last answer on a connection, as fast as its client reads; no thread waits for that."""
        connection.deadline = time.monotonic() + connection.window
        self._send_on(connection, answer, 0)

    def _send_on(self, connection: Connection, answer: Answer, sent: int) -> None:
        """Send what fits of an answer after the first *sent* bytes; go on when there is room again."""
        try:
            sent += connection.answer(memoryview(answer.data)[sent:])
        except OSError:
            answer.end(sent)
            self._close(connection)
            return
        if sent == len(answer.data):
            answer.end(sent)
            self._linger(connection)
            return
        connection.unsent = answer, sent
        self._waiting[connection] = None
        self.poller.register(connection.sock, EVENT_WRITE, partial(self._on_writable, connection))

    def _on_writable(self, connection: Connection, _: object = None) -> None:
        if connection not in self._waiting or connection.unsent is None:
            return  # dropped by an earlier event of the same round
        self._forget(connection)
        (answer, sent), connection.unsent = connection.unsent, None
        self._send_on(connection, answer, sent)
