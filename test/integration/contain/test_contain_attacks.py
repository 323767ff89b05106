# SPDX-License-Identifier: Apache-2.0
"""test_contain_attacks: what a sandbox tries against its server, and against its neighbours. Its program has root here, the container's key, and the
network of the container: more than an image gets."""
import io
import subprocess
import sys
import tarfile
import time

import pytest

from lib.sandboxes import Control, clean, name_of

SLEEP = ["/bin/busybox", "sleep", "1000"]
REMOVE = "ACTION_REMOVE"


@pytest.fixture(scope="module")
def control(docker, tmp_path_factory):
    with Control(docker.sock, tmp_path_factory.mktemp("agent") / "sandboxes") as c:
        yield c
    clean(docker, c.server)


class Inside:
    """A sandbox in the hands of an attacker."""

    def __init__(self, control, docker, image, folder, **spec):
        self.control, self.docker, self.folder = control, docker, folder
        self.box, r = control.create(image, command=SLEEP, **spec)
        assert "failure" not in r, r
        info = docker.inspect(name_of(self.box))
        self.pid = info["State"]["Pid"]
        [net] = info["NetworkSettings"]["Networks"].values()
        self.ip, self.gateway = net["IPAddress"], net["Gateway"] or docker.json("GET", "/networks/davit-net")["IPAM"]["Config"][0]["Gateway"]
        folder.mkdir()
        data = docker.call("GET", f"/containers/{name_of(self.box)}/archive?path=/run/davit")
        with tarfile.open(fileobj=io.BytesIO(data)) as t:
            for m in t.getmembers():
                if m.isfile():
                    (folder / m.name.split("/")[-1]).write_bytes(t.extractfile(m).read())

    def run(self, *words, **more):
        """In the network of the container."""
        return subprocess.run(["nsenter", "-t", str(self.pid), "-n", *map(str, words)], capture_output=True, text=True, check=False, timeout=30, **more)

    def call(self, method, message=b"", times=1, cert=None, key=None, length=None):
        """gRPC statuses of calls on one connection."""
        frame = self.folder / "frame"
        frame.write_bytes(b"\0" + (length or len(message)).to_bytes(4, "big") + message)
        r = self.run("curl", "-vk", "-m", "20", "--http2", "--cert", cert or self.folder / "cert.pem", "--key", key or self.folder / "key.pem",
                     "-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", f"@{frame}",
                     *[f"https://{self.gateway}:7444/davit.agent.v1.AgentService/{method}"] * times)
        return [int(line.split()[-1]) for line in r.stderr.splitlines() if "grpc-status:" in line.lower()], r.stderr

    def gone(self):
        assert self.control.act(self.box, REMOVE, volumes=True)["outcome"] == "removed"


@pytest.fixture(scope="module")
def inside(control, docker, busybox_image, tmp_path_factory):
    a = Inside(control, docker, busybox_image, tmp_path_factory.mktemp("a") / "m")
    yield a
    a.gone()


HOLD = """
import socket, ssl, sys
c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
c.load_cert_chain(sys.argv[2], sys.argv[3])
c.set_alpn_protocols(sys.argv[4].split())
held = []
for i in range(40):
    try:
        s = c.wrap_socket(socket.create_connection((sys.argv[1], 7444), timeout=5))
        if sys.argv[4] == "h2":
            s.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        else:
            s.sendall(b"GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
        if s.recv(1):
            held.append(s)
    except OSError:
        pass
print(len(held), flush=True)
sys.stdin.read()
"""


@pytest.mark.req("CW-18")
def test_one_sandbox_does_not_hold_the_relay(control, docker, inside, busybox_image):
    material = (inside.folder / "cert.pem", inside.folder / "key.pem")
    words = ["nsenter", "-t", str(inside.pid), "-n", sys.executable, "-c", HOLD, inside.gateway, *map(str, material)]
    old = subprocess.run([*words, "http/1.1"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True)
    assert old.stdout.strip() == "0"  # HTTP/1.1 is not spoken
    with subprocess.Popen([*words, "h2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        assert 1 <= int(p.stdout.readline()) <= 4
        box, r = control.create(busybox_image, command=SLEEP)  # a neighbour registers all the same
        assert "failure" not in r, r
        p.stdin.close()
    control.act(box, REMOVE, volumes=True)
    time.sleep(0.2)


@pytest.mark.req("CW-18", "CW-73")
def test_one_sandbox_does_not_fill_the_link(control, docker, inside, busybox_image):
    # Its assertion is used up: each call is a question to the control plane that is refused, and after so many none is asked.
    asked = control.asked.count("sandboxExchange")
    statuses, said = inside.call("Exchange", b"\x0a\x04used", times=60)
    assert len(statuses) == 60, said[-2000:]
    assert set(statuses) == {16, 8} and statuses.count(16) <= 25, statuses
    assert control.asked.count("sandboxExchange") - asked == statuses.count(16)
    # A message that is too large is not taken in, nor one that says that it is: of 1 GB, of which a beginning comes.
    assert inside.call("Exchange", b"x" * 20000)[0] == [8]
    assert inside.call("Exchange", b"x" * 100, length=1 << 30)[0] == [8]
    box, r = control.create(busybox_image, command=SLEEP)
    assert "failure" not in r, r
    control.act(box, REMOVE, volumes=True)


@pytest.mark.req("CW-19")
def test_who_is_not_the_sandbox_at_its_address(control, docker, inside, busybox_image, tmp_path):
    time.sleep(2.1)  # what the test before used up
    other = Inside(control, docker, busybox_image, tmp_path / "other")
    # The bootstrap of another, stolen as a whole: at the own address it is another's.
    statuses, said = inside.call("Exchange", b"\x0a\x04used", cert=other.folder / "cert.pem", key=other.folder / "key.pem")
    assert statuses == [7], said[-2000:]
    # Of the same authority: an agent's name, a sandbox that is no more, one that was valid, one that is not yet.
    wrong = {"agent": "davit://agent/" + other.box["id"], "server": f"davit://server/{control.server}", "cli": "davit://cli/x",
             "nobody": "davit://sandbox/00000000-0000-0000-0000-000000000000"}
    for name, uri in wrong.items():
        pair = tmp_path / f"{name}.pem"
        pair.write_bytes(b"".join(control.ca.leaf(uri)))
        statuses, said = inside.call("Exchange", b"\x0a\x04used", cert=pair, key=pair)
        assert statuses in ([7], [16]), (name, said[-2000:])
    # At the supervisor of the neighbour nobody gets past the handshake: a certificate of a sandbox is not the agent's.
    for cert, key in ((inside.folder / "cert.pem", inside.folder / "key.pem"), (tmp_path / "nobody.pem", tmp_path / "nobody.pem")):
        r = inside.run("curl", "-vk", "-m", "5", "--http2", "--cert", cert, "--key", key, f"https://{other.ip}:7700/")
        assert r.returncode != 0 and "< HTTP" not in r.stderr, r.stderr
    time.sleep(0.3)
    assert control.states(other.box)[-1]["state"] == "SANDBOX_STATE_RUNNING" and control.states(other.box)[-1].get("session")
    assert "tls_refused" in docker.call("GET", f"/containers/{name_of(other.box)}/logs?stderr=1&stdout=1").decode(errors="replace")
    other.gone()
