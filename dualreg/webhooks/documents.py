"""Documents: an event as its receiver reads it.

Sources: CloudEvents 1.0.2, "JSON Event Format" and "HTTP Protocol Binding" (structured content mode), and its
extension "Sequence"; distribution, "Work with notifications", and its ``notifications/event.go``.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dualreg.catalog.moves import HistoryRow
from dualreg.registry.webhooks import Action, Format, action_of

_CLOUDEVENTS = "application/cloudevents+json; charset=utf-8"
_DOCKER = "application/vnd.docker.distribution.events.v2+json"
#: What names the registry if it does not know its own URL.
_SOURCE = "/dualreg"
#: Digits of the largest number of an event: sequences are compared as texts.
_DIGITS = 19
_TYPES = {Action.PUSH: "dualreg.tag.push", Action.DELETE: "dualreg.tag.delete"}
_PING = "dualreg.ping"


class Document(NamedTuple):
    """What is sent.

    Attributes:
        id: The same for each attempt to send an event, and for no other event.
    """

    id: str
    content_type: str
    body: bytes


def event_document(event: HistoryRow, form: str, url: str) -> Document:
    """Return an event in the form of a webhook.

    Args:
        url: Of the registry; empty: not known.
    """
    id_ = _id(event)
    if form == Format.DOCKER:
        return _document(id_, _DOCKER, {"events": [_docker_event(id_, event, url)]})
    happened = {
        "type": _TYPES[action_of(event)],
        "subject": f"{event.repository}:{event.tag}",
        "time": _time(event.at),
        "sequence": f"{event.id:0{_DIGITS}}",
        "data": _data(event, url),
    }
    return _document(id_, _CLOUDEVENTS, _cloud_event(id_, url) | happened)


def ping_document(form: str, url: str, id_: str, now: datetime) -> Document:
    """Return what tries a webhook; in the envelope of the reference registry, no event at all."""
    if form == Format.DOCKER:
        return _document(id_, _DOCKER, {"events": []})
    return _document(id_, _CLOUDEVENTS, _cloud_event(id_, url) | {"type": _PING, "time": _time(now)})


def _document(id_: str, content_type: str, content: Mapping[str, object]) -> Document:
    return Document(id_, content_type, json.dumps(content).encode())


def _id(event: HistoryRow) -> str:
    """Return the id of an event: with its time, as a catalog that was rebuilt or restored counts again."""
    return f"{event.id}-{int(event.at.timestamp() * 1_000_000):x}"


def _cloud_event(id_: str, url: str) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": url or _SOURCE,
        "datacontenttype": "application/json",
    }


def _data(event: HistoryRow, url: str) -> Mapping[str, Any]:
    return {
        "action": action_of(event),
        "repository": event.repository,
        "tag": event.tag,
        "digest": str(event.new) if event.new else None,
        "previous_digest": str(event.old) if event.old else None,
        "media_type": event.media_type,
        "size": event.size,
        "origin": event.origin,
        "actor": event.actor,
        "api": event.api,
        "url": _manifest_url(event, url) or None,
    }


def _docker_event(id_: str, event: HistoryRow, url: str) -> Mapping[str, Any]:
    target: dict[str, object] = {"repository": event.repository, "tag": event.tag}
    if event.new:
        target |= {"mediaType": event.media_type, "digest": str(event.new)}
        target |= {"size": event.size, "length": event.size}
        target |= {"url": found} if (found := _manifest_url(event, url)) else {}
    return {
        "id": id_,
        "timestamp": _time(event.at),
        "action": action_of(event),
        "target": target,
        "request": {},
        "actor": {"name": event.actor} if event.actor else {},
        "source": {"addr": url.partition("://")[2]} if url else {},
    }


def _manifest_url(event: HistoryRow, url: str) -> str:
    return f"{url.rstrip('/')}/v2/{event.repository}/manifests/{event.new}" if url and event.new else ""


def _time(at: datetime) -> str:
    """Return an instant as RFC 3339 has it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
