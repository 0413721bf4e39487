"""Inflating: reading layers and uploads through on behalf of clients, a few at a time."""

from dualreg.waiting import WorkSlots

#: Layers that each process reads through at once, and threads that wait for that.
_SLOTS, _WAITING = 2, 4
#: Seconds that what is done once for an image waits for a slot.
_PATIENCE = 60.0


class InflatingSlots(WorkSlots):
    """Slots of work that takes a processor for as long as a layer is large."""

    def __init__(self, slots: int = _SLOTS) -> None:
        """Start with all *slots* free."""
        super().__init__(slots, _WAITING, _PATIENCE)
