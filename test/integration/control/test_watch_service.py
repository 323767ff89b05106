# SPDX-License-Identifier: Apache-2.0
"""WatchService against a real davitd, over WebSockets as a window has them and over gRPC: what there is, what changes, what goes, limits."""
import sys

import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("websockets")

from lib import proc  # noqa: E402
from lib.daemon import Daemon, generate  # noqa: E402
from lib.fake_agent import FakeAgent  # noqa: E402
from lib.viewer import Viewer  # noqa: E402


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
    d = Daemon(api, ["--heartbeat-interval", "1", "--offline-after", "3"]).start()
    yield d
    d.close()


@pytest.fixture
def viewer(shared, pb):
    v = Viewer(shared, pb)
    yield v
    v.close()


def test_a_server_appears_connects_and_is_missed(shared, api, viewer):
    viewer.ask(1, overview={})
    viewer.ask(2, servers={})
    assert [m.WhichOneof("event") for m in viewer.snapshot(1)] == ["overview"]
    viewer.snapshot(2)
    agent = FakeAgent(shared, "edge")
    agent.enroll()
    pending = viewer.until(2, lambda m: m.server.name == "edge")[-1].server
    assert pending.state == api.servers.SERVER_STATE_PENDING
    viewer.until(1, lambda m: m.overview.servers_pending == 1)
    agent.connect()
    online = viewer.until(2, lambda m: m.server.state == api.servers.SERVER_STATE_ONLINE)[-1].server
    assert online.name == "edge" and online.system.os == "Debian" and online.agent_version == agent.version
    viewer.until(1, lambda m: m.overview.servers_online == 1 and m.overview.servers_pending == 0)
    agent.disconnect()
    offline = viewer.until(2, lambda m: m.server.state == api.servers.SERVER_STATE_OFFLINE)[-1].server
    assert offline.last_heartbeat_us >= online.last_heartbeat_us > 0 and "no heartbeat" in offline.state_reason
    with shared.channel() as ch:
        api.servers_grpc.ServerServiceStub(ch).RemoveServer(api.servers.RemoveServerRequest(server="edge"), timeout=20)
    assert viewer.until(2, lambda m: m.server_removed)[-1].server_removed == offline.id
