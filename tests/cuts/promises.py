"""Promises: what the answers of a registry say it holds, as a client notes them while a story runs."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

#: What a promise is about: the kind of thing, its repository, and its name there. Kinds, with their values:
#: ``tag``: digest of the manifest, over V2; ``v1``: ID of the image of a tag, over V1;
#: ``manifest``, ``blob``: its digest; ``upload`` (named by its path and what it will be): its offset.
#: The value of what does not exist is None.
Key = tuple[Literal["tag", "v1", "manifest", "blob", "upload"], str, str]
Value = str | int | None
Facts = dict[Key, Value]


class Notes:
    """Writes to a file what a client asks for, before, and what was answered, after."""

    def __init__(self, descriptor: int) -> None:
        """Write to *descriptor*, one line a write."""
        self._descriptor = descriptor

    @contextmanager
    def asking(self, facts: Facts) -> Iterator[None]:
        """Ask for *facts* in the block; when it ends, they were answered for."""
        self._write("asked", facts)
        yield
        self._write("answered", facts)

    def begin(self) -> None:
        """Note that what was done so far was only preparation."""
        self._write("begun", {})

    def _write(self, verb: str, facts: Facts) -> None:
        line = json.dumps([verb, [[*key, value] for key, value in facts.items()]])
        os.write(self._descriptor, f"{line}\n".encode())


class Promises:
    """What must hold, as far as the notes of a client go.

    Attributes:
        allowed: The values that each may have: the one that was answered last, and those asked for since.
        begun: Whether the preparation is over.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.allowed: dict[Key, set[Value]] = {}
        self.begun = False

    def note(self, line: bytes) -> None:
        """Take one line of the notes."""
        verb, facts = json.loads(line)
        self.begun |= verb == "begun"
        for *key, value in facts:
            if verb == "asked":
                self.allowed.setdefault(tuple(key), {None}).add(value)
            else:
                self.allowed[tuple(key)] = {value}
