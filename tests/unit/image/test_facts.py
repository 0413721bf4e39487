"""Facts: documents of other registries may say anything."""

import json

import pytest

from dualreg.errors import ManifestInvalid
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.facts import facts_of
from dualreg.image.platform import LINUX_AMD64


class NoDocuments:
    """A source without documents."""

    def manifest(self, entry: Descriptor) -> None:
        """Return None."""

    def config(self, digest: Digest) -> bytes:
        """Raise."""
        raise AssertionError(digest)


@pytest.mark.parametrize("entry", ["text", {"platform": "linux/amd64"}, {"platform": ["linux"]}, None])
def test_an_index_with_invalid_entries_is_invalid(entry: object) -> None:
    """It is not looked for attestations before its entries are known to be descriptors."""
    if isinstance(entry, dict):
        entry = {"mediaType": media_types.OCI_MANIFEST, "digest": str(Digest.of(b"")), "size": 0, **entry}
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry]}
    with pytest.raises(ManifestInvalid):
        facts_of(media_types.OCI_INDEX, json.dumps(document).encode(), NoDocuments(), LINUX_AMD64)
