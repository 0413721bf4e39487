"""Values: what an image consists of, and how an image of one generation is converted to another.

Everything in this package is immutable and pure: bytes in, bytes out. It needs only the standard library,
except for ``jws``, the home of ``cryptography``, and zstd in ``layer``, which Python has since 3.14.
"""
