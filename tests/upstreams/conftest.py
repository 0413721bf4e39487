"""A reference registry, and a proxy before it."""

from collections.abc import Iterator

import pytest

from dualreg.upstreams import checked
from tests.clients.stock import stock_registry
from tests.migrate.fronts import Front, front
from tests.upstreams.world import IMAGE, There


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    """A reference registry with an image."""
    folder = tmp_path_factory.mktemp("there")
    with stock_registry(folder / "data", folder) as tools:
        registry = There(tools.host)
        registry.put("team/app", IMAGE, "1")
        yield registry


@pytest.fixture
def between(there: There) -> Iterator[Front]:
    """A proxy before it, which counts."""
    with front(there.host) as proxied:
        yield proxied


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have requests wait until a check has come to an end, however slow the machine is."""
    monkeypatch.setattr(checked, "BRIEFLY", 60.0)
