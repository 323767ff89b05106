# SPDX-License-Identifier: Apache-2.0
"""Sandboxes at the control plane, against an agent that says what the test wants: what is commanded, who is registered, and who is not."""
import concurrent.futures
import contextlib
import datetime
import hashlib
import itertools
import json
import os
import queue
import re
import sqlite3
import sys
import time

import jwt
import pytest

grpc = pytest.importorskip("grpc")

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.x509.oid import NameOID  # noqa: E402

from lib import proc  # noqa: E402
from lib.daemon import BIN, Daemon, generate  # noqa: E402
from lib.fake_agent import FakeAgent  # noqa: E402
from lib.pki import certs, key_pem  # noqa: E402

FIREWALL = ("Init Remove Enable Disable Bypass AddRules RemoveRule ListRules Reload Status RotateCA SyncRoutes ResolveHostname").split()
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    try:
        yield generate(out)
    finally:
        sys.path.remove(str(out))


@pytest.fixture(scope="module")
def daemon(api):
    d = Daemon(api, []).start()
    (d.dir / "home").mkdir()
    os.symlink(d.user, d.dir / "home/config")
    (d.user / "cli.json").write_text(json.dumps({"api": f"127.0.0.1:{d.api}"}))
    yield d
    d.close()


@pytest.fixture(scope="module")
def worker(daemon):
    a = FakeAgent(daemon, "worker")
    a.enroll()
    a.takes_sandboxes = True
    a.connect()
    yield a
    a.disconnect()


@pytest.fixture
def agent(worker):
    """The one agent, with nothing left of the test before."""
    worker.takes_sandboxes = True
    for q in (worker.others, worker.commands):
        with contextlib.suppress(queue.Empty):
            while True:
                q.get_nowait()
    return worker


@pytest.fixture(scope="module")
def pb(api):
    from davit.admin.v1 import admin_pb2, admin_pb2_grpc
    from davit.common.v1 import sandbox_pb2
    from davit.control.v1 import containers_pb2, sandboxes_pb2, sandboxes_pb2_grpc

    class Modules:
        admin, admin_grpc, common, rpc, grpc, containers = (
            admin_pb2, admin_pb2_grpc, sandbox_pb2, sandboxes_pb2, sandboxes_pb2_grpc, containers_pb2)
    return Modules


@pytest.fixture
def service(daemon, pb):
    with daemon.channel() as channel:
        yield pb.grpc.SandboxServiceStub(channel)


@pytest.fixture
def admin(daemon, pb):
    with daemon.channel() as channel:
        yield pb.admin_grpc.AdminServiceStub(channel)


class Box:
    """One sandbox, both of its sides: the caller's and the agent's."""

    def __init__(self, daemon, pb, service, agent, project="shop", name=None, **spec):
        self.daemon, self.pb, self.service, self.agent, self.link = daemon, pb, service, agent, agent._link
        self.project, self.name = project, name or f"box-{next(numbers)}"
        self.container = hashlib.sha256(self.name.encode()).hexdigest()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.spec = pb.common.SandboxSpec(project=project, name=self.name, image="busybox", command=["sleep", "1"], **spec)
        self.out = queue.Queue()
        self.out.put(pb.rpc.RunSandboxRequest(spec=self.spec, server=agent.name))
        self.call = service.RunSandbox(iter(self.out.get, None), timeout=30)

    def take(self):
        self.command = self.agent.take()
        self.id = self.command.create_sandbox.spec.id
        return self.command

    def made(self):
        """It runs."""
        self.agent.finish(self.command, "runs")
        self.out.put(None)
        return [m for m in self.call][-1].sandbox

    def ref(self):
        return self.pb.rpc.SandboxRef(project=self.project, name=self.name)

    def says(self, full=False, removed=(), **fields):
        """The agent reports it."""
        fields = {"state": self.pb.common.SANDBOX_STATE_RUNNING, "container_id": self.container, "image": "busybox"} | fields
        box = [] if removed else [self.pb.common.Sandbox(id=self.id, project=self.project, name=self.name, **fields)]
        self.agent.put(sandboxes=self.link.SandboxStates(full=full, sandboxes=box, removed_ids=removed))

    def ask(self, kind, answer, message):
        message.request_id = next(numbers)
        self.agent.put(**{kind: message})
        while True:
            m = self.agent.wanted(answer)
            if m.request_id == message.request_id:
                return m

    def certify(self, container=None, key=None, **more):
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "any")])).sign(
            key or self.key, hashes.SHA256())
        return self.ask("sandbox_certify", "sandbox_certified", self.link.SandboxCertify(
            sandbox_id=self.id, container_id=container or self.container, csr_der=csr.public_bytes(serialization.Encoding.DER), **more))

    def exchange(self, assertion, thumbprint=None, container=None):
        return self.ask("sandbox_exchange", "sandbox_exchanged", self.link.SandboxExchange(
            thumbprint=thumbprint or self.thumbprint, container_id=container or self.container, assertion=assertion))

    def register(self, token, **more):
        fields = {"thumbprint": self.thumbprint, "container_id": self.container, "sandbox_id": self.id, "label_project": self.project,
                  "label_name": self.name, "agent_name": self.name, "project": self.project, "access_token": token} | more
        return self.ask("sandbox_register", "sandbox_verdict", self.link.SandboxRegister(**fields))

    def certified(self):
        self.certificate = self.certify()
        assert not self.certificate.HasField("failure"), self.certificate
        self.thumbprint = thumbprint(self.certificate.certificate_pem)
        return self.certificate.assertion

    def registered(self):
        v = self.register(self.exchange(self.certified()).access_token)
        assert not v.HasField("failure"), v
        return v

    def shown(self):
        return next((s for s in self.service.ListSandboxes(self.pb.rpc.ListSandboxesRequest()).sandboxes if s.id == self.id), None)

    def wait(self, want, text="shown"):
        return proc.wait_for(lambda: (lambda s: s if want(s) else None)(self.shown() or self.pb.common.Sandbox()), 10, text=text)


def thumbprint(pem):
    return hashlib.sha256(certs(pem.encode())[0].public_bytes(serialization.Encoding.DER)).hexdigest()


@pytest.fixture
def boxes(daemon, pb, service, agent):
    def make(**more):
        b = Box(daemon, pb, service, agent, **more)
        b.take()
        return b
    return make


@pytest.fixture
def box(boxes):
    b = boxes()
    b.made()
    return b


def refused(m, reason):
    assert m.HasField("failure"), m
    assert m.failure.reason == reason, m
    return m.failure.message


def rows(daemon, sql, *args):
    with contextlib.closing(sqlite3.connect(f"file:{daemon.state}/control.db?mode=ro", uri=True)) as db:
        return db.execute(sql, args).fetchall()


def fails(code, call, *args, **more):
    with pytest.raises(grpc.RpcError) as e:
        r = call(*args, **more)
        if not hasattr(r, "DESCRIPTOR"):
            list(r)
    assert e.value.code() == code, e.value
    return e.value


# --- What is commanded ------------------------------------------------------------------------------------------------------------
def test_run_commands_its_server_and_passes_on_the_steps(daemon, pb, boxes):
    b = boxes(env=[{"name": "TOKEN", "value": "quite secret"}])
    spec = b.command.create_sandbox.spec
    assert (spec.name, spec.project, spec.image, list(spec.command)) == (b.name, "shop", "busybox:latest", ["sleep", "1"])
    b.agent.progress(b.command, "pull")
    assert next(b.call).progress.step == "pull"
    s = b.made()
    assert (s.id, s.name, s.state) == (b.id, b.name, pb.common.SANDBOX_STATE_RUNNING)
    (sealed,), = rows(daemon, "SELECT spec FROM sandboxes WHERE id = ?", b.id)
    assert b"quite secret" not in sealed


def test_the_same_name_is_refused_and_a_failure_leaves_nothing(pb, boxes, box, service):
    again = pb.rpc.RunSandboxRequest(spec=box.spec, server="worker")
    assert box.name in fails(grpc.StatusCode.ALREADY_EXISTS, service.RunSandbox, iter([again])).details()
    b = boxes()
    b.agent.finish(b.command, failure=(5, "image_not_found", "there is no such image"))
    assert "no such image" in fails(grpc.StatusCode.NOT_FOUND, lambda: b.call).details()
    assert b.shown() is None


def test_what_failed_and_is_there_says_why(pb, boxes):
    b = boxes()
    b.says(state=pb.common.SANDBOX_STATE_FAILED, reason="step_failed", step="deps", message="exit code 3")
    b.agent.finish(b.command, failure=(9, "step_failed", "the step deps failed"))
    fails(grpc.StatusCode.FAILED_PRECONDITION, lambda: b.call)
    s = b.shown()
    assert (s.state, s.reason, s.step, s.message) == (pb.common.SANDBOX_STATE_FAILED, "step_failed", "deps", "exit code 3")


@pytest.mark.parametrize("spec, word", [
    ({"name": "Bad"}, "name"), ({"image": "UP"}, "image"), ({"workspace": {"source": "/etc", "path": "/w"}}, "/etc"),
    ({"workspace": {"source": "/srv/x", "path": "/proc"}}, "workspace"), ({"init_steps": [{"name": "a"}]}, "step a"),
    ({"stop_grace_s": 601}, "stop_grace"), ({"restart": "often"}, "restart"),
    ({"workspace": {"source": "//srv", "path": "/w"}}, "workspace.source"), ({"workspace": {"source": "/srv", "path": "/run/davit"}}, "Davit's"),
    ({"volumes": [{"name": "v", "path": "/.davit-1"}]}, "Davit's"), ({"env": [{"name": "DAVIT_USER", "value": "0"}]}, "DAVIT_USER"),
    ({"boot_steps": [{"name": "a", "command": ["x"]}], "init_steps": [{"name": "a", "command": ["x"]}]}, "twice")])
def test_what_no_sandbox_may_be(pb, service, agent, spec, word):
    fields = {"name": "odd", "image": "busybox"} | spec
    e = fails(grpc.StatusCode.INVALID_ARGUMENT, service.RunSandbox, iter([pb.rpc.RunSandboxRequest(spec=pb.common.SandboxSpec(**fields), server="worker")]))
    assert word in e.details()


def test_a_snapshot_is_on_the_server_before_the_sandbox_is_commanded(daemon, pb, service, agent):
    spec = pb.common.SandboxSpec(name="snap", image="busybox", workspace={"path": "/w", "source": "/srv/w", "snapshot": True})
    out = [pb.rpc.RunSandboxRequest(spec=spec, server="worker", snapshot=b"one"), pb.rpc.RunSandboxRequest(snapshot=b"two", snapshot_ends=True)]
    call = service.RunSandbox(iter(out), timeout=30)
    o = agent.wanted("call_open")
    agent.put(call_credit=agent._link.CallCredit(call_id=o.call_id, bytes=1 << 18))
    got = b""
    while True:
        d = agent.wanted("call_data")
        got += d.data
        if d.last:
            break
    assert got == b"onetwo" and agent.commands.empty()
    agent.put(call_end=agent._link.CallEnd(call_id=o.call_id, outcome="filled"))
    c = agent.take()
    assert c.create_sandbox.spec.id == o.sandbox_fill.sandbox_id
    agent.finish(c)
    assert list(call)[-1].sandbox.name == "snap"


def test_start_stop_and_remove(pb, service, box):
    def answer(kind, call, request):
        streams = call == service.StartSandbox
        running = call(request, timeout=20) if streams else call.future(request, timeout=20)
        c = box.agent.take()
        assert c.sandbox_action.sandbox_id == box.id and c.sandbox_action.action == kind
        box.agent.finish(c, "done")
        return list(running)[-1] if streams else running.result()
    action = box.link.SandboxAction
    assert answer(action.ACTION_STOP, service.StopSandbox, pb.rpc.SandboxRequest(target=box.ref())).outcome == "done"
    assert answer(action.ACTION_START, service.StartSandbox, pb.rpc.SandboxRequest(target=box.ref())).sandbox.id == box.id
    e = fails(grpc.StatusCode.FAILED_PRECONDITION, service.RemoveSandbox, pb.rpc.RemoveSandboxRequest(target=box.ref()))
    assert "runs" in e.details()
    r = answer(action.ACTION_REMOVE, service.RemoveSandbox, pb.rpc.RemoveSandboxRequest(target=box.ref(), force=True))
    assert r.sandbox.state == pb.common.SANDBOX_STATE_REMOVED and box.shown() is None


@pytest.mark.req("SA-3")
def test_attach_passes_both_ways_and_detaching_harms_nothing(pb, service, box):
    def attach():
        out = queue.Queue()
        out.put(pb.rpc.AttachSandboxRequest(target=box.ref(), input=True, rows=24, columns=80))
        call = service.AttachSandbox(iter(out.get, None), timeout=20)
        o = box.agent.wanted("call_open")
        a = o.sandbox_attach
        assert (a.sandbox_id, a.stdin, a.rows, a.columns) == (box.id, True, 24, 80)
        box.agent.put(call_credit=box.link.CallCredit(call_id=o.call_id, bytes=1 << 18))
        next(call)
        return out, call, o.call_id
    out, call, number = attach()
    out.put(pb.rpc.AttachSandboxRequest(data=b"ls\n"))
    assert box.agent.wanted("call_data").data == b"ls\n"
    out.put(None)
    call.cancel()
    assert box.agent.wanted("call_close").call_id == number
    out, call, number = attach()
    box.agent.put(call_data=box.link.CallData(call_id=number, output=1, data=b"still here"))
    assert next(call).output == b"still here"
    end = box.link.CallEnd(call_id=number)
    end.exec.exit_code = 7
    box.agent.put(call_end=end)
    last = list(call)[-1]
    assert (last.ended, last.exit_code) == (True, 7)
    out.put(None)


def test_an_agent_that_runs_no_sandboxes_is_told_apart(pb, service, agent):
    agent.takes_sandboxes = False
    agent.disconnect()
    agent.reconnect()
    spec = pb.common.SandboxSpec(name="old", image="busybox")
    e = fails(grpc.StatusCode.FAILED_PRECONDITION, service.RunSandbox, iter([pb.rpc.RunSandboxRequest(spec=spec, server="worker")]))
    assert "runs no sandboxes" in e.details()
    agent.takes_sandboxes = True
    agent.disconnect()
    agent.reconnect()


# --- Who is registered ------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CW-20", "CW-24", "CW-91")
def test_registration_from_certificate_to_row(daemon, pb, box):
    assertion = box.certified()
    leaf, intermediate = certs(box.certificate.certificate_pem.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
    assert names == [f"davit://sandbox/{box.id}", f"davit://container/{box.container}"]
    assert "sandboxes" in intermediate.subject.rfc4514_string() and certs(box.certificate.ca_pem.encode())
    claims = jwt.decode(assertion, options={"verify_signature": False})
    assert claims["aud"] == "davit-sandboxes" and claims["container"] == box.container
    assert claims["exp"] - claims["iat"] == datetime.timedelta(days=30).total_seconds()
    assert not rows(daemon, "SELECT * FROM sandbox_agents WHERE sandbox_id = ?", box.id)
    assert box.shown().trust == pb.common.SANDBOX_TRUST_UNREGISTERED
    v = box.register(box.exchange(assertion).access_token)
    assert not v.HasField("failure") and (v.sandbox_id, v.container_id, v.thumbprint) == (box.id, box.container, box.thumbprint)
    assert rows(daemon, "SELECT thumbprint, container_id, project, name FROM sandbox_agents WHERE sandbox_id = ?", box.id) == [
        (box.thumbprint, box.container, "shop", box.name)]
    assert box.shown().trust == pb.common.SANDBOX_TRUST_REGISTERED


@pytest.mark.req("CW-92")
def test_a_replayed_assertion_is_refused_also_after_a_restart(daemon, box):
    assertion = box.certified()
    assert box.exchange(assertion).access_token
    refused(box.exchange(assertion), "assertion_replayed")
    daemon.p.stop()
    daemon.start()
    box.agent.reconnect()
    assert "used before" in refused(box.exchange(assertion), "assertion_replayed")


@pytest.mark.req("CW-23")
def test_a_stolen_assertion_opens_nothing_for_another_certificate(boxes):
    one, two = boxes(), boxes()
    one.made(), two.made()
    stolen = one.certified()
    two.certified()
    refused(two.exchange(stolen), "cert_thumbprint_mismatch")
    refused(one.exchange(stolen, container=two.container), "container_mismatch")
    assert one.exchange(stolen).access_token  # what is refused spends nothing
    token = one.exchange(one.certified()).access_token
    refused(two.register(token), "label_mismatch")


def test_labels_project_and_container_must_agree(daemon, pb, box):
    token = box.exchange(box.certified()).access_token
    for field, value, reason in (("label_name", "admin", "label_mismatch"), ("label_project", "other", "label_mismatch"),
                                 ("agent_name", "admin", "label_mismatch"), ("project", "other", "label_mismatch"),
                                 ("container_id", "b" * 64, "container_mismatch"), ("thumbprint", "c" * 64, "cert_thumbprint_mismatch"),
                                 ("access_token", "no", "unauthenticated"), ("sandbox_id", "d" * 36, "unknown_sandbox")):
        v = box.register(token, **{field: value})
        refused(v, reason)
        assert not v.thumbprint
    assert box.shown().trust == pb.common.SANDBOX_TRUST_UNTRUSTED
    assert not rows(daemon, "SELECT * FROM sandbox_agents WHERE sandbox_id = ?", box.id)
    proc.wait_for(lambda: rows(daemon, "SELECT 1 FROM audit WHERE action = 'sandbox.register' AND outcome = 'refused' AND actor = ?",
                               f"davit://sandbox/{box.id}"), 5, text="in the audit log")


@pytest.mark.req("CW-117", "CW-72")
def test_an_assertion_of_a_time_to_come_is_refused_with_these_words(daemon, box):
    claims, key = jwt.decode(box.certified(), options={"verify_signature": False}), (daemon.state / "access-token.key").read_bytes()
    ahead = {"iat": claims["iat"] + 60, "exp": claims["iat"] + 660}
    assert refused(box.exchange(jwt.encode(claims | ahead, key, algorithm="ES256")), "unauthenticated") == "Token used before issued"
    refused(box.exchange(jwt.encode(claims | {"exp": claims["iat"]}, key, algorithm="ES256")), "unauthenticated")
    refused(box.exchange(jwt.encode(claims, ec_pem(), algorithm="ES256")), "unauthenticated")
    assert box.exchange(jwt.encode(claims | {"iat": int(time.time()) + 5}, key, algorithm="ES256")).access_token  # within the skew
    minted = claims | {"iat": claims["iat"] - 660, "exp": claims["exp"] - 660, "jti": "earlier"}  # before the longest --clock-wait
    assert box.register(box.exchange(jwt.encode(minted, key, algorithm="ES256")).access_token).container_id == box.container


def ec_pem():
    return key_pem(ec.generate_private_key(ec.SECP256R1()))


def test_only_what_was_asked_for_is_certified(boxes, box):
    known, box.id = box.id, "00000000-0000-4000-8000-000000000000"
    refused(box.certify(), "unknown_sandbox")
    box.id = known
    box.registered()
    refused(box.certify(container="e" * 64), "container_taken")
    refused(boxes().certify(renewal=True), "not_registered")
    refused(box.certify(container="../x", renewal=True), "not_registered")
    box.says(container_id="e" * 64)  # the first is gone
    box.wait(lambda s: not s.thumbprint, "registration gone")
    assert box.certify(container="e" * 64).assertion


@pytest.mark.req("CW-93")
def test_renewal_puts_the_new_thumbprint_in_the_old_ones_place(daemon, box):
    box.registered()
    old, key = box.thumbprint, ec.generate_private_key(ec.SECP256R1())
    m = box.certify(renewal=True, key=key)
    assert not m.HasField("failure") and not m.assertion
    new = thumbprint(m.certificate_pem)
    assert box.agent.wanted("sandbox_verdict").thumbprint == new != old
    assert rows(daemon, "SELECT thumbprint FROM sandbox_agents WHERE container_id = ?", box.container) == [(new,)]
    assert rows(daemon, "SELECT count(*) FROM audit WHERE action = 'sandbox.renew' AND serial = ?", new) == [(1,)]
    assert old in (daemon.dir / "log").read_text() and "sandbox renewed" in (daemon.dir / "log").read_text()


@pytest.mark.req("CW-93")
def test_both_certificates_are_good_until_the_new_one_was_seen(daemon, box):
    box.registered()
    first = box.thumbprint
    both = lambda: rows(daemon, "SELECT thumbprint, previous FROM sandbox_agents WHERE container_id = ?", box.container)[0]  # noqa: E731
    told = lambda: (lambda v: (v.thumbprint, v.previous_thumbprint))(box.agent.wanted("sandbox_verdict"))  # noqa: E731
    renew = lambda live: box.certify(renewal=True, live_thumbprint=live)  # noqa: E731
    second = thumbprint(renew(first).certificate_pem)
    assert told() == both() == (second, first)
    # It never got that: the next renewal leaves good what it shows, not what it should have.
    third = thumbprint(renew(first).certificate_pem)
    assert told() == both() == (third, first)
    refused(renew(second), "cert_thumbprint_mismatch")
    box.says(session=True, live_thumbprint=first)
    box.wait(lambda s: s.session, "session")
    daemon.p.stop()
    daemon.start()
    box.agent.reconnect()
    assert box.certify(renewal=True, live_thumbprint=second).failure.reason and both() == (third, first)
    box.says(session=True, live_thumbprint=third)
    proc.wait_for(lambda: both() == (third, ""))
    refused(renew(first), "cert_thumbprint_mismatch")


@pytest.mark.req("CW-22")
def test_rows_survive_a_restart_and_the_agent_is_told_of_them(daemon, pb, admin, box):
    box.registered()
    box.says(session=True)
    box.wait(lambda s: s.session, "session")
    daemon.p.stop()
    daemon.start()
    box.agent.others = queue.Queue()
    box.agent.reconnect()
    told = {}
    while box.id not in told:
        v = box.agent.wanted("sandbox_verdict")
        told[v.sandbox_id] = (v.request_id, v.container_id, v.thumbprint)
    assert told[box.id] == (0, box.container, box.thumbprint)
    s = box.shown()
    assert (s.trust, s.session, s.state) == (pb.common.SANDBOX_TRUST_REGISTERED, True, pb.common.SANDBOX_STATE_RUNNING)


@pytest.mark.req("CW-15", "CW-21")
def test_list_agents_and_a_last_seen_that_moves(pb, admin, box):
    def mine():
        return next((a for a in admin.ListAgents(pb.admin.ListAgentsRequest()).agents if a.container_id == box.container), None)
    assert mine() is None
    box.registered()
    a = mine()
    assert (a.agent_name, a.project, a.cert_thumbprint) == (box.name, "shop", box.thumbprint)
    assert abs(a.registered_at_unix - time.time()) < 20 and a.last_seen_unix >= a.registered_at_unix
    time.sleep(max(0.0, a.last_seen_unix + 1.05 - time.time()))
    box.says(session=True)
    proc.wait_for(lambda: mine().last_seen_unix > a.last_seen_unix, 5, text="last seen moves")
    box.says(removed=[box.id])
    proc.wait_for(lambda: mine() is None, 5, text="evicted")
    assert box.shown() is None


@pytest.mark.req("CW-15")
def test_the_firewall_answers_that_it_is_not_set_up(pb, admin):
    for name in FIREWALL:
        e = fails(grpc.StatusCode.FAILED_PRECONDITION, getattr(admin, f"Firewall{name}"), getattr(pb.admin, f"Firewall{name}Request")())
        details = dict(e.trailing_metadata())["grpc-status-details-bin"]
        assert b"FIREWALL_NOT_INITIALIZED" in details and b"hint" in details


def test_the_certificate_and_the_token_of_a_sandbox_open_nothing_on_the_api(daemon, pb, box):
    token = box.exchange(box.certified()).access_token
    with daemon.channel(key=key_pem(box.key), chain=box.certificate.certificate_pem.encode()) as channel:
        stub = pb.admin_grpc.AdminServiceStub(channel)
        for call in (stub.GetSystemTime, stub.ListAgents):
            e = fails(grpc.StatusCode.PERMISSION_DENIED, call, pb.admin.ListAgentsRequest() if call is stub.ListAgents else pb.admin.GetSystemTimeRequest(),
                      metadata=[("authorization", f"Bearer {token}")])
            assert "may not use the API" in e.details()
    with daemon.channel(token=False) as channel:  # nor does its token with the certificate of the CLI
        fails(grpc.StatusCode.UNAUTHENTICATED, pb.admin_grpc.AdminServiceStub(channel).ListAgents, pb.admin.ListAgentsRequest(),
              metadata=[("authorization", f"Bearer {token}")])


def test_what_a_full_report_lacks_is_gone(box, boxes):
    other = boxes()
    other.made()
    box.registered()
    other.says()
    box.says(full=True)
    proc.wait_for(lambda: other.shown() is None, 5, text="the other is gone")
    assert box.shown().id == box.id


# --- The program of the user ------------------------------------------------------------------------------------------------------
def davit(daemon, *args, check=True):
    return proc.run([BIN / "davit", *args], env=os.environ | {"DAVIT_HOME": str(daemon.dir / "home")}, check=check)


def test_run_attaches_and_ends_with_the_programs_exit_code(daemon, pb, agent, tmp_path):
    (tmp_path / "davit.yaml").write_text("sandbox:\n  project: shop\n  env: {A: one}\n  init:\n    - {name: deps, run: npm ci, timeout: 90s}\n"
                                         "  mcp:\n    - {name: files, command: [mcp, /w]}\n")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(davit, daemon, "run", "--file", tmp_path / "davit.yaml", "--name", "typed", "-e", "B=two", "-e", "A=three", "-e", "NOT_SET_HERE", "--memory", "64m",
                              "--network", "open", "busybox", "echo", "-n", "hi", check=False)
        c = agent.take()
        spec = c.create_sandbox.spec
        assert (spec.project, spec.name, list(spec.command), spec.memory_bytes) == ("shop", "typed", ["echo", "-n", "hi"], 64 << 20)
        assert [(v.name, v.value) for v in spec.env] == [("A", "three"), ("B", "two")] and spec.open_network and spec.restart == "no"
        assert [(i.name, list(i.command), i.timeout_s, i.mcp) for i in spec.init_steps] == [
            ("deps", ["/bin/sh", "-c", "npm ci"], 90, False), ("files", ["mcp", "/w"], 0, True)]
        agent.finish(c, "runs")
        o = agent.wanted("call_open")
        assert o.sandbox_attach.from_start and not o.sandbox_attach.stdin
        agent.put(call_data=agent._link.CallData(call_id=o.call_id, output=1, data=b"hi"))
        agent.put(call_data=agent._link.CallData(call_id=o.call_id, output=2, data=b"oh"))
        end = agent._link.CallEnd(call_id=o.call_id)
        end.exec.exit_code = 7
        agent.put(call_end=end)
        r = running.result(timeout=20)
    assert (r.rc, r.out) == (7, "hi") and "warning: --network open" in r.err and r.err.endswith("oh")


@pytest.mark.req("CW-114")
def test_ls_shows_who_runs_unregistered_and_why(daemon, pb, box):
    box.says(state=pb.common.SANDBOX_STATE_STARTING, reason="register_failed", message="event=register_failed: the clock is off", step="deps",
             step_index=1, step_total=2)
    box.wait(lambda s: s.reason, "reason")
    line = next(li for li in davit(daemon, "sandbox", "ls").out.splitlines() if box.name in li)
    assert "starting" in line and "unregistered" in line and "step deps (1 of 2): register_failed: event=register_failed: the clock is off" in line
    shown = json.loads(davit(daemon, "sandbox", "ls", "--output", "json").out)["sandboxes"]
    assert next(s for s in shown if s["name"] == box.name)["reason"] == "register_failed"


@pytest.mark.req("CW-25", "CW-44", "CW-45")
def test_the_table_of_agents(daemon, box):
    box.registered()
    lines = davit(daemon, "controlplane", "agents").out.splitlines()
    assert re.split(r"  +", lines[0].strip()) == ["AGENT", "PROJECT", "CONTAINER", "THUMBPRINT", "REGISTERED", "LAST SEEN"]
    cells = re.split(r"  +", next(li for li in lines if li.startswith(box.name + " ")).strip())
    assert cells[:4] == [box.name, "shop", box.container[:12], box.thumbprint[:12]]
    for at in cells[4:]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", at)
    for flag in ("--output", "--format"):
        row = next(a for a in json.loads(davit(daemon, "controlplane", "agents", flag, "json").out) if a["agent_name"] == box.name)
        assert set(row) == {"agent_name", "project", "container_id", "cert_thumbprint", "registered_at", "last_seen"}
        assert row["cert_thumbprint"] == box.thumbprint


def test_rm_of_one_that_runs_asks_for_force(daemon, box):
    r = davit(daemon, "sandbox", "rm", f"shop/{box.name}", check=False)
    assert r.rc != 0 and "--force" in r.err


# Last: from here on there are two servers.
@pytest.mark.req("CW-20")
def test_the_container_of_another_servers_sandbox_is_refused(daemon, pb, service, box):
    box.registered()
    other = FakeAgent(daemon, "other")
    other.enroll()
    other.takes_sandboxes = True
    other.connect()
    b = Box(daemon, pb, service, other)
    b.take()
    b.made()
    refused(b.certify(container=box.container), "container_taken")
    assert b.certify().assertion
    other.disconnect()
    assert rows(daemon, "SELECT sandbox_id FROM sandbox_agents WHERE container_id = ?", box.container) == [(box.id,)]
