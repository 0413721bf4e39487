"""The folder in which workers count: made, kept small and removed by gunicorn's main process."""

import logging

from dualreg.cli.options import export
from dualreg.cli.output import echo
from dualreg.monitoring.folder import MetricsFolder
from dualreg.settings import Settings

#: Where the library looks for the folder.
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_log = logging.getLogger(__name__)


def make_metrics_folder(settings: Settings) -> MetricsFolder | None:
    """Return a new folder for the metrics of a server; None if they are off, or there is no place for it."""
    if not (settings.monitoring_bind or settings.metrics_networks):
        return None
    try:
        folder = MetricsFolder(settings.data.absolute())
    except OSError as error:
        echo(f"Warning: there are no metrics: {error}", err=True)
        return None
    export(_VARIABLE, f"{folder.path}")
    return folder


def retire_metrics(arbiter: object, worker: object) -> None:
    """Keep what a worker has counted that has ended. Called by gunicorn, whose main process must not fail."""
    del worker
    if folder := _folder_of(arbiter):
        try:
            folder.retire(arbiter.WORKERS.keys())  # type: ignore[attr-defined]  # gunicorn is untyped
        except Exception:  # noqa: BLE001 -- of whatever kind; that process serves on
            _log.exception("failed to add up what a worker has counted")


def remove_metrics(arbiter: object) -> None:
    """Remove the folder at the end of the server. Called by gunicorn."""
    if folder := _folder_of(arbiter):
        folder.remove()


def _folder_of(arbiter: object) -> MetricsFolder | None:
    return getattr(getattr(arbiter, "app", None), "metrics_folder", None)
