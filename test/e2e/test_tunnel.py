# SPDX-License-Identifier: Apache-2.0
"""Tunnel mode from end to end: real agents behind real proxies that end TLS, with the configurations of doc/tunnel.md."""
import os
import pathlib
import struct
import subprocess
import time

import pytest

from lib import edges, images, proc
from lib.remote import Remote


class Tunnelled(Remote):
    """A server whose agent knows an edge's address and nothing else."""

    def __init__(self, davit, name, edge_port, certificates, host="localhost", prefix=()):
        super().__init__(davit, name, prefix)
        self.url, self.certificates = f"https://{host}:{edge_port}", certificates

    def join(self, **more):
        self.add()
        return self.enroll(server=self.url, extra=("--mode", "tunnel", "--tunnel-ca", self.certificates.root), **more)

    def log(self):
        return (self.davit.top / f"agent-{self.name}.log").read_text()

    def wait(self, *args, **more):
        try:
            return super().wait(*args, **more)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.log()[-3000:]}") from None

    def carried_by(self):
        return (self.dir / "tunnel-carrier").read_text().split()[0]

    def leads_to(self, port):
        """The next start dials another edge."""
        path = self.dir / "config.yaml"
        path.write_text("".join(f"grpc_endpoint: localhost:{port}\n" if line.startswith("grpc_endpoint") else line
                                for line in path.read_text().splitlines(True)))


@pytest.fixture
def certificates(davit):
    folder = davit.top / "edge"
    folder.mkdir()
    folder.chmod(0o755)
    davit.top.chmod(0o755)
    return edges.Certificates(folder, "10.213.9.1")


@pytest.fixture
def up(davit):
    """A davitd whose port for tunnels listens on loopback only."""
    davit.web = proc.free_port()
    davit.web_args = ("--web-listen", f"127.0.0.1:{davit.web}", "--hostname", "localhost", "--heartbeat-interval", "1s")
    davit.up()
    davit.davitd_again(*davit.web_args)
    return davit


@pytest.fixture
def ending():
    """Things with stop(), ended in the opposite order."""
    things = []
    yield things
    for t in reversed(things):
        t.stop()


NGINX_WS, NGINX_GRPC = "proxy_pass", "grpc_pass"
KINDS = [("nginx", NGINX_WS, (), "websocket"), ("nginx", NGINX_GRPC, (), "grpc"), ("caddy", "", (), "grpc"),
         ("caddy", "", (("tls_insecure_skip_verify", "tls_insecure_skip_verify\n            versions 1.1"),), "websocket"),
         ("haproxy", "", (), "grpc"), ("haproxy", "", (("verify none alpn h2", "verify none"),), "websocket")]


@pytest.mark.req("CL-87", "CL-24", "CL-86")
def test_enrolment_and_heartbeat_through_each_proxy_by_what_it_carries(up, certificates, ending):
    servers = []
    for i, (kind, marker, changes, carrier) in enumerate(KINDS):
        edge = edges.Proxy(certificates, up.web, kind, marker, changes)
        ending.append(edge)
        r = Tunnelled(up, f"s{i}", edge.port, certificates)
        assert "enrolled as server" in r.join().out
        assert not (r.dir / "client.crt").exists() and (r.dir / "access.jwt").stat().st_mode & 0o777 == 0o600
        r.start()
        servers.append((r, carrier))
    for r, carrier in servers:
        s = r.wait(timeout=40)
        assert r.carried_by() == carrier, r.log()
        assert int(s["lastHeartbeatUs"]) > 0
    for r, carrier in servers[:2]:
        text = proc.run([up.bin / "davit-agent", "doctor", "--config-dir", r.dir], env=up.env, check=False).out
        assert "tunnel mode; the token holds until" in text and f"carried by {'gRPC' if carrier == 'grpc' else 'a WebSocket'}" in text, text


def test_who_takes_the_wrong_way_in_is_told_the_right_one(up):
    r = Remote(up, "lost")
    r.add()
    got = r.enroll(server=f"127.0.0.1:{up.web}", check=False)
    assert got.rc != 0 and "direct mode goes to the port of links" in got.err, str(got)
    r.token = up.json("server", "token", "lost")["token"]
    got = r.enroll(server=f"https://127.0.0.1:{up.web}", check=False, extra=("--mode", "tunnel"))  # its certificate is of no public authority
    assert got.rc == 4 and "--tunnel-ca" in got.err, str(got)


@pytest.mark.all_tier
@pytest.mark.req("CL-24", "CL-87")
def test_the_main_job_while_the_edge_cuts_what_is_old(up, docker, certificates, ending):
    """Deploy, logs that are followed, and commands, through edges that end each connection after some seconds: nothing is lost, nothing comes twice,
    nobody notices."""
    relays = {how: edges.Relay(certificates, up.web, after=12, cut=how) for how in ("close", "reset", "524")}
    ending.extend(relays.values())
    servers = {how: Tunnelled(up, how, relay.port, certificates) for how, relay in relays.items()}
    for r in servers.values():
        r.join()
        r.start()
    image = images.script(docker, "davit-test/counts:1", images.WAITING + "i=0\nwhile :; do i=$((i+1)); echo n $i; sleep 0.2 & wait $!; done\n")
    followers = []
    for how, r in servers.items():
        r.wait(timeout=40)
        up.run("deploy", "--server", how, "--name", f"web-{how}", "--health", "none", image)
        followers.append(proc.Background([up.bin / "davit", "logs", "-f", f"web-{how}"], up.top / f"follow-{how}", env=up.env))
        ending.append(followers[-1])
    end = time.monotonic() + 30
    while time.monotonic() < end and not all(relay.upgrades >= 3 + 2 for relay in relays.values()):
        for r in servers.values():
            assert r.show()["state"] == "SERVER_STATE_ONLINE", r.log()
        time.sleep(0.5)
    for how, f in zip(servers, followers):
        numbers = [int(line.split()[1]) for line in f.text().splitlines() if line.startswith("n ")]
        assert len(numbers) > 20 and numbers == list(range(1, len(numbers) + 1)), numbers
        assert "restarted" in up.run("restart", f"web-{how}").out
    for how, r in servers.items():
        assert relays[how].upgrades >= 3 + 2  # two of the enrolment
        assert "warn" not in r.log().lower(), r.log()


def touching(what, done):
    """A tamper of lib/edges.py: what becomes of one message to the agent."""
    def tamper(frames):
        binary = [f for f in frames if f[0] == 0x82]
        if done or not binary:
            return frames
        f = binary[0]
        done.append(what)
        changed = f[:-1] + bytes([f[-1] ^ 1])
        return {"twice": [f, f], "changed": [changed], "left out": []}[what] + [g for g in frames if g is not f]
    return tamper


@pytest.mark.req("CL-86")
def test_edge_that_touches_messages_is_found_out(up, certificates, ending):
    servers = []
    for i, what in enumerate(("twice", "changed", "left out")):
        relay = edges.Relay(certificates, up.web, tamper=touching(what, []))
        ending.append(relay)
        r = Tunnelled(up, f"s{i}", relay.port, certificates)
        r.join()
        r.start()
        servers.append(r)
    for r in servers:
        proc.wait_for(lambda r=r: "is not as the control plane sent it" in r.log(), 40, text=f"the agent {r.name} noticed")
        r.wait(timeout=40)  # and goes on over a new link


def varint(n):
    return bytes([n]) if n < 0x80 else bytes([n & 0x7f | 0x80]) + varint(n >> 7)


def with_roots(pem, done):
    """A tamper of lib/edges.py: into RecoverResponse.credential, which nothing seals, go other roots."""
    def tamper(frames):
        for i, f in enumerate(frames):
            at = {126: 4, 127: 10}.get(f[1], 2) + 5  # the frame's head, the envelope's
            if b"eyJ" not in f or f[at] != 0x0a:
                continue
            begin, n, shift = at + 1, 0, 0
            while True:
                n |= (f[begin] & 0x7f) << shift
                shift, begin = shift + 7, begin + 1
                if f[begin - 1] < 0x80:
                    break
            credential = f[begin:begin + n] + b"\x12" + varint(len(pem)) + pem
            message = b"\x0a" + varint(len(credential)) + credential + f[begin + n:]
            body = b"\0" + len(message).to_bytes(4, "big") + message
            frames[i] = b"\x82\x7e" + len(body).to_bytes(2, "big") + body
            done.append(len(pem))
        return frames
    return tamper


@pytest.mark.req("CL-86")
def test_token_is_got_back_by_the_key_and_no_roots_with_it(up, certificates, ending):
    done = []
    honest = edges.Relay(certificates, up.web)
    crooked = edges.Relay(certificates, up.web, tamper=with_roots(certificates.root.read_bytes(), done), spared=0)
    ending.extend((honest, crooked))
    r = Tunnelled(up, "back", honest.port, certificates)
    r.join()
    roots = (r.dir / "ca.crt").read_bytes()
    (r.dir / "access.jwt").unlink()
    r.leads_to(crooked.port)
    r.start()
    r.wait(timeout=40)
    assert len(done) == 1 and "access token renewed" in r.log()
    assert (r.dir / "ca.crt").read_bytes() == roots and (r.dir / "access.jwt").stat().st_mode & 0o777 == 0o600
    generation = r.dir / "tunnel-generation"
    proc.wait_for(lambda: generation.exists() and generation.read_text() == "2\n", text="the generation on disk")
    # An older copy of this disk, whose token ran out, gets none: not even while this agent is away.
    r.p.stop()
    generation.write_text("1\n")
    (r.dir / "access.jwt").unlink()
    r.leads_to(honest.port)
    r.start()
    proc.wait_for(lambda: "generation 1 of the credentials" in r.log(), 20, text="the refusal")
    assert r.log().count("the way to the control plane was found") == 1, "it is found once, and then on disk"


@pytest.mark.req("CB-10")
def test_a_machine_in_1970_links_through_an_edge(up, certificates, ending):
    """Enrolled by a right clock, then booted without one."""
    relay = edges.Relay(certificates, up.web)
    ending.append(relay)
    r = Tunnelled(up, "old", relay.port, certificates)
    r.join()
    shift = up.top / "clock"
    shift.write_bytes(struct.pack("=q", 10 - int(time.time())))
    agent = pathlib.Path(os.environ.get("DAVIT_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build/asan")) / "test/unit/host/davit-agent-clock"
    p = proc.Background([agent, "run", "--config-dir", r.dir], up.top / f"agent-{r.name}.log", env=up.env | {"DAVIT_TEST_CLOCK": str(shift)})
    up.background.append(p)
    assert r.wait(timeout=40)["clockUnsure"]
    assert "not valid" not in r.log(), r.log()


# --- No direct way -------------------------------------------------------------------------------------------------------------
HOST, GUEST, BEYOND = "10.213.9.1", "10.213.9.2", "10.213.10.1"


@pytest.fixture
def island():
    """Name of a network namespace whose only neighbour is HOST: no route leads on, and nothing is looked up."""
    name = f"davit-isle-{os.getpid()}"
    subprocess.run(["sh", "-ec", f"""
ip netns add {name}
ip link add dvisle0 type veth peer name dvisle1 netns {name}
ip addr add {HOST}/30 dev dvisle0
ip addr add {BEYOND}/32 dev lo
ip link set dvisle0 up
ip netns exec {name} sh -ec 'ip link set lo up; ip addr add {GUEST}/30 dev dvisle1; ip link set dvisle1 up'"""], check=True, timeout=30)
    yield name
    subprocess.run(["sh", "-ec", f"ip link del dvisle0; ip addr del {BEYOND}/32 dev lo; ip netns del {name}"], check=True, timeout=30)


@pytest.mark.req("CL-25")
def test_tunnel_without_any_direct_way_to_the_control_plane(up, docker, certificates, island, ending):
    """davitd listens on loopback of another namespace; what the server reaches is the edge and nothing else."""
    edge = edges.Proxy(certificates, up.web, "nginx", NGINX_WS, address=HOST)
    ending.append(edge)
    prefix = ("nsenter", f"--net=/run/netns/{island}")
    for port in (up.web, up.link, up.api):
        assert subprocess.run([*prefix, "/usr/bin/python3", "-c", f"import socket; socket.create_connection(('{HOST}', {port}), 2)"],
                              capture_output=True, check=False).returncode != 0
    r = Tunnelled(up, "isle", edge.port, certificates, host=HOST, prefix=prefix)
    r.join()
    r.start()
    r.wait(timeout=40)
    image = images.script(docker, "davit-test/says:1", images.WAITING + "echo from the inside\nsleep 600 & wait $!\n")
    up.run("deploy", "--server", "isle", "--name", "web", "--health", "none", image)
    assert "from the inside" in up.run("logs", "web").out
    assert "removed" in up.run("rm", "web").out


def test_direct_and_tunnel_through_the_proxy_of_the_environment(davit, certificates, island, ending):
    """HTTPS_PROXY with credentials is the only way out; what it leads to has no route."""
    davit.web = proc.free_port()
    davit.up("--advertise", BEYOND, link=f"{BEYOND}:{davit.link}")
    davit.davitd_again("--web-listen", f"127.0.0.1:{davit.web}", "--hostname", "localhost", "--heartbeat-interval", "1s")
    edge = edges.Proxy(certificates, davit.web, "nginx", NGINX_WS, address=HOST)
    out, url = edges.tinyproxy(certificates.folder, HOST)
    ending.extend((edge, out))
    prefix = ("nsenter", f"--net=/run/netns/{island}")
    direct = Remote(davit, "direct", prefix=(*prefix, "env", f"HTTPS_PROXY={url}"))
    direct.add()
    direct.enroll(server=f"{BEYOND}:{davit.link}")
    direct.start()
    direct.wait(timeout=40)
    tunnel = Tunnelled(davit, "tunnel", edge.port, certificates, host=HOST, prefix=(*prefix, "env", f"https_proxy={url}"))
    tunnel.join()
    tunnel.start()
    tunnel.wait(timeout=40)
    said = (certificates.folder / "tinyproxy.log").read_text()
    assert f"CONNECT {BEYOND}:{davit.link}" in said and f"CONNECT {HOST}:{edge.port}" in said
    wrong = Remote(davit, "wrong", prefix=(*prefix, "env", f"HTTPS_PROXY={url.replace('agent:', 'agent:x')}"))
    wrong.add()
    refused = wrong.enroll(server=f"{BEYOND}:{davit.link}", check=False)
    assert refused.rc != 0 and "it wants other credentials" in refused.err and "s3cret" not in refused.err
