"""What messages and logs may contain."""

import ast
import io
import logging
import time

import pytest

from dualreg.messages import LogFormatter, json_text, mask, safe_line
from tests.architecture.sources import modules


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql+psycopg://me:p/a@s:s@db:5432/x", "postgresql+psycopg://me:***@db:5432/x"),
        ("sqlite:////srv/x@y.sqlite3", "sqlite:////srv/x@y.sqlite3"),
        ("at https://me:p@ss@host:5000/v2/: 401", "at https://***@host:5000/v2/: 401"),
        ("v2+https://me:pa/ss@host", "v2+https://***@host"),
        ("http://token@host/x", "http://***@host/x"),
        ("https://host:5000/v2/a/manifests/x@sha256:ab", "https://host:5000/v2/a/manifests/x@sha256:ab"),
        ("https://host/v2/a@sha256:ab: 404", "https://host/v2/a@sha256:ab: 404"),
        ("https://[::1]:5000/a@b", "https://[::1]:5000/a@b"),
        ("GET https://s3/x?X-Amz-Signature=ab12&y=1", "GET https://s3/x?X-Amz-Signature=***&y=1"),
        ("?sv=1&sig=a%2Bb&AWSAccessKeyId=AK", "?sv=1&sig=***&AWSAccessKeyId=***"),
        ("/token?service=x&scope=y", "/token?service=x&scope=y"),
        ("Authorization: Basic bWU6cHc=", "Authorization: Basic ***"),
        ("{'authorization': 'Bearer abc.def'}", "{'authorization': 'Bearer ***'}"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln was", "token *** was"),
        ("Basic authentication, token server", "Basic authentication, token server"),
        ("v1-tree:/srv/a@b:c@d", "v1-tree:/srv/a@b:c@d"),
    ],
)  # fmt: skip
def test_secrets(text: str, expected: str) -> None:
    """Passwords and tokens are masked, and nothing else is: not ports, paths and digests."""
    assert mask(text) == expected
    assert mask(mask(text)) == expected


@pytest.mark.parametrize("part", ["?key", "?", "a.", "x://a:", "http://a:", "eyJaaaaaaaa.", "authorization"])
def test_hostile_texts_cost_little(part: str) -> None:
    """A text that nearly matches at every place is read in time that grows no faster than its length."""
    began = time.process_time()
    mask(part * (20_000 // len(part)))
    assert time.process_time() - began < 2  # the slowest takes 0.2 s; in cubic time it was minutes


@pytest.mark.parametrize(
    "code", [*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x202E, 0x2028, 0x2066, 0xD800, 0xFEFF]
)
def test_characters(code: int) -> None:
    """What a terminal obeys, or has no encoding, is written as an escape, in text and in JSON."""
    assert safe_line(f"a{chr(code)}b").encode().isascii()
    assert safe_line(f"a{chr(code)}b").isprintable()
    assert json_text({"a": chr(code)}).isprintable()
    assert safe_line("größe 日本 ✓") == "größe 日本 ✓"


def test_logs() -> None:
    """A record is one line, whatever it quotes; a traceback is indented, and cannot look like a record."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(LogFormatter("[%(levelname)s] %(message)s"))
    log = logging.getLogger("test.messages")
    log.addHandler(handler)
    error = ValueError("x\n[ERROR] forged \x1b[2J https://me:pw@host")
    log.error("name %s", "a\n[ERROR] forged", exc_info=error)
    log.removeHandler(handler)
    lines = written.getvalue().splitlines()
    assert lines[0] == "[ERROR] name a\\n[ERROR] forged"
    assert all(line.startswith("  ") and line.isprintable() for line in lines[1:])
    assert "pw@" not in written.getvalue()


@pytest.mark.slow
def test_commands_print_by_one_function() -> None:
    """No command prints by click itself, which would show what it is given."""
    printing = {
        each.name
        for each in modules()
        for node in ast.walk(each.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "click.secho", "print")
    }
    assert printing == {"dualreg.cli.output"}
