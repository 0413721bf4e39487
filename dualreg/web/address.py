"""Address: the URL of this registry as its clients know it, for everything that we tell them."""

import re
from urllib.parse import urlsplit

from dualreg.errors import RequestInvalid
from dualreg.web.context import settings
from dualreg.web.current import current_request
from dualreg.web.forwarded import is_https

#: Names, with the underscores that containers have, and IP addresses.  Source: RFC 3986, section 3.2.2.
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def own_url() -> str:
    """Return the URL before ``/v1`` and ``/v2``: ``public_url``, else the scheme and host that were asked.

    Raises:
        RequestInvalid: the request names something else than a host.
    """
    return settings().public_url or f"{_scheme()}://{own_host()}"


def own_host() -> str:
    """Return the host and port of ``own_url``; a port that its scheme implies is left out.

    Raises:
        RequestInvalid: as ``own_url``.
    """
    if public := settings().public_url:
        return urlsplit(public).netloc
    return _asked_host().removesuffix(_DEFAULT_PORTS[_scheme()])


def _asked_host() -> str:
    """Return the host that the request names, with its port if it names one; raises as ``own_url``."""
    asked = current_request()
    host: str = asked.environ.get("HTTP_HOST") or asked.host  # HTTP/1.0 has no Host
    if _HOST.fullmatch(host) is None:
        raise RequestInvalid(reason="the Host header is not a host")
    return host


def own_path() -> str:
    """Return the path of ``own_url``, empty unless ``public_url`` has one."""
    return urlsplit(settings().public_url).path


def is_secure() -> bool:
    """Return whether clients reach this registry by https, whatever host they name."""
    return (settings().public_url or _scheme()).startswith("https")


def own_origin() -> str:
    """Return the origin of our pages, as browsers write it whatever ``public_url`` looks like.

    Raises:
        RequestInvalid: as ``own_url``.
    """
    parts = urlsplit(own_url().lower())
    return f"{parts.scheme}://{parts.netloc.removesuffix(_DEFAULT_PORTS[parts.scheme])}"


def shown_host() -> str:
    """Return ``own_host`` for people to read; empty if the request names none."""
    try:
        return own_host()
    except RequestInvalid:
        return ""


def check_host() -> None:
    """Raise RequestInvalid if answers would have to name an address that nobody can know."""
    if current_request().blueprint and not settings().public_url:
        _asked_host()


def _scheme() -> str:
    return "https" if is_https() else "http"
