"""Tokens that were verified before: as good as they were, and no longer."""

from datetime import timedelta
from typing import Any

import jwt
import pytest

from dualreg.auth import tokens
from dualreg.auth.tokens import TokenInvalid, Verifier, sign
from dualreg.auth.trust import Key
from dualreg.image.jws import SigningKey
from tests.conftest import Clock

LEEWAY = timedelta(seconds=30)


class Keys(dict[str, SigningKey]):
    """Keys by their names."""

    def key_for(self, header: dict[str, Any]) -> Key | None:
        """Return the key that is in the place of the one that signed."""
        found = self.get(header["kid"])
        return found and Key(found.public, frozenset({"ES256"}))


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures are verified from now on."""
    calls, real = list[str](), jwt.decode

    def decode(token: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(token)
        return real(token, *args, **kwargs)

    monkeypatch.setattr(jwt, "decode", decode)
    return calls


class Signed:
    """A verifier, and the key that signs for it."""

    def __init__(self) -> None:
        """Trust the key."""
        self.key = SigningKey.generate()
        self.keys = Keys({self.key.id: self.key})
        self.clock = Clock()
        self.verifier = self.verifier_of("here")

    def verifier_of(self, audience: str) -> Verifier:
        """Return a verifier of tokens for an audience."""
        return Verifier("us", audience, self.keys, frozenset({"ES256"}), LEEWAY, self.clock)

    def token(self, account: str = "") -> str:
        """Return a token that is valid for a minute."""
        claims = {"iss": "us", "aud": "here", "sub": account}
        return sign(self.key, now=self.clock(), lifetime=timedelta(minutes=1), **claims)


def test_a_token_is_verified_once(verified: list[str]) -> None:
    """Its claims stay what they are, and other tokens have their own."""
    signed = Signed()
    one, two = signed.token("one"), signed.token("two")
    for _ in range(3):
        assert [signed.verifier.verify(token)["sub"] for token in (one, two)] == ["one", "two"]
    assert verified == [one, two]
    for verifier, token in (
        (signed.verifier, one[:-4] + "AAAA"),
        (signed.verifier_of("there"), one),
    ):
        with pytest.raises(TokenInvalid):
            verifier.verify(token)


@pytest.mark.parametrize("seconds", [-31, 90])
def test_a_remembered_token_is_valid_for_as_long_as_others(verified: list[str], seconds: int) -> None:
    """It expires, and is not valid before it begins, if the clock goes back."""
    signed = Signed()
    token = signed.token()
    signed.verifier.verify(token)
    signed.clock.advance(timedelta(seconds=seconds))
    with pytest.raises(TokenInvalid, match=r"expired|not yet valid"):
        signed.verifier.verify(token)
    signed.clock.advance(timedelta(seconds=1 if seconds < 0 else -1))
    signed.verifier.verify(token)
    assert verified == [token]


@pytest.mark.parametrize("other", [None, SigningKey.generate()])
def test_a_remembered_token_ends_with_its_key(other: SigningKey | None) -> None:
    """Be it gone, or another one in its place; if it comes back, so does the token."""
    signed = Signed()
    token = signed.token()
    signed.verifier.verify(token)
    signed.keys.clear()
    if other:
        signed.keys[signed.key.id] = other
    for _ in range(2):
        with pytest.raises(TokenInvalid):
            signed.verifier.verify(token)
    signed.keys[signed.key.id] = signed.key
    signed.verifier.verify(token)


def test_the_memory_of_tokens_has_a_limit(verified: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were asked for last stay. None is in memory as it is."""
    monkeypatch.setattr(tokens, "_REMEMBERED", 3500)
    signed = Signed()
    several = [signed.token(f"{number}") for number in range(3)]
    for token in (*several, several[2], several[1], several[0]):
        signed.verifier.verify(token)
    assert verified == [*several, several[0]]
    assert {type(each) for each in signed.verifier._memory._tokens} == {bytes}
