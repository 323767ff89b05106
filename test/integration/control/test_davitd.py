# SPDX-License-Identifier: Apache-2.0
"""davitd as a program, against python3-grpcio: mutual TLS, the local agent's socket, kills in the middle of things, what is on disk."""
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request

import pytest

from lib import proc

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))
BIN = pathlib.Path(os.environ.get("DAVIT_BIN", BUILD / "src/main"))

grpc = pytest.importorskip("grpc")


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The generated python modules, by short name."""
    out = tmp_path_factory.mktemp("stubs")
    protos = sorted(p.relative_to(ROOT / "proto") for p in (ROOT / "proto/davit").rglob("*.proto"))
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}",
                    "--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin", *map(str, protos)], check=True, timeout=60)
    sys.path.insert(0, str(out))
    try:
        from davit.common.v1 import service_pb2
        from davit.control.v1 import servers_pb2, servers_pb2_grpc, status_pb2, status_pb2_grpc, workloads_pb2, workloads_pb2_grpc
        from davit.link.v1 import link_pb2, link_pb2_grpc

        class Modules:
            service, servers, servers_grpc = service_pb2, servers_pb2, servers_pb2_grpc
            status, status_grpc = status_pb2, status_pb2_grpc
            work, work_grpc = workloads_pb2, workloads_pb2_grpc
            link, link_grpc = link_pb2, link_pb2_grpc

        yield Modules
    finally:
        sys.path.remove(str(out))


class Daemon:
    """A davitd with its keys in a temporary directory."""

    def __init__(self, more=()):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="dv."))
        self.user, self.state, self.socket = self.dir / "user", self.dir / "state", self.dir / "link.sock"
        self.user.mkdir(0o700)
        self.state.mkdir(0o700)
        subprocess.run([BUILD / "test/unit/control/pki_tool", self.user, self.state], check=True, timeout=60)
        self.api, self.link, self.health = (proc.free_port() for _ in range(3))
        self.more = list(more)
        self.p = None

    def command(self):
        return [BIN / "davitd", "--state-dir", self.state, "--api-listen", f"127.0.0.1:{self.api}", "--link-listen",
                f"127.0.0.1:{self.link}", "--health-listen", f"127.0.0.1:{self.health}", "--link-socket", self.socket,
                "--advertise", "127.0.0.1", *self.more]

    def start(self):
        self.p = proc.Background(self.command(), self.dir / "log")
        proc.wait_for(lambda: proc.listens(self.health) and proc.listens(self.api), text=f"davitd: {self.p.text()}")
        return self

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health}{path}", timeout=10) as r:
            return r.read().decode()

    def channel(self, user=None):
        read = lambda name: ((user or self.user) / name).read_bytes()  # noqa: E731
        credentials = grpc.ssl_channel_credentials((self.user / "root.crt").read_bytes(), read("cli.key"), read("cli.crt"))
        return grpc.secure_channel(f"127.0.0.1:{self.api}", credentials, [("grpc.ssl_target_name_override", "localhost")])

    def close(self):
        if self.p and self.p.running():
            self.p.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture
def daemon():
    d = Daemon()
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


def test_starts_answers_and_ends(daemon, api):
    daemon.start()
    assert daemon.get("/healthz") == "ok\n"
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


def test_refuses_without_keys(tmp_path):
    r = proc.run([BIN / "davitd", "--state-dir", tmp_path / "s"], check=False)
    assert r.rc != 0 and "davit up" in r.err and "Sanitizer" not in r.err


def test_one_per_directory(daemon):
    daemon.start()
    r = proc.run(daemon.command(), check=False)
    assert r.rc != 0 and "lock" in r.err and str(daemon.p.pid) in r.err and "Sanitizer" not in r.err


def test_a_foreign_certificate_opens_nothing(daemon, api):
    daemon.start()
    other = Daemon()
    try:
        with daemon.channel(other.user) as ch, pytest.raises(grpc.RpcError) as e:
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
    d = Daemon(["--heartbeat-interval", "200ms", "--offline-after", "1s"]).start()
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
