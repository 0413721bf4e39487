"""Metrics: what is counted, in files that all processes of a server share, and what the catalog knows.

``names`` is the table of all metrics. Workers count in ``metrics``, by the library's mode for several
processes; ``folder`` keeps its files, ``figures`` looks at the catalog once in a while, and ``page`` is
what Prometheus gets.
"""
