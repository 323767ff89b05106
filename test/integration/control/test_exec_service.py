# SPDX-License-Identifier: Apache-2.0
"""ExecService and the calls under it, against an agent that does what the test says: credit, limits, and what ends them."""
import json
import queue
import sys
import time
import urllib.request

import pytest

grpc = pytest.importorskip("grpc")
websockets = pytest.importorskip("websockets")

from lib import proc  # noqa: E402
from lib.daemon import Daemon, generate  # noqa: E402
from lib.fake_agent import FakeAgent  # noqa: E402
from lib.viewer import Viewer  # noqa: E402

CREDIT, PIECE, CALLS = 256 * 1024, 64 * 1024, 64


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    try:
        yield generate(out)
    finally:
        sys.path.remove(str(out))


@pytest.fixture(scope="module")
def pb(api):
    from davit.control.v1 import containers_pb2
    return containers_pb2


@pytest.fixture(scope="module")
def shared(api):
    d = Daemon(api, []).start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def worker(shared):
    a = FakeAgent(shared, "worker")
    a.enroll()
    yield a
    a.disconnect()


@pytest.fixture
def agent(worker):
    worker.takes_calls = True
    worker.disconnect()
    worker.others = queue.Queue()
    return worker.reconnect()


class Exec:
    """One call over gRPC: x.put(input=b"..."), x.get(); the agent's side: x.id, once it was opened."""

    def __init__(self, daemon, pb, agent=None, **start):
        from davit.control.v1 import containers_pb2_grpc
        self.pb, self.out = pb, queue.Queue()
        self.channel = daemon.channel()
        self.call = containers_pb2_grpc.ExecServiceStub(self.channel).Exec(iter(self.out.get, None), timeout=60)
        start.setdefault("command", ["sh", "-c", "secret"])
        self.put(start=pb.ExecStart(target=pb.ContainerRef(server="worker", container="box"), stdin=True, **start))
        if agent:
            self.agent = agent
            self.open = agent.wanted("call_open")
            self.id = self.open.call_id
            assert self.get().container == "box"

    def put(self, **fields):
        self.out.put(self.pb.ExecRequest(**fields))

    def get(self):
        return next(self.call)

    def data(self, data, output=1):
        self.agent.put(call_data=self.agent._link.CallData(call_id=self.id, output=output, data=data))

    def end(self, code=0, failure=None):
        m = self.agent._link.CallEnd(call_id=self.id)
        if failure:
            m.failure.code, m.failure.reason, m.failure.message = failure
        else:
            m.exec.exit_code = code
        self.agent.put(call_end=m)

    def fails(self, code):
        with pytest.raises(grpc.RpcError) as e:
            for _ in self.call:
                pass
        assert e.value.code() == code, e.value
        return e.value

    def close(self):
        self.out.put(None)
        self.call.cancel()
        self.channel.close()


@pytest.fixture
def execs(shared, pb, agent):
    made = []

    def make(**start):
        made.append(Exec(shared, pb, agent, **start))
        return made[-1]
    yield make
    for x in made:
        x.close()


@pytest.mark.req("WK-3")
def test_what_is_asked_for_arrives_and_what_comes_is_passed_on(execs, agent):
    x = execs(tty=True, rows=24, columns=80, user="app", working_dir="/srv")
    e = x.open.exec
    assert (e.container_id, list(e.command), e.user, e.working_dir, e.tty, e.stdin, e.rows, e.columns) == (
        "box", ["sh", "-c", "secret"], "app", "/srv", True, True, 24, 80)
    assert x.open.credit_bytes == CREDIT
    x.put(rows=50, columns=132)
    size = agent.wanted("call_resize")
    assert (size.call_id, size.rows, size.columns) == (x.id, 50, 132)
    agent.put(call_credit=agent._link.CallCredit(call_id=x.id, bytes=CREDIT))
    x.put(input=b"\0\xff")
    x.put(input=b"end", input_ends=True)
    got = [agent.wanted("call_data") for _ in range(2)]
    assert b"".join(m.data for m in got) == b"\0\xffend" and [m.last for m in got] == [False, True]
    x.data(b"out")
    x.data(b"err", 2)
    x.end(137)
    assert x.get().output == b"out" and x.get().error_output == b"err"
    last = x.get()
    assert last.ended and last.exit_code == 137


@pytest.mark.req("WK-3")
def test_input_waits_for_credit(execs, agent):
    x = execs()
    for _ in range(8):
        x.put(input=b"x" * PIECE)
    with pytest.raises(queue.Empty):
        agent.others.get(timeout=0.3)
    agent.put(call_credit=agent._link.CallCredit(call_id=x.id, bytes=PIECE + 5))
    assert len(agent.wanted("call_data").data) + len(agent.wanted("call_data").data) == PIECE + 5
    with pytest.raises(queue.Empty):
        agent.others.get(timeout=0.3)


@pytest.mark.req("WK-3")
def test_credit_comes_back_as_output_is_read(execs, agent):
    x = execs()
    for _ in range(CREDIT // PIECE):
        x.data(b"x" * PIECE)
    back = 0
    while back < CREDIT - PIECE:
        back += agent.wanted("call_credit").bytes
    assert back <= CREDIT
    x.end()
    assert sum(len(m.output) for m in x.call) == CREDIT


@pytest.mark.req("WK-3")
def test_an_agent_that_oversteps_its_credit_loses_its_link(execs, agent):
    x = execs()
    x.data(b"x" * (PIECE + 1))
    x.fails(grpc.StatusCode.UNAVAILABLE)
    proc.wait_for(lambda: not agent.call.is_active(), text="end of the link")


@pytest.mark.req("WK-3")
def test_much_more_than_the_credit_ends_the_link_too(shared, pb, agent):
    x = Exec(shared, pb, agent)
    # Nobody reads: what was taken and not given back is at most what gRPC holds.
    for _ in range(200):
        x.data(b"x" * PIECE)
    proc.wait_for(lambda: not agent.call.is_active(), text="end of the link")
    x.close()


@pytest.mark.req("WK-3")
def test_so_many_at_once_and_no_more(shared, execs, pb, agent):
    many = [execs() for _ in range(CALLS)]
    one = Exec(shared, pb)
    assert "are open already" in one.fails(grpc.StatusCode.RESOURCE_EXHAUSTED).details()
    one.close()
    many[0].end(3)
    assert many[0].get().exit_code == 3
    execs().end()


@pytest.mark.req("WK-3")
def test_the_loss_of_the_link_ends_it_at_once(execs, agent):
    x = execs()
    x.data(b"some")
    assert x.get().output == b"some"
    agent.disconnect()
    began = time.monotonic()
    assert "was lost" in x.fails(grpc.StatusCode.UNAVAILABLE).details()
    assert time.monotonic() - began < 5


@pytest.mark.req("WK-3")
def test_who_goes_away_ends_it(execs, agent):
    x = execs()
    x.call.cancel()
    assert agent.wanted("call_close").call_id == x.id


@pytest.mark.req("CB-15")
def test_a_refusal_of_the_agent_arrives_with_its_reason_and_is_in_the_audit_log(shared, execs):
    x = execs(command=["psql", "-c", "hidden"])
    x.end(failure=(7, "policy_exec", "the policy of this server's owner forbids this"))
    e = x.fails(grpc.StatusCode.PERMISSION_DENIED)
    assert "policy" in e.details() and dict(e.trailing_metadata())["davit-reason"] == "policy_exec"

    def entries():
        from davit.control.v1 import audit_pb2, audit_pb2_grpc
        with shared.channel() as ch:
            return list(audit_pb2_grpc.AuditServiceStub(ch).ListAudit(audit_pb2.ListAuditRequest(), timeout=20).entries)
    found = proc.wait_for(lambda: [e for e in entries() if e.action == "exec.start" and "psql" in e.object], text="the entry")
    assert "worker/box" in found[0].object and "hidden" not in str(entries())
    assert [e for e in entries() if e.action == "ExecService/Exec" and e.outcome == "refused"]


@pytest.mark.req("WK-3")
def test_what_is_asked_for_wrongly_is_told(shared, pb, agent):
    for start, code, word in (({"command": []}, "INVALID_ARGUMENT", "command"), ({"command": [""]}, "INVALID_ARGUMENT", "command")):
        x = Exec(shared, pb, **start)
        assert word in x.fails(getattr(grpc.StatusCode, code)).details()
        x.close()


@pytest.mark.req("WK-3")
def test_an_older_agent_is_to_be_updated(shared, pb, worker):
    worker.takes_calls = False
    worker.reconnect()
    x = Exec(shared, pb)
    e = x.fails(grpc.StatusCode.UNAVAILABLE)
    assert "too old" in e.details()
    x.close()


class Terminal(Viewer):
    """The same from a page: a WebSocket."""

    path = "/davit.control.v1.ExecService/Exec"

    def _take(self, data):
        if data[0] & 2:
            self.end = EOFError(data[5:].decode())
            return
        self.inbox.setdefault(1, []).append(self.pb.ExecResponse.FromString(data[5:]))
        self.any.put(1)


@pytest.mark.req("WK-3")
def test_a_page_runs_one_until_its_session_ends(shared, pb, agent):
    from davit.control.v1 import people_pb2, people_pb2_grpc

    def call(method, message, cookie=""):
        where = f"http://127.0.0.1:{shared.local_web}"
        r = urllib.request.Request(f"{where}/davit.control.v1.SessionService/{method}", json.dumps(message).encode(),
                                   {"content-type": "application/json", "origin": where, "cookie": cookie})
        return urllib.request.urlopen(r, timeout=30).headers.get("set-cookie", "").partition(";")[0]
    with shared.channel() as ch:
        link = people_pb2_grpc.SessionServiceStub(ch).CreateSetupLink(people_pb2.CreateSetupLinkRequest(), timeout=20).url
    cookie = call("SetUpOwner", {"secret": link.partition("#")[2], "password": "correct horse battery"})
    t = Terminal(shared, pb, cookie=cookie)
    start = pb.ExecStart(target=pb.ContainerRef(server="worker", container="box"), command=["sh"], tty=True, stdin=True, rows=24, columns=80)
    t.send(pb.ExecRequest(start=start))
    ident = agent.wanted("call_open").call_id
    agent.put(call_credit=agent._link.CallCredit(call_id=ident, bytes=CREDIT))
    t.send(pb.ExecRequest(input=b"ls\r"))
    assert agent.wanted("call_data").data == b"ls\r"
    agent.put(call_data=agent._link.CallData(call_id=ident, output=1, data=b"bin\r\n"))
    t.until(1, lambda m: m.output == b"bin\r\n")
    call("Logout", {}, cookie)
    assert "unauthenticated" in t.ended()
    assert agent.wanted("call_close").call_id == ident
    with pytest.raises(websockets.InvalidStatusCode):
        Terminal(shared, pb, cookie=cookie)
