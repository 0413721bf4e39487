"""A live registry, over the V1 API: docker-registry 0.6 to 0.9, or whoever speaks like it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dualreg.errors import ImageInvalid
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, Finding, Kind
from dualreg.migrate.sources.base import NoSource, SourceBytes, SourceImage, SourceTag
from dualreg.migrate.sources.v1_tree import is_image_id
from dualreg.migrate.wire import Reply, Wire
from dualreg.migrate.wire.v1 import V1Wire

_OK, _NOT_FOUND = 200, 404
_CHECKSUMS = ("x-docker-payload-checksum", "x-docker-checksum")
_LIBRARY = "library/"


@dataclass(slots=True)
class V1Remote:
    """A V1Source.

    Attributes:
        repository: Only this one; empty: all that a search finds.
    """

    wire: Wire
    repository: str = ""
    _tags: list[SourceTag | Finding] | None = None
    _homes: dict[str, str] = field(default_factory=dict)
    _v1: V1Wire = field(init=False)

    def __post_init__(self) -> None:
        """Begin to speak."""
        self._v1 = V1Wire(self.wire)

    def tags(self) -> Iterator[SourceTag | Finding]:
        """See V1Source."""
        if self._tags is None:
            names = [self.repository] if self.repository else [*self._repositories()]
            self._tags = [each for name in names for each in self._tags_of(name)]
        yield from self._tags

    def image_ids(self) -> Iterator[str]:
        """See V1Source: those that tags lead to; nobody lists the others."""
        for tag in self.tags():
            if not isinstance(tag, SourceTag) or tag.image in self._homes:
                continue
            self._homes[tag.image] = tag.repository
            yield tag.image
            listed = self._list(f"/v1/images/{tag.image}/ancestry", tag.repository)
            for id_ in map(str, listed):
                if id_ not in self._homes:
                    self._homes[id_] = tag.repository
                    yield id_

    def image(self, id_: str) -> SourceImage:
        """See V1Source."""
        home = self._homes.get(id_, "")
        reply = self._get(f"/v1/images/{id_}/json", home)
        if reply.status == _NOT_FOUND:
            raise Broken(Kind.NO_JSON, id_, "no such image")
        if reply.status != _OK:
            raise Broken(Kind.PARTIAL, id_, f"the registry answers {reply.status}")
        try:
            image = V1Image.parse(reply.body)
        except ImageInvalid as error:
            raise Broken(Kind.CORRUPT, id_, f"its JSON cannot be read ({error})") from error
        if image.id != id_:
            raise Broken(Kind.WRONG_ID, id_, f"its JSON says that it is {image.id}")
        size = reply.headers.get("x-docker-size", "")
        checksums = (reply.headers[name] for name in _CHECKSUMS if name in reply.headers)
        layer = SourceBytes(
            int(size) if size.isdecimal() else 0,
            lambda: self._v1.stream(f"/v1/images/{id_}/layer", home),
        )
        return SourceImage(image.id, image.parent, lambda: reply.body, layer, checksums=tuple(checksums))

    def ancestry(self, id_: str) -> Sequence[str] | None:
        """See V1Source: what the registry says was only used to find images."""
        del id_
        return None

    def homes(self) -> Mapping[str, str]:
        """See V1Source."""
        return self._homes

    def _repositories(self) -> Iterator[str]:
        page, pages = 1, 1
        while page <= pages:
            reply = self._get(f"/v1/search?q=&n=100&page={page}", "")
            if reply.status != _OK:
                raise NoSource(
                    f"{self.wire.url} does not search ({reply.status}): name a repository in the URL"
                )
            told = reply.json()
            pages = int(told.get("num_pages") or 1)
            yield from (str(each["name"]) for each in told.get("results") or ())
            page += 1

    def _tags_of(self, name: str) -> Iterator[SourceTag | Finding]:
        full = name if "/" in name else _LIBRARY + name
        reply = self._get(f"/v1/repositories/{name}/tags", name)
        told: Any = reply.json() if reply.status == _OK else {}
        if reply.status not in (_OK, _NOT_FOUND):
            raise NoSource(f"{self.wire.url}: the tags of {name} are refused ({reply.status})")
        if not isinstance(told, dict) or not told:
            yield Finding(Kind.EMPTY, full, "no tags")
            return
        for tag, image in sorted(told.items()):
            if is_image_id(str(image)):
                yield SourceTag(full, tag, image, datetime.now(UTC))
            else:
                yield Finding(Kind.PHANTOM, f"{full}:{tag}", "no image id")

    def _list(self, path: str, repository: str) -> list[Any]:
        reply = self._get(path, repository)
        listed = reply.json() if reply.status == _OK else []
        return listed if isinstance(listed, list) else []

    def _get(self, path: str, repository: str) -> Reply:
        return self._v1.get(path, repository)
