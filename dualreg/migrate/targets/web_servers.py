"""The configuration of web servers for a static tree: the media types and digests of manifests.

``nginx.conf`` in the tree has them for all repositories, ``.htaccess`` in each folder of manifests for that
one. The latter is also read, to find out what earlier exports wrote.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from dualreg.migrate.targets.base import TargetInvalid
from dualreg.migrate.targets.files import write_if_changed

#: Media type and digest of manifests, by file name.
Headers = Mapping[str, tuple[str, str]]

#: Media types that can be quoted in a configuration without escapes.
#: Source: RFC 6838, section 4.2, without the dollar sign, which begins nginx's variables.
PLAIN_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#&^_.+-]*", re.ASCII)

#: Variables of nginx, control characters, and bytes that are not UTF-8.
_UNQUOTABLE = re.compile(r"[$\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_FILE = '<Files "{name}">\nForceType {kind}\nHeader set Docker-Content-Digest {digest}\n</Files>\n'
_FILES = re.compile(
    r'<Files "([^"\n]+)">\nForceType (\S+)\nHeader set Docker-Content-Digest (\S+)\n</Files>\n', re.ASCII
)
_MAPS = """\
# Serves the pulls of this tree; include it in http {{ }}. Each export rewrites everything above
# "server"; the rest is yours to change.
map_hash_bucket_size 512;
map_hash_max_size 65536;
map $uri $dualreg_type {{
    default application/octet-stream;
{types}    ~^/v[12]/([^/]*|.*/tags/list|_catalog|.*/(json|ancestry|images|tags/.*))$ application/json;
}}
map $uri $dualreg_digest {{
{digests}}}
map $uri $dualreg_size {{
{sizes}}}
# Docker 1.3 to 1.5 would try a V2 client that was never finished, if there were a /v2/ for them.
map "$uri $http_user_agent" $dualreg_hidden {{
    default 0;
    "~^/v2/(index.json)? (docker/1\\.[345]\\.|Go )" 1;
}}
# Headers that V1 clients expect with the list of images; anybody may read.
map $uri $dualreg_token {{
    "~^/v1/repositories/.*/images$" "signature=none,repository=\\"any\\",access=read";
}}
map $uri $dualreg_endpoint {{
    "~^/v1/repositories/.*/images$" $http_host;
}}
"""
_SERVER = """\
server {
    listen 127.0.0.1:5080;
    root "%s";
    index index.json;
    types { }
    default_type "";
    if ($dualreg_hidden) {
        return 404;
    }
    add_header Content-Type $dualreg_type always;
    add_header Docker-Distribution-Api-Version registry/2.0;
    add_header Docker-Content-Digest $dualreg_digest;
    add_header X-Content-Type-Options nosniff always;
    add_header Content-Security-Policy "default-src 'none'; sandbox" always;
    add_header X-Docker-Registry-Version 0.9.1;
    add_header X-Docker-Registry-Standalone False;
    add_header X-Docker-Token $dualreg_token;
    add_header X-Docker-Endpoints $dualreg_endpoint;
    add_header X-Docker-Size $dualreg_size;
    location ~ ^/v1/repositories/.*/tags$ {
        try_files $uri/index.json =404;
    }
}
"""


def check_root(root: Path) -> None:
    """Raise TargetInvalid unless *root* can be in a server's configuration."""
    path = str(root.absolute())
    if _UNQUOTABLE.search(path):
        raise TargetInvalid(
            f"{path!a}: nginx does not support a path with a dollar sign or control characters"
        )


def write_configuration(
    root: Path, exported: Mapping[str, Headers], repositories: Iterable[str], sizes: Mapping[str, int]
) -> None:
    """Write the configuration for all *repositories* in the tree.

    Args:
        exported: Of the manifests of this export, by repository.
        sizes: Of layers, by path of the V1 image's JSON.
    """
    types, digests = {}, {}
    for repository in repositories:
        file = root / "v2" / repository / "manifests/.htaccess"
        headers = {**_read(file), **exported.get(repository, {})}
        text = (
            _FILE.format(name=name, kind=headers[name][0], digest=headers[name][1])
            for name in sorted(headers)
        )
        write_if_changed(file, "".join(text).encode())
        for name, (kind, digest) in headers.items():
            path = f"/v2/{repository}/manifests/{name}"
            types[path], digests[path] = kind, digest
    maps = _MAPS.format(types=_map(types), digests=_map(digests), sizes=_map(sizes))
    write_if_changed(root / "nginx.conf", (maps + _server(root)).encode())


def _server(root: Path) -> str:
    """Return the server block of nginx.conf, which an operator may have changed, or the default one."""
    file = root / "nginx.conf"
    _, begins, own = (file.read_text() if file.is_file() else "").partition("\nserver {")
    path = re.sub(r'(["\\])', r"\\\1", str(root.absolute()))
    return begins.lstrip() + own if begins else _SERVER % path


def _read(file: Path) -> Headers:
    text = file.read_text() if file.is_file() else ""
    return {name: (kind, digest) for name, kind, digest in _FILES.findall(text)}


def _map(values: Mapping[str, object]) -> str:
    """Return the lines of an nginx map, whose strings are compared without regard to case.

    Paths that differ only in case are written as expressions. An expression matches only if no string does,
    so each path of such a group has to be one.
    """
    alike = Counter(path.lower() for path in values)
    return "".join(
        f'    "{path if alike[path.lower()] == 1 else f"~^{re.escape(path)}$"}" "{value}";\n'
        for path, value in sorted(values.items())
    )
