"""TLS: serving without a proxy, by a certificate that is renewed while the registry runs."""

import ssl
from pathlib import Path

from dualreg.auth.files import Reread


def certificate(chain: Path, key: Path) -> Reread[ssl.SSLContext]:
    """Return what connections are accepted with, read again when a file has changed.

    Files that cannot be used, such as one that is renewed before the other, leave it as it was.

    Raises:
        ValueError: one of them cannot be read, or they do not belong together.
    """

    def read() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain, key)
        return context

    return Reread(read, chain, key)
