# SPDX-License-Identifier: Apache-2.0
"""updates: all that an agent needs to update itself, made of little: a control plane that speaks the link and nothing else, a service manager that
starts the agent anew and listens to $NOTIFY_SOCKET, an https server that gives the release in good ways and bad ones. No Docker, no davitd."""
import contextlib
import hashlib
import http.server
import os
import pathlib
import queue
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import uuid
from concurrent import futures

import grpc
import pytest

from lib import daemon, pki, proc, release

SERVER_ID = "3f0e1c52-6a7b-4c8d-9e0f-112233445566"
OLD, NEW = "0.1.0", "0.2.0"


class Plane:
    """The control plane's end of one link. p.update(...) commands; p.result(seq) waits; p.hellos: every Hello that came."""

    def __init__(self, modules, authority):
        self.link = modules.link
        self.port = proc.free_port()
        self.hellos, self.results, self.progress, self.seqs = [], {}, [], {}
        self.changed = threading.Condition()
        self.live = None
        self.refused = set()  # versions whose Hello is answered by UNAVAILABLE
        key, cert = authority.leaf("davit://controlplane")
        credentials = grpc.ssl_server_credentials([(key, cert + authority.pem())], authority.pem(), True)
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        modules.link_grpc.add_LinkServiceServicer_to_server(self, self.server)
        assert self.server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        self.server.start()

    def Connect(self, incoming, context):  # noqa: N802, as gRPC calls it
        first = next(incoming)
        if not first.HasField("hello"):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a link begins with Hello")
        out = queue.Queue()
        with self.changed:
            if first.hello.system.agent_version in self.refused:
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            assert not self.hellos or first.hello.epoch > self.hellos[-1].epoch
            self.hellos.append(first.hello)
            self.live = out
            self.changed.notify_all()
            waiting = [c for s, c in sorted(self.seqs.items()) if s > first.hello.last_received_seq]
        threading.Thread(target=self.listen, args=(incoming, out), daemon=True).start()
        yield self.link.ControlMessage(welcome=self.link.Welcome(protocol=1, server_id=SERVER_ID, server_name="web-1", heartbeat_interval_ms=1000,
                                                                 clock_us=int(time.time() * 1e6)))
        for command in waiting:
            yield self.link.ControlMessage(command=command)
        while (message := out.get()) is not None:
            yield message

    def listen(self, incoming, out):
        with contextlib.suppress(Exception):
            for m in incoming:
                self.hear(m, out)
        out.put(None)
        with self.changed:
            if self.live is out:
                self.live = None
            self.changed.notify_all()

    def hear(self, m, out):
        if m.HasField("heartbeat"):
            out.put(self.link.ControlMessage(heartbeat_ack=self.link.HeartbeatAck(sequence=m.heartbeat.sequence, clock_us=int(time.time() * 1e6))))
        elif m.HasField("progress"):
            self.progress.append(m.progress)
        elif m.HasField("result"):
            with self.changed:
                self.results.setdefault(m.result.seq, m.result)
                self.changed.notify_all()
            out.put(self.link.ControlMessage(result_ack=self.link.ResultAck(seq=m.result.seq)))

    def wait(self, what, timeout, text):
        with self.changed:
            assert self.changed.wait_for(what, timeout), text
            return what()

    def online(self, timeout=20):
        return self.wait(lambda: self.live and self.hellos[-1], timeout, "no link")

    def send(self, **body):
        with self.changed:
            seq = len(self.seqs) + 1
            command = self.seqs[seq] = self.link.Command(seq=seq, id=str(uuid.uuid4()), **body)
            if self.live:
                self.live.put(self.link.ControlMessage(command=command))
        return seq

    def result(self, seq, timeout=60):
        return self.wait(lambda: self.results.get(seq), timeout, f"no result of command {seq}; progress: {self.progress[-3:]}")

    def close(self):
        with self.changed:
            if self.live:
                self.live.put(None)
        self.server.stop(None)


class Shelf(http.server.ThreadingHTTPServer):
    """https://127.0.0.1:PORT/NAME: a file each; `how` breaks it: "truncated", "endless", "huge", "wrong", a list of statuses to answer first, or a function to be called."""
    daemon_threads = True

    def __init__(self, authority):
        self.files, self.how, self.asked = {}, None, []
        super().__init__(("127.0.0.1", 0), Shelf.Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key, cert = authority.leaf("davit://controlplane", usage="server")
        pem = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"shelf-{uuid.uuid4()}.pem"
        pem.write_bytes(key + cert)
        context.load_cert_chain(pem)
        pem.unlink()
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name):
        return f"https://127.0.0.1:{self.server_port}/{name}"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):  # noqa: N802
            shelf, body = self.server, self.server.files.get(self.path[1:])
            shelf.asked.append(self.path)
            if isinstance(shelf.how, list) and shelf.how:
                self.send_response(shelf.how.pop(0))
                self.send_header("Retry-After", "1")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if callable(shelf.how):
                shelf.how()
            self.send_response(200 if body is not None else 404)
            body = body or b""
            if shelf.how == "endless":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                return
            if shelf.how == "wrong":
                body = body[:-1] + bytes([body[-1] ^ 1])
            self.send_header("Content-Length", str(len(body) + (1 if shelf.how == "huge" else 0)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body[:len(body) // 2] if shelf.how == "truncated" else body)
            self.close_connection = shelf.how is not None


class Manager:
    """What systemd does for a unit of Type=notify with Restart=always, as far as an update needs it."""

    def __init__(self, top, words, env):
        self.path, self.log, self.words = top / "notify", top / "agent.log", words
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(0.1)
        self.env = env | {"NOTIFY_SOCKET": str(self.path)}
        self.main, self.child, self.starts, self.said, self.stopping, self.kills_next = 0, None, 0, [], False, False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.start()
        self.thread.start()

    def start(self):
        self.child = proc.Background(self.words, self.log, env=self.env)
        self.main = self.child.pid
        self.starts += 1

    def alive(self):
        if self.child and self.child.pid == self.main:
            return self.child.running()
        with contextlib.suppress(OSError):
            return pathlib.Path(f"/proc/{self.main}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        return False

    def hear(self):
        """One notification; False if none came."""
        with contextlib.suppress(TimeoutError, OSError):
            words = self.socket.recv(4096).decode()
            self.said.append(words)
            for line in words.split("\n"):
                if line.startswith("MAINPID="):
                    self.main = int(line[8:])
                    if self.kills_next:
                        self.kills_next = False
                        self.kill()
            return True
        return False

    def serve(self):
        while not self.stopping:
            self.hear()
            if not self.alive() and not self.stopping:
                while self.hear():  # what it said before its end comes first, as with systemd: somebody else may be the main process
                    pass
                if not self.alive():
                    self.start()

    def text(self):
        return self.log.read_text(errors="replace")

    def exe(self):
        """The slot of the main process."""
        with contextlib.suppress(OSError):
            return pathlib.Path(os.readlink(f"/proc/{self.main}/exe")).parent.name
        return None

    def kill(self, sig=signal.SIGKILL):
        os.kill(self.main, sig)

    def stop(self):
        self.stopping = True
        self.thread.join()
        with contextlib.suppress(OSError):
            os.kill(self.main, signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            proc.wait_for(lambda: not self.alive(), 30, every=0.05)
        if self.alive():
            self.kill()
        if self.child.running():
            self.child.stop()
        self.socket.close()


class Host:
    """One machine with an agent in slots, its plane, its shelf. h.offer(...) puts a release on the shelf and returns the words of a command."""

    def __init__(self, modules, top, more=(), wrap=()):
        self.top, self.modules = top, modules
        self.prefix, self.dir = top / "opt", top / "etc"
        self.authority = pki.Authority.make()
        self.plane = Plane(modules, self.authority)
        self.shelf = Shelf(self.authority)
        self.program = self.dir_of_programs() / "davit-agent"
        self.install()
        self.enroll()
        self.more, self.wrap = list(more), list(wrap)
        self.counter = 10
        self.manager = None

    @staticmethod
    def dir_of_programs():
        return pathlib.Path(os.environ["DAVIT_BUILD"]) / "test/integration/update"

    def install(self):
        slot = self.prefix / f"slots/{OLD}-1"
        slot.mkdir(parents=True)
        shutil.copy(self.program, slot / "davit-agent")
        (slot / "MANIFEST").write_text("")
        (self.prefix / "bin").mkdir()
        (self.prefix / "bin/davit-agent").symlink_to("../current/davit-agent")
        (self.prefix / "current").symlink_to(f"slots/{OLD}-1")

    def enroll(self):
        self.dir.mkdir(0o700)
        key, cert = self.authority.leaf(f"davit://server/{SERVER_ID}")
        for name, body in (("client.key", key), ("client.crt", cert), ("ca.crt", self.authority.pem())):
            (self.dir / name).write_bytes(body)
            (self.dir / name).chmod(0o600)
        (self.dir / "config.yaml").write_text(f"server_id: {SERVER_ID}\nserver_name: web-1\ngrpc_endpoint: 127.0.0.1:{self.plane.port}\n"
                                              "auth_mode: mtls\ngeneration: 1\n")
        (self.dir / "config.yaml").chmod(0o600)

    def start(self):
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")}
        env = keep | {"HOME": str(self.top)}
        words = [*self.wrap, self.prefix / "bin/davit-agent", "run", "--config-dir", self.dir, "--docker", f"unix:{self.top}/no-engine", *self.more]
        self.manager = Manager(self.top, words, env)
        self.plane.online()
        return self

    def version(self, version):
        """A program that says that it is @version."""
        path = self.top / f"davit-agent-{version}"
        if not path.exists():
            release.other_version(self.program, path, version)
        return path

    def offer(self, version=NEW, program=None, spoil=None, **more):
        """Words of an UpdateAgent. program: instead of the tree's; spoil(metadata bytes, signature text) -> both; more: of lib.release.make."""
        out = self.top / f"release-{version}-{uuid.uuid4()}"
        out.mkdir()
        self.counter += 1
        made = release.make(out, version, {self.platform(): {"davit-agent": program or self.version(version)}}, scratch=self.top,
                            **{"counter": self.counter, **more})
        body = next(out.glob("*.tar"))
        self.shelf.files[body.name] = body.read_bytes()
        metadata, signatures = (out / "release.json").read_bytes(), (out / "release.sig").read_text()
        if spoil:
            metadata, signatures = spoil(metadata, signatures)
        data = body.read_bytes()
        assert made["version"] == version
        return {"version": version, "url": self.shelf.url(body.name), "sha256": hashlib.sha256(data).hexdigest(), "size": len(data),
                "metadata": metadata, "signatures": signatures}

    @staticmethod
    def platform():
        return {"x86_64": "linux-amd64", "aarch64": "linux-arm64"}[os.uname().machine]

    def update(self, words, timeout=60):
        """Commands it and waits for the result."""
        return self.plane.result(self.plane.send(update_agent=self.modules.link.UpdateAgent(**words)), timeout)

    # --- What is there ---
    def current(self):
        return os.readlink(self.prefix / "current").removeprefix("slots/")

    def slots(self):
        return {p.name for p in (self.prefix / "slots").iterdir()}

    def unchanged(self, main):
        """The old version goes on as the process that it was, with nothing left of the other."""
        assert self.current() == f"{OLD}-1" and self.manager.main == main and self.manager.alive()
        assert self.slots() <= {f"{OLD}-1", "counter"}, self.slots()
        self.plane.online()

    def close(self):
        if self.manager:
            self.manager.stop()
            text = self.manager.text()
            assert "Sanitizer" not in text and "runtime error" not in text, text[-8000:]
        self.plane.close()
        self.shelf.shutdown()
        self.shelf.server_close()


@contextlib.contextmanager
def a_host(modules, *more, wrap=(), kind=Host, untidy=False):
    """A Host (or one of another @kind) in a directory of its own, which goes with it. @untidy: something that was killed may still be in there."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="du."))
    host = kind(modules, top, more, wrap)
    try:
        yield host
    finally:
        host.close()
        shutil.rmtree(top, ignore_errors=untidy)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """The generated modules of the link's protocol; for `from lib.updates import modules`."""
    folder = tmp_path_factory.mktemp("proto")
    yield daemon.generate(folder)
    sys.path.remove(str(folder))
