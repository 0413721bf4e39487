"""Derivations: what a blob was derived from, and what was derived from a manifest."""

from dataclasses import replace

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import BlobRow, RepositoryRow
from dualreg.image.digest import Digest
from tests.contracts.catalog.rows import (
    CONFIG,
    IMAGE,
    LOWER,
    MANIFEST,
    MISSING,
    NAME,
    OTHER,
    UPPER,
    artifact,
    image_id,
    link,
    push,
    record,
    v1_row,
)

JSONS = [b"json of 1", b"json of 2"]


class DerivationsContract:
    """What was derived from what."""

    def test_jsons_of_views(self, catalog: Catalog) -> None:
        """Those of derived images, of which a pushed one may be on top; in every repository that has them."""
        with catalog.begin() as tx:
            places = [RepositoryRow(push(tx, name), name) for name in (NAME, OTHER)]
            for place in places:
                link(tx, place.id, *JSONS)
                for number, json in enumerate(JSONS, 1):
                    image = replace(v1_row(place.id, number, number - 1 or None), checksum=None)
                    tx.v1_images.record(replace(image, json=Digest.of(json)))
                tx.v1_images.record(v1_row(place.id, 3, 2))
                tx.views.record(place.id, MANIFEST.digest, image_id(3))
                found = tx.derivations.jsons(place.id, MANIFEST.digest)
                assert {*found} == {BlobRow(Digest.of(json), len(json)) for json in JSONS}
            for json in JSONS:
                seen = tx.derivations.seen_with_json(Digest.of(json), 10)
                assert {*seen} == {(place, MANIFEST.digest) for place in places}
                assert len(tx.derivations.seen_with_json(Digest.of(json), 1)) == 1
            assert tx.derivations.seen_with_json(CONFIG, 10) == ()  # the JSON of a pushed image
            assert tx.derivations.jsons(places[0].id, MISSING) == ()

    def test_what_was_made_of_v1_images(self, catalog: Catalog) -> None:
        """A manifest that is seen as a pushed image, its config, and layers that none of its images has."""
        with catalog.begin() as tx:
            place = RepositoryRow(push(tx), NAME)
            tx.v1_images.record(v1_row(place.id, 1))
            tx.views.record(place.id, MANIFEST.digest, image_id(1))
            for blob in (MANIFEST.digest, CONFIG, UPPER):
                assert tx.derivations.made_of_v1(blob, 10) == ((place, MANIFEST.digest),)
            assert tx.derivations.made_of_v1(LOWER, 10) == ()  # the layer of the image
            tx.v1_images.record(replace(v1_row(place.id, 2), checksum=None))
            tx.views.record(place.id, MANIFEST.digest, image_id(2))
            assert tx.derivations.made_of_v1(CONFIG, 10) == ()

    def test_conversions(self, catalog: Catalog) -> None:
        """What a manifest was converted to, with the config; and from any part of that, the manifest."""
        with catalog.begin() as tx:
            place, source = RepositoryRow(push(tx), NAME), artifact(1)
            record(tx, place.id, source)
            assert tx.derivations.conversions(place.id, source.digest) == ()
            tx.views.record(place.id, source.digest, None, kind="oci")
            tx.views.record(place.id, source.digest, image_id(1))
            tx.views.record(place.id, source.digest, str(MANIFEST.digest), kind="schema2")
            made = BlobRow(MANIFEST.digest, len(IMAGE.manifest))
            assert tx.derivations.conversions(place.id, source.digest) == (made,)
            assert tx.derivations.configs(place.id, source.digest) == (BlobRow(CONFIG, len(IMAGE.config)),)
            for blob in (MANIFEST.digest, CONFIG, LOWER, UPPER):
                assert tx.derivations.converted(blob, 10) == ((place, source.digest),)
            for blob in (source.digest, MISSING):
                assert tx.derivations.converted(blob, 10) == ()
