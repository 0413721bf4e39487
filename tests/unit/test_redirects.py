"""The setting ``s3_redirects``: which clients it includes."""

import pytest

from dualreg.settings.redirects import Redirects


@pytest.mark.parametrize(
    ("text", "included", "others"),
    [
        ("on", [("10.0.0.1", "a"), ("", "")], []),
        ("off", [], [("10.0.0.1", "a"), ("", "")]),
        ("off,10.0.0.0/8=on", [("10.9.9.9", "a"), ("::ffff:10.0.0.1", "a")], [("11.0.0.1", "a"), ("", "a")]),
        ("on, 10.0.0.0/8=off", [("11.0.0.1", "a"), ("", "a")], [("10.9.9.9", "a"), ("::ffff:10.0.0.1", "a")]),
        ("2001:db8::/32=on", [("2001:db8::1", "a")], [("2001:db9::1", "a"), ("10.0.0.1", "a")]),
        ("192.0.2.7=on", [("192.0.2.7", "")], [("192.0.2.8", "")]),
        ("on,docker/1.*=off", [("", "docker/20.10 go/go1.18")], [("", "docker/1.6.2 go/go1.4.2")]),
        (
            "off,10.0.0.0/8=on,10.1.0.0/16=off,*curl*=off,skopeo/*=on",
            [("10.2.0.1", "docker/20"), ("192.0.2.1", "skopeo/1.9")],
            [("10.1.0.1", "skopeo/1.9"), ("10.2.0.1", "libcurl/8"), ("192.0.2.1", "docker/20")],
        ),
    ],
)
def test_who_is_included(text: str, included: list[tuple[str, str]], others: list[tuple[str, str]]) -> None:
    """The mode alone is for those of whom nothing else is said; of several entries, off wins."""
    redirects = Redirects.parse(text)
    assert [client for client in (*included, *others) if redirects.include(*client)] == included
    assert redirects.are_off is not bool(included)
