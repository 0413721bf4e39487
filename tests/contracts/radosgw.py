"""A real S3 server on loopback: Ceph with one daemon of each kind, in memory, and radosgw before it."""

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch
from urllib.parse import parse_qs, urlencode, urlsplit

import boto3
import pytest

from tests.programs import environment, free_port, require, running, wait_until_up
from tests.quick import memory_folder
from tests.soak import short_or_long

#: Kinds of stores that races of clients are run over; those over a bucket take a minute.
STORES = ["file", pytest.param("s3", marks=pytest.mark.s3)][: short_or_long(1, 2)]
_KEY, _SECRET = "testkey", "testsecret"
#: One copy of everything, no logins between the daemons, and room in memory.
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
ms_client_mode = crc
ms_cluster_mode = crc
ms_service_mode = crc
ms_mon_cluster_mode = crc
ms_mon_service_mode = crc
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
log_file = {folder}/log/$name.log
log_to_stderr = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
mon_data_avail_warn = 2
mon_data_avail_crit = 1
osd_objectstore = memstore
memstore_device_bytes = 17179869184
memstore_page_set = false
osd_class_load_list = *
osd_class_default_list = *
[mon.a]
mon_data = {folder}/mon
[osd.0]
osd_data = {folder}/osd
[client.rgw]
rgw_data = {folder}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_thread_pool_size = 64
"""


class ObjectStore(NamedTuple):
    """A running S3 server.

    Attributes:
        endpoint: Its URL.
        variables: What a program needs in its environment to log in.
    """

    endpoint: str
    variables: dict[str, str]

    def url(self, bucket: str, prefix: str) -> str:
        """Return the URL of a store in a bucket, as ``open_store`` takes it."""
        query = urlencode({"endpoint": self.endpoint, "region": "us-east-1"})
        return f"s3://{bucket}/{prefix}?{query}"


@contextmanager
def s3_bucket() -> Iterator[str]:
    """Yield the URL of an empty store in a bucket; for the block, this process can log in there.

    The test is skipped if radosgw is not installed.
    """
    server = _server()
    with patch.dict(os.environ, server.variables):
        os.environ.pop("AWS_CA_BUNDLE", None)
        yield server.url(_bucket(), f"store{next(_numbers)}")


def settings_of(url: str) -> dict[str, str]:
    """Return the settings of a registry with such a store."""
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    return {
        "store": f"s3://{parts.netloc}{parts.path}",
        "s3_endpoint": options["endpoint"][0],
        "s3_region": options["region"][0],
    }


def reference_settings(url: str) -> dict[str, str | bool]:
    """Return the reference registry's settings of such a store, for a process that can log in there."""
    chosen, place = settings_of(url), urlsplit(url)
    return {
        "bucket": place.netloc,
        "rootdirectory": place.path,
        "region": chosen["s3_region"],
        "regionendpoint": chosen["s3_endpoint"],
        "accesskey": os.environ["AWS_ACCESS_KEY_ID"],
        "secretkey": os.environ["AWS_SECRET_ACCESS_KEY"],
        "secure": False,
    }


@cache
def _bucket() -> str:
    """Return the name of the bucket of this process."""
    boto3.client("s3", endpoint_url=_server().endpoint, region_name="us-east-1").create_bucket(Bucket="tests")
    return "tests"


_numbers = count()


@cache
def _server() -> ObjectStore:
    """Return the server of this process, which ends with it."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(radosgw())


@contextmanager
def radosgw() -> Iterator[ObjectStore]:
    """Run an empty S3 server for the block; skip the test if it is not installed."""
    require("radosgw", "ceph-mon", "ceph-osd", "ceph", package="radosgw ceph-mon ceph-osd ceph-common")
    folder = Path(tempfile.mkdtemp(prefix="dualreg-radosgw-", dir=memory_folder()))
    try:
        for name in ("mon", "osd", "rgw", "run", "log"):
            (folder / name).mkdir()
        with ExitStack() as stack:
            yield _start(folder, stack)
    finally:
        shutil.rmtree(folder)


def _start(folder: Path, stack: ExitStack) -> ObjectStore:
    """Start all daemons, which *stack* ends, the last one first."""
    v2, v1, port = free_port(), free_port(), free_port()
    configuration = folder / "ceph.conf"
    fsid = str(uuid.uuid4())
    configuration.write_text(_CONFIGURATION.format(fsid=fsid, folder=folder, v2=v2, v1=v1, port=port))
    env = environment() | {"CEPH_CONF": str(configuration)}

    def run(*command: str) -> str:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"{' '.join(command)} failed:\n{done.stderr}")
        return done.stdout.strip()

    def daemon(*command: str) -> None:
        stack.enter_context(running([*command, "-f"], folder / "output", env))

    address = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
    run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, f"{folder}/monmap")
    run("ceph-mon", "-i", "a", "--mkfs", "--monmap", f"{folder}/monmap")
    daemon("ceph-mon", "-i", "a")
    disk = str(uuid.uuid4())
    number = run("ceph", "osd", "new", disk)
    run("ceph-osd", "-i", number, "--mkfs", "--osd-uuid", disk)
    daemon("ceph-osd", "-i", number)
    run("ceph", "osd", "crush", "add", f"osd.{number}", "1.0", "root=default", f"host={socket.gethostname()}")
    user = ("user", "create", "--uid=test", "--display-name=test")
    run("radosgw-admin", *user, f"--access-key={_KEY}", f"--secret-key={_SECRET}")
    endpoint = f"http://127.0.0.1:{port}"
    process = stack.enter_context(running(["radosgw", "-n", "client.rgw", "-f"], folder / "output", env))
    wait_until_up(endpoint, process, folder / "output", seconds=60)
    return ObjectStore(endpoint, {"AWS_ACCESS_KEY_ID": _KEY, "AWS_SECRET_ACCESS_KEY": _SECRET})
