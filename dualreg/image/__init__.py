"""Values: what an image is made of, and how one generation's image becomes another's.

Everything here is immutable and pure (bytes in, bytes out), and needs the standard library only, but for
``jws``, the home of ``cryptography``, and for zstd in ``layer``, which Python has since 3.14.
"""
