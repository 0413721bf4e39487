"""Signatures of images: read and verified by keys and certificates that are trusted, without any network.

Three forms are known: those of cosign that are found by a tag (``cosign``), bundles of sigstore (``bundle``),
and those of notation (``notation``). All are pure functions of bytes; ``registry.attachments`` finds these.
"""
