# SPDX-License-Identifier: Apache-2.0
"""WatchService against a real davitd, over WebSockets as a window has them and over gRPC: what there is, what changes, what goes, limits."""
import base64
import contextlib
import json
import os
import queue
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
import uuid

import pytest

grpc = pytest.importorskip("grpc")
websockets = pytest.importorskip("websockets")

from lib import proc  # noqa: E402
from lib.daemon import Daemon, generate  # noqa: E402
from lib.fake_agent import FakeAgent  # noqa: E402
from lib.viewer import Viewer  # noqa: E402

SECOND = 1_000_000


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    try:
        yield generate(out)
    finally:
        sys.path.remove(str(out))


@pytest.fixture(scope="module")
def pb(api):
    from davit.control.v1 import watch_pb2
    return watch_pb2


@pytest.fixture(scope="module")
def shared(api):
    d = Daemon(api, ["--heartbeat-interval", "500ms", "--offline-after", "2"]).start()
    yield d
    d.close()


@pytest.fixture
def viewer(shared, pb):
    v = Viewer(shared, pb)
    yield v
    v.close()


@pytest.fixture(scope="module")
def agent(shared, api):
    """One that is connected all the time and does what the test says."""
    a = FakeAgent(shared, "worker")
    a.enroll()
    a.connect()
    stop = threading.Event()

    def beat():
        while not stop.wait(0.5):
            a.put(heartbeat=api.link.Heartbeat(sequence=2, clock_us=int(time.time() * 1e6)))
    threading.Thread(target=beat, daemon=True).start()
    yield a
    stop.set()
    a.disconnect()


def deploy(shared, api, name, project="shop"):
    with shared.channel() as ch:
        spec = api.service.ServiceSpec(project=project, name=name, image="web:1")
        return api.work_grpc.WorkloadServiceStub(ch).Deploy(api.work.DeployRequest(spec=spec, server="worker"), timeout=20).deployment_id


def run_service(shared, api, agent, name, project="shop"):
    """Deploys it, and its container runs."""
    deployment = deploy(shared, api, name, project)
    cmd = agent.take()
    agent.put(containers=api.link.ContainerStates(containers=[container(api, name, project, deployment)]))
    agent.finish(cmd)
    return deployment


def container(api, name, project, deployment, state="running"):
    return api.service.Container(id=f"c-{name}", name=f"davit-{name}", state=state, project=project, service=name, deployment_id=deployment,
                                 started_at_us=int(time.time() * 1e6))


def remove(shared, api, agent, name, project="shop"):
    def call():
        with shared.channel() as ch:
            api.work_grpc.WorkloadServiceStub(ch).RemoveService(api.work.RemoveServiceRequest(project=project, service=name), timeout=20)
    t = threading.Thread(target=call)
    t.start()
    agent.finish(agent.take(), "removed")
    agent.put(containers=api.link.ContainerStates(removed_ids=[f"c-{name}"]))
    t.join(20)
    assert not t.is_alive()


@pytest.mark.req("PE-19")
def test_a_server_is_pending_online_offline_by_itself(shared, api, viewer, tmp_path):
    """With a real agent, which is killed. The detail of one server follows beside the list."""
    viewer.ask(1, overview={})
    viewer.ask(2, servers={})
    assert [m.WhichOneof("event") for m in viewer.snapshot(1)] == ["overview"]
    viewer.snapshot(2)
    token = shared.add("edge")
    pending = viewer.until(2, lambda m: m.server.name == "edge")[-1].server
    assert pending.state == api.servers.SERVER_STATE_PENDING and pending.token_expires_us
    viewer.ask(3, server={"server": "edge"})
    assert [m.WhichOneof("event") for m in viewer.snapshot(3)] == ["server", "containers"]
    viewer.until(1, lambda m: m.overview.servers_pending == 1)
    shared.enroll(token, tmp_path / "edge")
    real = shared.run_agent(tmp_path / "edge")
    online = viewer.until(2, lambda m: m.server.state == api.servers.SERVER_STATE_ONLINE)[-1].server
    assert online.id == pending.id and online.system.kernel and online.agent_version and online.token_expires_us == 0
    viewer.until(3, lambda m: m.server.state == api.servers.SERVER_STATE_ONLINE)
    viewer.until(1, lambda m: m.overview.servers_online == 1 and m.overview.servers_pending == 0)
    real.stop(9)
    offline = viewer.until(2, lambda m: m.server.state == api.servers.SERVER_STATE_OFFLINE)[-1].server
    assert offline.last_heartbeat_us >= online.last_heartbeat_us > 0 and "no heartbeat" in offline.state_reason
    viewer.until(3, lambda m: m.server.state == api.servers.SERVER_STATE_OFFLINE)
    with shared.channel() as ch:
        api.servers_grpc.ServerServiceStub(ch).RemoveServer(api.servers.RemoveServerRequest(server="edge"), timeout=20)
    assert viewer.until(2, lambda m: m.server_removed)[-1].server_removed == offline.id
    assert [m.WhichOneof("event") for m in viewer.until(3, lambda m: m.ended)] == ["server_removed", "ended"]
    viewer.ask(4, server={"server": "edge"})
    assert viewer.until(4, lambda m: m.HasField("failed"))[-1].failed.code == "not_found"


def test_mere_heartbeats_are_told_rarely(shared, api, viewer, agent):
    viewer.ask(1, servers={})
    viewer.until(1, lambda m: m.server.name == "worker")
    viewer.until(1, lambda m: m.ready)
    time.sleep(3)  # six heartbeats
    assert len([m for m in viewer.got(1) if m.server.name == "worker"]) <= 1


@pytest.mark.req("PE-12")
def test_steps_of_a_deployment_in_order(shared, api, viewer, agent):
    S = api.service
    viewer.ask(1, deployments={"project": "shop", "service": "steps"})
    viewer.ask(2, services={"project": "shop", "service": "steps"})
    assert viewer.snapshot(1) == [] and viewer.snapshot(2) == []
    deployment = deploy(shared, api, "steps")
    viewer.ask(3, deployment={"deployment_id": deployment})
    first = viewer.snapshot(3)
    assert first[0].deployment.id == deployment and first[0].deployment.spec.image == "web:1" and first[0].deployment.server_name == "worker"
    assert viewer.until(2, lambda m: m.HasField("service"))[-1].service.state in (S.DEPLOYMENT_STATE_PENDING, S.DEPLOYMENT_STATE_DEPLOYING)
    cmd = agent.take()
    for step in ("pull", "create", "start", "health"):
        agent.progress(cmd, step)
        viewer.until(3, lambda m, step=step: m.step.progress.step == step)
    agent.put(containers=api.link.ContainerStates(containers=[container(api, "steps", "shop", deployment)]))
    agent.finish(cmd)
    end = viewer.until(3, lambda m: m.ended)
    assert end[-3].step.state == S.DEPLOYMENT_STATE_ACTIVE or end[-2].step.state == S.DEPLOYMENT_STATE_ACTIVE
    assert [m.deployment.state for m in end if m.HasField("deployment")][-1] == S.DEPLOYMENT_STATE_ACTIVE
    viewer.until(1, lambda m: m.deployment.state == S.DEPLOYMENT_STATE_ACTIVE)
    running = viewer.until(2, lambda m: m.service.state == S.DEPLOYMENT_STATE_ACTIVE and m.service.containers)[-1].service
    assert running.active_deployment_id == deployment and running.containers[0].id == "c-steps" and running.server_online
    # Told from the beginning to whoever comes later; of one that has ended it is all.
    viewer.ask(4, deployment={"deployment_id": deployment})
    all_of_it = viewer.until(4, lambda m: m.ended)
    assert [m.step.progress.step for m in all_of_it if m.step.HasField("progress")] == ["pull", "create", "start", "health"]
    assert sum(m.ready for m in all_of_it) == 1
    # The container stops, the service is removed.
    agent.put(containers=api.link.ContainerStates(containers=[container(api, "steps", "shop", deployment, "exited")]))
    viewer.until(2, lambda m: m.service.containers and m.service.containers[0].state == "exited")
    remove(shared, api, agent, "steps")
    assert viewer.until(2, lambda m: m.HasField("service_removed"))[-1].service_removed.name == "steps"
    viewer.until(1, lambda m: m.deployment.state == S.DEPLOYMENT_STATE_REMOVED)


def test_filters_keep_the_rest_out(shared, api, viewer, agent):
    run_service(shared, api, agent, "one", "red")
    viewer.ask(1, services={"project": "red"})
    viewer.ask(2, services={"server": "worker", "service": "two"})
    viewer.ask(3, services={"project": "blue"})
    assert [m.service.name for m in viewer.snapshot(1)] == ["one"]
    assert viewer.snapshot(2) == [] and viewer.snapshot(3) == []
    run_service(shared, api, agent, "two", "red")
    viewer.until(2, lambda m: m.service.name == "two" and m.service.containers)
    viewer.until(1, lambda m: m.service.name == "two" and m.service.containers)
    viewer.ask(1, unsubscribe=True)
    remove(shared, api, agent, "two", "red")
    viewer.until(2, lambda m: m.service_removed.name == "two")
    time.sleep(0.6)
    assert viewer.got(3) == [] and not any(m.HasField("service_removed") for m in viewer.got(1))
    remove(shared, api, agent, "one", "red")


def test_usage_flows_while_it_is_watched(shared, api, viewer, agent):
    run_service(shared, api, agent, "busy")
    viewer.ask(1, usage={"project": "shop", "service": "busy"})
    assert agent.wanted("usage_watch").interval_ms > 0
    viewer.snapshot(1)
    for i in (1, 2, 3):
        now = int(time.time() * 1e6)
        usage = api.service.Usage(container_id="c-busy", at_us=now, net_rx_bytes=1000 * i, memory_bytes=i, cpu_milli=i)
        agent.put(usage=api.link.UsageBatch(samples=[api.service.Usage(at_us=now, memory_bytes=7), usage]))
        rows = viewer.until(1, lambda m, i=i: m.usage.rows and m.usage.rows[0].usage.memory_bytes == i)[-1].usage.rows
        assert len(rows) == 1 and rows[0].service == "busy" and rows[0].server_name == "worker"  # the host is not of this service
        assert i == 1 or rows[0].net_rx_rate > 0
    viewer.ask(2, usage={"server": "worker"})
    assert {r.container_name for m in viewer.snapshot(2) for r in m.usage.rows} >= {"", "davit-busy"}
    remove(shared, api, agent, "busy")


def test_a_log_follows_and_starves_nobody(shared, api, viewer, agent):
    L = api.link
    run_service(shared, api, agent, "chatty")
    viewer.ask(1, logs={"project": "shop", "service": "chatty", "follow": True, "tail": 10})
    opened = agent.wanted("log_open")
    assert opened.container_id == "c-chatty" and opened.follow and opened.tail == 10 and opened.credit_bytes

    def say(*lines, **more):
        at = int(time.time() * 1e9)
        entries = [api.service.LogEntry(stream=api.service.LOG_STREAM_STDOUT, at_ns=at + i, line=line) for i, line in enumerate(lines)]
        agent.put(logs=L.LogBatch(stream_id=opened.stream_id, entries=entries, **more))
    say(b"hello", b"\xff<script>\x1b[31m")
    got = viewer.until(1, lambda m: m.logs.entries)[-1].logs
    assert [e.line for e in got.entries] == [b"hello", b"\xff<script>\x1b[31m"] and got.container_id == "c-chatty"
    # As much as the agent may send, again and again; the other topic is told all the while.
    for i in range(20):
        for _ in range(4):
            say(b"x" * 60_000)
        viewer.ask(100 + i, overview={})
        viewer.snapshot(100 + i, timeout=5)
        viewer.ask(100 + i, unsubscribe=True)
    proc.wait_for(lambda: sum(len(e.line) for m in viewer.got(1) for e in m.logs.entries) == 20 * 4 * 60_000, text="all lines")
    given = 0
    with contextlib.suppress(queue.Empty):
        while True:
            given += agent.wanted("log_credit", timeout=1).bytes
    assert given >= 20 * 4 * 60_000
    viewer.ask(1, unsubscribe=True)
    assert agent.wanted("log_close").stream_id == opened.stream_id
    remove(shared, api, agent, "chatty")
    viewer.ask(2, logs={"project": "shop", "service": "chatty", "follow": True})
    assert viewer.until(2, lambda m: m.HasField("failed"))[-1].failed.code == "not_found"


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_log_by_plain_connect_ends_with_its_caller(shared, api, agent, version, tmp_path):
    """What a page can do without the watch: server streaming by fetch, which lives as long as the page wants."""
    run_service(shared, api, agent, "plain")
    message = b'{"project": "shop", "service": "plain", "follow": true, "tail": "1"}'
    (tmp_path / "request").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    curl = subprocess.Popen(["curl", "-sSN", version, "--cacert", shared.user / "root.crt", "-k", "--cert", shared.user / "cli.crt", "--key",
                             shared.user / "cli.key", "-H", f"authorization: Bearer {shared.tokens.bearer()}",
                             "-H", "content-type: application/connect+json", "--data-binary", f"@{tmp_path}/request",
                             f"https://127.0.0.1:{shared.api}/davit.control.v1.WorkloadService/Logs"], stdout=subprocess.PIPE)
    try:
        opened = agent.wanted("log_open")
        for line in (b"first", b"second"):
            agent.put(logs=api.link.LogBatch(stream_id=opened.stream_id, entries=[api.service.LogEntry(at_ns=time.time_ns(), line=line)]))
            size = int.from_bytes(curl.stdout.read(5)[1:], "big")
            assert base64.b64encode(line) in curl.stdout.read(size)
            time.sleep(1.2)  # longer than what waits for a first message
        curl.kill()
        assert agent.wanted("log_close").stream_id == opened.stream_id
    finally:
        curl.kill()
        curl.wait()
    remove(shared, api, agent, "plain")


def failure(viewer, topic):
    return viewer.until(topic, lambda m: m.HasField("failed"))[-1].failed


def test_what_is_wrong_ends_a_topic_and_not_the_stream(shared, api, viewer, agent, pb):
    viewer.ask(0, servers={})
    assert failure(viewer, 0).code == "invalid_argument"
    viewer.ask(1, server={"server": "nowhere"})
    f = failure(viewer, 1)
    assert f.code == "not_found" and "nowhere" in f.message and f.hint
    viewer.ask(2, server={})
    assert failure(viewer, 2).code == "invalid_argument"
    viewer.ask(3)
    assert failure(viewer, 3).code == "unimplemented"
    viewer.ask(4, services={"project": "p" * 64})
    assert failure(viewer, 4).code == "invalid_argument"
    viewer.ask(5, deployment={"deployment_id": str(uuid.uuid4())})
    assert failure(viewer, 5).code == "not_found"
    viewer.ask(6, deployments={"limit": 501})
    assert failure(viewer, 6).code == "invalid_argument"
    viewer.ask(7, unsubscribe=True)  # nothing is said
    viewer.ask(8, servers={})
    viewer.snapshot(8)
    viewer.ask(8, servers={})
    assert failure(viewer, 8).code == "already_exists"
    viewer.ask(8, servers={})
    viewer.snapshot(8)
    for i in range(32):
        viewer.ask(10 + i, overview={})
    assert failure(viewer, 41).code == "resource_exhausted"  # 8 is one of them
    viewer.snapshot(40)
    for i in range(31):
        viewer.ask(10 + i, unsubscribe=True)
    for i in range(5):
        viewer.ask(50 + i, logs={"project": "none", "service": "none"})
    assert {failure(viewer, 50 + i).code for i in range(5)} <= {"not_found", "resource_exhausted"}
    viewer.ask(60, overview={})
    viewer.snapshot(60)
    assert not viewer.end and viewer.got(7) == []


def test_requests_that_no_window_makes_end_the_stream(shared, api, pb):
    v = Viewer(shared, pb)
    v.send(pb.WatchRequest(id=1, servers={}).SerializeToString() + b"\x9a\x06" + b"\xff\xff\x03" + bytes(65535))
    assert "64 KiB" in v.ended()
    v = Viewer(shared, pb)
    with contextlib.suppress(Exception):
        for i in range(400):
            v.ask(1 + i, unsubscribe=True)
    assert "resource_exhausted" in v.ended()


def test_over_grpc(shared, api, pb, agent):
    from davit.control.v1 import watch_pb2_grpc
    with shared.channel() as ch:
        def ask():
            yield pb.WatchRequest(id=1, servers={})  # and says no more
        call = watch_pb2_grpc.WatchServiceStub(ch).Watch(ask(), timeout=30)
        assert next(m for m in call if m.ready).id == 1
        shared.add("late")
        assert next(m for m in call if m.server.name == "late").server.state == api.servers.SERVER_STATE_PENDING
        call.cancel()


def test_a_page_watches_until_its_session_ends(shared, pb, agent):
    from davit.control.v1 import people_pb2, people_pb2_grpc

    def call(method, message, cookie=""):
        where = f"http://127.0.0.1:{shared.local_web}"
        r = urllib.request.Request(f"{where}/davit.control.v1.SessionService/{method}", json.dumps(message).encode(),
                                   {"content-type": "application/json", "origin": where, "cookie": cookie})
        return urllib.request.urlopen(r, timeout=30).headers.get("set-cookie", "").partition(";")[0]
    with shared.channel() as ch:
        link = people_pb2_grpc.SessionServiceStub(ch).CreateSetupLink(people_pb2.CreateSetupLinkRequest(), timeout=20).url
    cookie = call("SetUpOwner", {"secret": link.partition("#")[2], "password": "correct horse battery"})
    v = Viewer(shared, pb, cookie=cookie)
    v.ask(1, servers={})
    assert "worker" in [m.server.name for m in v.snapshot(1)]
    v.ask(2, deployments={})
    v.snapshot(2)
    call("Logout", {}, cookie)
    assert "unauthenticated" in v.ended()
    with pytest.raises(websockets.InvalidStatusCode) as e:
        Viewer(shared, pb, cookie=cookie)
    assert e.value.status_code == 401


def test_without_a_certificate_nothing_is_told(shared, pb):
    from davit.control.v1 import watch_pb2_grpc
    with shared.channel(key=False, chain=False) as ch, pytest.raises(grpc.RpcError):
        next(iter(watch_pb2_grpc.WatchServiceStub(ch).Watch(iter([pb.WatchRequest(id=1, servers={})]), timeout=10)))


COPY = """INSERT INTO servers (id, name, state, reason, profile, preferred, local, system, seen, mode, created_us, enrolled_us, heartbeat_us, skew_us,
 generation, last_seq) SELECT ?, ?, 3, reason, profile, preferred, local, ?, seen, mode, created_us, created_us, created_us, 0, 1, 0
 FROM servers WHERE name = 'model'"""


def test_a_thousand_servers(api, pb):
    """A snapshot of many, viewers that do not read, and what an idle viewer costs."""
    from davit.common.v1 import system_pb2
    from davit.control.v1 import watch_pb2_grpc
    d = Daemon(api).start()
    try:
        d.add("model")
        assert d.p.stop() == 0
        system = system_pb2.SystemInfo(hostname="h", os="Debian GNU/Linux 12 (bookworm)", arch="amd64", agent_version="0.1.0", docker_version="20.10",
                                       lan_addresses=[f"10.0.0.{i}" for i in range(40)]).SerializeToString()
        with contextlib.closing(sqlite3.connect(d.state / "control.db")) as db:
            db.executemany(COPY, [(str(uuid.uuid4()), f"s-{i:04}", system) for i in range(999)])
            db.commit()
        d.start()
        v = Viewer(d, pb)
        began = time.monotonic()
        v.ask(1, servers={})
        assert len({m.server.id for m in v.snapshot(1)}) == 1000
        took = time.monotonic() - began
        slow = Viewer(d, pb, slow=True)
        for i in range(10):
            slow.ask(1 + i, servers={})
        # What the slow one does not take is not kept for it either; the other one is told at once.
        d.add("another")
        v.until(1, lambda m: m.server.name == "another")
        with d.channel() as ch:
            status = api.status_grpc.StatusServiceStub(ch)
            before = status.GetStatus(api.status.GetStatusRequest(), timeout=20).rss_bytes
            stub, calls = watch_pb2_grpc.WatchServiceStub(ch), []
            for _ in range(90):
                q = queue.Queue()
                q.put(pb.WatchRequest(id=1, overview={}))
                calls.append((q, stub.Watch(iter(q.get, None), timeout=60)))
            for _, c in calls:
                next(m for m in c if m.ready)
            after = status.GetStatus(api.status.GetStatusRequest(), timeout=20).rss_bytes
            for q, c in calls:
                q.put(None)
                c.cancel()
        print(f"1000 servers in {took:.2f} s; {(after - before) / 90 / 1024:.1f} KiB for a viewer in {os.environ.get('DAVIT_TREE', 'asan')}")
        assert took < 5
        for topic, what in enumerate(("overview", "services", "deployments", "usage"), 2):
            v.ask(topic, **{what: {}})
            v.snapshot(topic, timeout=3)
        assert "davit_watch_streams" in d.get("/metrics")
        # It ends with all that is open, and leaves nothing behind (the sanitizers look).
        assert d.p.stop() == 0, d.p.text()[-4000:]
        assert "unavailable" in v.ended() or v.end
        slow.close()
        v.close()
    finally:
        d.close()
