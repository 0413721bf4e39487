"""What tests do without is still there."""

import bcrypt
import pytest

from dualreg.auth import passwords
from dualreg.auth.passwords import Passwords


def test_hashes_cost_what_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests have cheaper ones."""
    assert Passwords().hash("password").startswith("$2b$04$")
    monkeypatch.setattr(passwords, "bcrypt", bcrypt)
    assert Passwords().hash("password").startswith("$2b$12$")
