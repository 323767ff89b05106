# SPDX-License-Identifier: Apache-2.0
"""work: test/integration/work_driver.c from Python, and what its tests need around it."""
import base64
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))
DRIVER = BUILD / "test/unit/host/work-driver"


class Driver:
    """with Driver(sock) as d: d.deploy(...); every message that came is in d.seen."""

    def __init__(self, sock, *args):
        self.seen, self.seq, self.argv = [], 0, [DRIVER, sock, *map(str, args)]
        self.log = getattr(self, "log", None)  # a file for what it writes into its log
        self.start()

    def start(self):
        self.p = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.p.stdout:
            m = json.loads(line)
            m["at"] = time.monotonic()
            self.seen.append(m)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.p.stdin.close()
        try:
            rc = self.p.wait(30)
        except subprocess.TimeoutExpired:
            self.p.kill()
            raise
        if exc[0] is None:
            assert rc in (0, -9), f"the driver ended with {rc}"

    def send(self, **message):
        self.p.stdin.write(json.dumps(message) + "\n")
        self.p.stdin.flush()

    def wait(self, what, timeout=60):
        """The first message, of those that came and come, for which @what is true."""
        end = time.monotonic() + timeout
        at = 0
        while True:
            while at < len(self.seen):
                if what(self.seen[at]):
                    return self.seen[at]
                at += 1
            left = end - time.monotonic()
            if left <= 0 or (self.p.poll() is not None and not self.reader.is_alive() and at == len(self.seen)):
                raise AssertionError(f"no such message within {timeout} s; the last ones: {self.seen[-8:]}")
            time.sleep(0.02)

    def command(self, cmd_id=None, wait=True, timeout=120, **body):
        self.seq += 1
        cmd_id = cmd_id or str(uuid.uuid4())
        self.send(command={"seq": str(self.seq), "id": cmd_id, **body})
        return self.result(cmd_id, timeout) if wait else cmd_id

    def result(self, cmd_id, timeout=120):
        return self.wait(lambda m: m.get("result", {}).get("id") == cmd_id, timeout)["result"]

    def deploy(self, spec, deployment=None, auth=None, **more):
        body = {"deploymentId": deployment or str(uuid.uuid4()), "spec": spec}
        if auth:
            body["registryAuth"] = auth
        return self.command(deploy=body, **more)

    def action(self, project, service, action, **more):
        return self.command(action={"project": project, "service": service, "action": action, "stopTimeoutS": 3}, **more)

    def scale(self, project, service, deployment, replicas, **more):
        return self.command(scaleService={"project": project, "service": service, "deploymentId": deployment, "replicas": replicas}, **more)

    def cancel(self, cmd_id, seq=None):
        """The latest command, unless @seq says which."""
        self.send(cancelCommand={"seq": str(seq or self.seq), "id": cmd_id})

    def remove(self, project, service, volumes=False):
        return self.command(removeService={"project": project, "service": service, "volumes": volumes})

    def steps(self, cmd_id):
        """[(step, state)] without the notes in between."""
        out = []
        for m in self.seen:
            p = m.get("progress", {})
            if p.get("id") == cmd_id and (not out or out[-1] != (p["progress"]["step"], p["progress"]["state"])):
                out.append((p["progress"]["step"], p["progress"]["state"]))
        return out


class Proxy:
    """A unix socket before the engine's that can be taken away."""

    def __init__(self, path, to):
        self.path, self.to, self.open = path, to, []

    def up(self):
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(self.path))
        self.server.listen(64)
        threading.Thread(target=self.accept, args=(self.server,), daemon=True).start()

    def accept(self, server):
        while True:
            try:
                a, _ = server.accept()
            except OSError:
                return
            b = socket.socket(socket.AF_UNIX)
            b.connect(self.to)
            self.open += [a, b]
            for x, y in ((a, b), (b, a)):
                threading.Thread(target=self.pump, args=(x, y), daemon=True).start()

    @staticmethod
    def pump(x, y):
        try:
            while data := x.recv(65536):
                y.sendall(data)
            y.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def down(self):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        os.unlink(self.path)
        for s in self.open:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open = []


def entries(d, stream):
    out = []
    for m in d.seen:
        if m.get("logs", {}).get("streamId") == str(stream):
            out += [(e["stream"], int(e["atNs"]), base64.b64decode(e.get("line", ""))) for e in m["logs"]["entries"]]
    return out


def open_log(d, stream, container, credit=1 << 20, **more):
    d.send(logOpen={"streamId": str(stream), "containerId": container, "tail": "-1", "creditBytes": credit, **more})


def ended(d, stream, timeout=30):
    return d.wait(lambda m: m.get("logEnd", {}).get("streamId") == str(stream), timeout)["logEnd"]
