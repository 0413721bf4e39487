"""References to images, as in ``docker pull``."""

_DEFAULT_TAG = "latest"


def split_reference(text: str, default: str) -> tuple[str, str]:
    """Return repository and tag of *text*, such as ``host:5000/team/app:1``, without the host.

    Text without a slash or colon is a tag of the repository *default*.

    Source: distribution, ``reference/normalize.go``: a host has a dot or a colon, or is localhost.
    """
    if "/" not in text and ":" not in text:
        return default, text
    head, slash, rest = text.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        text = rest
    name, colon, tag = text.rpartition(":")
    return (name, tag) if colon else (text, _DEFAULT_TAG)
