# SPDX-License-Identifier: Apache-2.0
"""davit-agent against davitd: what happens to an enrolment whose answer is lost, to a second one, to a copied one, and how status tells."""
import contextlib
import http.server
import json
import socket
import sqlite3
import threading

import pytest

from lib import proc
from lib.relay import Listener
from lib.remote import Remote


@pytest.fixture
def remote(davit):
    davit.up("--advertise", "127.0.0.1")
    r = Remote(davit, "web-1")
    r.add()
    return r


@pytest.fixture
def online(remote):
    remote.enroll()
    remote.start()
    remote.wait()
    return remote


def status(remote):
    got = proc.run([remote.davit.bin / "davit-agent", "status", "--json", "--config-dir", remote.dir], env=remote.davit.env, check=False)
    return got.rc, json.loads(got.out) if got.out else None


class LosesAnswers(Listener):
    """A TCP relay that goes deaf on the first connection: once the caller has said more than @after bytes, nothing comes back."""

    def __init__(self, port, after):
        self.to, self.after, self.connections = port, after, 0
        super().__init__()

    def took(self, caller):
        self.connections += 1
        upstream = socket.create_connection(("127.0.0.1", self.to))
        state = {"deaf": False, "first": self.connections == 1}
        self.spawn(self.there, caller, upstream, state)
        self.spawn(self.back, caller, upstream, state)

    def there(self, caller, upstream, state):
        said = 0
        while data := self.read(caller):
            said += len(data)
            if said > self.after and state["first"]:
                state["deaf"] = True
            upstream.sendall(data)
        upstream.close()

    def back(self, caller, upstream, state):
        while data := self.read(upstream):
            if state["deaf"]:
                break
            caller.sendall(data)
        with contextlib.suppress(OSError):  # it may have gone by itself
            caller.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def read(s):
        try:
            return s.recv(65536)
        except OSError:
            return b""


def test_a_lost_answer_is_asked_for_again_with_the_same_key(remote):
    relay = LosesAnswers(remote.davit.link, after=900)
    try:
        remote.enroll(server=relay.addr)
    finally:
        relay.close()
    assert relay.connections >= 2
    with sqlite3.connect(f"file:{remote.davit.home}/state/control.db?mode=ro", uri=True) as db:
        assert db.execute("SELECT count(*) FROM certificates").fetchone()[0] == 1
    assert not (remote.dir / "client.key.new").exists()


def test_a_crash_while_the_files_are_exchanged_is_mended_by_the_same_line(remote):
    remote.enroll()
    certificate = (remote.dir / "client.crt").read_bytes()
    # As it is when the power goes after the key has its place and before config.yaml is written.
    (remote.dir / "client.key.new").hardlink_to(remote.dir / "client.key")
    (remote.dir / "config.yaml").unlink()
    remote.enroll()
    assert (remote.dir / "client.crt").read_bytes() == certificate
    assert not (remote.dir / "client.key.new").exists()
    remote.start()
    remote.wait()


def test_an_enrolment_is_replaced_by_force_only(remote):
    remote.enroll()
    before = {p.name: p.read_bytes() for p in remote.dir.iterdir() if p.name != "lock"}
    remote.token = remote.davit.json("server", "token", remote.name)["token"]
    got = remote.enroll(check=False)
    assert got.rc == 7 and "--force" in got.err
    assert {p.name: p.read_bytes() for p in remote.dir.iterdir() if p.name != "lock"} == before
    # Neither what an enrolment in the other mode left, nor the key of one that was refused, stays.
    others = [remote.dir / name for name in ("access.jwt", "tunnel-carrier", "tunnel-generation")]
    for path in others:
        path.write_text("1\n")
    remote.enroll(extra=("--force",))
    assert (remote.dir / "client.key").read_bytes() != before["client.key"] and not any(path.exists() for path in others)
    late = Remote(remote.davit, "late")
    assert late.enroll(token=remote.token, check=False).rc != 0 and not (late.dir / "client.key.new").exists()
    assert "generation: 2" in (remote.dir / "config.yaml").read_text()
    remote.start()
    remote.wait()


def test_a_running_agents_directory_is_left_alone(online):
    online.token = online.davit.json("server", "token", online.name)["token"]
    before = (online.dir / "client.key").read_bytes()
    got = online.enroll(check=False, extra=("--force",))
    assert got.rc == 7 and str(online.p.pid) in got.err
    assert (online.dir / "client.key").read_bytes() == before


def test_status_tells_by_its_exit_status_and_sigterm_ends_well(online):
    rc, said = proc.wait_for(lambda: (lambda s: s if s[1] and s[1]["last_heartbeat"] else None)(status(online)), text="a heartbeat")
    assert rc == 0 and said["state"] == "online"
    assert said["server_name"] == "web-1" and said["server_id"] == online.show()["id"]
    online.davit.kill("davitd")
    rc, said = proc.wait_for(lambda: (lambda s: s if s[1]["state"] != "online" else None)(status(online)), text="loss of the link")
    assert rc == 5 and said["error"]
    assert online.p.stop() == 0
    assert status(online) == (5, None)
    online.davit.up("--advertise", "127.0.0.1")


def test_tunnel_mode_needs_the_address_of_an_edge(remote):
    for bad in ("http://davit.example.org", "https://davit.example.org/x", "https://u@davit.example.org", "https://"):
        got = remote.enroll(server=bad, check=False, extra=("--mode", "tunnel"))
        assert got.rc != 0 and "is no https://HOST" in got.err, got.err
    assert not (remote.dir / "client.key").exists()


class Echo(http.server.BaseHTTPRequestHandler):
    """Says which address the caller has, as a look-up service does."""

    said = b"1.2.3.4\n"  # an address for documentation would not count as a global one

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.said)))
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, *args):
        pass


@pytest.mark.req("CL-52")
def test_public_address_comes_from_the_users_look_up_url(remote):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote.enroll(extra=("--public-ip-url", f"http://127.0.0.1:{server.server_address[1]}/"))
        remote.start()
        remote.wait()
        s = remote.show()
        server.shutdown()
    assert s["system"]["lookedUpAddress"] == "1.2.3.4"
    assert s["publicAddress"] == "1.2.3.4"
