"""Digests: the wire form, and hashing while bytes pass by."""

import hashlib
import subprocess
import sys
from textwrap import dedent

import pytest

from dualreg.errors import DigestInvalid
from dualreg.image.digest import HEX_DIGITS, Digest, Hasher

SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
SHA512 = hashlib.sha512(b"").hexdigest()


@pytest.mark.parametrize("text", [f"sha256:{SHA256}", f"sha512:{SHA512}"])
def test_wire_form_round_trips(text: str) -> None:
    """What is parsed prints as it came."""
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(SHA256, id="no algorithm"),
        pytest.param("sha256:", id="no hex"),
        pytest.param(f"sha256:{SHA256[:-1]}", id="a digit short"),
        pytest.param(f"sha256:{SHA256}0", id="a digit long"),
        pytest.param(f"sha256:{SHA256.upper()}", id="upper case"),
        pytest.param(f"SHA256:{SHA256}", id="upper-case algorithm"),
        pytest.param(f"sha256:{SHA256}\n", id="trailing newline"),
        pytest.param(f" sha256:{SHA256}", id="leading space"),
        pytest.param(f"sha256:{SHA256[:-1]}g", id="not hex"),
        pytest.param(f"sha256:{SHA256[:-1]}\u0663", id="Unicode digit"),
        pytest.param(f"sha512:{SHA256}", id="digits of another algorithm"),
        pytest.param("md5:d41d8cd98f00b204e9800998ecf8427e", id="algorithm not offered"),
        pytest.param(f"tarsum.v1+sha256:{SHA256}", id="tarsum"),
        pytest.param(f"sha256:sha256:{SHA256}", id="two algorithms"),
        pytest.param(f"sha256:../{SHA256[3:]}", id="path"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """A text that is not exactly an offered algorithm and its lower-case hex is no digest."""
    with pytest.raises(DigestInvalid) as caught:
        Digest.parse(text)
    assert caught.value.digest == text[:200]


def test_refusal_quotes_little_of_a_long_text() -> None:
    """An error does not carry a client's megabyte back to it."""
    with pytest.raises(DigestInvalid) as caught:
        Digest.parse("sha256:" + "0" * 100_000)
    assert caught.value.digest == "sha256:" + "0" * 193


@pytest.mark.parametrize("algorithm", sorted(HEX_DIGITS))
def test_hashing_in_pieces_is_hashing_at_once(algorithm: str) -> None:
    """Digest.of, a Hasher fed in pieces, and one with a prefix agree with hashlib."""
    expected = Digest(algorithm, hashlib.new(algorithm, b"layer bytes").hexdigest())
    pieces, prefixed = Hasher(algorithm), Hasher(algorithm, prefix=b"layer ")
    for piece in (b"layer", b"", b" bytes"):
        pieces.update(piece)
    prefixed.update(b"bytes")
    assert [Digest.of(b"layer bytes", algorithm), pieces.digest(), prefixed.digest()] == [expected] * 3


def test_a_hasher_can_be_asked_on_the_way() -> None:
    """Asking for the digest so far does not end the hashing."""
    hasher = Hasher()
    assert hasher.digest() == Digest("sha256", SHA256)
    hasher.update(b"more")
    assert hasher.digest() == Digest.of(b"more")


@pytest.mark.slow
def test_large_pieces_are_hashed_in_order() -> None:
    """Pieces that are hashed in other threads and those that are not, of several hashers at once."""
    block = bytes(range(256)) * 4096
    pieces = [
        block[at : at + size] for at, size in enumerate([1 << 20, 5, 300_000, 0, 200_000, 7, 900_000] * 5)
    ]
    hashers = [Hasher(prefix=bytes([number])) for number in range(6)]
    so_far = b""
    for piece in pieces:
        so_far += piece
        for hasher in hashers:
            hasher.update(piece)
        assert hashers[0].digest() == Digest.of(bytes([0]) + so_far)
    assert [each.digest() for each in hashers] == [Digest.of(bytes([number]) + so_far) for number in range(6)]


@pytest.mark.slow
def test_what_cannot_be_hashed_has_no_digest() -> None:
    """It is not left out, in whichever thread that is noticed; nor does it keep others from being hashed."""
    for size in (1, 1 << 20):
        for _ in range(9):
            hasher = Hasher()
            hasher.update("x" * size)  # type: ignore[arg-type]  # what else could fail
            hasher.update(b"x")
            with pytest.raises(TypeError):
                hasher.digest()
    test_large_pieces_are_hashed_in_order()


def test_a_child_of_a_process_that_hashes_can_hash() -> None:
    """The threads of the parent do not run in a child, which starts its own."""
    program = """
        import os, sys
        from dualreg.image.digest import Hasher
        def digest():
            hasher = Hasher()
            for _ in range(9):
                hasher.update(bytes(1 << 20))
            return hasher.digest()
        expected, child = digest(), os.fork()
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os._exit(digest() != expected)
    """
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", dedent(program)], timeout=60, check=False)
    assert ran.returncode == 0
