# SPDX-License-Identifier: Apache-2.0
"""test_ingress: the way in to a server's services, HAProxy as it is in Debian, against a real Docker Engine, through
test/integration/ingress_driver.c."""
import os
import pathlib
import shutil
import signal
import socket
import tempfile
import threading
import time

import pytest

from lib import haproxy_image, images, proc
from lib.engine import EngineError
from lib.ingress import CONTAINER, Backends, Failed, Ingress, Load, get


class Place:
    """Folder, port and image of one ingress, and the servers that it leads to: a1 and a2 of project a, b1 of project b."""

    def __init__(self, docker):
        self.docker, self.port = docker, proc.free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="davit-ingress."))
        self.image = haproxy_image.make(docker)
        self.backends = Backends(docker)
        self.at = {n: self.backends.add(n[0], n) for n in ("a1", "a2", "b1")}

    def open(self, **more):
        options = {"image": self.image, "listen": f"127.0.0.1:{self.port}", **more}
        return Ingress(self.docker.sock, self.folder / "ingress", options["image"], options["listen"])

    def servers(self, *names):
        """"a1" or ("a1", weight)"""
        pairs = [n if isinstance(n, tuple) else (n, 100) for n in names]
        return [(n, self.at[n], w) for n, w in pairs]

    def get(self, host, *args, **more):
        return get(self.port, host, *args, **more)

    def config(self):
        return (self.folder / "ingress/config/haproxy.cfg").read_text()

    def pid(self):
        return self.docker.inspect(CONTAINER)["State"]["Pid"]

    def tell(self, command):
        """HAProxy's answer to a command, past the agent."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.folder / "ingress/run/admin.sock"))
            s.sendall(command.encode() + b"\n")
            s.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def weights(self):
        rows = [line.split() for line in self.tell("show servers state a.web").splitlines() if " a.web " in line]
        return {r[3]: int(r[7]) for r in rows}

    def until(self, what, timeout=20):
        end = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < end, "it does not come to that"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def place(docker):
    p = Place(docker)
    yield p
    docker.remove(CONTAINER)
    for n in docker.networks("davit.ingress"):
        docker.call("DELETE", f"/networks/{n['Id']}")
    p.backends.close()
    shutil.rmtree(p.folder)


@pytest.fixture(scope="module")
def driver(place):
    with place.open() as i:
        yield i


@pytest.fixture
def ingress(place, driver):
    """With one route, of project a to a1."""
    driver.call("remove", "b", "web")
    driver.set("a", "web", ["a.example.org"], place.servers("a1"))
    return driver


def test_a_route_leads_to_its_service(place, ingress, docker):
    ingress.set("a", "web", ["a.example.org", "www.a.example.org"], place.servers("a1"))
    ingress.set("b", "web", ["b.example.org"], place.servers("b1"))
    for host in ("a.example.org", "A.Example.ORG", "a.example.org:8080", "a.example.org.", "www.a.example.org.:80"):
        assert place.get(host) == (200, "a1\n"), host
    assert place.get("b.example.org") == (200, "b1\n")
    for host in ("c.example.org", "example.org", "a.example.org.evil.org", "", "127.0.0.1"):
        assert place.get(host)[0] == 404, host
    assert ingress.call("owner", "b.example.org")[1] == "web"
    assert set(docker.inspect(CONTAINER)["NetworkSettings"]["Networks"]) == {"davit--ingress", "davit-a", "davit-b"}


def test_what_is_forwarded(place, ingress):
    ingress.set("a", "web", ["a.example.org"], place.servers("a1"))
    said = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "X-Forwarded-User": "root", "Forwarded": "for=192.0.2.1",
            "X-Real-IP": "192.0.2.1", "X-Other": "kept"}
    env = dict(line.split("=", 1) for line in place.get("A.example.org:8080", "/cgi-bin/headers", said)[1].splitlines() if "=" in line)
    assert env["HTTP_HOST"] == "A.example.org:8080" and env["HTTP_X_OTHER"] == "kept"
    assert env["HTTP_X_FORWARDED_PROTO"] == "http" and env["HTTP_X_FORWARDED_HOST"] == "A.example.org:8080"
    assert "192.0.2.1" not in str(env) and env["HTTP_X_FORWARDED_FOR"].count(".") == 3
    assert "HTTP_X_FORWARDED_USER" not in env and "HTTP_FORWARDED" not in env


def raw(port, text):
    with socket.create_connection(("127.0.0.1", port), 10) as s:
        s.settimeout(10)
        s.sendall(text)
        out = b""
        try:
            while data := s.recv(65536):
                out += data
        except OSError:
            pass
        return out


def test_one_hostname_and_one_protocol(place, ingress):
    ingress.set("a", "web", ["a.example.org"], place.servers("a1"))
    two = raw(place.port, b"GET / HTTP/1.1\r\nHost: a.example.org\r\nHost: b.example.org\r\nConnection: close\r\n\r\n")
    assert two.startswith(b"HTTP/1.1 400") or two.startswith(b"HTTP/1.0 400"), two
    h2 = raw(place.port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
    assert h2.startswith(b"HTTP/1.1 400"), h2


def test_no_servers_is_503_and_hosts_have_one_owner(place, ingress):
    ingress.set("a", "web", ["a.example.org"], [])
    assert place.get("a.example.org")[0] == 503
    with pytest.raises(Failed, match="belongs to service web of project a"):
        ingress.set("b", "web", ["b.example.org", "a.example.org"], place.servers("b1"))
    assert place.get("b.example.org")[0] == 404
    ingress.set("a", "web", ["a.example.org"], place.servers("a1"))
    assert place.get("a.example.org") == (200, "a1\n")


def test_container_can_do_next_to_nothing(place, ingress, docker):
    ingress.set("a", "web", ["a.example.org"], place.servers("a1"))
    c = docker.inspect(CONTAINER)
    host = c["HostConfig"]
    assert host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"] and host["ReadonlyRootfs"]
    assert "no-new-privileges" in host["SecurityOpt"][0] and host["PidsLimit"] == 4096
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert sorted((m["Source"], m["Destination"], m["RW"]) for m in c["Mounts"]) == [
        (f"{place.folder}/ingress/config", "/davit/config", False), (f"{place.folder}/ingress/run", "/davit/run", True)]
    assert not c["Config"]["User"].startswith("0") and c["Config"]["User"]
    labels = c["Config"]["Labels"]
    assert labels["davit.managed"] == "true" and labels["davit.server"] == "srv-test" and "davit.ingress" in labels
    status = pathlib.Path(f"/proc/{place.pid()}/status").read_text()
    assert "CapEff:\t0000000000000000" in status and "CapBnd:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
    # HTTP is all that listens on a network, and its files are nobody else's.
    listening = [line.split()[1] for family in ("tcp", "tcp6") for line in pathlib.Path(f"/proc/{place.pid()}/net/{family}").read_text().splitlines()[1:]
                 if line.split()[3] == "0A" and not line.split()[1].startswith("0B00007F")]
    assert listening and {a.rpartition(":")[2] for a in listening} == {f"{8080:04X}"}
    assert (place.folder / "ingress").stat().st_mode & 0o777 == 0o700
    assert (place.folder / "ingress/run/admin.sock").stat().st_mode & 0o777 == 0o600


def test_nothing_is_lost_while_servers_come_weigh_drain_and_go(place, ingress):
    ingress.set("a", "web", ["a.example.org"], place.servers("a1"))
    pid, worker = place.pid(), worker_of(place)
    rounds = 0
    with Load(place.port, "a.example.org") as load:
        while rounds < 3 or (load.count <= 100 and rounds < 30):
            rounds += 1
            ingress.set("a", "web", ["a.example.org"], place.servers("a1", "a2"))
            ingress.set("a", "web", ["a.example.org"], place.servers(("a1", "drain"), ("a2", 10)))
            assert ingress.call("drained", "a", "web", "a1", 5000)[0] == 0
            ingress.set("a", "web", ["a.example.org"], place.servers("a2"))
            assert {place.get("a.example.org")[1] for _ in range(4)} == {"a2\n"}
            assert "server a2 " in place.config() and "server a1 " not in place.config()
            ingress.set("a", "web", ["a.example.org"], place.servers("a2", "a1"))
            ingress.set("a", "web", ["a.example.org"], place.servers("a1", ("a2", "drain")))
            assert ingress.call("drained", "a", "web", "a2", 5000)[0] == 0
            ingress.set("a", "web", ["a.example.org"], place.servers("a1"))
    assert not load.failed and load.count > 100, load.failed[:5]
    assert (place.pid(), worker_of(place)) == (pid, worker), "the runtime API does it without a reload"


def worker_of(place):
    """Pids of HAProxy's workers."""
    return sorted(int(p) for p in pathlib.Path(f"/proc/{place.pid()}/task/{place.pid()}/children").read_text().split())


def test_nothing_is_lost_in_reloads_and_when_networks_change(place, ingress):
    ingress.set("a", "web", ["a.example.org"], place.servers("a1", "a2"))
    pid = place.pid()
    slow = []
    t = threading.Thread(target=lambda: slow.append(place.get("a.example.org", "/cgi-bin/slow")))
    with Load(place.port, "a.example.org") as load:
        t.start()
        place.until(lambda: ingress.call("drained", "a", "web", "a1", 0)[0] + ingress.call("drained", "a", "web", "a2", 0)[0] > 0)
        for _ in range(2):
            ingress.set("b", "web", ["b.example.org"], place.servers("b1"))
            assert place.get("b.example.org") == (200, "b1\n")
            ingress.call("remove", "b", "web")
            assert place.get("b.example.org")[0] == 404
        assert not slow
        for n in ("a1", "a2"):
            place.backends.slow(n, True)
    t.join()
    for n in ("a1", "a2"):
        place.backends.slow(n, False)
    assert slow[0][0] == 200, "a response goes on through reloads"
    assert not load.failed and load.count > 100, load.failed[:5]
    assert place.pid() == pid


def test_drain_counts_what_is_under_way_in_old_workers_too(place, ingress):
    ingress.set("a", "web", ["a.example.org"], place.servers("a1"))
    slow = []
    threads = [threading.Thread(target=lambda: slow.append(place.get("a.example.org", "/cgi-bin/slow"))) for _ in range(3)]
    for t in threads:
        t.start()
    place.until(lambda: ingress.call("drained", "a", "web", "a1", 0)[0] == 3, 5)
    ingress.set("b", "web", ["b.example.org"], place.servers("b1"))  # a reload: they are the old worker's now
    ingress.set("a", "web", ["a.example.org"], place.servers(("a1", "drain"), "a2"))
    assert ingress.call("drained", "a", "web", "a1", 100)[0] == 3
    assert place.get("a.example.org") == (200, "a2\n")
    ingress.set("a", "web", ["a.example.org"], place.servers("a2"))  # who does not wait for it cuts nothing either
    place.backends.slow("a1", True)
    assert ingress.call("drained", "a", "web", "a1", 10000)[0] == 0
    for t in threads:
        t.join()
    place.backends.slow("a1", False)
    assert slow == [(200, "a1\n")] * 3
    assert ingress.call("drained", "a", "web", "nobody", 10000)[0] == 0 and ingress.call("drained", "x", "y", "z", 10000)[0] == 0


def answers(place, host):
    try:
        return place.get(host)[0] == 200
    except OSError:
        return False


def test_state_survives_the_end_of_haproxy(place, ingress):
    ingress.set("a", "web", ["a.example.org"], place.servers(("a1", "drain"), "a2"))
    pid = place.pid()
    os.kill(pid, signal.SIGKILL)
    place.until(lambda: place.pid() not in (0, pid))
    place.until(lambda: answers(place, "a.example.org"))
    assert {place.get("a.example.org") for _ in range(4)} == {(200, "a2\n")}


def test_a_restarted_agent_finds_it_running_and_mends_what_is_not_as_told(place, ingress):
    ingress.set("a", "web", ["a.example.org"], place.servers("a1", "a2"))
    pid, workers = place.pid(), worker_of(place)
    with place.open() as again:
        again.set("a", "web", ["a.example.org"], place.servers("a1", "a2"), verb="add")
        again.call("restore")
        assert (place.pid(), worker_of(place)) == (pid, workers), "it was adopted as it is"
        # Told otherwise behind the agent's back.
        told = place.tell("set server a.web/a1 weight 3")
        assert told.strip() == "", told
        again.call("restore")
        assert place.weights() == {"a1": 100, "a2": 100} and place.pid() == pid
        # And ended by hand, which the engine leaves at that.
        place.docker.call("POST", f"/containers/{CONTAINER}/kill", b"")
        assert again.call("drained", "a", "web", "a1", 60000, timeout=30)[0] == 0
        again.call("restore")
        assert place.get("a.example.org")[0] == 200 and place.pid() != pid


def test_what_haproxy_refuses_changes_nothing(place, ingress, docker):
    before, pid, workers = place.config(), place.pid(), worker_of(place)
    # A HAProxy that refuses every configuration stands in for one that refuses this one.
    text = "#!/bin/sh\necho '[ALERT] config : nothing is good enough' >&2\nexit 1\n"
    bad = images.make(docker, "davit-test/haproxy-refuses:1", ["/bin/haproxy"], {"bin/haproxy": (text, 0o755)})
    with place.open(image=bad) as other:
        with pytest.raises(Failed, match="refuses the configuration.*nothing is good enough") as e:
            other.set("b", "web", ["b.example.org"], place.servers("b1"))
        assert e.value.rc == -9
    assert (place.config(), place.pid(), worker_of(place)) == (before, pid, workers)
    assert place.get("a.example.org") == (200, "a1\n") and place.get("b.example.org")[0] == 404
    assert not [c for c in docker.containers("davit.ingress=check")]


def test_what_is_not_ours_and_a_port_that_is_taken(place, ingress, docker):
    ingress.call("remove", "a", "web")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", place.port))
        taken.listen()
        with pytest.raises(Failed, match="--ingress-listen") as e:
            ingress.set("a", "web", ["a.example.org"], place.servers("a1"))
        assert e.value.rc == -9
    assert not docker.containers("davit.ingress"), "what did not start is taken away"
    docker.json("POST", "/containers/create?name=" + CONTAINER, {"Image": place.image})
    with pytest.raises(Failed, match="did not make"):
        ingress.set("a", "web", ["a.example.org"], place.servers("a1"))
    docker.remove(CONTAINER)


def test_it_comes_with_the_first_route_and_goes_with_the_last(place, ingress, docker):
    ingress.set("a", "web", ["a.example.org"], place.servers("a1"))
    ingress.set("b", "web", ["b.example.org"], place.servers("b1"))
    one, two = ingress.ask("remove", "b", "web"), ingress.ask("set", "a", "api", "davit-a", "api.example.org")
    ingress.answer(one), ingress.answer(two)  # at once: they take turns
    assert place.get("b.example.org")[0] == 404 and place.get("api.example.org")[0] == 503
    assert set(docker.inspect(CONTAINER)["NetworkSettings"]["Networks"]) == {"davit--ingress", "davit-a"}, "the network of b is left"
    ingress.call("remove", "a", "api")
    ingress.call("remove", "a", "web")
    assert not docker.containers("davit.ingress") and not docker.networks("davit.ingress")
    assert not list((place.folder / "ingress/config").iterdir())
