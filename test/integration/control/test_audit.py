# SPDX-License-Identifier: Apache-2.0
"""The audit log of a real davitd: what is in it, that strangers can check it, that tampering shows, that nothing changes without it."""
import base64
import contextlib
import hashlib
import json
import os
import pathlib
import queue
import signal
import sqlite3
import subprocess
import threading

import pytest
from test_davitd import Agent, api, daemon  # noqa: F401  (fixtures)

from lib import proc
from lib.daemon import BIN, BUILD

grpc = pytest.importorskip("grpc")
ROOT = pathlib.Path(__file__).resolve().parents[3]
HEX = set("0123456789abcdef")


# --- The checker that doc/control.md prints: it knows nothing of Davit -------------------------------------------------------------
FIELDS = "number time_us actor serial action object outcome code reason request count begun".split()


def check(lines):
    """Number of the first entry that does not fit, 0 when all do."""
    before, number = bytes(32), 0
    for line in lines:
        entry, number = json.loads(line), number + 1
        text = b""
        for name in FIELDS:
            value = str(entry[name]).encode()
            text += b"%d:%s" % (len(value), value)
        before = hashlib.sha256(before + text).digest()
        if entry["number"] != number or entry["hash"] != before.hex():
            return number
    return 0


# --- Helpers ----------------------------------------------------------------------------------------------------------------------
def cli(d, *args, check=True):  # pylint: disable=redefined-outer-name
    config = d.dir / "config"
    if not config.exists():
        config.symlink_to(d.user)
        (d.user / "cli.json").write_text(json.dumps({"api": f"127.0.0.1:{d.api}"}))
    return proc.run([BIN / "davit", *args], env=dict(os.environ, DAVIT_HOME=str(d.dir), HOME=str(d.dir)), check=check, timeout=60)


def export(d):
    return [json.loads(line) for line in cli(d, "audit", "export").out.splitlines()]


def find(entries, action, **more):
    return [e for e in entries if e["action"] == action and all(e[k] == v for k, v in more.items())]


def one(entries, action, **more):
    found = find(entries, action, **more)
    assert len(found) == 1, (action, more, entries)
    return found[0]


def fails(code, fn, *args, **more):
    with pytest.raises(grpc.RpcError) as e:
        fn(*args, timeout=20, **more)
    assert e.value.code() == code, e.value
    return e.value


def link_channel(d, key=None, crt=None, port=None):
    root = (d.user / "root.crt").read_bytes()
    credentials = grpc.ssl_channel_credentials(root, key, crt)
    return grpc.secure_channel(f"127.0.0.1:{port or d.link}", credentials, [("grpc.ssl_target_name_override", "localhost")])


def request_for(d, api, token, name="agent"):
    where = d.dir / name
    where.mkdir(exist_ok=True)
    subprocess.run([BUILD / "test/unit/control/pki_tool", "agent", where], check=True, timeout=60)
    der = (where / "agent.csr").read_bytes()
    token_id, secret = token.split(".")[1:3]
    return api.link.EnrollRequest(token_id=token_id, token_secret=base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4)), csr_der=der,
                                  system={"hostname": "edge", "arch": "amd64"})


@pytest.fixture
def busy(daemon, api):  # noqa: F811
    """A davitd that has seen one of everything. Yields it with what was secret."""
    daemon.start()
    secrets = []
    agent = Agent(api, daemon, 1)
    agent.get("welcome")
    agent.put(heartbeat=api.link.Heartbeat(clock_us=1))
    spec = {"project": "shop", "name": "web", "image": "web:1", "env": [{"name": "PASSWORD", "value": "hunter2-in-env"}]}
    secrets += ["hunter2-in-env", "hunter2-of-registry"]
    with daemon.channel() as ch:
        work, servers = api.work_grpc.WorkloadServiceStub(ch), api.servers_grpc.ServerServiceStub(ch)
        work.Deploy(api.work.DeployRequest(spec=spec, registry_auth={"username": "u", "password": "hunter2-of-registry"}), timeout=20,
                    metadata=[("x-request-id", "my-own-1")])
        cmd = agent.get("command")
        agent.put(received=api.link.CommandReceived(seq=cmd.seq, id=cmd.id))
        agent.put(result=api.link.CommandResult(seq=cmd.seq, id=cmd.id, container_id="c1"))
        agent.get("result_ack")
        for call in (lambda: work.ControlService(api.work.ControlServiceRequest(project="shop", service="web", action="stop"), timeout=20),
                     lambda: work.RemoveService(api.work.RemoveServiceRequest(project="shop", service="web"), timeout=20)):
            t = threading.Thread(target=call)
            t.start()
            cmd = agent.get("command")
            agent.put(result=api.link.CommandResult(seq=cmd.seq, id=cmd.id, outcome="done"))
            t.join(20)
        fails(grpc.StatusCode.INVALID_ARGUMENT, work.Deploy, api.work.DeployRequest(spec=spec | {"image": "NOT AN IMAGE"}))
        work.ListServices(api.work.ListServicesRequest(), timeout=20)
        token = servers.CreateServer(api.servers.CreateServerRequest(name="edge"), timeout=20).token
        fails(grpc.StatusCode.ALREADY_EXISTS, servers.CreateServer, api.servers.CreateServerRequest(name="edge"))
        secrets.append(token.split(".")[2])
        token = servers.CreateToken(api.servers.CreateTokenRequest(server="edge"), timeout=20).token
        secrets.append(token.split(".")[2])
        q = request_for(daemon, api, token)
        with link_channel(daemon) as lc:
            enroll = api.link_grpc.EnrollServiceStub(lc).Enroll
            wrong = api.link.EnrollRequest()
            wrong.CopyFrom(q)
            wrong.token_secret = bytes(32)
            for _ in range(3):
                fails(grpc.StatusCode.UNAUTHENTICATED, enroll, wrong)
            certificate = enroll(q, timeout=20).certificate_pem.encode()
        key = (daemon.dir / "agent/agent.key").read_bytes()
        with link_channel(daemon, key, certificate, daemon.api) as ac:
            stub = api.servers_grpc.ServerServiceStub(ac)
            fails(grpc.StatusCode.PERMISSION_DENIED, stub.RemoveServer, api.servers.RemoveServerRequest(server="edge"))
        servers.RemoveServer(api.servers.RemoveServerRequest(server="edge"), timeout=20)
        with link_channel(daemon, key, certificate) as ac:  # a certificate of a server that is gone
            out = queue.Queue()
            out.put(api.link.AgentMessage(hello=api.link.Hello(protocol_min=1, protocol_max=1, epoch=1)))
            with pytest.raises(grpc.RpcError):
                list(api.link_grpc.LinkServiceStub(ac).Connect(iter(out.get, None), timeout=20))
            out.put(None)
    second = Agent(api, daemon, 2)  # takes over: the first is fenced
    second.get("welcome")
    agent.close()
    second.close()
    yield daemon, secrets


@pytest.mark.req("PE-7", "MA-4")
def test_everything_is_there(busy):
    d, secrets = busy
    entries = export(d)
    assert check(cli(d, "audit", "export").out.splitlines()) == 0
    assert [e["number"] for e in entries] == list(range(1, len(entries) + 1))
    cli_actor = {"actor": "davit://cli"}
    for action, thing, outcome in (
            ("WorkloadService/Deploy", "shop/web", "ok"), ("WorkloadService/Deploy", "shop/web", "failed"),
            ("WorkloadService/ControlService", "shop/web", "ok"), ("WorkloadService/RemoveService", "shop/web", "ok"),
            ("ServerService/CreateServer", "edge", "ok"), ("ServerService/CreateServer", "edge", "failed"),
            ("ServerService/CreateToken", "edge", "ok"), ("ServerService/RemoveServer", "edge", "ok")):
        end = one(entries, action, object=thing, outcome=outcome, **cli_actor)
        begin = entries[end["begun"] - 1]
        assert begin["outcome"] == "begun" and begin["number"] < end["number"]
        assert all(begin[k] == end[k] for k in ("actor", "serial", "action", "object", "request"))
        assert end["serial"] and set(end["serial"].lower()) <= HEX
        assert (end["code"] != "") == (end["reason"] != "") == (outcome != "ok")
    assert one(entries, "WorkloadService/Deploy", outcome="ok")["request"] == "my-own-1"
    assert one(entries, "ServerService/CreateServer", outcome="failed")["code"] == "already_exists"
    # Enrolment: in the transaction of the change; the wrong ones are one kind, and the first is told at once.
    assert one(entries, "server.enrolled", object="edge", outcome="ok")["actor"] == "addr:127.0.0.1"
    assert one(entries, "EnrollService/Enroll", outcome="ok")["actor"] == "addr:127.0.0.1"
    wrong = one(entries, "EnrollService/Enroll", outcome="refused")
    assert (wrong["code"], wrong["count"], wrong["actor"]) == ("unauthenticated", 1, "addr:127.0.0.1") and "unknown" in wrong["reason"]
    # Audiences: the certificate of a server on the API; one that was removed on the link; a second agent with the same identity.
    denied = one(entries, "ServerService/RemoveServer", outcome="refused")
    assert denied["actor"].startswith("davit://server/") and denied["serial"] and denied["code"] == "permission_denied"
    assert one(entries, "link.refused", outcome="refused")["actor"].startswith("davit://server/")
    fenced = one(entries, "link.fenced", outcome="refused")
    assert (fenced["object"], fenced["code"]) == (one(entries, "server.local")["object"], "aborted")
    # Who came in, and when the program began. Reads leave nothing.
    assert one(entries, "login", outcome="ok", **cli_actor)["object"] == "127.0.0.1"
    assert one(entries, "davitd.started")["number"] == 1
    assert not [e for e in entries if "List" in e["action"] and "Audit" not in e["action"]]
    text = json.dumps(entries)
    for secret in secrets:
        assert secret not in text
    assert cli(d, "audit", "verify").out.startswith("The log is whole: ")


@pytest.mark.req("PE-7")
def test_verbs(busy):
    d, _ = busy
    table = cli(d, "audit", "ls", "--object", "shop/web").out
    assert "WorkloadService/Deploy" in table and "edge" not in table and "begun" not in table
    assert "begun" in cli(d, "audit", "ls", "--object", "shop/*", "--all").out
    got = json.loads(cli(d, "audit", "ls", "--outcome", "refused", "--limit", "2", "--output", "json").out)
    assert len(got["entries"]) == 2 and int(got["nextBefore"]) == int(got["entries"][1]["number"]) > 0
    assert all(e["outcome"] == "refused" for e in got["entries"])
    got = json.loads(cli(d, "audit", "ls", "--since", "1h", "--actor", "davit://server/*", "-o", "json").out)["entries"]
    assert got and all(e["actor"].startswith("davit://server/") for e in got)
    assert "No entry" in cli(d, "audit", "ls", "--action", "Workload_ervice/*").err
    assert cli(d, "audit", "ls", "--outcome", "fine", check=False).rc == 2
    # To a file, and from there on; checked without a control plane.
    file = d.dir / "audit.jsonl"
    cli(d, "audit", "export", "--file", str(file))
    assert file.stat().st_mode & 0o077 == 0
    lines = file.read_text().splitlines()
    beyond = cli(d, "audit", "export", "--after", "100000", check=False)
    assert beyond.rc != 0 and "this log has no entry 100000" in beyond.err
    more = cli(d, "audit", "export", "--after", str(len(lines))).out
    assert json.loads(more.splitlines()[0])["number"] == len(lines) + 1
    file.write_text("\n".join(lines) + "\n" + more)
    d.p.stop()
    r = cli(d, "audit", "verify", "--file", str(file))
    last = json.loads(more.splitlines()[-1])
    assert r.out == f"The log is whole: {last['number']} entries, head {last['hash']}.\n"
    assert check(file.read_text().splitlines()) == 0
    # A tail that was cut off shows by the head alone.
    assert cli(d, "audit", "verify", "--file", str(file), "--head", last["hash"]).rc == 0
    file.write_text("\n".join(lines) + "\n")
    r = cli(d, "audit", "verify", "--file", str(file), "--head", last["hash"], check=False)
    assert r.rc == 1 and f"First bad entry: {len(lines) + 1}: the log ends in" in r.err
    file.write_text("")
    r = cli(d, "audit", "verify", "--file", str(file), check=False)
    assert r.rc == 1 and "there is no entry" in r.err
    for change, bad in ((lambda a: a[:3] + a[4:], 4), (lambda a: a[:2] + [a[3], a[2]] + a[4:], 3), (lambda a: a[1:], 1),
                        (lambda a: a[:4] + [a[4].replace('"actor":"', '"actor":"x')] + a[5:], 5), (lambda a: a[:5] + ["{}"] + a[5:], 6),
                        (lambda a: a[:5] + ["not json"], 6), (lambda a: a[:2] + ["x" * 70000] + a[2:], 3)):
        file.write_text("\n".join(change(lines)) + "\n")
        r = cli(d, "audit", "verify", "--file", str(file), check=False)
        assert r.rc == 1 and f"First bad entry: {bad}:" in r.err, r
        r = cli(d, "audit", "verify", "--file", str(file), "-o", "json", check=False)
        assert r.rc == 1 and int(json.loads(r.out)["firstBad"]) == bad


def database(d):
    return contextlib.closing(sqlite3.connect(d.state / "control.db"))


def offline(d, *statements):
    """Somebody with the file in hand, who takes away what stands in the way."""
    with database(d) as db:
        db.execute("DROP TRIGGER IF EXISTS audit_no_update")
        db.execute("DROP TRIGGER IF EXISTS audit_no_delete")
        for s in statements:
            db.execute(s)
        db.commit()


def hash_of(d, number):
    with database(d) as db:
        return db.execute("SELECT lower(hex(hash)) FROM audit WHERE number = ?", [number]).fetchone()[0]


@pytest.mark.req("PE-7")
def test_tampering_is_found(daemon, api):  # noqa: F811
    daemon.start()
    with daemon.channel() as ch:
        stub = api.servers_grpc.ServerServiceStub(ch)
        for i in range(6):
            stub.CreateServer(api.servers.CreateServerRequest(name=f"s{i}"), timeout=20)
    assert daemon.p.stop() == 0
    whole, head = (daemon.state / "control.db").read_bytes(), (daemon.state / "audit.head").read_text()
    number = int(head.split()[0])
    assert head == f"{number} {hash_of(daemon, number)}\n" and number > 12

    # The engine itself refuses.
    with database(daemon) as db:
        for s in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit WHERE number = 3"):
            with pytest.raises(sqlite3.IntegrityError, match="only appended"):
                db.execute(s)

    cut = f"INSERT INTO settings (key, value) VALUES ('audit.head', '8 ' || '{hash_of(daemon, 8)}' || char(10))" \
          " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    for statements, bad, words in (
            (["UPDATE audit SET actor = 'nobody' WHERE number = 5"], 5, "was changed"),
            (["DELETE FROM audit WHERE number = 5"], 5, "is missing"),
            (["UPDATE audit SET number = 1000 WHERE number = 5", "UPDATE audit SET number = 5 WHERE number = 6",
              "UPDATE audit SET number = 6 WHERE number = 1000"], 5, "was changed"),
            (["DELETE FROM audit WHERE number > 8"], None, "cut off"),          # found by the settings
            (["DELETE FROM audit WHERE number > 8", cut], None, "cut off"),     # found by the file
            (["DELETE FROM audit WHERE number > 8", "UPDATE settings SET value = 'no head' WHERE key = 'audit.head'"], None, "is damaged"),
            (["DELETE FROM audit"], None, "cut off")):
        for rest in ("control.db-wal", "control.db-shm"):
            (daemon.state / rest).unlink(missing_ok=True)
        (daemon.state / "control.db").write_bytes(whole)
        (daemon.state / "audit.head").write_text(head)
        offline(daemon, *statements)
        daemon.start()
        r = cli(daemon, "audit", "verify", check=False)
        assert r.rc == 1 and words in r.err, r
        if bad:
            assert f"First bad entry: {bad}:" in r.err
        else:  # noticed at the start already, and written into the log itself: a restart does not wash it away
            assert "not what it was" in daemon.p.text()
            assert find(export(daemon), "audit.broken", outcome="failed")
        assert daemon.p.stop() == 0


@pytest.mark.req("PE-7")
def test_killed_in_a_change(daemon, api):  # noqa: F811
    daemon.start()
    agent = Agent(api, daemon, 1)
    agent.get("welcome")
    agent.put(heartbeat=api.link.Heartbeat(clock_us=1))
    ch = daemon.channel()
    work = api.work_grpc.WorkloadServiceStub(ch)
    work.Deploy(api.work.DeployRequest(spec={"project": "shop", "name": "web", "image": "web:1"}), timeout=20)
    agent.get("command")
    # The agent does not answer: the call is in the middle of its work.
    pending = work.ControlService.future(api.work.ControlServiceRequest(project="shop", service="web", action="stop"), timeout=60)
    agent.get("command")
    os.kill(daemon.p.pid, signal.SIGKILL)
    daemon.p.p.wait(20)
    assert pending.exception(20)
    ch.close()
    agent.close()
    daemon.start()
    entries = export(daemon)
    begun = one(entries, "WorkloadService/ControlService")
    assert (begun["outcome"], begun["object"], begun["actor"]) == ("begun", "shop/web", "davit://cli")
    r = cli(daemon, "audit", "verify")
    assert r.rc == 0 and f"1 calls were begun and cut off by the end of the control plane; the first is entry {begun['number']}" in r.err
    lines = cli(daemon, "audit", "export").out
    (daemon.dir / "x").write_text(lines)
    assert f"the first is entry {begun['number']}" in cli(daemon, "audit", "verify", "--file", str(daemon.dir / "x")).err
    assert daemon.p.stop() == 0


@pytest.mark.req("PE-7", "MA-4")
def test_nothing_changes_without_the_log(daemon, api):  # noqa: F811
    daemon.start()
    with daemon.channel() as ch:
        stub = api.servers_grpc.ServerServiceStub(ch)
        token = stub.CreateServer(api.servers.CreateServerRequest(name="edge"), timeout=20).token
        q = request_for(daemon, api, token)
        with database(daemon) as db:
            db.execute("ALTER TABLE audit RENAME TO audit_away")
        e = fails(grpc.StatusCode.UNAVAILABLE, stub.CreateServer, api.servers.CreateServerRequest(name="more"))
        assert "audit log" in e.details() and "nothing was changed" in e.details()
        fails(grpc.StatusCode.UNAVAILABLE, stub.RemoveServer, api.servers.RemoveServerRequest(server="edge"))
        r = cli(daemon, "server", "rm", "edge", check=False)
        assert r.rc != 0 and "disk" in r.err  # the hint
        assert [s.name for s in stub.ListServers(api.servers.ListServersRequest(), timeout=20).servers] == ["edge"]
        # An enrolment has its entry in its own transaction: no entry, no certificate, and the token is as good as before.
        with link_channel(daemon) as lc:
            enroll = api.link_grpc.EnrollServiceStub(lc).Enroll
            with pytest.raises(grpc.RpcError):
                enroll(q, timeout=20)
            with database(daemon) as db:
                assert db.execute("SELECT count(*) FROM tokens WHERE used_us > 0").fetchone()[0] == 0
                assert db.execute("SELECT count(*) FROM certificates").fetchone()[0] == 0
                db.execute("ALTER TABLE audit_away RENAME TO audit")
            assert enroll(q, timeout=20).server_name == "edge"
    assert cli(daemon, "audit", "verify").rc == 0
    assert one(export(daemon), "server.enrolled", object="edge")


def test_strangers_do_not_fill_the_disk(daemon, api):  # noqa: F811
    daemon.start()
    with daemon.channel() as ch:
        token = api.servers_grpc.ServerServiceStub(ch).CreateServer(api.servers.CreateServerRequest(name="edge"), timeout=20).token
    q = request_for(daemon, api, token)
    q.token_secret = bytes(32)
    with link_channel(daemon) as lc:
        futures = [api.link_grpc.EnrollServiceStub(lc).Enroll.future(q, timeout=30) for _ in range(400)]
        assert all(f.exception(30) for f in futures)
    # At the end what was counted is told: nothing is lost, and it is few lines.
    assert daemon.p.stop() == 0
    with database(daemon) as db:
        rows = db.execute("SELECT count FROM audit WHERE action = 'EnrollService/Enroll'").fetchall()
    assert sum(r[0] for r in rows) == 400 and len(rows) <= 8


@pytest.mark.req("PE-7")
def test_a_stranger_verifies_with_twenty_lines(daemon, api):  # noqa: F811
    """The program that doc/control.md prints, as it stands there."""
    page = (ROOT / "doc/control.md").read_text()
    start = page.index("import hashlib, json, sys")
    source = page[start:page.index("```", start)]
    assert len(source.splitlines()) <= 20
    daemon.start()
    with daemon.channel() as ch:
        api.servers_grpc.ServerServiceStub(ch).CreateServer(api.servers.CreateServerRequest(name="edge"), timeout=20)
    lines = cli(daemon, "audit", "export").out
    ask = lambda text: subprocess.run(["/usr/bin/python3", "-c", source], input=text, capture_output=True, text=True, timeout=30, check=False)  # noqa: E731
    good, bad = ask(lines), ask(lines.replace('"edge"', '"egde"'))
    assert good.returncode == 0 and "whole" in good.stdout, good
    assert bad.returncode == 1 and "does not fit" in bad.stdout, bad
