"""Power cuts and kills at every system call of a story, played on a disk in memory.

A story runs once under strace (``record``). Its system calls are played, one by one, on a model of a disk
that knows what was synced (``disk``). After each of them, the disk is written out as a kill, a power cut, or
a power cut that kept some of what was not synced would leave it (``run``). The registry starts on that, and
every promise that it had made by then is tested (``check``).

Over a bucket, a real server is killed at requests that it sends to the object store (``bucket``).
"""
