"""Tests of upstreams: other registries behind this one."""
