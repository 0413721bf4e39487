"""Connections of urllib3 that do more than its own."""

from collections.abc import Callable
from typing import Any

import urllib3


def connecting_by(manager: urllib3.PoolManager, derive: Callable[[Any], Any]) -> urllib3.PoolManager:
    """Have *manager* connect by the classes that *derive* returns for those that it uses now; return it."""
    pools: Any = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": derive(pool.ConnectionCls)})
        for scheme, pool in pools.items()
    }
    return manager
