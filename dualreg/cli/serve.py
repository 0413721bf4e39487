"""``dualreg serve``: the registry behind gunicorn."""

import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from dualreg.assembly import build_authority, open_catalog, open_registry
from dualreg.cli.admin_log import open_audit
from dualreg.cli.follower import Follower
from dualreg.cli.options import load_settings, prepare_or_fail, settings_options
from dualreg.migrate.sources.base import SourceInvalid
from dualreg.migrate.transports import open_on_demand
from dualreg.reloading import ReloadingFile
from dualreg.remote.endpoint import is_loopback
from dualreg.settings import Settings
from dualreg.web.app import create_app


def certificate(chain: Path, key: Path) -> ReloadingFile[ssl.SSLContext]:
    """Return what connections are accepted with, read again when a file has changed.

    Files that cannot be used, such as one that is renewed before the other, leave it as it was.

    Raises:
        ValueError: one of them cannot be read, or they do not belong together.
    """

    def read() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain, key)
        return context

    return ReloadingFile(read, chain, key)


class AccessLog(Logger):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's, without user names and queries.

    gunicorn writes the name out of Basic credentials as it stands there: it could be a key, or bring a line
    of its own. Who may what is in the audit log.
    """

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> dict[str, Any]:  # noqa: ANN401 -- gunicorn's, untyped
        """Return what a line may be made of."""
        path = str(environ["RAW_URI"]).partition("?")[0]
        told: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        line = f"{environ['REQUEST_METHOD']} {path} {environ['SERVER_PROTOCOL']}"
        return told | {"u": "-", "q": "", "r": line}

    def _get_user(self, environ: dict[str, Any]) -> None:
        """Read no credentials."""


@click.command()
@click.option("--bind", metavar="HOST:PORT", help="Where to serve.  [default: 127.0.0.1:5000]")
@settings_options
@click.option("--workers", type=int, help="Processes.  [default: 2]")
@click.option("--threads", type=int, help="Requests that each process serves at once.  [default: 16]")
@click.option("--auth", type=click.Choice(["none", "accounts", "htpasswd", "token"]), help="Who may log in.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain in PEM, to serve HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key, in PEM.")
def serve(data: Path | None, config: Path | None, **flags: object) -> None:
    """Serve the registry until it is interrupted.

    Each flag is also a setting in the configuration file and a variable in the environment (DUALREG_BIND, …).
    """
    settings = load_settings(config, data=data, **flags)
    _check_exposure(settings)
    tls = _certificate(settings)
    prepare_or_fail(settings)
    _check_authority(settings)
    open_audit(settings).close()  # no serving without the audit log that is wanted
    _check_legacy(settings)
    _Server(settings, tls).run()


def _check_exposure(settings: Settings) -> None:
    """Refuse to let the whole network push and delete, unless somebody wrote that this is wanted.

    Raises:
        click.ClickException: nobody did.
    """
    if settings.auth == "none" and settings.origin("auth") == "default" and not _is_local(settings):
        raise click.ClickException(
            f"{settings.bind} is not this machine alone, and without auth everybody may push.\n"
            "Set auth = accounts (see `dualreg account add`), or write auth = none to have it so."
        )


def _check_legacy(settings: Settings) -> None:
    """Refuse to serve without the legacy source that is wanted.

    Raises:
        click.ClickException: it is not there.
    """
    try:
        if settings.legacy_source:
            open_on_demand(settings.legacy_source)
    except (SourceInvalid, OSError) as error:
        raise click.ClickException(f"legacy_source: {error}") from error


def _check_authority(settings: Settings) -> None:
    """Refuse to serve by files that cannot be used, before each worker fails by them.

    Raises:
        click.ClickException: one cannot.
    """
    catalog = open_catalog(settings)
    try:
        build_authority(settings, catalog)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    finally:
        catalog.close()


def _is_local(settings: Settings) -> bool:
    return settings.bind.startswith("unix:") or is_loopback(settings.bind.rpartition(":")[0])


def _certificate(settings: Settings) -> ReloadingFile[ssl.SSLContext] | None:
    """Return what HTTPS is served with, if it is.

    Raises:
        click.ClickException: it cannot be used.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        return certificate(settings.tls_cert, settings.tls_key)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _announce(settings: Settings) -> None:
    place, folder = settings.bind, settings.data.absolute()
    scheme = "https" if settings.tls_cert else "http"
    url = place if place.startswith("unix:") else f"{scheme}://{place}"
    click.echo(f"dualreg serves Docker V1, V2 and OCI clients on {url}, from {folder}")
    if settings.auth == "none" and not _is_local(settings):
        click.echo("Everybody who reaches it may push and delete (auth = none).")
    if url != place:
        host = place if _is_local(settings) else f"HOST:{place.rpartition(':')[2]}"
        click.echo(f"Push to it:  docker tag IMAGE {host}/IMAGE && docker push {host}/IMAGE")


def _begin(settings: Settings, follower: Follower) -> None:
    _announce(settings)
    follower.start()


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn, configured by our settings alone."""

    def __init__(self, settings: Settings, tls: ReloadingFile[ssl.SSLContext] | None = None) -> None:
        self._settings = settings
        self._certificate = tls
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what our settings mean."""
        for name, value in gunicorn_settings(self._settings).items():
            self.cfg.set(name, value)
        if tls := self._certificate:
            self.cfg.set("certfile", str(self._settings.tls_cert))
            self.cfg.set("keyfile", str(self._settings.tls_key))
            self.cfg.set("ssl_context", lambda _, __: tls.get())

    def load(self) -> Flask:
        """Make the application.

        Gunicorn calls this in each worker, so connections are never shared by a fork.
        """
        return create_app(self._settings, open_registry(self._settings))


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """Return gunicorn's own settings.

    The legacy source is followed from when the server is ready until it ends.

    No timeout: it would count the whole of a long upload, and gthread workers answer their heartbeat beside
    it.
    """
    follower = Follower(settings)
    return {
        "bind": settings.bind,
        "workers": settings.workers,
        "threads": settings.threads,
        "worker_class": "gthread",
        "timeout": 0,
        "graceful_timeout": 30,
        "keepalive": 75,
        "limit_request_line": 8190,
        "forwarded_allow_ips": settings.trusted_proxies,
        "logger_class": AccessLog,
        "accesslog": "-" if settings.access_log else None,
        "loglevel": "warning",
        "proc_name": "dualreg",
        "control_socket_disable": True,
        "when_ready": lambda _: _begin(settings, follower),
        "on_exit": lambda _: follower.stop(),
    }
