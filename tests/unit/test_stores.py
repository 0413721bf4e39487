"""URLs of stores: which are taken, and which settings become their options."""

import pytest
from pydantic import ValidationError

from dualreg.settings import Settings
from dualreg.storage import open_store
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.s3_store import S3Store


@pytest.mark.parametrize(
    "url",
    [
        "x:y",
        "file://host/path",
        "file:path",
        "file:///path?region=x",
        "s3://A",
        "s3://bucket/a b",
        "s3://bucket?key=x",
        "follow:///copy?own=/folder",
        "azure://container",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """As the store, and as the second one."""
    for name in ("store", "store_fallback"):
        with pytest.raises(ValidationError, match=r"expected file:///PATH or s3://|unknown option|write to"):
            Settings.model_validate({name: url})


def test_urls_are_opened_by_their_scheme() -> None:
    """What is not of a known form is refused."""
    assert isinstance(open_store("file:///a%20b"), FilesystemStore)
    assert isinstance(open_store("s3://bucket/prefix?region=x&endpoint=http://127.0.0.1:1"), S3Store)
    with pytest.raises(ValueError, match='unsupported store "ftp://x": expected file:///PATH or s3://'):
        open_store("ftp://x")


def test_settings_of_a_scheme_are_its_options() -> None:
    """Those that a URL states itself count."""
    settings = Settings(
        s3_endpoint="https://s3.example.org",
        s3_region="one",
        s3_redirects="on",
        threads=4,
        store="s3://abc/d",
    )
    assert settings.store_url == ("s3://abc/d?endpoint=https%3A%2F%2Fs3.example.org&region=one&waiting=3")
    assert settings.located("s3://abc?region=two&profile=p") == (
        "s3://abc?region=two&profile=p&endpoint=https%3A%2F%2Fs3.example.org&waiting=3"
    )
    assert settings.located("file:///x") == "file:///x"
    assert settings.located("s3://abc", waiting=9).endswith("&waiting=9")


@pytest.mark.parametrize(
    "given",
    [
        {"store": "s3://abc/d", "store_fallback": "s3://abc//%64/"},
        {"store": "s3://abc", "store_fallback": "s3://abc/", "s3_endpoint": "http://x"},
        {"store": "s3://abc", "store_fallback": "s3://abc?endpoint=http://x/", "s3_endpoint": "http://x"},
        {"data": "/data", "store_fallback": "file:///data"},
        {"store": "file:///dev/fd", "store_fallback": "file:///proc/./self//f%64/"},
        {"follow": "/copy", "store_fallback": "file:///data"},
    ],
)
def test_the_second_store_is_another_one(given: dict[str, str]) -> None:
    """A follower has none."""
    with pytest.raises(ValidationError, match="store_fallback"):
        Settings.model_validate(given)
