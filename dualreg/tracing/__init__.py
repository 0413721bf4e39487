"""Tracing: spans of requests and of what they wait for, sent to a collector of OpenTelemetry.

Other parts say by ``spans`` what they do; that costs nothing where no request is traced. ``exporting`` is the
home of OpenTelemetry, which is optional and imported only if tracing is on.
"""
