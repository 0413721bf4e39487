"""A process that delivers, with short waits: ``webhook-sender DATABASE-URL``, for ``tests.zygote``."""

import sys
from contextlib import closing
from threading import Event

from dualreg.catalog.database import Catalog
from dualreg.catalog.leading import Duty, lead_when_free
from dualreg.registry import outbox
from dualreg.registry.outbox import Outbox
from dualreg.remote.transport import Effort
from dualreg.webhooks import delivery, sending
from dualreg.webhooks.delivery import Delivery


def main() -> None:
    """Deliver to this machine until the process is killed."""
    outbox._FIRST, delivery._LOOK = 0.02, 0.02
    sending._EFFORT = Effort(repeats=0, is_patient=False, connect=1, read=0.5, whole=0.5)
    networks = sending.parse_networks("127.0.0.0/8")
    with (
        closing(Catalog(sys.argv[1])) as catalog,
        lead_when_free(catalog, Duty.WEBHOOKS, lambda: not Event().wait(0.1)) as led,
    ):
        assert led
        with led.fenced():
            Delivery(Outbox(catalog), Event(), "https://registry.example", networks).run()
