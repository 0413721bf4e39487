"""What commands print of the blobs that they have copied from one store to another."""

from dualreg.cli.output import amount, echo, echo_json
from dualreg.maintenance.blob_copy import Copied


def print_copied(copied: Copied, *, as_json: bool, **more: int) -> None:
    """Print the numbers as JSON, or what is missing."""
    if as_json:
        echo_json(vars(copied) | more)
        return
    for missing in copied.missing:
        echo(f"{missing.kind}: {missing.digest}: {missing.text}", err=True)


def print_amount(copied: Copied, *, dry_run: bool) -> None:
    """Print how much of how much was copied, or would be."""
    verb = "Would copy" if dry_run else "Copied"
    echo(f"{verb} {amount(copied.added, copied.added_bytes)} of {amount(copied.blobs, copied.bytes)}.")
