# SPDX-License-Identifier: Apache-2.0
"""init_sandbox: davit-init as PID 1 of a PID namespace, with a session half that does what the test says (standin.c). The frames are packed here once
more, by hand, from src/init/wire.h."""
import contextlib
import os
import pathlib
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

from lib import proc

BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", pathlib.Path(__file__).resolve().parents[3] / "build/asan"))
INIT = BUILD / "src/main/davit-init"
# The same with the other C library and, in that tree, under the sanitizers.
INIT_GLIBC = BUILD / "test/integration/init/davit-init-glibc"
STANDIN = BUILD / "test/integration/init/davit-session-standin"
PROBE = BUILD / "test/integration/init/probe"

READY, INITIALIZED, SIGNAL, STOP, QUERY = 1, 2, 3, 4, 5
HELLO, STARTED, EXITED, STOPPING, REFUSED, ZOMBIES = 33, 34, 35, 36, 37, 38
WAITING, RUNNING, TERMINATING, ENDED = range(4)
ALREADY, NOT_RUNNING, ENDING = 1, 2, 3


def frame(kind, body=b""):
    return struct.pack("=BBHI", 1, kind, 8 + len(body), 0) + body


def ready(*words):
    text = b"".join(w.encode() + b"\0" for w in words)
    return frame(READY, struct.pack("=II", len(words), len(text)) + text.ljust(1024, b"\0"))


def sh(text):
    return ("/bin/sh", "-c", text)


def text_of(raw):
    return raw.split(b"\0")[0].decode()


class Frame(dict):
    """What init sent: .kind and its fields by name."""

    FIELDS = {
        STARTED: ("=iI", ["pid", "_"]),
        EXITED: ("=iiII", ["status", "errno", "oom_known", "oom_kills"]),
        STOPPING: ("=II", ["within_ms", "_"]),
        REFUSED: ("=II", ["type", "reason"]),
        ZOMBIES: ("=IiII16s", ["count", "parent", "of_parent", "_", "name"]),
        HELLO: ("=IiII iiII III 256s 64s 256s", ["state", "main_pid", "initialized", "grace_ms", "status", "errno", "oom_known", "oom_kills", "uid", "gid",
                                                 "groups_n", "groups", "user", "home"]),
    }

    def __init__(self, raw):
        version, self.kind, size, zero = struct.unpack("=BBHI", raw[:8])
        assert (version, size, zero) == (1, len(raw), 0), raw[:8]
        shape, names = self.FIELDS[self.kind]
        super().__init__(zip(names, struct.unpack(shape, raw[8:])))
        for name in ("user", "home", "name"):
            if name in self:
                self[name] = text_of(self[name])
        if "groups" in self:
            self["groups"] = list(struct.unpack("=64I", self["groups"]))[:self["groups_n"]]

    def __getattr__(self, name):
        return self[name]


class Half:
    """One life of the stand-in."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(10)

    def do(self, what, more=b""):
        self.sock.send(what.encode() + more)

    def send(self, raw):
        self.do("f", raw)

    def take(self):
        """The next frame from init; None: init hung up."""
        raw = self.sock.recv(4096)
        if raw[:1] == b"p":
            return struct.unpack("=ii", raw[1:])
        return Frame(raw[1:]) if raw[:1] == b"f" else None

    def expect(self, kind):
        """The next frame, which is of @kind; what init says of zombies by itself does not count."""
        f = self.take()
        while f is not None and kind != ZOMBIES and f.kind == ZOMBIES:
            f = self.take()
        assert f is not None and f.kind == kind, (f and f.kind, f)
        return f

    def gone(self):
        """Is it dead? Waits for it."""
        with contextlib.suppress(ConnectionResetError):
            while self.sock.recv(4096):
                pass
        return True


class Sandbox:
    """davit-init with the program @argv. Closed, nothing of it is left. @stdin: a terminal, which is its output too; @before: commands of a shell that
    becomes it; @wrapper: a program that does; @share: further namespaces of its own; @stderr: what to use instead of the file of log()."""

    def __init__(self, *argv, env=None, before="", stdin=subprocess.DEVNULL, half=True, namespace=True, passwd=None, group=None,
                 wrapper=(), share=(), stderr=None, init=INIT):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="di."))
        self.folder.chmod(0o755)
        shutil.copy(init, self.folder / "davit-init")
        if half:
            shutil.copy(STANDIN, self.folder / "davit-session")
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.server.bind(str(self.folder / "test.sock"))
        self.server.listen(8)
        self.server.settimeout(10)
        for name, text in (("passwd", passwd), ("group", group)):
            if text is not None:
                (self.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
                before += f"mount --bind {self.folder}/{name} /etc/{name}; "
        full = {"PATH": os.environ["PATH"], "HOME": "/root", "DAVIT_TEST_SOCKET": str(self.folder / "test.sock"),
                "DAVIT_STATE_DIR": str(self.folder / "state"), **(env or {})}
        command = [str(self.folder / "davit-init"), *map(str, argv)]
        if before:
            command = ["/bin/sh", "-ec", before + 'exec "$@"', "sh", *command]
        command = [*wrapper, *command]
        if namespace:
            command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *share, *command]
        self.out, self.err = self.folder / "out", self.folder / "err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            batch = stdin == subprocess.DEVNULL
            self.p = subprocess.Popen(command, stdin=stdin, stdout=out if batch else stdin, stderr=stderr or (err if batch else stdin), env=full,
                                      start_new_session=batch)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        self.server.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self):
        """davit-init's number out here."""
        return int(proc.wait_for(lambda: pathlib.Path(f"/proc/{self.p.pid}/task/{self.p.pid}/children").read_text().split(), every=0.005)[0])

    def half(self):
        """The next session half that init starts, its greeting not yet read."""
        return Half(self.server.accept()[0])

    def hello(self):
        """The next session half and its greeting."""
        h = self.half()
        return h, h.expect(HELLO)

    def start(self, *words):
        """A session half that has started the program."""
        h, _ = self.hello()
        h.send(ready(*words))
        h.main = h.expect(STARTED).pid
        return h

    def end(self, h, timeout=10):
        """The program ended: the half obeys. Its last word of it, and the exit status of the sandbox."""
        h.sock.settimeout(timeout)
        f = h.expect(EXITED)
        h.expect(STOPPING)
        h.do("x", b"\0")
        return f, self.wait()

    def wait(self, timeout=10):
        return self.p.wait(timeout)

    def kill(self, signo):
        os.kill(self.pid, signo)

    def says(self, text, timeout=5):
        """Waits for @text on the program's standard output."""
        proc.wait_for(lambda: text in self.out.read_text(errors="replace"), timeout, every=0.005, text=f"{text!r} in {self.out}")

    def log(self):
        return self.err.read_text(errors="replace")


def run(*argv, **more):
    """A program from ready to its end: (EXITED frame, exit status, output, log)."""
    with Sandbox(*argv, **more) as s:
        f, status = s.end(s.start())
        return f, status, s.out.read_text(errors="replace"), s.log()


def readable(sock, seconds):
    return bool(select.select([sock], [], [], seconds)[0])


SIGNALS = [signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGALRM, signal.SIGCONT, signal.SIGWINCH]
