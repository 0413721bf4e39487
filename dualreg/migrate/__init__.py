"""Migration: images of other registries are imported into this one, and exported from it, without a daemon.

A source is never changed. ``migrate run SOURCE``, up to the first byte of a layer and on to the tag:

    1.  ``transports.survey_source`` finds the transport of SOURCE in the table ``dualreg.transports``;
    2.  its opener opens the source, a module of ``sources/``, and surveys it:
    3.  the ``Survey`` lists tags, reads V1 JSONs or manifests but no layers, and notes ``findings``.
    4.  ``selection.make_plan`` makes ``plan`` entries: each tag is imported, skipped or left.
    5.  ``follow.Passes`` opens a ``journal``, under the lock that all runs share, and gets an ``Importer``.
    6.  ``Run.predict`` gives the outcome of each entry that needs no import: equal, existing or deleted tags.
    7.  ``Run.import_all`` passes the others to the importer: those that are new and small to ``import_new``,
        dozens in one step (``together``), and then the rest to ``import_entry``, several at a time.
    8.  The importer goes through the blobs of an image, base first, without those that are stored already.
    9.  ``transfer.stage`` opens a blob, reads the first byte, and hashes it on the way into the store.
    10. Verified blobs are journaled and admitted, then the manifest or V1 image, and last the tag is set.

``base`` declares the protocols; ``v1/``, ``v2/`` and ``saved/`` implement them for V1 images, manifests and
saved images. Afterwards ``verify`` and ``verify_http`` compare the source with this registry by the survey's
``Comparison``, without the journal; ``report`` and ``rollback`` read the journal.

``on_demand/`` imports an image when a client first asks for it. ``export`` copies tags to a module of
``targets/``, in the order of their ``graph``.
"""
