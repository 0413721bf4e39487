"""MemoryStore keeps the contract."""

import pytest

from dualreg.storage.memory import MemoryStore
from tests.contracts.blob_store import BlobStoreContract


class TestMemoryStore(BlobStoreContract):
    """The contract, in memory."""

    @pytest.fixture
    def store(self) -> MemoryStore:
        """An empty store."""
        return MemoryStore()
