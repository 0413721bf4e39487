"""Upstreams: other registries behind this one."""
