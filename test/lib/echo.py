# SPDX-License-Identifier: Apache-2.0
"""The echo server of the wire's tests: davit.test.v1.EchoService on src/rpc, plain, on loopback."""
import contextlib
import os
import pathlib
import signal
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))


@contextlib.contextmanager
def server():
    """(its process, "host:port"); must end well when it is told to."""
    with subprocess.Popen([BUILD / "test/unit/rpc/rpc-echo-server", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as p:
        try:
            yield p, p.stdout.readline().strip()
        finally:
            p.send_signal(signal.SIGTERM)
            assert p.wait(20) == 0  # with sanitizers: nothing leaked either
