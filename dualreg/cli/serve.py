"""``dualreg serve``: the registry behind gunicorn."""

import signal
import ssl
from functools import partial
from mmap import mmap
from pathlib import Path
from time import monotonic_ns
from typing import Any

import click
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from dualreg.assembly import build_authority, catalog_of, open_catalog, open_registry, signing_policies
from dualreg.cli.addresses import addresses, check_addresses
from dualreg.cli.admin import open_audit, prepare_or_fail
from dualreg.cli.background import (
    BackgroundCommand,
    BackgroundTask,
    background_growth,
    background_import,
    background_mirrors,
    background_tasks,
)
from dualreg.cli.background_delivery import BackgroundDelivery
from dualreg.cli.control import ServedTasks
from dualreg.cli.descriptors import needed, raise_limit
from dualreg.cli.metrics_folder import make_metrics_folder, remove_metrics, retire_metrics
from dualreg.cli.notifying import notify_service_manager, notify_watchdog
from dualreg.cli.options import Command, load_settings, settings_options, with_options
from dualreg.cli.output import echo, print_as_log
from dualreg.cli.server_log import LOG_FORMAT, JsonServerLog, ServerLog
from dualreg.cli.shares import Shares
from dualreg.cli.traces import check_tracing
from dualreg.cli.worker import CONNECTIONS, Worker
from dualreg.logs.lines import message_line
from dualreg.maintenance.scrubbing import Scrubber
from dualreg.messages import safe_line
from dualreg.migrate.sources.base import SourceInvalid
from dualreg.migrate.transports import open_on_demand
from dualreg.proxies import check_passwords
from dualreg.reloading import ReloadingFile
from dualreg.remote.endpoint import is_loopback
from dualreg.settings import Settings
from dualreg.web.app import create_app, rates_of
from dualreg.web.context import close

Background = BackgroundCommand | BackgroundTask | BackgroundDelivery
#: The longest header line in bytes: tokens of many scopes or groups are long, and so are podman's ranges.
_HEADER_LIMIT = 64 << 10


def certificate(chain: Path, key: Path) -> ReloadingFile[ssl.SSLContext]:
    """Return the TLS context of the server, which is reloaded when a file has changed.

    Files that cannot be used, as when one is renewed before the other, leave the context unchanged.

    Raises:
        ValueError: one of the files cannot be read, or they do not belong together.
    """

    def read() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain, key)
        return context

    return ReloadingFile(read, chain, key)


def serving_options(command: Command) -> Command:
    """Add the options of a command that serves; each is a setting, too."""
    path = click.Path(path_type=Path)
    return with_options(
        command,
        click.option(
            "--bind",
            metavar="HOST:PORT",
            help="Listen on HOST:PORT, PORT of 127.0.0.1, or unix:PATH.  [default: 127.0.0.1:5000]",
        ),
        click.option("--workers", type=int, help="Run this many processes.  [default: 2]"),
        click.option(
            "--threads", type=int, help="Serve this many requests at once per process.  [default: 16]"
        ),
        click.option(
            "--auth",
            type=click.Choice(["none", "accounts", "htpasswd", "token"]),
            help="Choose the authentication backend.",
        ),
        click.option("--tls-cert", type=path, help="Serve HTTPS with the certificate chain in PATH, in PEM."),
        click.option(
            "--tls-key", type=path, help="Read the private key of the certificate from PATH, in PEM."
        ),
    )


@click.command()
@serving_options
@settings_options
def serve(data: Path | None, config: Path | None, **flags: object) -> None:
    """Serve the registry until interrupted.

    Every option is also a setting in the configuration file and a variable in the environment
    (DUALREG_BIND, …).
    """
    settings = load_settings(config, data=data, **flags)
    if settings.follow:
        raise click.ClickException(
            f"the setting follow is for a follower\nTo serve {settings.follow}, run `dualreg follow`."
        )
    check_to_serve(settings)
    prepare_or_fail(settings)
    beside = (background_import(settings), background_mirrors(settings), BackgroundDelivery(settings))
    run_server(settings, *beside, *background_tasks(settings), background_growth(settings))


def check_to_serve(settings: Settings) -> None:
    """Check what must be right before a registry is made.

    Raises:
        click.ClickException: the settings cannot be served.
    """
    _check_exposure(settings)
    check_addresses(settings)
    _certificate(settings)


def run_server(settings: Settings, *background: Background) -> None:
    """Serve the registry, which was prepared, until interrupted, with processes beside the server.

    Raises:
        click.ClickException: it cannot be served.
    """
    _check_authority(settings)
    _check_upstreams(settings)
    open_audit(settings).close()  # no serving without the audit log
    _check_legacy_source(settings)
    check_tracing(settings)
    if settings.log_format == "json":
        print_as_log(partial(message_line, "json"))
    _raise_limit(settings)
    _Server(settings, *background).run()


def _raise_limit(settings: Settings) -> None:
    """Let the workers open as many files as this process may; warn if that is few."""
    limit, enough = raise_limit(), needed(CONNECTIONS, settings.threads)
    if limit < enough:
        echo(f"Warning: each process may open {limit} files only; raise the limit to {enough}.", err=True)


def _check_exposure(settings: Settings) -> None:
    """Refuse to let the whole network pull, push and delete unless ``auth = none`` was set explicitly.

    Raises:
        click.ClickException: it was not.
    """
    if settings.auth == "none" and settings.origin("auth") == "default" and not _is_local(settings):
        raise click.ClickException(
            f"{settings.bind} is reachable from other machines, and without authentication anyone may"
            f" {'pull' if settings.follow else 'push'}\n"
            "Set auth = accounts (see `dualreg account add`), or set auth = none to allow it."
        )


def _check_legacy_source(settings: Settings) -> None:
    """Refuse to serve without the configured legacy source.

    Raises:
        click.ClickException: it cannot be opened.
    """
    try:
        if settings.legacy_source:
            open_on_demand(settings.legacy_source)
    except (SourceInvalid, OSError) as error:
        raise click.ClickException(f"legacy_source: {safe_line(error)}") from error


def _check_upstreams(settings: Settings) -> None:
    """Refuse to serve without the passwords of upstreams, on which each worker would fail.

    Raises:
        click.ClickException: one cannot be read.
    """
    try:
        check_passwords(settings)
    except ValueError as error:
        raise click.ClickException(f"upstreams: {safe_line(error)}") from error


def _check_authority(settings: Settings) -> None:
    """Refuse to serve with unusable files of accounts, rules or any keys, on which each worker would fail.

    Raises:
        click.ClickException: one is unusable.
    """
    catalog = open_catalog(settings)
    try:
        build_authority(settings, catalog)
        signing_policies(settings)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    finally:
        catalog.close()


def _is_local(settings: Settings) -> bool:
    return settings.bind.startswith("unix:") or is_loopback(settings.bind.rpartition(":")[0])


def _certificate(settings: Settings) -> ReloadingFile[ssl.SSLContext] | None:
    """Return the certificate of HTTPS; None over plain HTTP.

    Raises:
        click.ClickException: it cannot be used.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        return certificate(settings.tls_cert, settings.tls_key)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _url(address: str, scheme: str = "http") -> str:
    return address if address.startswith("unix:") else f"{scheme}://{address}"


def _announce(settings: Settings) -> None:
    address, folder = settings.bind, settings.data.absolute()
    url = _url(address, "https" if settings.tls_cert else "http")
    notify_service_manager("READY=1", f"STATUS=Serving on {url}")
    if own := settings.monitoring_bind:
        echo(f"Answering /livez, /readyz and /metrics on {_url(own)}")
    if settings.follow:
        echo(f"Serving {settings.follow.absolute()} read-only to Docker V1, V2 and OCI clients on {url}")
        return
    echo(f"Serving Docker V1, V2 and OCI clients on {url} from {folder}")
    if settings.auth == "none" and not _is_local(settings):
        echo("Warning: anyone who can reach it may push and delete (auth = none).")
    if url != address:
        host = address if _is_local(settings) else f"HOST:{address.rpartition(':')[2]}"
        echo(f"To push:  docker tag IMAGE {host}/IMAGE && docker push {host}/IMAGE")


class _Arbiter(Arbiter):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's main process, which keeps background processes running as it does its workers."""

    def __init__(self, app: "_Server", *background: Background) -> None:
        self._background = background
        self._stop = app.stop
        super().__init__(app)

    def spawn_worker(self) -> int:
        """Start a worker. A signal that ends it waits until the worker handles signals, and is not lost."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGQUIT))
        try:
            return int(super().spawn_worker())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def handle_int(self) -> None:
        """Stop gracefully on Ctrl-C too; if it comes again meanwhile, gunicorn stops at once."""
        self.handle_term()

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002 -- gunicorn's
        """Stop the workers."""
        self._stop[0] = 1
        notify_service_manager("STOPPING=1", "STATUS=Stopping")
        super().stop(graceful)

    def reload(self) -> None:
        """Replace the workers, on SIGHUP."""
        notify_service_manager("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")
        super().reload()
        notify_service_manager("READY=1")

    def reap_workers(self) -> None:
        """Take the status of each child that has exited; of those that are no workers, gunicorn loses it."""
        for each in self._background:
            each.reap()
        super().reap_workers()

    def manage_workers(self) -> None:
        """Start what is missing; gunicorn calls this about every second, and whenever a child exits."""
        notify_watchdog()
        super().manage_workers()
        for each in self._background:
            each.keep_running()


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn, configured by our settings alone.

    Attributes:
        stop: For the workers: a byte that is not 0 when all of them stop, and no others follow.
        rates: Shared by the workers.
    """

    def __init__(self, settings: Settings, *background: Background) -> None:
        self._settings = settings
        self.stop = mmap(-1, 1)  # shared with them
        self.rates = rates_of(settings)
        self._background = background
        self._app: Flask | None = None
        self._scrubber: Scrubber | None = None
        super().__init__()

    def load_config(self) -> None:
        for name, value in gunicorn_settings(self._settings).items():
            self.cfg.set(name, value)
        self.cfg.set("when_ready", lambda _: self._start())
        self.cfg.set("on_exit", self._stop)
        self.cfg.set("worker_exit", lambda _, __: self._close())

    def load(self) -> Flask:
        """Return the application; gunicorn calls this in each worker, so no connection outlives a fork."""
        registry = open_registry(self._settings, serving=True)
        tasks = ServedTasks(registry, self._settings)
        self._app = create_app(self._settings, registry, self.rates, tasks)
        if rate := self._settings.fsck_rate:
            self._scrubber = Scrubber(catalog_of(registry), registry.integrity, rate)
            self._scrubber.start()
        return self._app

    def _close(self) -> None:
        """Write what the worker has noted and not written yet."""
        if self._scrubber:
            self._scrubber.stop()
        if self._app:
            close(self._app)

    def run(self) -> None:
        try:
            _Arbiter(self, *self._background).run()
        except RuntimeError as error:
            raise click.ClickException(str(error)) from error

    def _stop(self, arbiter: Arbiter) -> None:
        for each in reversed(self._background):
            each.stop()
        remove_metrics(arbiter)

    def _start(self) -> None:
        _announce(self._settings)
        for each in self._background:
            each.start()


def _share(arbiter: Arbiter, settings: Settings) -> None:
    """Give workers what they find at their application's server."""
    arbiter.app.client_timeout = settings.client_timeout.total_seconds()
    arbiter.app.metrics_folder = make_metrics_folder(settings)
    arbiter.app.shares = Shares()


def _retire(arbiter: Arbiter, worker: Worker) -> None:
    """Forget what a worker had that has ended, and keep what it has counted."""
    arbiter.app.shares.remove(worker.age)
    retire_metrics(arbiter, worker)


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """Return gunicorn's own settings, for HTTPS too.

    No timeout: it would include the whole of a long upload, and workers with threads send their heartbeat
    beside it. How long to wait for clients is no setting of gunicorn's; workers read it from the application.

    Raises:
        click.ClickException: the certificate cannot be used.
    """
    tls = _certificate(settings)
    https = {"certfile": f"{settings.tls_cert}", "keyfile": f"{settings.tls_key}"}

    return {
        "bind": addresses(settings),
        "workers": settings.workers,
        "threads": settings.threads,
        "worker_class": Worker,
        "on_starting": lambda arbiter: _share(arbiter, settings),
        "child_exit": _retire,
        "on_exit": remove_metrics,
        "timeout": 0,
        "graceful_timeout": 30,
        "keepalive": 75,
        "limit_request_line": 8190,
        "limit_request_field_size": _HEADER_LIMIT,
        # web/forwarded.py reads what proxies say: gunicorn refuses two that differ, and lets them move paths.
        "secure_scheme_headers": {},
        "forwarder_headers": "",
        "logger_class": JsonServerLog if settings.log_format == "json" else ServerLog,
        "accesslog": "-" if settings.access_log else None,
        "access_log_format": LOG_FORMAT,
        "loglevel": settings.log_level,
        "proc_name": "dualreg",
        "control_socket_disable": True,
        # Who connects to a Unix socket is believed what X-Forwarded-For says: the owner and the group of it.
        "umask": 0o007,
    } | (https | {"ssl_context": lambda _, __: tls.get()} if tls else {})
