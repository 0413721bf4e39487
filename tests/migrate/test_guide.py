"""docs/migrate.md shows what its commands print."""

from pathlib import Path

import pytest

from tests.migrate.guide import GUIDE, play


@pytest.mark.slow
def test_examples_are_what_commands_print(tmp_path: Path) -> None:
    """Run ``python -m tests.migrate.guide`` after a change of what they print, and look at the difference."""
    text = GUIDE.read_text(encoding="utf-8")
    assert play(text, tmp_path) == text
