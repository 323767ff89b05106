# SPDX-License-Identifier: Apache-2.0
"""davitd as a program, against python3-grpcio: mutual TLS, the local agent's socket, kills in the middle of things, what is on disk."""
import contextlib
import ctypes
import json
import os
import queue
import signal
import socket
import sqlite3
import struct
import sys
import threading
import time
import urllib.error

import pytest

grpc = pytest.importorskip("grpc")

from lib import proc  # noqa: E402
from lib.daemon import BIN, Daemon, generate  # noqa: E402


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The generated python modules, by short name."""
    out = tmp_path_factory.mktemp("stubs")
    try:
        yield generate(out)
    finally:
        sys.path.remove(str(out))


@pytest.fixture
def daemon(api):
    d = Daemon(api)
    yield d
    d.close()


class Agent:
    """An agent on the unix socket: sends what it is given, collects what comes."""

    def __init__(self, api, d, epoch, last=0):
        self.api, self.out = api, queue.Queue()
        self.channel = grpc.insecure_channel(f"unix:{d.socket}")
        self.inbox = queue.Queue()
        self.put(hello=api.link.Hello(protocol_min=1, protocol_max=1, epoch=epoch, last_received_seq=last,
                                      system={"hostname": "box", "arch": "amd64", "docker_version": "20.10"}))
        call = api.link_grpc.LinkServiceStub(self.channel).Connect(iter(self.out.get, None))
        threading.Thread(target=self._read, args=(call,), daemon=True).start()

    def _read(self, call):
        try:
            for m in call:
                self.inbox.put(m)
        except grpc.RpcError as e:
            self.inbox.put(e)

    def put(self, **body):
        self.out.put(self.api.link.AgentMessage(**body))

    def get(self, kind):
        while True:
            m = self.inbox.get(timeout=20)
            if isinstance(m, Exception):
                raise m
            if m.WhichOneof("body") == kind:
                return getattr(m, kind)

    def close(self):
        self.out.put(None)
        self.channel.close()


PARTS = {"admin": "ok", "agent-link": "ok", "token": "ok", "store": "ok", "sandbox-listener": "not_probed", "gate": "not_probed", "dns": "not_probed",
         "proxy": "not_probed", "hooks": "not_probed"}


def test_starts_answers_and_ends(daemon, api):
    daemon.start()
    assert json.loads(daemon.get("/healthz")) == {"status": "healthy", "failed_probe": ""}
    assert json.loads(daemon.get("/healthz?verbose"))["parts"] == PARTS
    metrics = daemon.get("/metrics")
    for name in ("davit_build_info", 'davit_servers{state="online"} 0', "davit_rss_bytes", "davit_loop_lag_seconds", "davit_commands_pending",
                 'davit_deployments_total{result="failed"} 0'):
        assert name in metrics
    with daemon.channel() as ch:
        s = api.status_grpc.StatusServiceStub(ch).GetStatus(api.status.GetStatusRequest(), timeout=20)
        assert s.version and s.rss_bytes > 1 << 20 and s.link_address == "" and s.schema_version >= 1
    assert not proc.listens(daemon.link)  # no remote server, no port
    assert (daemon.state / "control.db").stat().st_mode & 0o077 == 0
    assert daemon.p.stop() == 0  # with sanitizers: nothing leaked either


def health_of(daemon):
    """The look of a moment that is not the one of before."""
    time.sleep(2.1)
    try:
        return 200, json.loads(daemon.get("/healthz?verbose"))
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())


def deaf(pid, port):
    """The listener at @port of process @pid hears of no connection any more: a filter of its socket passes nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # ret 0
    program = struct.pack("HP", 1, ctypes.addressof(nothing))
    pidfd = libc.syscall(434, pid, 0)  # pidfd_open
    done = 0
    for fd in map(int, os.listdir(f"/proc/{pid}/fd")):
        mine = libc.syscall(438, pidfd, fd, 0)  # pidfd_getfd
        if mine < 0:
            continue
        try:
            with socket.socket(fileno=mine) as s:
                if s.family == socket.AF_INET and s.getsockname()[1] == port and s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    s.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER
                    done += 1
        except OSError:
            with contextlib.suppress(OSError):
                os.close(mine)
    os.close(pidfd)
    assert done == 1


@pytest.mark.all_tier
def test_each_part_that_breaks_is_named(daemon):
    port = proc.free_port()
    daemon.more = ["--token-listen", f"127.0.0.1:{port}"]
    daemon.start()
    assert health_of(daemon) == (200, {"status": "healthy", "failed_probe": "", "parts": PARTS})
    assert json.loads(daemon.get("/healthz")) == {"status": "healthy", "failed_probe": ""}
    with sqlite3.connect(daemon.state / "control.db", isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")
        assert health_of(daemon) == (503, {"status": "unhealthy", "failed_probe": "store", "parts": PARTS | {"store": "failed"}})
        db.execute("ROLLBACK")
    assert health_of(daemon)[0] == 200
    deaf(daemon.p.pid, port)
    assert health_of(daemon) == (503, {"status": "unhealthy", "failed_probe": "token", "parts": PARTS | {"token": "failed", "store": "unknown"}})
    daemon.socket.unlink()
    assert health_of(daemon)[1]["failed_probe"] == "agent-link"
    deaf(daemon.p.pid, daemon.api)
    status, body = health_of(daemon)
    assert status == 503 and body["failed_probe"] == "admin" and set(body["parts"].values()) == {"failed", "unknown", "not_probed"}


def test_refuses_without_keys(tmp_path):
    r = proc.run([BIN / "davitd", "--state-dir", tmp_path / "s"], check=False)
    assert r.rc != 0 and "davit up" in r.err and "Sanitizer" not in r.err


def test_one_per_directory(daemon):
    daemon.start()
    r = proc.run(daemon.command(), check=False)
    assert r.rc != 0 and "lock" in r.err and str(daemon.p.pid) in r.err and "Sanitizer" not in r.err


def test_a_foreign_certificate_opens_nothing(daemon, api):
    daemon.start()
    other = Daemon(api)
    key, chain = ((other.user / name).read_bytes() for name in ("cli.key", "cli.crt"))
    try:
        with daemon.channel(key=key, chain=chain) as ch, pytest.raises(grpc.RpcError) as e:
            api.status_grpc.StatusServiceStub(ch).GetStatus(api.status.GetStatusRequest(), timeout=20)
        assert e.value.code() == grpc.StatusCode.UNAVAILABLE
    finally:
        other.close()


@pytest.mark.req("CL-35", "CL-36", "CL-71")
def test_token_is_shown_once_and_kept_nowhere(daemon, api):
    daemon.start()
    with daemon.channel() as ch:
        stub = api.servers_grpc.ServerServiceStub(ch)
        r = stub.CreateServer(api.servers.CreateServerRequest(name="edge"), timeout=20)
        assert r.token.startswith("davit1.") and r.token in r.install_command
        assert f"--mode direct --server 127.0.0.1:{daemon.link} --token-file -" in r.install_command
        assert r.server.state == api.servers.SERVER_STATE_PENDING
        assert r.server.profile == api.servers.SERVER_PROFILE_UNKNOWN
        assert proc.listens(daemon.link)
        again = stub.GetServer(api.servers.GetServerRequest(server="edge"), timeout=20).server
        assert again.token_expires_us == r.token_expires_us
        with pytest.raises(grpc.RpcError) as e:
            stub.CreateServer(api.servers.CreateServerRequest(name="edge"), timeout=20)
        assert e.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert daemon.p.stop() == 0
    secret = r.token.split(".")[2].encode()
    for path in daemon.state.iterdir():
        assert secret not in path.read_bytes(), path
    assert secret.decode() not in daemon.p.text()
    # The port of remote servers is open again at the next start.
    daemon.start()
    assert proc.listens(daemon.link)


@pytest.mark.req("CL-30", "CL-31")
def test_profile_is_unknown_until_set(daemon, api):
    daemon.start()
    with daemon.channel() as ch:
        stub = api.servers_grpc.ServerServiceStub(ch)
        stub.CreateServer(api.servers.CreateServerRequest(name="edge"), timeout=20)
        for profile in (api.servers.SERVER_PROFILE_PUBLIC, api.servers.SERVER_PROFILE_LOCAL, api.servers.SERVER_PROFILE_UNKNOWN):
            r = stub.UpdateServer(api.servers.UpdateServerRequest(server="edge", profile=profile), timeout=20)
            assert r.server.profile == profile
        with pytest.raises(grpc.RpcError) as e:
            stub.UpdateServer(api.servers.UpdateServerRequest(server="edge", preferred_address="127.0.0.1"), timeout=20)
        assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_killed_in_the_middle_of_a_deployment(daemon, api):
    daemon.start()
    agent = Agent(api, daemon, 1)
    agent.get("welcome")
    agent.put(heartbeat=api.link.Heartbeat(clock_us=1))
    with daemon.channel() as ch:
        stub = api.work_grpc.WorkloadServiceStub(ch)
        spec = {"project": "shop", "name": "web", "image": "web:1"}
        r = stub.Deploy(api.work.DeployRequest(spec=spec, request_id="once"), timeout=20)
    first = agent.get("command")
    os.kill(daemon.p.pid, signal.SIGKILL)
    daemon.p.p.wait(20)
    agent.close()

    daemon.start()
    agent = Agent(api, daemon, 2)
    agent.get("welcome")
    again = agent.get("command")
    assert (again.seq, again.id, again.deploy.deployment_id) == (first.seq, first.id, r.deployment_id)
    agent.put(received=api.link.CommandReceived(seq=again.seq, id=again.id))
    agent.put(result=api.link.CommandResult(seq=again.seq, id=again.id, container_id="c1"))
    assert agent.get("result_ack").seq == again.seq
    # Acknowledged means on disk: a kill right now loses nothing.
    os.kill(daemon.p.pid, signal.SIGKILL)
    daemon.p.p.wait(20)
    agent.close()
    daemon.start()
    with daemon.channel() as ch:
        stub = api.work_grpc.WorkloadServiceStub(ch)
        assert stub.Deploy(api.work.DeployRequest(spec=spec, request_id="once"), timeout=20).deployment_id == r.deployment_id
        states = [e.state for e in stub.WatchDeployment(api.work.WatchDeploymentRequest(deployment_id=r.deployment_id), timeout=20)]
        assert states[0] == api.service.DEPLOYMENT_STATE_PENDING and states[-1] == api.service.DEPLOYMENT_STATE_ACTIVE
        # A server without its agent: the next deployment says what it waits for.
        r = stub.Deploy(api.work.DeployRequest(spec=spec), timeout=20)
        watch = stub.WatchDeployment(api.work.WatchDeploymentRequest(deployment_id=r.deployment_id), timeout=20)
        assert next(e.waiting_for for e in watch if e.waiting_for).startswith("server box is")
        watch.cancel()
    assert daemon.p.stop() == 0


@pytest.mark.req("CL-73", "CL-74")
def test_offline_after_silence_and_back(api):
    d = Daemon(api, ["--heartbeat-interval", "200ms", "--offline-after", "1s"]).start()
    try:
        agent = Agent(api, d, 1)
        assert agent.get("welcome").heartbeat_interval_ms == 200
        agent.put(heartbeat=api.link.Heartbeat(clock_us=1))
        with d.channel() as ch:
            stub = api.servers_grpc.ServerServiceStub(ch)
            server = lambda: stub.GetServer(api.servers.GetServerRequest(server="box"), timeout=20).server  # noqa: E731
            proc.wait_for(lambda: server().state == api.servers.SERVER_STATE_ONLINE)
            proc.wait_for(lambda: server().state == api.servers.SERVER_STATE_OFFLINE)
            assert "no heartbeat" in server().state_reason and server().health == "warning"
            # Nothing was sent to the agent because of it.
            assert all(m.WhichOneof("body") == "heartbeat_ack" for m in list(agent.inbox.queue))
            agent.put(heartbeat=api.link.Heartbeat(clock_us=1))
            proc.wait_for(lambda: server().state == api.servers.SERVER_STATE_ONLINE)
        agent.close()
    finally:
        d.close()
