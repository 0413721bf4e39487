"""The configuration of web servers for a static tree: the media types and digests of manifests.

``nginx.conf`` in the tree finds them by references (``references``), ``.htaccess`` in each folder of
manifests has those of that one. The latter is also read, to find out what earlier exports wrote.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from dualreg.migrate.targets.base import TargetInvalid
from dualreg.migrate.targets.new_files import NewFiles, Rank
from dualreg.migrate.targets.references import refer

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
# "server"; the rest is yours to change, but for the file that it includes.
map_hash_bucket_size 512;
map_hash_max_size 65536;
# Where the reference to a manifest leads, which is kept for the rest of a request: its media type and digest.
map $realpath_root $dualreg_real {{
    "~^(?<dualreg_path>.*)$" $dualreg_path;
}}
map $dualreg_place $dualreg_type {{
    "~/_manifests/(?<dualreg_kind>[^/]+/[^/]+)/[^/]+$" $dualreg_kind;
}}
map $dualreg_place $dualreg_digest {{
    "~/_manifests/[^/]+/[^/]+/(?<dualreg_hash>[^/]+)$" $dualreg_hash;
}}
map "$dualreg_digest $http_if_none_match" $dualreg_unchanged {{
    "~^(?<dualreg_tag>[^ ]+) (.*\\"\\k<dualreg_tag>\\"|\\*)" 1;
}}
# What has a digest or an ID never changes. Tags and lists do: caches ask whether they have, each time.
map $uri $dualreg_cache {{
    default no-cache;
    "~^/v2/(index.json)?$" no-store;
    "~^/v2/.+/blobs/[^/]+$" "public, max-age=31536000, immutable";
    "~^/v1/images/" "public, max-age=31536000, immutable";
}}
map $dualreg_reference $dualreg_manifest_cache {{
    default no-cache;
    "~:" "public, max-age=31536000, immutable";
}}
map $uri $dualreg_plain_type {{
    default application/octet-stream;
    "~^/v2/.+/referrers/[^/]+$" application/vnd.oci.image.index.v1+json;
    "~^/v[12]/([^/]*|.*/tags/list|_catalog|.*/(json|ancestry|images|tags/.*))$" application/json;
}}
map $request_uri $dualreg_version {{
    "~^/v2/" registry/2.0;
}}
map $request_uri $dualreg_error {{
    default '{{"error": "not found"}}';
    "~^/v2/.+/manifests/" '{{"errors": [{{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}}]}}';
    "~^/v2/.+/blobs/" '{{"errors": [{{"code": "BLOB_UNKNOWN", "message": "blob unknown to registry"}}]}}';
    "~^/v2/" '{{"errors": [{{"code": "NAME_UNKNOWN", "message": "repository name not known to registry"}}]}}';
}}
map "" $dualreg_no_referrers {{
    default '{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}}';
}}
map $request_uri $dualreg_refusal {{
    default '{{"error": "this registry is read-only"}}';
    "~^/v2/" '{{"errors": [{{"code": "UNSUPPORTED", "message": "this registry is read-only"}}]}}';
}}
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
#: The file with what the server does, which the server block includes.
_LOCATIONS = "nginx-server.conf"
_SERVER = """\
server {
    listen 127.0.0.1:5080;
    include "%s";
}
"""
_INCLUDED = """\
# Included by nginx.conf, and rewritten with each export.
root "{root}";
index index.json;
types {{ }}
default_type "";
error_page 404 @dualreg_missing;
error_page 403 =404 @dualreg_missing;
error_page 405 @dualreg_refused;
if ($dualreg_hidden) {{
    return 404;
}}
if ($request_method !~ "^(GET|HEAD)$") {{
    return 405;
}}
{headers}
add_header Content-Type $dualreg_plain_type;
add_header Cache-Control $dualreg_cache;
add_header X-Docker-Registry-Version 0.9.1;
add_header X-Docker-Registry-Standalone False;
add_header X-Docker-Token $dualreg_token;
add_header X-Docker-Endpoints $dualreg_endpoint;
add_header X-Docker-Size $dualreg_size;
location ~ ^/v1/repositories/.*/tags$ {{
    try_files $uri/index.json =404;
}}
location ~ "^/v2/.+/blobs/(?<dualreg_blob>[^/]+)$" {{
    {headers}
    add_header Content-Type application/octet-stream;
    add_header Cache-Control $dualreg_cache;
    add_header Docker-Content-Digest $dualreg_blob;
}}
location ~ "^/v2/(?<dualreg_name>.+)/manifests/(?<dualreg_reference>[^/]+)$" {{
    root "{root}/nginx/$dualreg_name/_references/$dualreg_reference";
    if (!-f "{root}/nginx/$dualreg_name/_references/$dualreg_reference/manifest") {{
        return 404;
    }}
    # Asked once, since tags move: nginx asks again wherever it meets $realpath_root.
    set $dualreg_place $dualreg_real;
    rewrite ^ /nginx/manifest last;
}}
location = /nginx/manifest {{
    internal;
    alias $dualreg_place/manifest;
    # nginx's own entity tags are times and sizes, which two manifests may share.
    etag off;
    if_modified_since off;
    {headers}
    add_header Cache-Control $dualreg_manifest_cache;
    add_header ETag "\\"$dualreg_digest\\"";
    add_header Docker-Content-Digest $dualreg_digest;
    if ($dualreg_unchanged) {{
        return 304;
    }}
    add_header Content-Type $dualreg_type;
}}
location ~ "^/v2/.+/referrers/[^/]+$" {{
    try_files $uri @dualreg_no_referrers;
}}
location @dualreg_no_referrers {{
    {headers}
    add_header Cache-Control no-cache;
    default_type application/vnd.oci.image.index.v1+json;
    return 200 $dualreg_no_referrers;
}}
# What this directory has for nginx, in which the operator's part may name other files.
location ~ "^/nginx" {{
    return 404;
}}
location @dualreg_missing {{
    {headers}
    # A cache would keep it for a while, and the next export may add what is missing.
    add_header Cache-Control no-store always;
    default_type application/json;
    return 404 $dualreg_error;
}}
location @dualreg_refused {{
    {headers}
    add_header Cache-Control no-store always;
    default_type application/json;
    add_header Allow "GET, HEAD" always;
    return 405 $dualreg_refusal;
}}
"""
#: Headers of every response.
_HEADERS = """\
add_header Docker-Distribution-Api-Version $dualreg_version always;
    add_header X-Content-Type-Options nosniff always;
    add_header Content-Security-Policy "default-src 'none'; sandbox" always;"""


def check_root(root: Path) -> None:
    """Raise TargetInvalid unless *root* can be in a server's configuration."""
    path = str(root.absolute())
    if _UNQUOTABLE.search(path):
        raise TargetInvalid(
            f"{path!a}: nginx does not support a path with a dollar sign or control characters"
        )


def write_configuration(
    files: NewFiles,
    root: Path,
    exported: Mapping[str, Headers],
    repositories: Iterable[str],
    sizes: Mapping[str, int],
) -> None:
    """Write the configuration for all *repositories* in the tree.

    Args:
        files: Gives the files their names.
        exported: Of the manifests of this export, by repository.
        sizes: Of layers, by path of the V1 image's JSON.
    """
    for repository in repositories:
        file = root / "v2" / repository / "manifests/.htaccess"
        headers = {**_read(file), **exported.get(repository, {})}
        refer(files, root, repository, headers)
        text = (
            _FILE.format(name=name, kind=headers[name][0], digest=headers[name][1])
            for name in sorted(headers)
        )
        files.write_if_changed(file, "".join(text).encode(), Rank.TAG)
    included = _INCLUDED.format(root=_quoted(root), headers=_HEADERS)
    files.write_if_changed(root / _LOCATIONS, included.encode(), Rank.TAG)
    configuration = _MAPS.format(sizes=_map(sizes)) + _server(root)
    files.write_if_changed(root / "nginx.conf", configuration.encode(), Rank.TAG)
    files.name()


def _server(root: Path) -> str:
    """Return the server block of nginx.conf, which an operator may have changed, or the default one.

    One of a former version, which lacks what this one includes, is kept beside it.
    """
    file, included = root / "nginx.conf", f"{_quoted(root)}/{_LOCATIONS}"
    _, begins, own = (file.read_text() if file.is_file() else "").partition("\nserver {")
    if begins and _LOCATIONS not in own:
        file.replace(file.with_name("nginx.conf.old"))
        begins = ""
    return begins.lstrip() + own if begins else _SERVER % included


def _quoted(root: Path) -> str:
    return re.sub(r'(["\\])', r"\\\1", str(root.absolute()))


def _read(file: Path) -> Headers:
    text = file.read_text() if file.is_file() else ""
    return {name: (kind, digest) for name, kind, digest in _FILES.findall(text)}


def _map(values: Mapping[str, object]) -> str:
    """Return the lines of an nginx map, whose keys need no escapes."""
    return "".join(f'    "{path}" "{value}";\n' for path, value in sorted(values.items()))
