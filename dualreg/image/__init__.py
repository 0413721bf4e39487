"""Values: what an image consists of, and how an image of one generation is converted to another.

Everything in this package is immutable and pure: bytes in, bytes out. It needs only the standard library,
except for ``cryptography`` in ``jws``, ``certificate_chains`` and ``signatures``, and zstd in ``inflater``,
which Python has since 3.14.
"""
