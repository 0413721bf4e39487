"""Commands: what people type to pull and push here, with docker, podman, skopeo and a docker before 1.6."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from dualreg.image.digest import Digest
from dualreg.registry.v1_mode import V1Mode
from dualreg.web.address import own_url, shown_host


class Command(NamedTuple):
    """Lines for a terminal, and the program that they are for."""

    program: str
    text: str


def pulls(repository: str, reference: str, digest: Digest, v1: V1Mode) -> Sequence[Command]:
    """Return how an image is pulled, by digest, and by tag if *reference* is one; over V1, if served."""
    host = shown_host()
    insecure = "" if own_url().startswith("https:") else " --tls-verify=false"
    source = " --src-tls-verify=false" if insecure else ""
    exact, folder = f"{host}/{repository}@{digest}", repository.rpartition("/")[2]
    if ":" in reference:
        return (
            Command("docker", f"docker pull {exact}"),
            Command("podman", f"podman pull{insecure} {exact}"),
            Command("skopeo", f"skopeo copy{source} docker://{exact} oci:{folder}"),
        )
    named = f"{host}/{repository}:{reference}"
    commands = (
        Command("docker", f"docker pull {named}"),
        Command("docker, exactly this image", f"docker pull {exact}"),
        Command("podman", f"podman pull{insecure} {named}"),
        Command("skopeo", f"skopeo copy{source} docker://{exact} oci:{folder}:{reference}"),
    )
    old = Command("docker before 1.6, over V1", f"docker pull {named}")
    return commands if v1 is V1Mode.OFF else (*commands, old)


def first_pushes(account: str, v1: V1Mode) -> Sequence[Command]:
    """Return how the first image is pushed to this host; over V1 if that takes pushes.

    Args:
        account: Who logs in; empty: nobody.
    """
    host = shown_host()
    insecure = not own_url().startswith("https:")
    flag, target = (" --tls-verify=false", " --dest-tls-verify=false") if insecure else ("", "")
    image, user = f"{host}/{account or 'team'}/hello:v1", f" -u {account}" if account else ""
    old = f"docker login{user} -e you@example.com {host}\n" if account else ""
    commands = (
        Command("docker", _lines("docker", "", user, host, image)),
        Command("podman", _lines("podman", flag, user, host, image)),
        Command(
            "skopeo",
            (f"skopeo login{flag}{user} {host}\n" if account else "")
            + f"skopeo copy{target} docker://docker.io/library/hello-world:latest docker://{image}",
        ),
    )
    lines = f"{old}docker tag hello-world {image}\ndocker push {image}"
    return (*commands, Command("docker before 1.6, over V1", lines)) if v1 is V1Mode.ON else commands


def _lines(program: str, flag: str, user: str, host: str, image: str) -> str:
    """Return the lines by which docker, or what has its commands, pushes an image."""
    login = f"{program} login{flag}{user} {host}\n" if user else ""
    return (
        f"{login}{program} pull docker.io/library/hello-world\n"
        f"{program} tag docker.io/library/hello-world {image}\n{program} push{flag} {image}"
    )


def migration(run: str, source: str) -> Sequence[Command]:
    """Return how a run of a migration is verified, and undone."""
    return (
        Command("Verify", shlex.join(["dualreg", "migrate", "verify", source])),
        Command(
            "See what a rollback would remove",
            shlex.join(["dualreg", "migrate", "rollback", run, "--dry-run"]),
        ),
        Command("Roll back", shlex.join(["dualreg", "migrate", "rollback", run])),
    )
