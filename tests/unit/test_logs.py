"""Lines of the log, and how they are written: whatever is at the other end, nothing waits or fails."""

import io
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread, Timer
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualreg.cli.plain_requests import peer_of
from dualreg.logs.handler import LineHandler
from dualreg.logs.lines import bind_request, formatter, message_line, unbind_request
from dualreg.logs.output import WHOLE, Output
from dualreg.logs.requests import Request, request_log
from dualreg.web.forwarded import address_of
from tests.programs import until


def missing(count: int) -> str:
    """Say how many lines are missing."""
    return f"{count} missing"


def text_of(descriptor: int) -> TextIO:
    """Return a stream, as standard output is one."""
    return os.fdopen(descriptor, "w")


def full(descriptor: int) -> None:
    """Fill a pipe, or whatever it is, through a description of its own."""
    os.set_blocking(descriptor, False)
    try:
        while True:
            os.write(descriptor, bytes(1 << 12))
    except BlockingIOError:
        pass
    os.set_blocking(descriptor, True)


@pytest.fixture(params=["pipe", "socket", "another user's pipe"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, TextIO]]:
    """What is read from, and what is written to."""
    if request.param == "socket":
        ours, other = socket.socketpair()
        reader, writer = ours.detach(), other.detach()
    else:
        reader, writer = os.pipe()
    if request.param.startswith("another"):
        opened = os.open

        def refuse(path: str, flags: int, *more: int) -> int:
            if f"{path}".startswith("/proc/self/fd/"):
                raise PermissionError
            return opened(path, flags, *more)

        monkeypatch.setattr(os, "open", refuse)
    os.set_blocking(reader, False)
    stream = text_of(writer)
    yield reader, stream
    stream.close()
    os.close(reader)


def read(descriptor: int) -> bytes:
    """Return what has arrived."""
    received = b""
    try:
        while part := os.read(descriptor, 1 << 20):
            received += part
    except BlockingIOError:
        pass
    return received


def test_nothing_waits_for_a_reader(ends: tuple[int, TextIO]) -> None:
    """Lines wait, in order, as far as there is room; the others are counted, which the next line says."""
    reader, stream = ends
    output = Output(stream, missing, room=1000)
    output.write("first")
    assert read(reader) == b"first\n"
    full(stream.fileno())
    began = time.monotonic()
    for number in range(200):
        output.write(f"line {number:04}")
    assert time.monotonic() - began < 1
    received = b""

    def drained() -> bool:
        nonlocal received
        received += read(reader).replace(b"\0", b"")
        return output.flush(0)

    assert until(drained)
    received += read(reader).replace(b"\0", b"")
    assert received == b"".join(b"line %04d\n" % number for number in range(100))
    output.write("last")
    assert read(reader) == b"100 missing\nlast\n"
    assert os.get_blocking(stream.fileno())  # it is shared with others
    output.close()


def test_long_lines_are_written_in_parts(ends: tuple[int, TextIO]) -> None:
    """A traceback may be longer than what fits."""
    reader, stream = ends
    output = Output(stream, missing)
    lines = [f"{number}" * 300_000 for number in range(3)]
    for line in lines:
        output.write(line)
    received = b""

    def arrived() -> bool:
        nonlocal received
        received += read(reader)
        return received.count(b"\n") == 3

    assert until(arrived)
    assert received.decode().split() == lines
    output.close()


PIECES = st.text(st.sampled_from('a\x1b"\\é€😀 \n/'), min_size=1, max_size=30)
HOSTILE = st.builds(lambda text, count: text * count, PIECES, st.integers(0, 1000))


@given(HOSTILE, HOSTILE, HOSTILE, st.sampled_from(["text", "json"]))
def test_no_line_is_longer_than_a_pipe_takes_as_a_whole(
    path: str, agent: str, event: str, format: str
) -> None:
    """Whatever clients send, and errors say; JSON stays JSON, and what is quoted stays so."""
    lines: list[str] = []
    long = REQUEST._replace(path=path, agent=agent, referer=path, account=agent[:64], trace="f" * 32)
    request_log(format, lines.append)(long)  # type: ignore[arg-type]
    lines.append(message_line(format, "error", event))  # type: ignore[arg-type]
    handler = logging.StreamHandler(text := io.StringIO())
    handler.setFormatter(formatter(format))  # type: ignore[arg-type]
    failure = (ValueError, ValueError(event), None)
    record = logging.LogRecord("dualreg", logging.ERROR, "", 0, "failed: %s", (path,), failure)
    handler.handle(record)
    lines += text.getvalue().split("\n")
    assert max(len(line.encode()) for line in lines) < WHOLE
    if format == "json":
        assert all(json.loads(line) for line in lines if line)
    else:
        assert lines[0].endswith(f" 61.500000 abc a trace_id={'f' * 32}")
        assert len(re.findall(r'(?<!\\)(?:\\\\)*"', lines[0])) == 6


@pytest.mark.slow
def test_processes_write_no_line_into_another() -> None:
    """Lines of two processes that log what is long into one pipe come out whole, tracebacks as lines."""
    reader, writer = os.pipe()
    begin, end = os.pipe()
    processes = []
    for letter in "xy":
        if not (child := os.fork()):
            os.read(begin, 1)
            output = Output(text_of(os.dup(writer)), missing, room=1 << 30)
            for _ in range(300):
                output.write(message_line("text", "error", letter * 20_000))
                output.write("\n".join([letter * 2_000] * 4))
            output.flush(60)
            os._exit(0)
        processes.append(child)
    os.close(writer)
    os.write(end, b"12")
    received = bytearray()
    while data := os.read(reader, 1 << 16):
        received += data
    for descriptor in (reader, begin, end):
        os.close(descriptor)
    assert {os.waitpid(child, 0)[1] for child in processes} == {0}
    lines = received.decode().splitlines()
    assert len(lines) == 2 * 300 * 5
    assert all(("x" in line) != ("y" in line) for line in lines)
    assert {len(line) for line in lines if line[0] in "xy"} == {2_000}


def test_a_reader_that_is_gone_is_no_failure(ends: tuple[int, TextIO]) -> None:
    """Lines are lost then; so they are on a full disk, and once the stream is closed."""
    reader, stream = ends
    output = Output(stream, missing)
    os.dup2(os.open(os.devnull, os.O_RDONLY), reader)
    output.write("lost")
    output.close()
    output.write("lost")
    with Path("/dev/full").open("w") as disk:
        gone = Output(disk, missing)
        gone.write("lost")
        gone.close()


def test_what_is_logged_while_a_line_is_written_comes_after_it(tmp_path: Path) -> None:
    """Garbage that is collected in that moment, and signals, may log in the same thread."""
    with (tmp_path / "log").open("w") as file:
        output, inner = Output(file, missing), ["inner"]
        output._waiting.extend([b"first\n", b"second\n"])
        send = output._send

        def send_and_log(data: bytes) -> int:
            if inner:
                output.write(inner.pop())
            return send(data)

        output._send = send_and_log
        output.write("last")
        assert until(lambda: output.flush(0))
    assert (tmp_path / "log").read_text() == "first\nsecond\nlast\ninner\n"


def test_threads_that_cannot_be_started_are_no_failure(
    ends: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines wait until there are threads again."""
    reader, stream = ends
    output = Output(stream, missing)
    full(stream.fileno())

    def fail(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(Thread, "start", fail)
        output.write("waits")
    output.write("last")
    received = b""

    def drained() -> bool:
        nonlocal received
        received += read(reader).replace(b"\0", b"")
        return output.flush(0)

    assert until(drained)
    assert received + read(reader).replace(b"\0", b"") == b"waits\nlast\n"
    output.close()


def test_the_end_of_a_process_waits_a_moment_for_the_reader(ends: tuple[int, TextIO]) -> None:
    """The last lines say why it ends."""
    reader, stream = ends
    handler = LineHandler(stream, "text")
    full(stream.fileno())
    handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, "last", None, None))
    taker = Timer(0.1, lambda: read(reader))
    taker.start()
    handler.flush()
    taker.join()
    assert b" last" in read(reader)
    handler.close()


def test_a_fork_has_its_own_lines(tmp_path: Path) -> None:
    """What waits is the parent's; the child writes on, even if a thread held the lock."""
    with (tmp_path / "log").open("w") as file:
        output = Output(file, missing)
        output._waiting.append(b"of the parent\n")
        output._lock.acquire()
        if not (child := os.fork()):
            output.write("of the child")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        output._lock.release()
    assert (tmp_path / "log").read_text() == "of the child\n"


def handled(tmp_path: Path, format: str) -> str:
    """Return what is written of a message within a request, and a mistake after it, both hostile."""
    log = logging.getLogger("dualreg.test")
    with (tmp_path / "log").open("w") as file:
        handler = LineHandler(file, format)  # type: ignore[arg-type]
        log.addHandler(handler)
        log.propagate = False  # pytest's handler fails on mistakes
        bind_request("abc")
        log.warning("name %s", "a\n[ERROR] forged \x1b[2J \u202e https://me:s3cret@host")
        unbind_request()
        try:
            int("x\n[ERROR] forged \x1b https://me:s3cret@host")
        except ValueError:
            log.exception("a mistake")
        log.warning("arguments %s %s", "too few")  # noqa: PLE1206 -- what a mistake is
        log.removeHandler(handler)
        log.propagate = True
    return (tmp_path / "log").read_text()


def test_messages_as_text(tmp_path: Path) -> None:
    """Each is one line, with its request; a traceback is indented, and cannot look like a message."""
    first, *rest = handled(tmp_path, "text").splitlines()
    begin = f"+0000] [{os.getpid()}] [WARNING] name a\\n[ERROR] forged \\x1b[2J \\u202e https://***@host"
    assert first[1:].partition(" ")[2].partition(" ")[2].endswith(begin.partition(" ")[2] + " request_id=abc")
    assert rest[0].endswith("[ERROR] a mistake")
    assert rest[1] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in rest[1:-1])
    assert "ValueError: invalid literal" in "".join(rest)
    assert "[ERROR] arguments %s %s" in rest[-1]
    assert all(line.isprintable() and "s3cret" not in line for line in rest)


def test_messages_as_json(tmp_path: Path) -> None:
    """The same, with the traceback as a member."""
    text = handled(tmp_path, "json")
    first, second, third = map(json.loads, text.splitlines())
    assert (first["request_id"], first["level"], first["logger"]) == ("abc", "warning", "dualreg.test")
    assert first["event"] == "name a\n[ERROR] forged \x1b[2J \u202e https://***@host"
    assert (second["event"], second.get("request_id")) == ("a mistake", None)
    assert second["exception"].startswith("Traceback (most recent call last):\n")
    assert "arguments %s %s" in third["event"]
    assert text.isascii()
    assert "s3cret" not in text
    assert json.loads(message_line("json", "info", "a\nb"))["event"] == "a\nb"


REQUEST = Request(
    id="abc", address="192.0.2.1", account='al "ice"', method="GET", path="/v2/a/tags/list",
    protocol="HTTP/1.1", repository="a", status=200, sent=7, seconds=61.5, referer="https://user:s3cret@elsewhere.example/",
    agent="docker/28\x1b[2J" + "x" * 280 + " https://me:s3cret@host",
)  # fmt: skip


def test_a_request_as_text_and_json() -> None:
    """Hostile texts stay within quotation marks, and no password is cut into a readable part."""
    lines: list[str] = []
    for format in ("text", "json"):
        request_log(format, lines.append)(REQUEST)  # type: ignore[arg-type]
    text, members = lines[0], json.loads(lines[1])
    agent = "docker/28\\x1b[2J" + "x" * 280
    assert text.startswith('192.0.2.1 - al\\x20\\"ice\\" [')
    assert '] "GET /v2/a/tags/list HTTP/1.1" 200 7 "https://***@elsewhere.example/" "' + agent in text
    assert text.endswith('" 61.500000 abc a')
    assert (members["account"], members["duration_ms"], members["bytes"]) == ('al "ice"', 61500, 7)
    assert members["user_agent"].startswith("docker/28\x1b[2Jxxx")
    assert "s3c" not in "".join(lines)


def test_no_member_of_a_line_is_forged() -> None:
    """The name of a client's socket may be any text; a client's backslash escapes no quotation mark."""
    lines: list[str] = []
    log = request_log("text", lines.append)
    log(
        REQUEST._replace(
            address='/tmp/a\n127.0.0.1 - "', path='/v2/\\"', agent="\\", referer='\\" "x" 1 id -'
        )
    )
    assert lines[0].startswith('/tmp/a\\n127.0.0.1\\x20-\\x20\\" - al')
    assert '"GET /v2/\\\\\\" HTTP/1.1" 200 7 "\\\\\\" \\"x\\" 1 id -" "\\\\" 61.5' in lines[0]


def test_an_address_is_no_text_of_clients() -> None:
    """The zone of an address may be any text, and the name of a socket any bytes."""
    proxied = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "2001:db8::1%x - admin\x1b[2J"}
    assert address_of(proxied, "127.0.0.1") == "2001:db8::1"
    assert peer_of(b"\0\xff")["REMOTE_ADDR"] == "\0\\xff"


def test_handlers_of_streams_that_are_no_files() -> None:
    """As in tests that capture what is printed."""
    handler = LineHandler(sys.stdout, "text")
    handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, "shown", None, None))
    handler.close()
