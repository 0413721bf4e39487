"""Manifests and blobs moving in: as they are, digest for digest."""
