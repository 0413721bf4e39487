"""V1 proxy: the content of one registry of the Docker V1 API, imported image by image."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from dualreg.catalog.rows import ManifestRow, Origin
from dualreg.errors import ImageIdInvalid, RepositoryOwned, RepositoryUnknown, TagInvalid, TagUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.on_demand.loader import Loader
from dualreg.migrate.on_demand.trees import OnDemandV1
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.sources.v1_remote import V1Remote
from dualreg.remote.v1 import V1Client
from dualreg.upstreams.checked import Checked

#: Tags of a repository that are known.
_TAGS = 20_000


class _Source(V1Remote, OnDemandV1):
    """A repository of the registry, as a source of imports."""


@dataclass(frozen=True, kw_only=True)
class V1Proxy(Checked):
    """The content of the repositories of a route to a registry of the V1 API."""

    loader: Loader

    def origin_of(self, repository: RepositoryName) -> Origin:
        del repository
        return Origin.V1

    def ask(self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow | None) -> bool:
        self.require_served(repository, reference)
        if isinstance(reference, Digest):  # which only this registry knows
            return row is not None
        image = self._tags(repository).get(reference)
        if image is None:
            if row:
                self.require()
                with suppress(TagUnknown):  # another process was faster
                    self.registry.tags.delete(repository, reference)
            return False
        if row is None or self.registry.bridge.view_of(row) != image:
            if not self._import(repository, image):
                return False
            self.registry.bridge.tag(repository, reference, image)
            self.note_fetched(repository, reference)
        self.confirm(repository, reference)
        return True

    def coming_blob(self, repository: RepositoryName, digest: Digest) -> None:
        del repository, digest  # images are imported whole

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        if not self.route.allows(repository) or image not in self._listed(repository).values():
            return False
        with self.waiting.slot():
            return self._import(repository, image)

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        del repository, subject  # there are none in V1

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        return [*islice((tag for tag in self._listed(repository) if tag > last), limit)]

    def available_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        here = dict[Tag, ImageId]()
        with suppress(RepositoryUnknown):
            here = self.registry.bridge.tags(repository)
        for tag in here:
            self.load(repository, tag)  # it may have moved
        return {tag: image for tag, image in self._listed(repository).items() if tag not in here}

    def _listed(self, repository: RepositoryName) -> dict[Tag, str]:
        """Return the tags there with their images, in byte order, as they were a while ago; as ``listed``."""
        lines = self.listed(repository, lambda: sorted(map(" ".join, self._tags(repository).items())))
        return {Tag(tag): image for tag, _, image in (line.partition(" ") for line in lines)}

    def _tags(self, repository: RepositoryName) -> dict[Tag, ImageId]:
        """Return the tags of the repository there with their images.

        Raises:
            UpstreamFailed, ServerBusy.
        """
        name = self.route.there(repository)
        response = self.remote.call(
            lambda client: V1Client(client).get(f"/v1/repositories/{name}/tags", name)
        )
        found = dict[Tag, ImageId]()
        with self.remote.failures():
            listed = response.object() if response else {}
        for tag, image in islice(listed.items(), _TAGS):
            with suppress(TagInvalid, ImageIdInvalid):
                found[Tag.parse(tag)] = ImageId.parse(str(image))
        return found

    def _import(self, repository: RepositoryName, image: ImageId) -> bool:
        """Import an image with its ancestors; return False if clients have begun to push to the repository.

        Raises:
            UpstreamFailed: it cannot be imported; the log says why.
        """
        self.require()
        name = self.route.there(repository)
        try:
            self.registry.loaded.claim(repository, self.route.url)
        except RepositoryOwned:
            return False
        source = _Source(self.remote.connect(), name)
        if not self.loader.load_image(source, Entry(name, "", image, repository, "", PlanAction.IMPORT)):
            raise self.failed(f"image {image} cannot be imported")
        return True
