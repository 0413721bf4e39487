"""Measurements beside the reference registry: ``make bench``, or ``python -m tests.benchmarks --help``."""
