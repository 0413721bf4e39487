"""A remote registry as a source, over the V1 API: docker-registry 0.6 to 0.9, and what is compatible."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from dualreg.errors import ImageInvalid
from dualreg.image.names import in_library
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.scan_options import ScanOptions, bounded
from dualreg.migrate.sources.base import SourceBytes, SourceImage, SourceInvalid, SourceTag, lost_tag
from dualreg.migrate.sources.v1_tree import is_image_id
from dualreg.remote.client import Client
from dualreg.remote.endpoint import RemoteError
from dualreg.remote.response import Response
from dualreg.remote.v1 import V1Client

_OK, _NOT_FOUND = 200, 404
_CHECKSUM_HEADERS = ("x-docker-payload-checksum", "x-docker-checksum")


@dataclass(slots=True)
class V1Remote:
    """A V1Source. The API does not say when a tag was pushed, nor which images are untagged.

    Attributes:
        repository: The only repository to read; empty: all that a search finds.
    """

    client: Client
    repository: str = ""
    options: ScanOptions = field(default_factory=ScanOptions)
    _v1: V1Client = field(init=False)
    _tags: list[SourceTag | Finding] | None = None
    _homes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._v1 = V1Client(self.client)

    def tags(self) -> Iterator[SourceTag | Finding]:
        """Yield the selected tags; they are requested once.

        Raises:
            SourceInvalid, RemoteError: the repositories, or the tags of the only one, cannot be listed.
        """
        if self._tags is None:
            listed = [self.repository] if self.repository else dict.fromkeys(self._repositories())
            names = [each for each in _full_names(listed) if self.options.names.may_select(each[1])]
            by_repository = self.options.each(self._list_tags, names)
            self._tags = [each for tags in by_repository for each in tags if self._is_selected(each)]
        yield from self._tags

    def image_ids(self) -> Iterator[str]:
        """Yield the ids of tagged images and their ancestors; ``tags`` then has what could not be listed."""
        tags = [tag for tag in self.tags() if isinstance(tag, SourceTag) and not tag.lost]
        homes = {tag.image: tag.repository for tag in reversed(tags)}
        places = [(image, homes[image]) for image in dict.fromkeys(tag.image for tag in tags)]
        for (image, home), listed in zip(places, self.options.each(self._ancestors, places), strict=True):
            if isinstance(listed, Finding) and self._tags is not None:
                self._tags.append(listed)
            for id_ in (image, *(() if isinstance(listed, Finding) else listed)):
                if id_ not in self._homes:
                    self._homes[id_] = home
                    yield id_

    def image(self, id_: str) -> SourceImage:
        home = self._homes.get(id_, self.repository)
        try:
            response = self._v1.get(f"/v1/images/{id_}/json", home)
        except RemoteError as error:
            raise Broken(FindingKind.UNREACHABLE, id_, str(error)) from error
        if response.status == _NOT_FOUND:
            raise Broken(FindingKind.NO_JSON, id_, "no such image")
        if response.status != _OK:
            raise Broken(FindingKind.UNREACHABLE, id_, f"the registry answered {response.status}")
        try:
            image = V1Image.parse(response.body)
        except ImageInvalid as error:
            raise Broken(FindingKind.CORRUPT, id_, f"invalid image JSON ({error})") from error
        if image.id != id_:
            raise Broken(FindingKind.WRONG_ID, id_, f"the id in its JSON is {image.id}")
        checksums = (response.headers[name] for name in _CHECKSUM_HEADERS if name in response.headers)
        layer = SourceBytes(
            response.size("x-docker-size"), lambda: self._v1.stream(f"/v1/images/{id_}/layer", home)
        )
        return SourceImage(image.id, image.parent, lambda: response.body, layer, checksums=tuple(checksums))

    def ancestry(self, id_: str) -> Sequence[str] | None:
        """Return None: the registry's lists are only used to find images, and their JSONs name parents."""
        del id_
        return None

    def agent(self, repository: str, tag: str) -> str:
        del repository, tag
        return ""

    def homes(self) -> Mapping[str, str]:
        return self._homes

    def _repositories(self) -> Iterator[str]:
        pages = (self._v1.get(f"/v1/search?q=&n=100&page={page}") for page in count(1))
        for page, response in enumerate(bounded(pages, f"{self.client.url}/v1/search"), 1):
            if response.status != _OK:
                hint = "log in with --user" if response.is_denied else "name a repository in the URL"
                raise SourceInvalid(
                    f"{self.client.url}: cannot search for repositories ({response.status}); {hint}"
                )
            found = response.objects("results")
            yield from (name for each in found if isinstance(name := each.get("name"), str))
            last = response.object().get("num_pages")
            if not found or not isinstance(last, int) or page >= last:
                return

    def _list_tags(self, names: tuple[str, str]) -> Sequence[SourceTag | Finding]:
        """Return the tags of a repository, given by its listed and its full name, or why they are unknown.

        Raises:
            SourceInvalid, RemoteError: they cannot be listed, and no other repository is wanted.
        """
        try:
            return [*self._tags_of(*names)]
        except (SourceInvalid, RemoteError) as error:
            if self.repository:
                raise
            return [lost_tag(FindingKind.REFUSED, names[1], "", str(error))]

    def _tags_of(self, name: str, full: str) -> Iterator[SourceTag | Finding]:
        response = self._v1.get(f"/v1/repositories/{name}/tags", name)
        if response.status not in (_OK, _NOT_FOUND):
            raise SourceInvalid(f"{self.client.url}: cannot list the tags of {name} ({response.status})")
        tags = response.object() if response.status == _OK else {}
        if not tags:
            yield Finding(FindingKind.EMPTY, full, "no tags")
        for tag, image in sorted(tags.items()):
            if is_image_id(str(image)):
                yield SourceTag(full, tag, image, None)
            elif tag.endswith("_json") and isinstance(image, str) and image.lstrip().startswith("{"):
                yield Finding(FindingKind.PHANTOM, f"{full}:{tag}", "no image id")
            else:
                yield lost_tag(FindingKind.CORRUPT, full, tag, "no image id")

    def _is_selected(self, each: SourceTag | Finding) -> bool:
        """Return whether a tag is selected; a repository, which may hide selected ones, always is."""
        if isinstance(each, Finding) or not each.tag:
            return True
        return self.options.names.selects(each.repository, each.name)

    def _ancestors(self, place: tuple[str, str]) -> Iterable[str] | Finding:
        """Return the ids in the registry's ancestry list of an image, or why it has none."""
        image, repository = place
        try:
            listed = _list(self._v1.get(f"/v1/images/{image}/ancestry", repository))
        except RemoteError as error:
            return Finding(FindingKind.REFUSED, image, f"its ancestors: {error}")
        return [id_ for id_ in listed if isinstance(id_, str) and is_image_id(id_)]


def _full_names(listed: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name with its full form, ``library/x`` for ``x``, unless the registry lists both."""
    known = dict.fromkeys(listed)
    for name in known:
        full = in_library(name)
        yield name, name if full in known else full


def _list(response: Response) -> Sequence[object]:
    listed = response.json() if response.status == _OK else []
    return listed if isinstance(listed, list) else []
