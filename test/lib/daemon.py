# SPDX-License-Identifier: Apache-2.0
"""daemon: a davitd without `davit up`, a Docker Engine or a local agent, and agents that enroll with it: for tests of who may talk to whom."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # refusals are what is tested: no word about each

import grpc  # noqa: E402

from lib import proc  # noqa: E402
from lib.tokens import Tokens  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))
BIN = pathlib.Path(os.environ.get("DAVIT_BIN", BUILD / "src/main"))


def generate(out):
    """The generated python modules of our schema in the folder @out, as attributes; the caller takes @out off sys.path again."""
    protos = sorted(p.relative_to(ROOT / "proto") for p in (ROOT / "proto/davit").rglob("*.proto"))
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}",
                    "--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin", *map(str, protos)], check=True, timeout=60)
    sys.path.insert(0, str(out))
    from davit.common.v1 import service_pb2
    from davit.control.v1 import servers_pb2, servers_pb2_grpc, status_pb2, status_pb2_grpc, workloads_pb2, workloads_pb2_grpc
    from davit.link.v1 import link_pb2, link_pb2_grpc

    class Modules:
        service, servers, servers_grpc = service_pb2, servers_pb2, servers_pb2_grpc
        status, status_grpc = status_pb2, status_pb2_grpc
        work, work_grpc = workloads_pb2, workloads_pb2_grpc
        link, link_grpc = link_pb2, link_pb2_grpc

    return Modules


class Bearer(grpc.AuthMetadataPlugin):
    """What calls on 7443 show."""

    def __init__(self, tokens):
        self.tokens = tokens

    def __call__(self, context, callback):
        try:
            callback((("authorization", f"Bearer {self.tokens.bearer()}"),), None)
        except Exception as e:  # told as the status of the call
            callback((), e)


class Daemon:
    """d = Daemon(api).start(): user's keys in .user, state in .state, everything below .dir."""

    def __init__(self, api, more=()):
        self.modules = api
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="dv."))
        self.user, self.state, self.socket = self.dir / "user", self.dir / "state", self.dir / "link.sock"
        self.user.mkdir(0o700)
        self.state.mkdir(0o700)
        subprocess.run([BUILD / "test/unit/control/pki_tool", self.user, self.state], check=True, timeout=60)
        self.api, self.link, self.health, self.local_web = (proc.free_port() for _ in range(4))
        self.more = list(more)
        self.tokens = Tokens(self.api, self.user)
        self.p = None
        self.background = []

    def command(self):
        return [BIN / "davitd", "--state-dir", self.state, "--api-listen", f"127.0.0.1:{self.api}", "--link-listen",
                f"127.0.0.1:{self.link}", "--health-listen", f"127.0.0.1:{self.health}", "--link-socket", self.socket, "--local-web-listen",
                f"127.0.0.1:{self.local_web}",
                "--advertise", "127.0.0.1", *self.more]

    def start(self):
        self.tokens.forget()
        self.p = proc.Background(self.command(), self.dir / "log")
        proc.wait_for(lambda: proc.listens(self.health) and proc.listens(self.api), text=f"davitd: {self.p.text()}")
        return self

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health}{path}", timeout=10) as r:
            return r.read().decode()

    def root(self):
        return (self.user / "root.crt").read_bytes()

    def channel(self, port=None, key=None, chain=None, token=True):
        """A TLS channel to @port (the API, with a token); @key and @chain (PEM) instead of the user's own; False: without a certificate."""
        mine = lambda name: (self.user / name).read_bytes()  # noqa: E731
        own = key is None
        if own:
            key, chain = mine("cli.key"), mine("cli.crt")
        credentials = grpc.ssl_channel_credentials(self.root(), key or None, chain or None)
        if own and token and port in (None, self.api):
            credentials = grpc.composite_channel_credentials(credentials, grpc.metadata_call_credentials(Bearer(self.tokens)))
        return grpc.secure_channel(f"127.0.0.1:{port or self.api}", credentials, [("grpc.ssl_target_name_override", "localhost")])

    def add(self, name):
        """A server and its join token."""
        with self.channel() as ch:
            stub = self.modules.servers_grpc.ServerServiceStub(ch)
            return stub.CreateServer(self.modules.servers.CreateServerRequest(name=name), timeout=20).token

    def show(self, name):
        with self.channel() as ch:
            stub = self.modules.servers_grpc.ServerServiceStub(ch)
            return stub.GetServer(self.modules.servers.GetServerRequest(server=name), timeout=20).server

    @property
    def env(self):
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")}
        return keep | {"HOME": str(self.dir), "LANG": "C.UTF-8", "DOCKER_HOST": "unix:///nonexistent/docker.sock"}

    def enroll(self, token, directory, port=None, check=True, timeout=90):
        """davit-agent enroll; the token goes through standard input."""
        return proc.run([BIN / "davit-agent", "enroll", "--server", f"127.0.0.1:{port or self.link}", "--token-file", "-", "--config-dir",
                         directory], stdin=token + "\n", env=self.env, check=check, timeout=timeout)

    def run_agent(self, directory):
        b = proc.Background([BIN / "davit-agent", "run", "--config-dir", directory], directory.with_suffix(".log"), env=self.env)
        self.background.append(b)
        return b

    def close(self):
        try:
            for b in self.background:
                if b.running():
                    b.stop()
                assert "Sanitizer" not in b.text() and "runtime error" not in b.text(), b.text()[-4000:]
            if self.p and self.p.running():
                assert self.p.stop() == 0, self.p.text()[-4000:]
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)
