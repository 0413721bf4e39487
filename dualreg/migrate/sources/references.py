"""References: the names of images as people and daemons write them."""

_DEFAULT_TAG = "latest"


def split_reference(text: str, default: str) -> tuple[str, str]:
    """Return repository and tag of *text*, such as ``host:5000/team/app:1``; the host is left out.

    Without a slash or colon it is a tag, of the repository *default*.

    Source: distribution, ``reference/normalize.go``: what has a dot or colon, or is localhost, is a host.
    """
    if "/" not in text and ":" not in text:
        return default, text
    head, slash, rest = text.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        text = rest
    name, colon, tag = text.rpartition(":")
    return (name, tag) if colon else (text, _DEFAULT_TAG)
