"""What the JSON of a V1 image means to Docker, however it is written.

A daemon does not keep the JSON that it pulls: it decodes it, and encodes what it knows anew. So the same
image comes back with its members in another order, with empty members added or removed, with its time written
differently, and without members that the daemon does not know.

Source: moby 1.6 to 1.9, ``image/image.go`` (Image), ``runconfig/config.go`` (Config), ``graph/graph.go``
(storeImage); 1.8 was the first to drop the limits of memory and CPU.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dualreg.image.documents import is_time, parse_object

#: The members of an image that all of Docker 1.6 to 1.9 keep, but for its ids and size.
_IMAGE_MEMBERS = (
    "architecture",
    "author",
    "comment",
    "config",
    "container",
    "container_config",
    "created",
    "docker_version",
    "os",
)
#: Those of its configuration.
_CONFIG_MEMBERS = (
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Cmd",
    "Domainname",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Hostname",
    "Image",
    "Labels",
    "MacAddress",
    "NetworkDisabled",
    "OnBuild",
    "OpenStdin",
    "StdinOnce",
    "Tty",
    "User",
    "Volumes",
    "WorkingDir",
)
#: How long a time is up to its seconds, and what follows.
_SECONDS, _FRACTION = 19, re.compile(r"(?:\.(\d+))?(.*)")


def mean_the_same(one: bytes, other: bytes) -> bool:
    """Return whether Docker reads the same image from two V1 JSONs; ids and parents are not compared."""
    if one == other:
        return True
    try:
        return _image(parse_object(one)) == _image(parse_object(other))
    except ValueError:
        return False


def _image(document: Mapping[str, Any]) -> Mapping[str, object]:
    members = _known(document, _IMAGE_MEMBERS)
    for name in ("config", "container_config"):
        if isinstance(inner := members.get(name), dict):
            members[name] = _config(inner)
    members["created"] = _instant(members.get("created"))
    return {name: value for name, value in members.items() if value}


def _config(document: Mapping[str, Any]) -> Mapping[str, object]:
    words = {
        key: [value] if key.casefold() in ("cmd", "entrypoint") and isinstance(value, str) else value
        for key, value in document.items()
    }  # Docker takes a string for a list of it
    members = _known(words, _CONFIG_MEMBERS)
    for name in ("ExposedPorts", "Volumes"):  # sets, whose values mean nothing
        if isinstance(named := members.get(name), dict):
            members[name] = {*named}
    return members


def _known(document: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the members *names* that are not empty, in whatever case they are written: Go ignores it."""
    folded = {key.casefold(): value for key, value in document.items()}
    return {name: value for name in names if (value := folded.get(name.casefold()))}


def _instant(created: object) -> object:
    """Return when an image was created, so that equal instants are equal; None for the zero time.

    Nanoseconds are kept beside the instant, which has microseconds only.
    """
    if not isinstance(created, str) or not is_time(created):
        return created
    fraction, zone = _FRACTION.fullmatch(created[_SECONDS:]).groups("")  # type: ignore[union-attr]  # is_time
    fraction = fraction.rstrip("0")
    try:
        instant = datetime.fromisoformat(created[:_SECONDS] + zone).astimezone(UTC)
    except (ValueError, OverflowError):  # the year 0, or an instant before the year 1
        return created
    zero = datetime.min.replace(tzinfo=UTC)
    return None if (instant, fraction) == (zero, "") else (instant, fraction)
