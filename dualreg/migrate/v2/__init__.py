"""Manifests and blobs of a source, imported unchanged."""
