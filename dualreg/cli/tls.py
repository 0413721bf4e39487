"""TLS: serving without a proxy, by a certificate that is renewed while the registry runs."""

import logging
import ssl
from pathlib import Path
from threading import Lock

_log = logging.getLogger(__name__)


class Certificate:
    """A certificate and its key, in files that are read again when a connection finds them changed."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both.

        Raises:
            ValueError: one of them cannot be read, or they do not belong together.
        """
        self._paths = (certificate, key)
        self._lock = Lock()
        try:
            self._seen = self._stamps()
            self._context = self._read()
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"cannot use {certificate} with {key}: {error}") from error

    def context(self) -> ssl.SSLContext:
        """Return what connections are accepted with.

        Files that cannot be used, such as one that is renewed before the other, leave it as it was.
        """
        with self._lock:
            try:
                stamps = self._stamps()
                if stamps != self._seen:
                    self._context = self._read()
                    self._seen = stamps
                    _log.warning("the certificate %s was read anew", self._paths[0])
            except (OSError, ssl.SSLError) as error:
                _log.warning("the certificate stays as it was: %s: %s", self._paths[0], error)
            return self._context

    def _stamps(self) -> list[tuple[int, int, int]]:
        found = [path.stat() for path in self._paths]
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in found]

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self._paths)
        return context
