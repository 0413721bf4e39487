"""Worker: gunicorn's worker with threads, in which silence costs no thread.

gunicorn's own reads the head of a request in a thread, and closes connections in its main loop, in each case
for as long as the client likes to take. Here connections wait in the poller until a request has arrived, and
again until the client has closed its side.
"""

import errno
import math
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from socket import socket
from typing import Any

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER

from dualreg.cli.connection import Connection, Refused
from dualreg.cli.descriptors import waiting_connections
from dualreg.cli.fast_path import Answer, FastPath
from dualreg.cli.monitored import MonitoredWorker
from dualreg.cli.pacing import PacedSocket
from dualreg.cli.plain_requests import peer_of
from dualreg.cli.refusals import Unsent, refuse
from dualreg.cli.shares import Shares
from dualreg.logs.lines import unbind_request
from dualreg.web.lane import Looks

#: Seconds without progress after which a client is given up, unless the application says otherwise.
CLIENT_TIMEOUT = 30.0
#: Connections that may wait at once, if the limit of open files allows it; the one that has waited longest
#: makes room for another.
CONNECTIONS = 500
#: Threads that answer only load balancers, while all others are busy.
_HEALTH_THREADS = 2
#: Seconds before gunicorn's own end of a graceful stop in which what was cut off is written and answered.
_MARGIN = 10
#: When a client that comes while the server stops may try again, in seconds.
_RETRY_AFTER = 5
#: Seconds between two looks for connections that have waited too long, and for the main process.
_INTERVAL = 1.0
#: Seconds for which a thread waits for the next request of its client, while another thread is free.
_MOMENT = 0.01
#: Errors for lack of what each connection takes.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: Seconds to wait for each part of a body that the application left unread.
_REST = 0.01


class Worker(MonitoredWorker):
    """Gives a connection a thread only while there is something to do for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- gunicorn's
        """Prepare what the process needs after the fork."""
        super().__init__(*args, **kwargs)
        self._window: float = getattr(self.app, "client_timeout", CLIENT_TIMEOUT)
        self._stop = getattr(self.app, "stop", b"\0")
        self._waiting: dict[Connection, None] = {}
        self._handled: set[Connection] = set()
        self._arrived: dict[Connection, None] = {}
        self._busy = 0
        self._end_at = math.inf
        self._shares: Shares = getattr(self.app, "shares", None) or Shares()
        self._look_at = 0.0

    def init_process(self) -> None:
        """Serve until stopped."""
        # gunicorn looks for a setting whenever it is asked for one, fifteen times in each request.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        self._health = ThreadPoolExecutor(_HEALTH_THREADS)
        self._room = waiting_connections(CONNECTIONS, self.cfg.threads + _HEALTH_THREADS)
        super().init_process()

    def run(self) -> None:
        """Handle events until the worker stops."""
        self._fast_path = FastPath.of(self.wsgi, self.cfg, self.log)
        self._begin_monitoring()
        super().run()
        self._end_monitoring()

    def init_signals(self) -> None:
        """Leave Ctrl-C, which a terminal sends to all processes, to the main one; take what has waited."""
        super().init_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def accept(self, listener: socket) -> None:
        """Accept a connection, which waits for its first request, unless it is left to another worker."""
        if self.alive and self._shares.leaves(self.nr_conns):
            return
        if len(self._waiting) >= self._room and not self._make_room():
            return
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._make_room()
            return  # or another process was faster
        self._count(1)
        try:
            connection = self._kind_of_connection(listener)(
                self.cfg, client, address, listener.getsockname(), self._window
            )
        except OSError:
            self._count(-1)
            client.close()
            return
        connection.late = self._is_stopping()
        self._await(connection)

    def _make_room(self) -> bool:
        """Drop the connection that has waited longest; return False if the requests of all have arrived."""
        dropped = next((each for each in self._waiting if each not in self._arrived), None)
        if dropped:
            self._drop(dropped)
        return dropped is not None

    def _count(self, change: int) -> None:
        """Count connections that begin or end."""
        self.nr_conns += change
        if self._accepting:
            self._shares.set(self.age, self.nr_conns)

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 -- gunicorn's
        """Accept connections or not; while the server stops, they are accepted, and their requests refused.

        While it reloads, they are left to the workers that follow.
        """
        super().set_accept_enabled(enabled or self._is_stopping())
        if self._accepting:
            self._count(0)
        else:
            self._shares.remove(self.age)

    def enqueue_req(self, conn: Connection) -> None:
        """Let a thread handle the request that has arrived."""
        spare = conn.asks_for_health and self._busy >= self.cfg.threads
        conn.hand_over()
        handle = self._handle_one if spare else self.handle  # what comes next may be no load balancer's
        self._submit(conn, handle, spare=spare)

    def _submit(
        self, conn: Connection, handle: Callable[[Connection], object], *, spare: bool = False
    ) -> None:
        """Let a thread handle the connection: one of all, or a *spare* one."""
        pool: ThreadPoolExecutor = self._health if spare else self.tpool
        self._busy += not spare
        self._handled.add(conn)
        conn.end_by(self._end_at)
        done = partial(self._finish, conn, spare=spare)
        pool.submit(handle, conn).add_done_callback(lambda future: self.method_queue.defer(done, future))

    def handle_error(self, req: Any, client: PacedSocket, addr: Any, exc: Exception) -> None:  # noqa: ANN401 -- gunicorn's
        """Answer what gunicorn refuses, or the application fails on."""
        unsent, sent = Unsent(), 0
        super().handle_error(req, unsent, addr, exc)  # it decides on the status, and logs
        refused = unsent.refused(exc)
        answer = self._refusal(refused, client.asked, peer_of(addr), client.began)
        try:
            client.sendall(answer.data)
            sent = len(answer.data)
        except OSError as error:
            self.log.debug("Failed to send an error. %s", error)
        finally:
            answer.end(sent)

    def notify(self) -> None:
        """Do nothing in each round of the loop; ``murder_keepalived`` reports that the process is alive."""

    def is_parent_alive(self) -> bool:
        """Return whether there still is a main process; gunicorn calls this in each round of the loop."""
        return time.monotonic() < self._look_at or bool(super().is_parent_alive())

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 -- gunicorn's
        """Close the connections whose clients took too long, or all that wait."""
        now = time.monotonic()
        if now < self._look_at and not force:
            return
        self._look_at = now + _INTERVAL
        super().notify()
        self._look_after_monitoring()
        if not self.alive and not force:
            self.set_accept_enabled(False)  # the server may have begun to stop after this worker
        for connection in [each for each in self._waiting if force or each.deadline <= now]:
            if force or connection.lingering or connection.unsent:
                self._drop(connection)
            elif connection.asked:
                self._refuse(connection, Refused(408, "the request did not arrive in time"))
            else:
                self._forget(connection)
                self._linger(connection)

    def _cap_keepalive(self, deadline: float) -> None:
        """End in time; gunicorn calls this when the worker stops.

        Connections without a request wait until *deadline*. What has not arrived of other requests when the
        time is over is cut off, so that uploads keep what did, and clients get an answer.
        """
        self._end_at = time.monotonic() + max(self.cfg.graceful_timeout - _MARGIN, 0)
        for connection in self._waiting:
            connection.deadline = min(connection.deadline, self._end_at if connection.asked else deadline)
        for connection in self._handled:
            connection.end_by(self._end_at)
        known = -1
        while self._is_stopping() and self.nr_conns != known:  # those who connected before are answered too
            known = self.nr_conns
            self.wait_for_and_dispatch_events(0)

    def handle(self, conn: Connection) -> bool:
        """Answer the request that has arrived, and those that its client sends next while a thread is free.

        Returns:
            Whether the connection can take another request.
        """
        keep = self._handle_one(conn)
        while keep and self._takes_next(conn):
            conn.hand_over()
            keep = self._handle_one(conn)
        return keep

    def _takes_next(self, conn: Connection) -> bool:
        """Return whether another request comes within a moment, and needs this thread.

        It waits only while another thread is free. A request that needs no thread is answered, and leaves the
        connection to the loop, as does all that is no whole request, or is for monitoring.
        """
        if not self.alive or self._busy >= self.cfg.threads:
            return False
        conn.begin_idle(self.cfg.keepalive)
        try:
            if not conn.is_followed(_MOMENT) or self._is_for_monitoring(conn):
                return False
        except (Refused, OSError):
            return False
        answer = self._find_answer(conn, Looks())
        if answer:
            conn.send_rest(answer, 0)
            conn.begin_next(self.cfg.keepalive)
        return answer is None

    def _handle_one(self, conn: Connection) -> bool:
        """Handle the request that has arrived; what this thread logs from then on is not about it."""
        try:
            return bool(super().handle(conn))
        finally:
            unbind_request()

    def _keepalive_after(self, conn: Connection, keepalive: object) -> bool:
        """Return whether the connection can take another request: its body has been read, or has arrived."""
        return bool(keepalive) and conn.has_read_body(_REST)

    def _finish(self, connection: Connection, future: "Future[object]", *, spare: bool) -> None:
        """Go on with a connection that a thread is done with: wait for another request, or for its end."""
        self._busy -= not spare
        self._handled.discard(connection)
        if future.exception() is None and future.result():
            connection.begin_idle(self.cfg.keepalive if self.alive else STOP_KEEPALIVE_LINGER)
            self._await(connection)
        else:
            self._linger(connection)

    def _refuse(self, connection: Connection, refused: Refused) -> None:
        """Answer a request that no thread handles."""
        self._forget(connection)
        answer = self._refusal(refused, connection.asked, connection.peer, connection.began)
        self._linger(connection, answer)

    def _refusal(self, refused: Refused, asked: bytes, peer: Mapping[str, str], began: float) -> Answer:
        """Count a request that is refused; return the answer to it, as ``refuse`` does."""
        self._count_refusal(asked, refused.status)
        return refuse(self.wsgi, self.log, refused, asked, peer=peer, began=began)

    def _linger(self, connection: Connection, answer: Answer | None = None) -> None:
        """Send the last answer, if any, and wait for the client to close the connection."""
        sent = 0
        try:
            sent = connection.answer(answer.data) if answer else 0
            connection.begin_lingering(self._window if self.alive else STOP_KEEPALIVE_LINGER)
        except OSError:
            self._close(connection)
        else:
            self._await(connection)
        finally:
            if answer:
                answer.end(sent)

    def _await(self, connection: Connection) -> None:
        """Wait in the poller for what the client sends, after taking what has arrived."""
        connection.deadline = min(connection.deadline, self._end_at)
        self._waiting[connection] = None
        self.poller.register(connection.sock, 1, partial(self._on_readable, connection))
        self._on_readable(connection)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events and handle them, and then all requests that have arrived."""
        super().wait_for_and_dispatch_events(timeout)
        self._shares.end_round()
        while self._arrived:
            arrived, self._arrived, looks = self._arrived, {}, Looks()
            for connection in arrived:
                self._attend(connection, partial(self._handle_arrived, looks=looks))

    def _on_readable(self, connection: Connection, _: object = None) -> None:
        self._attend(connection, self._receive)

    def _attend(self, connection: Connection, act: Callable[[Connection], object]) -> None:
        """Do something for a connection that waits, unless an earlier event of the same round dropped it."""
        if connection not in self._waiting:
            return
        try:
            act(connection)
        except Refused as error:
            self._refuse(connection, error)
        except OSError as error:
            self.log.debug("Closing connection. %s", error)
            self._drop(connection)

    def _receive(self, connection: Connection) -> None:
        """Take what has arrived; a whole request is handled at the end of this round."""
        if connection.lingering:
            if connection.discard():
                self._drop(connection)
        elif connection.receive():
            self._arrived[connection] = None

    def _handle_arrived(self, connection: Connection, looks: Looks) -> None:
        """Answer the request that has arrived, or let a thread do so; *looks* is for all of this round."""
        if self._answer_monitoring(connection):
            return
        if connection.late:
            self._refuse(connection, Refused(503, "the server is stopping", _RETRY_AFTER))
        elif not self._answer_at_once(connection, looks):
            self._forget(connection)
            self.enqueue_req(connection)

    def _answer_at_once(self, connection: Connection, looks: Looks) -> bool:
        """Answer the request that has arrived if that takes no wait; return whether it did.

        One request in each turn, however many have arrived: other connections have theirs.

        Raises:
            OSError: the client is gone.
        """
        answer = self._find_answer(connection, looks)
        if answer:
            self._send(connection, answer)
        return answer is not None

    def _send(self, connection: Connection, answer: Answer) -> None:
        """Send an answer, as much as fits without waiting; a thread sends the rest."""
        try:
            sent = connection.answer(answer.data)
        except OSError:
            answer.end(0)
            raise
        connection.begin_next(self.cfg.keepalive)
        if sent < len(answer.data):
            self._forget(connection)
            self._submit(connection, partial(Connection.send_rest, answer=answer, sent=sent))
            return
        answer.end(sent)
        self._waiting[connection] = self._waiting.pop(connection)  # others have waited longer
        if connection.has_more:
            self.method_queue.defer(self._on_readable, connection)

    def _is_stopping(self) -> bool:
        """Return whether the whole server stops, not only this worker."""
        return not self.alive and bool(self._stop[0])

    def _drop(self, connection: Connection) -> None:
        """Close a connection that waits."""
        self._forget(connection)
        self._close(connection)

    def _forget(self, connection: Connection) -> None:
        del self._waiting[connection]
        self.poller.unregister(connection.sock)

    def _close(self, connection: Connection) -> None:
        self._count(-1)
        connection.close()
