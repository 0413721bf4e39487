"""A static tree: files under the paths of both APIs, which a plain web server serves pulls from.

``nginx.conf`` beside it, and ``.htaccess`` in it, say of which type manifests are.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, check_folder
from dualreg.migrate.targets.files import write_blob, write_if_changed
from dualreg.registry import Registry

_NGINX = """\
# Serves the pulls of this tree; include it in http {{ }}, and change what is listened on.
map_hash_bucket_size 512;
map_hash_max_size 65536;
map $uri $dualreg_type {{
    default application/octet-stream;
    ~^/v[12]/([^/]*|.*/tags/list|_catalog|.*/(json|ancestry|images|tags/.*))$ application/json;
{types}}}
map $uri $dualreg_digest {{
{digests}}}
map $uri $dualreg_size {{
{sizes}}}
# Docker 1.3 to 1.5 would try a V2 client that was never finished, if there were a /v2/ for them.
map "$uri $http_user_agent" $dualreg_hidden {{
    default 0;
    "~^/v2/(index.json)? (docker/1\\.[345]\\.|Go )" 1;
}}
# What Docker of V1 wants to be told with the list of images; anybody may read.
map $uri $dualreg_token {{
    "~^/v1/repositories/.*/images$" "signature=none,repository=\\"any\\",access=read";
}}
map $uri $dualreg_endpoint {{
    "~^/v1/repositories/.*/images$" $http_host;
}}
server {{
    listen 127.0.0.1:5080;
    root "{root}";
    index index.json;
    types {{ }}
    default_type "";
    if ($dualreg_hidden) {{
        return 404;
    }}
    add_header Content-Type $dualreg_type always;
    add_header Docker-Distribution-Api-Version registry/2.0;
    add_header Docker-Content-Digest $dualreg_digest;
    add_header X-Docker-Registry-Version 0.9.1;
    add_header X-Docker-Registry-Standalone False;
    add_header X-Docker-Token $dualreg_token;
    add_header X-Docker-Endpoints $dualreg_endpoint;
    add_header X-Docker-Size $dualreg_size;
    location ~ ^/v1/repositories/.*/tags$ {{
        try_files $uri/index.json =404;
    }}
}}
"""


class StaticTreeTarget:
    """A Target; blobs that several repositories have are one file under several names."""

    takes_schema1 = False
    renames = False
    one_by_one = False

    def __init__(self, path: Path, registry: Registry) -> None:
        """Write below *path*, with the V1 images that *registry* shows.

        Raises:
            NoTarget: it is no folder.
        """
        check_folder(path)
        self._root, self._registry, self._lock = path, registry, Lock()
        self._first: dict[Digest, Path] = {}
        self._types: dict[str, tuple[str, str]] = {}
        self._tags: dict[RepositoryName, set[Tag]] = {}
        self._sizes: dict[str, int] = {}

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        """See Target."""
        path = self._root / "v2" / repository / "blobs" / str(digest)
        with self._lock:
            first = self._first.setdefault(digest, path)
        if path != first and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):
                os.link(first, path)
        return write_blob(path, digest, source)

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        """See Target."""
        changed = False
        with self._lock:
            self._tags.setdefault(manifest.repository, set()).update(tags)
        for name in (str(manifest.digest), *tags):
            path = f"v2/{manifest.repository}/manifests/{name}"
            changed |= write_if_changed(self._root / path, manifest.payload)
            with self._lock:
                self._types[f"/{path}"] = (manifest.media_type, str(manifest.digest))
        for tag in tags:
            with suppress(RegistryError):  # old clients cannot use it
                self._v1_image(manifest.repository, tag)
        return changed

    def finish(self) -> None:
        """See Target: lists, and what web servers are to be told."""
        self._json("v2/index.json", {})
        self._json("v2/index.html", {})
        self._json("v2/_catalog", {"repositories": sorted(self._tags)})
        self._json("v1/_ping", {"standalone": True})
        for repository, tags in self._tags.items():
            self._json(f"v2/{repository}/tags/list", {"name": repository, "tags": sorted(tags)})
            self._v1_repository(repository)
        self._tell_servers()

    def _v1_image(self, repository: RepositoryName, tag: Tag) -> None:
        """Write the V1 image that the tag is seen as, and those below it."""
        rows = self._registry.v1_images.ancestry(repository, self._registry.bridge.resolve(repository, tag))
        for number, row in enumerate(rows):
            folder = self._root / "v1/images" / row.id
            self._sizes[f"/v1/images/{row.id}/json"] = row.layer_size or 0
            write_if_changed(folder / "json", self._registry.v1_images.json(row))
            self._json(f"v1/images/{row.id}/ancestry", [below.id for below in rows[number:]])
            source = self._first.get(row.layer) if row.layer else None
            if source and not (folder / "layer").exists():
                os.link(source, folder / "layer")
            elif row.layer and not (folder / "layer").exists():
                content = SourceBytes(row.layer_size or 0, partial(self._registry.blobs.open, row.layer))
                write_blob(folder / "layer", row.layer, content)

    def _v1_repository(self, repository: RepositoryName) -> None:
        try:
            tags = self._registry.bridge.tags(repository)
        except RegistryError:
            return
        here = {tag: image for tag, image in tags.items() if tag in self._tags[repository]}
        for page in ("index.json", "index.html"):
            self._json(f"v1/repositories/{repository}/tags/{page}", here)
        for tag, image in here.items():
            self._json(f"v1/repositories/{repository}/tags/{tag}", image)
        self._json(f"v1/repositories/{repository}/images", [{"id": image} for image in here.values()])

    def _tell_servers(self) -> None:
        text = _NGINX.format(
            root=self._root.absolute(),
            types=_map({path: kind for path, (kind, _) in self._types.items()}),
            digests=_map({path: digest for path, (_, digest) in self._types.items()}),
            sizes=_map(self._sizes),
        )
        write_if_changed(self._root / "nginx.conf", text.encode())
        by_folder: dict[str, dict[str, tuple[str, str]]] = {}
        for path, told in self._types.items():
            folder, _, name = path.rpartition("/")
            by_folder.setdefault(folder, {})[name] = told
        for folder, names in by_folder.items():
            write_if_changed(self._root / folder.lstrip("/") / ".htaccess", _htaccess(names).encode())

    def _json(self, path: str, value: object) -> None:
        write_if_changed(self._root / path, json.dumps(value).encode())


def _map(values: Mapping[str, object]) -> str:
    """Return lines of a map of nginx's."""
    return "".join(f'    "{path}" "{value}";\n' for path, value in sorted(values.items()))


def _htaccess(names: Mapping[str, tuple[str, str]]) -> str:
    """Return what Apache is to be told of manifests."""
    lines = [
        f'<Files "{name}">\nForceType {kind}\nHeader set Docker-Content-Digest {digest}\n</Files>\n'
        for name, (kind, digest) in sorted(names.items())
    ]
    return "".join(lines)
