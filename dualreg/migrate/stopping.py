"""Stopping: the early end of a run, when it is asked to end or when the registry takes no more content."""

from collections.abc import Callable
from threading import Event

from dualreg.errors import RegistryError


class Stopped(Exception):
    """The run was stopped: what is complete stays, and the next run continues.

    The text says why, unless the run was asked to end.
    """


class Stop:
    """Says whether a run goes on; all that takes long asks it between two steps.

    Attributes:
        reason: Why the registry takes no more content, if that ended the run.
    """

    def __init__(self, asked: Event | None = None, require: Callable[[], None] = lambda: None) -> None:
        """Go on until *asked* is set, or *require* raises.

        Args:
            require: Checks that content may be added, such as ``Writes.require``. A RegistryError ends the
                run; other errors are passed on.
        """
        self._asked, self._require = asked or Event(), require
        self._ended = False
        self.reason = ""

    def is_set(self) -> bool:
        """Return whether the run ends."""
        return self._ended or self._asked.is_set()

    def set(self) -> None:
        """End the run, for instance since all that is left would fail, too."""
        self._ended = True

    def check(self) -> None:
        """Raise Stopped if the run ends: between two steps."""
        if self.is_set():
            raise Stopped(self.reason)
        self.check_room()

    def check_room(self, _: bytes = b"") -> None:
        """Raise Stopped if no more content is taken: for each chunk of what is read within a step."""
        try:
            self._require()
        except RegistryError as error:
            self.reason, self._ended = str(error), True
            raise Stopped(self.reason) from error
