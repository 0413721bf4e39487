"""A live registry, over the V1 API: docker-registry 0.6 to 0.9, or whoever speaks like it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dualreg.errors import ImageInvalid
from dualreg.image.names import in_library
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.sources.base import SourceBytes, SourceImage, SourceInvalid, SourceTag
from dualreg.migrate.sources.v1_tree import is_image_id
from dualreg.remote.client import Client
from dualreg.remote.errors import RemoteError
from dualreg.remote.response import Response
from dualreg.remote.v1 import V1Client

_OK, _NOT_FOUND = 200, 404
_CHECKSUMS = ("x-docker-payload-checksum", "x-docker-checksum")
#: Pages of a search that are asked for at most.
_PAGES = 10_000


@dataclass(slots=True)
class V1Remote:
    """A V1Source. Nothing tells when a tag was pushed.

    Attributes:
        repository: Only this one; empty: all that a search finds.
    """

    wire: Client
    repository: str = ""
    asking: ScanOptions = field(default_factory=ScanOptions)
    _v1: V1Client = field(init=False)
    _tags: list[SourceTag | Finding] | None = None
    _homes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin to speak."""
        self._v1 = V1Client(self.wire)

    def tags(self) -> Iterator[SourceTag | Finding]:
        """See V1Source: the chosen tags."""
        if self._tags is None:
            listed = [self.repository] if self.repository else dict.fromkeys(self._repositories())
            names = [(name, full) for name, full in _called(listed) if self.asking.may_choose(full)]
            told = self.asking.each(self._tags_of, names)
            self._tags = [each for tags in told for each in tags if self._is_chosen(each)]
        yield from self._tags

    def image_ids(self) -> Iterator[str]:
        """See V1Source: those that tags lead to; nobody lists the others."""
        tags = [tag for tag in self.tags() if isinstance(tag, SourceTag)]
        tops = {tag.image: tag.repository for tag in reversed(tags)}
        places = [(image, tops[image]) for image in dict.fromkeys(tag.image for tag in tags)]
        for (image, home), listed in zip(places, self.asking.each(self._ancestors, places), strict=True):
            if isinstance(listed, Finding) and self._tags is not None:
                self._tags.append(listed)
            for id_ in (image, *(() if isinstance(listed, Finding) else listed)):
                if id_ not in self._homes:
                    self._homes[id_] = home
                    yield id_

    def image(self, id_: str) -> SourceImage:
        """See V1Source."""
        home = self._homes.get(id_, "")
        try:
            reply = self._v1.get(f"/v1/images/{id_}/json", home)
        except RemoteError as error:
            raise Broken(FindingKind.UNREACHABLE, id_, str(error)) from error
        if reply.status == _NOT_FOUND:
            raise Broken(FindingKind.NO_JSON, id_, "no such image")
        if reply.status != _OK:
            raise Broken(FindingKind.UNREACHABLE, id_, f"the registry answers {reply.status}")
        try:
            image = V1Image.parse(reply.body)
        except ImageInvalid as error:
            raise Broken(FindingKind.CORRUPT, id_, f"its JSON cannot be read ({error})") from error
        if image.id != id_:
            raise Broken(FindingKind.WRONG_ID, id_, f"its JSON says that it is {image.id}")
        checksums = (reply.headers[name] for name in _CHECKSUMS if name in reply.headers)
        layer = SourceBytes(
            reply.size("x-docker-size"), lambda: self._v1.stream(f"/v1/images/{id_}/layer", home)
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
        for page in range(1, _PAGES):
            reply = self._v1.get(f"/v1/search?q=&n=100&page={page}")
            if reply.status != _OK:
                advice = reply.advice or "name a repository in the URL"
                raise SourceInvalid(f"{self.wire.url} does not search ({reply.status}): {advice}")
            found = reply.objects("results")
            yield from (name for each in found if isinstance(name := each.get("name"), str))
            pages = reply.object().get("num_pages")
            if not found or not isinstance(pages, int) or page >= pages:
                return

    def _tags_of(self, named: tuple[str, str]) -> Sequence[SourceTag | Finding]:
        """Return the tags of a repository, by the name that is listed and its own; or why they are not told.

        Raises:
            NoSource, WireError: likewise, if it is the only one that is wanted.
        """
        try:
            return [*self._listed(*named)]
        except (SourceInvalid, RemoteError) as error:
            if self.repository:
                raise
            return [Finding(FindingKind.REFUSED, named[1], str(error))]

    def _listed(self, name: str, full: str) -> Iterator[SourceTag | Finding]:
        reply = self._v1.get(f"/v1/repositories/{name}/tags", name)
        if reply.status not in (_OK, _NOT_FOUND):
            raise SourceInvalid(f"{self.wire.url}: the tags of {name} are refused ({reply.status})")
        told = reply.object() if reply.status == _OK else {}
        if not told:
            yield Finding(FindingKind.EMPTY, full, "no tags")
        for tag, image in sorted(told.items()):
            if is_image_id(str(image)):
                yield SourceTag(full, tag, image, None)
            else:
                yield Finding(FindingKind.PHANTOM, f"{full}:{tag}", "no image id")

    def _is_chosen(self, told: SourceTag | Finding) -> bool:
        return isinstance(told, Finding) or self.asking.names.choose(told.repository, told.name)

    def _ancestors(self, place: tuple[str, str]) -> Iterable[str] | Finding:
        """Return what is said to be below an image; its JSON decides."""
        image, repository = place
        try:
            listed = _list(self._v1.get(f"/v1/images/{image}/ancestry", repository))
        except RemoteError as error:
            return Finding(FindingKind.REFUSED, image, f"its ancestors: {error}")
        return [id_ for id_ in listed if isinstance(id_, str) and is_image_id(id_)]


def _called(listed: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name with what it is short for, unless that is another one there."""
    known = dict.fromkeys(listed)
    for name in known:
        full = in_library(name)
        yield name, name if full in known else full


def _list(reply: Response) -> Sequence[object]:
    listed = reply.json() if reply.status == _OK else []
    return listed if isinstance(listed, list) else []
