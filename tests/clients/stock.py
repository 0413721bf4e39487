"""The reference registry itself, on a folder."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import bcrypt

from tests.clients.tools import Tools
from tests.programs import free_port, require, running, wait_until_up


@contextmanager
def stock_registry(
    data: Path, home: Path, *, readonly: bool = False, auth: Mapping[str, object] | None = None
) -> Iterator[Tools]:
    """Run the stock ``docker-registry`` on *data*; yield clients of it."""
    require("docker-registry", package="docker-registry")
    host = f"127.0.0.1:{free_port()}"
    configuration = home / f"registry-{host}.yml"
    settings = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(data)},
            "delete": {"enabled": True},
            "maintenance": {"readonly": {"enabled": readonly}},
        },
        "http": {"addr": host},
        "compatibility": {"schema1": {"enabled": True}},
        **({"auth": auth} if auth else {}),
    }
    configuration.write_text(json.dumps(settings))
    log = home / f"registry-{host}.log"
    with running(["docker-registry", "serve", configuration], log, {"AWS_CA_BUNDLE": ""}) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        yield Tools(home / f"reference-{host}", host)


def htpasswd(folder: Path, name: str, password: str) -> Mapping[str, object]:
    """Return the ``auth`` of one that lets in who has a password; its file is in *folder*."""
    file = folder / "htpasswd"
    file.write_bytes(name.encode() + b":" + bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)))
    return {"htpasswd": {"realm": "here", "path": str(file)}}
