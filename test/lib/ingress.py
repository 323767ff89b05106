# SPDX-License-Identifier: Apache-2.0
"""ingress: test/integration/ingress_driver.c from Python, servers for it to lead to, and clients that count what they lose."""
import http.client
import os
import pathlib
import subprocess
import threading
import time

from lib import images

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))
DRIVER = BUILD / "test/unit/host/ingress-driver"
CONTAINER = "davit-ingress"


class Failed(Exception):
    """What the driver answered with a negative number."""

    def __init__(self, rc, text):
        super().__init__(f"{rc}: {text}")
        self.rc, self.text = rc, text


class Ingress:
    """with Ingress(sock, folder, image, listen) as i: i.set(...)"""

    def __init__(self, sock, folder, image, listen):
        self.p = subprocess.Popen([DRIVER, sock, folder, image, listen], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.answers, self.n, self.changed = {}, 0, threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.p.stdout:
            name, rc, left, text = line.rstrip("\n").split(" ", 3)
            with self.changed:
                self.answers[name] = (int(rc), int(left), text)
                self.changed.notify_all()

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
            assert rc == 0, f"the driver ended with {rc}"

    def ask(self, *words):
        self.n += 1
        self.p.stdin.write(" ".join([str(self.n), *map(str, words)]) + "\n")
        self.p.stdin.flush()
        return str(self.n)

    def answer(self, name, timeout=60):
        with self.changed:
            assert self.changed.wait_for(lambda: name in self.answers, timeout), "the driver does not answer"
            rc, left, text = self.answers[name]
        if rc < 0:
            raise Failed(rc, text)
        return left, text

    def call(self, *words, timeout=60):
        return self.answer(self.ask(*words), timeout)

    def set(self, project, service, hosts, servers, verb="set"):
        """@servers: (name, address, weight or "drain") each, on port 8080."""
        return self.call(verb, project, service, f"davit-{project}", ",".join(hosts), *[f"{n}={a}:8080:{w}" for n, a, w in servers])


class Backends:
    """Projects, each with its network, and containers of them that serve HTTP on 8080: /cgi-bin/who tells the name, /cgi-bin/slow takes until
    it may go on, /cgi-bin/headers shows what was asked."""

    def __init__(self, docker):
        self.docker, self.names, self.networks = docker, [], []
        cgi = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n"
        self.image = images.make(docker, "davit-test/backend:1", ["/bin/sh", "/start"], {
            "www/cgi-bin/who": (cgi + "hostname\n", 0o755), "www/cgi-bin/headers": (cgi + "env\n", 0o755),
            "www/cgi-bin/slow": (cgi + "while [ ! -e /tmp/go ]; do sleep 0.1; done\nhostname\n", 0o755), "www/index.html": "hello\n",
            "start": (images.WAITING + "httpd -f -p 8080 -h /www &\nwait $!\n", 0o755)})

    def network(self, project):
        name = f"davit-{project}"
        if name not in self.networks:
            self.docker.json("POST", "/networks/create", {"Name": name, "CheckDuplicate": True})
            self.networks.append(name)
        return name

    def add(self, project, name):
        """Starts one; returns its address."""
        network = self.network(project)
        self.docker.json("POST", "/containers/create?name=" + name, {"Image": self.image, "Hostname": name, "HostConfig": {"NetworkMode": network}})
        self.names.append(name)
        self.docker.call("POST", f"/containers/{name}/start", b"")
        return self.docker.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"]

    def slow(self, name, go):
        """Answers of /cgi-bin/slow wait, or go on."""
        self.docker.exec(name, ["touch", "/tmp/go"] if go else ["rm", "-f", "/tmp/go"])

    def close(self):
        for n in self.names:
            self.docker.remove(n)
        for n in self.networks:
            self.docker.call("DELETE", f"/networks/{n}")


def get(port, host, path="/cgi-bin/who", headers=None, method="GET", timeout=60):
    """(status, body)"""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        c.request(method, path, headers={"Host": host, **(headers or {})})
        r = c.getresponse()
        return r.status, r.read().decode()
    finally:
        c.close()


class Load:
    """Clients that ask a hundred times a second each, half of them on connections that they keep; .failed says what went wrong."""

    def __init__(self, port, host, clients=4):
        self.port, self.host, self.failed, self.count, self.stop, self.seen = port, host, [], 0, threading.Event(), set()
        self.threads = [threading.Thread(target=self.run, args=(i % 2 == 0,), daemon=True) for i in range(clients)]

    def run(self, keep):
        c = None
        while not self.stop.is_set():
            try:
                c = c or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                c.request("GET", "/", headers={"Host": self.host})
                r = c.getresponse()
                body = r.read()
                if r.status != 200:
                    self.failed.append((r.status, body))
                if not keep or r.will_close:
                    c.close()
                    c = None
                self.count += 1
            except (OSError, http.client.HTTPException) as e:
                self.failed.append(repr(e))
                c = None
            time.sleep(0.01)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        for t in self.threads:
            t.join(30)
