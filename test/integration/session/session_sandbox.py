# SPDX-License-Identifier: Apache-2.0
"""session_sandbox: davit-init as PID 1 of a namespace with the real davit-session, and an agent of grpcio that speaks to it over mutual TLS."""
import contextlib
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # refusals are what is tested: no word about each

import grpc  # noqa: E402

from lib import pki, proc  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))
BIN = pathlib.Path(os.environ.get("DAVIT_BIN", BUILD / "src/main"))

AGENT = "davit://server/7a0c2c1e-0000-4000-8000-000000000001"
SANDBOX = "davit://sandbox/7a0c2c1e-0000-4000-8000-000000000002"


def generate():
    """The generated modules of the two services that a sandbox knows."""
    out = pathlib.Path(tempfile.mkdtemp(prefix="dp."))
    protos = ["davit/options/v1/options.proto", "davit/session/v1/session.proto", "davit/agent/v1/agent.proto"]
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}",
                    "--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin", *protos], check=True, timeout=60)
    sys.path.insert(0, str(out))
    try:
        from davit.agent.v1 import agent_pb2, agent_pb2_grpc
        from davit.session.v1 import session_pb2, session_pb2_grpc
    finally:
        sys.path.remove(str(out))
        for name in [m for m in sys.modules if m.split(".")[0] == "davit"]:
            del sys.modules[name]  # other tests generate all of the schema
        shutil.rmtree(out)
    return session_pb2, session_pb2_grpc, agent_pb2, agent_pb2_grpc


pb, pb_grpc, agent_pb, agent_grpc = generate()
Code = pb.ErrorCode


class Pki:
    """One authority; leaves by identity, (key, certificate) as PEM."""

    def __init__(self):
        self.root = pki.Authority.make()
        self.agent = self.root.leaf(AGENT)
        self.sandbox = self.root.leaf(SANDBOX)


PKI = Pki()


class Talk:
    """The stream of an agent. Answers go to a queue for each command_id; State to .states."""

    def __init__(self, port, identity=None, hello=True):
        credentials = grpc.ssl_channel_credentials(PKI.root.pem(), *(identity or PKI.agent))
        # Whom the agent believes is not what is tested here: the name is that of the test's leaves.
        self.channel = grpc.secure_channel(f"127.0.0.1:{port}", credentials,
                                           options=[("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1),
                                                    ("grpc.max_receive_message_length", -1)])
        self.out, self.answers, self.states = queue.Queue(), {}, queue.Queue()
        self.lock, self.error, self.ids = threading.Lock(), None, 0
        self.ended = threading.Event()
        self.call = pb_grpc.SessionServiceStub(self.channel).Session(iter(self.out.get, None))
        if hello:
            self.send("hello", hello=pb.Hello())
            first = self.next_raw()
            assert first.WhichOneof("body") == "hello_ack", first
            self.ack = first.hello_ack
            self.reader = threading.Thread(target=self.read, daemon=True)
            self.reader.start()

    def next_raw(self):
        return next(self.call)

    def read(self):
        try:
            for r in self.call:
                kind = r.WhichOneof("body")
                if kind == "state":
                    self.states.put(r.state)
                else:
                    self.of(r.command_id).put((kind, getattr(r, kind)))
        except grpc.RpcError as e:
            self.error = e
        self.ended.set()

    def of(self, name):
        with self.lock:
            return self.answers.setdefault(name, queue.Queue())

    def send(self, name, **body):
        self.out.put(pb.Command(command_id=name, **body))

    def take(self, name, timeout=10):
        return self.of(name).get(timeout=timeout)

    def state(self, main, timeout=10):
        """The next State that says @main."""
        until = time.monotonic() + timeout
        while True:
            s = self.states.get(timeout=max(0.01, until - time.monotonic()))
            if s.main == main:
                return s

    def begin(self, *stages, name=None, **more):
        """A pipeline; a stage is argv, or a PipeStage."""
        self.ids += 1
        name = name or f"c{self.ids}"
        self.send(name, shell=pb.ShellCommand(stages=[s if isinstance(s, pb.PipeStage) else pb.PipeStage(argv=s) for s in stages], **more))
        return name

    def finish(self, name, timeout=10):
        """All answers to @name up to Done or Error, as Result."""
        r = Result()
        until = time.monotonic() + timeout
        while not r.over:
            r.add(*self.take(name, max(0.01, until - time.monotonic())))
        return r

    def run(self, *stages, timeout=10, **more):
        return self.finish(self.begin(*stages, **more), timeout)

    def close(self):
        self.out.put(None)
        self.call.cancel()
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Result:
    """What a pipeline answered."""

    def __init__(self):
        self.out, self.err, self.exits, self.pids, self.code, self.error, self.over = bytearray(), bytearray(), {}, [], None, None, False
        self.chunks = []

    def add(self, kind, m):
        if kind == "output":
            assert len(m.data) <= 65536
            self.chunks.append(len(m.data))
            if m.error_output:
                self.err += m.data
            else:
                self.out += m.data
        elif kind == "started":
            self.pids = list(m.pids)
        elif kind == "stage_exit":
            self.exits[m.stage_index] = (m.exit_code, m.signo)
        elif kind == "done":
            self.code, self.over = m.final_exit_code, True
        else:
            self.error, self.over = m, True


class Sandbox:
    """davit-init with the program @argv and davit-session on a port of loopback. Closed, nothing of it is left. @before: commands of a shell that
    becomes davit-init; @material: files of the folder, None: the default."""

    def __init__(self, *argv, env=None, before="", material=None, assertion=None, namespace=("--pid", "--fork", "--kill-child", "--mount-proc"), wrapper=()):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ds."))
        self.folder.chmod(0o755)
        for name in ("davit-init", "davit-session"):
            shutil.copy(BIN / name, self.folder / name)
        self.material = self.folder / "material"
        self.material.mkdir(0o700)
        key, cert = PKI.sandbox
        files = {"cert.pem": cert, "key.pem": key, "ca.pem": PKI.root.pem()} if material is None else material
        for name, data in {**files, **({"assertion.jwt": assertion} if assertion else {})}.items():
            (self.material / name).write_bytes(data)
            (self.material / name).chmod(0o400)
        self.port, self.seen = proc.free_port(), False
        full = {"PATH": os.environ["PATH"], "HOME": "/root", "DAVIT_STATE_DIR": str(self.folder / "state"), "DAVIT_MATERIAL": str(self.material),
                "DAVIT_SESSION_LISTEN": f"127.0.0.1:{self.port}", "DAVIT_SESSION_PEER": AGENT, "DAVIT_AGENT": "box", "DAVIT_PROJECT": "demo", "DAVIT_LOG_LEVEL": "info",
                "ASAN_OPTIONS": "quarantine_size_mb=1", **(env or {})}
        command = [str(self.folder / "davit-init"), *map(str, argv)]
        if before:
            command = ["/bin/sh", "-ec", before + '; exec "$@"', "sh", *command]
        command = ["unshare", *namespace, *wrapper, *command]
        self.out, self.err = self.folder / "out", self.folder / "err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=full, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        said = self.log()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert "Sanitizer" not in said, said

    def log(self):
        return self.err.read_text(errors="replace")

    def listens(self):
        """Waits for the listener. Once: each look is a handshake that fails, and the log tells of so many only."""
        if self.seen:
            return
        self.seen = True
        proc.wait_for(lambda: self.p.poll() is not None or proc.listens(self.port), every=0.01, text="a listener")
        assert self.p.poll() is None, self.log()

    def talk(self, **more):
        self.listens()
        return Talk(self.port, **more)

    def ready(self, talk, *words):
        """Starts the program."""
        talk.send("ready", agent_ready=pb.AgentReady(default_cmd=words))
        return talk.state(pb.State.MAIN_RUNNING).pid

    def wait(self, timeout=15):
        return self.p.wait(timeout)

    def says(self, text, timeout=5):
        """Waits for @text in the container's log."""
        proc.wait_for(lambda: text in self.log(), timeout, every=0.01, text=f"{text!r} in the log")

    @property
    def init(self):
        """davit-init's number out here."""
        return int(proc.wait_for(lambda: pathlib.Path(f"/proc/{self.p.pid}/task/{self.p.pid}/children").read_text().split(), every=0.005)[0])

    def half(self):
        """davit-session's number out here; None: it does not run now."""
        children = pathlib.Path(f"/proc/{self.init}/task/{self.init}/children").read_text().split()
        for pid in children:
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{pid}/comm").read_text() == "davit-session\n":
                    return int(pid)
        return None


def sh(text):
    return ("/bin/sh", "-c", text)
