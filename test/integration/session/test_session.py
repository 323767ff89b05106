# SPDX-License-Identifier: Apache-2.0
"""davit-session, the real one under the real davit-init, with an agent of the test."""
import concurrent.futures
import contextlib
import os
import pathlib
import re
import shutil
import socket
import ssl
import tempfile
import time

import grpc
import h2.config
import h2.connection
import h2.events
import pytest

import session_sandbox as box
from lib import pki, proc
from session_sandbox import Code, Sandbox, pb, sh

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="PID namespaces need root")


# --- The program ------------------------------------------------------------------------------------------------------------------

@pytest.mark.smoke
@pytest.mark.req("CW-82", "CW-86")
def test_from_hello_to_the_end():
    with Sandbox(*sh("echo ran; exit 3")) as s, s.talk() as t:
        assert (t.ack.initialized, t.ack.cmd_running, t.ack.state.main) == (False, False, pb.State.MAIN_WAITING)
        assert s.out.read_text() == ""
        t.send("i", agent_initialized=pb.AgentInitialized())
        t.send("r", agent_ready=pb.AgentReady())
        assert t.state(pb.State.MAIN_RUNNING).pid > 0
        assert t.state(pb.State.MAIN_ENDED).exit_code == 3
        assert t.ended.wait(5)
        assert s.wait() == 3 and s.out.read_text() == "ran\n"
        assert "ERROR" not in s.log() and (s.folder / "state").exists()


# --- Pipelines --------------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def shared():
    """A sandbox whose program waits, and runs as 1234:1235."""
    with Sandbox(*sh("exec sleep 1000"), env={"DAVIT_USER": "1234:1235"}) as s:
        yield s


@pytest.fixture
def talk(shared):
    with shared.talk() as t:
        yield t


def test_pipeline(talk):
    r = talk.run(("printf", "b\\na\\nc\\n"), ("sort",), ("head", "-n2"))
    assert (r.out, r.err, r.code, r.error) == (b"a\nb\n", b"", 0, None)
    assert len(r.pids) == 3 and r.exits == {i: (0, 0) for i in range(3)}
    r = talk.run(sh("echo out; echo err >&2; exit 7"))
    assert (r.out, r.err, r.code, r.exits) == (b"out\n", b"err\n", 7, {0: (7, 0)})
    r = talk.run(sh("kill -USR1 $$"))
    assert (r.code, r.exits) == (128 + 10, {0: (138, 10)})


@pytest.mark.req("SA-8")
def test_pipeline_has_what_the_program_has(talk):
    r = talk.run(sh("id -u; id -g; id -G; grep -E '^(Cap|NoNewPrivs|SigBlk|SigIgn)' /proc/self/status; pwd; env; ls /proc/self/fd | tr '\\n' ' '"))
    text = r.out.decode()
    assert text.startswith("1234\n1235\n1235\n"), text
    for line in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{line}:\t0000000000000000\n" in text, text
    assert "NoNewPrivs:\t1\n" in text and "SigBlk:\t0000000000000000\n" in text and "SigIgn:\t0000000000000000\n" in text
    assert "DAVIT_USER=1234:1235\n" in text and "DAVIT_SESSION" not in text and "DAVIT_MATERIAL" not in text
    assert text.rstrip().endswith("0 1 2 3"), text  # the fourth is ls's own
    stage = pb.PipeStage(argv=sh("id -u; id -g; pwd; env"), uid=33, gid=34, as_given=True, cwd="/usr", env=["A=b", "PATH=/bin:/usr/bin"])
    r = talk.run(stage)
    assert r.out.decode().startswith("33\n34\n/usr\n") and "A=b\n" in r.out.decode() and "HOME" not in r.out.decode(), r.out


def test_own_group_in_the_session_of_the_half(shared, talk):
    r = talk.run(sh("cut -d' ' -f1,5,6 /proc/self/stat"), sh("cat; cut -d' ' -f1,5,6 /proc/self/stat"))
    (_, group, session), (_, group2, session2) = [line.split() for line in r.out.decode().splitlines()]
    assert group == group2 == str(r.pids[0]) and session == session2 != group


def test_input(talk):
    name = talk.begin(("cat",), initial_stdin=b"one\n", keep_stdin=True)
    talk.send(name, stdin=pb.Stdin(data=b"two\n"))
    talk.send(name, close_stdin=pb.CloseStdin())
    assert talk.finish(name).out == b"one\ntwo\n"
    assert talk.run(("cat",), initial_stdin=b"x" * 262144).out == b"x" * 262144
    assert talk.run(("cat",)).out == b""
    # A program that does not want it ends all the same.
    assert talk.run(("true",), initial_stdin=b"x" * 262144).code == 0
    # Much of it, at the reader's pace.
    name = talk.begin(sh("sleep 0.2; wc -c"), keep_stdin=True)
    for _ in range(64):
        talk.send(name, stdin=pb.Stdin(data=b"y" * 65536))
    talk.send(name, close_stdin=pb.CloseStdin())
    assert talk.finish(name).out == b"%d\n" % (64 * 65536)


def test_signal_for_a_pipeline(talk):
    name = talk.begin(("sleep", "100"), ("sleep", "100"))
    assert talk.take(name)[0] == "started"
    talk.send(name, signal=pb.Signal(signo=15))
    r = talk.finish(name)
    assert r.code == 143 and r.exits == {0: (143, 15), 1: (143, 15)}


def test_deadline_ends_the_whole_group(talk):
    began = time.monotonic()
    r = talk.run(sh("trap '' TERM; (trap '' TERM; exec sleep 77.7) & echo $!; wait; sleep 77.7"), timeout_seconds=1)
    took = time.monotonic() - began
    assert r.error.code == Code.ERROR_CODE_TIMEOUT and 2.9 < took < 5, (took, r.error)
    assert r.exits == {0: (137, 9)}
    assert talk.run(("pgrep", "-f", "sleep 77.7")).out == b""


def test_grandchild_that_holds_the_pipe(talk):
    began = time.monotonic()
    r = talk.run(sh("(sleep 30; echo late) & echo early"))
    assert (r.out, r.code) == (b"early\n", 0) and time.monotonic() - began < 2
    began = time.monotonic()
    r = talk.run(sh("yes >&2 & yes | head -c 40000; exit 4"))
    assert r.code == 4 and r.out.count(b"y") == 20000 and time.monotonic() - began < 3
    talk.run(("pkill", "-x", "yes"))


def test_exit_on_non_zero(talk):
    stages = (sh("exit 5"), ("sleep", "50"))
    began = time.monotonic()
    r = talk.run(*stages, exit_on_non_zero=True)
    assert r.code == 143 and r.exits == {0: (5, 0), 1: (143, 15)} and time.monotonic() - began < 2
    r = talk.run(sh("exit 5"), ("cat",))
    assert (r.code, r.exits[0]) == (0, (5, 0))


@pytest.mark.parametrize("stage,code,words,status", [
    (("no-such-program",), Code.ERROR_CODE_NOT_FOUND, "stage 0: its program was not found", 127),
    (("/etc/passwd",), Code.ERROR_CODE_SPAWN_FAILED, "stage 0: cannot be executed: Permission denied", 126),
    (pb.PipeStage(argv=["true"], cwd="/no/such"), Code.ERROR_CODE_SPAWN_FAILED, "cannot enter its working directory", 126),
])
def test_program_that_cannot_be_started(talk, stage, code, words, status):
    r = talk.run(stage)
    assert (r.error.code, r.exits) == (code, {0: (status, 0)}) and words in r.error.message, r.error
    began = time.monotonic()
    r = talk.run(("sleep", "50"), stage)
    assert r.error.code == code and time.monotonic() - began < 2


def test_wrong_requests(talk):
    def error(name, **body):
        talk.send(name, **body)
        kind, e = talk.take(name)
        assert kind == "error"
        return e.code

    # A pipeline that is not there any more is nobody: least of all the main program.
    for body in ({"stdin": pb.Stdin(data=b"x")}, {"close_stdin": pb.CloseStdin()}, {"signal": pb.Signal(signo=9)}, {"signal": pb.Signal(signo=15)}):
        assert error("nobody", **body) == Code.ERROR_CODE_UNKNOWN_COMMAND_ID
    for shell in (pb.ShellCommand(), pb.ShellCommand(stages=[pb.PipeStage()]), pb.ShellCommand(stages=[pb.PipeStage(argv=["x"], cwd="y")]),
                  pb.ShellCommand(stages=[pb.PipeStage(argv=["true"])] * 17)):
        assert error("wrong", shell=shell) == Code.ERROR_CODE_INVALID_REQUEST
    assert error("s", signal=pb.Signal(signo=11, main=True)) == Code.ERROR_CODE_INVALID_REQUEST
    assert error("s", signal=pb.Signal(signo=15, main=True)) == Code.ERROR_CODE_NOT_FOUND
    assert error("h", hello=pb.Hello()) == Code.ERROR_CODE_INVALID_REQUEST
    talk.send("x" * 65, hello=pb.Hello())
    assert talk.take("")[1].code == Code.ERROR_CODE_INVALID_REQUEST
    name = talk.begin(("sleep", "9"))
    talk.begin(("true",), name=name)
    assert talk.take(name)[0] == "started" and talk.take(name)[1].code == Code.ERROR_CODE_INVALID_REQUEST


def test_at_most_sixteen(talk):
    names = [talk.begin(("cat",), keep_stdin=True) for _ in range(16)]
    for name in names:
        assert talk.take(name)[0] == "started"
    assert talk.run(("true",)).error.code == Code.ERROR_CODE_BUSY
    for name in names:
        talk.send(name, close_stdin=pb.CloseStdin())
    assert all(talk.finish(name).code == 0 for name in names)
    assert talk.run(("true",)).code == 0


@pytest.mark.req("SA-5")
def test_flood_does_not_grow_memory(shared):
    """Two pipelines that write without end, an agent that does not read: both wait, and what is asked then is still answered."""
    with shared.talk(hello=False) as t:
        t.send("hello", hello=pb.Hello())
        assert t.next_raw().WhichOneof("body") == "hello_ack"
        for name in ("a", "b"):
            t.begin(sh("exec cat /dev/zero"), name=name, timeout_seconds=60)
        status = pathlib.Path(f"/proc/{shared.half()}/status")

        def rss():
            return int(status.read_text().split("VmRSS:")[1].split()[0])

        before = rss()
        time.sleep(1)
        assert rss() < before + 12000, (before, rss())
        # Read again, all of it comes in order, and the end.
        t.send("a", signal=pb.Signal(signo=9))
        t.send("b", signal=pb.Signal(signo=9))
        ended = set()
        while len(ended) < 2:
            r = t.next_raw()
            if r.WhichOneof("body") == "done":
                assert r.done.final_exit_code == 137
                ended.add(r.command_id)


def test_output_into_the_log(shared, talk):
    assert talk.run(sh("echo shown; echo too >&2"), print_output=True).code == 0
    assert talk.run(sh("echo hid''den")).code == 0
    assert "shown\n" in shared.log() and "too\n" in shared.log() and "hidden" not in shared.log()


# --- Streams that come and go -----------------------------------------------------------------------------------------------------

def test_the_newer_stream_takes_over(shared):
    with shared.talk() as old:
        name = old.begin(sh("echo $$; sleep 66.6; sleep 66.6"))
        assert old.take(name)[0] == "started" and old.take(name)[0] == "output"
        with shared.talk() as new:
            assert old.ended.wait(5) and old.error.code() == grpc.StatusCode.ABORTED
            assert new.run(("true",)).code == 0
            proc.wait_for(lambda: new.run(("pgrep", "-f", "sleep 66.6")).out == b"", 5, text="the older one's pipelines are gone")
            new.send(name, stdin=pb.Stdin(data=b"x"))
            assert new.take(name)[1].code == Code.ERROR_CODE_UNKNOWN_COMMAND_ID


def test_first_word_must_be_hello(shared, talk):
    with shared.talk(hello=False) as t:
        t.send("x", agent_ready=pb.AgentReady())
        with pytest.raises(grpc.RpcError) as e:
            t.next_raw()
        assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert talk.run(("true",)).code == 0


@pytest.mark.req("SA-5", "CW-82")
def test_a_crash_ends_its_pipelines_and_nothing_else():
    with Sandbox(*sh("trap 'exit 6' USR1; while :; do sleep 0.05; done")) as s:
        with s.talk() as t:
            t.send("i", agent_initialized=pb.AgentInitialized())
            main = s.ready(t)
            assert t.take(t.begin(("sleep", "55.5")))[0] == "started"
            first = s.half()
            os.kill(first, 9)
            assert t.ended.wait(5)
        proc.wait_for(lambda: s.half() not in (None, first), 10, every=0.02, text="another half")
        s.seen = False
        with s.talk() as t:
            assert (t.ack.initialized, t.ack.cmd_running, t.ack.state.pid) == (True, True, main)
            assert t.run(("pgrep", "-f", "sleep 55.5")).out == b""
            # A second AgentReady starts nothing; the agent is told how things stand.
            t.send("r", agent_ready=pb.AgentReady())
            assert t.state(pb.State.MAIN_RUNNING).pid == main
            t.send("s", signal=pb.Signal(signo=10, main=True))
            assert t.state(pb.State.MAIN_ENDED).exit_code == 6
        assert s.wait() == 6


def test_last_word_in_spite_of_a_flood():
    with Sandbox(*sh("sleep 0.3; exit 9")) as s, s.talk() as t:
        t.begin(sh("exec cat /dev/zero"))
        s.ready(t)
        assert t.state(pb.State.MAIN_ENDED).exit_code == 9
        assert t.ended.wait(10) and t.error is None and s.wait() == 9


@pytest.mark.req("CW-86")
def test_no_listener_after_the_program_has_ended():
    with Sandbox(*sh("sh -c 'trap \"\" TERM; sleep 1.2' & exit 0")) as s, s.talk() as t:
        s.ready(t)
        assert t.state(pb.State.MAIN_ENDED).exit_code == 0
        assert not proc.listens(s.port) and s.p.poll() is None
        assert t.ended.wait(5) and t.error is None
        assert s.wait() == 0


# --- Who may connect --------------------------------------------------------------------------------------------------------------

HOUR = pki.DAY / 24


@pytest.mark.req("CW-79", "CW-80", "CW-114")
@pytest.mark.parametrize("who,words", [
    (lambda: box.PKI.root.leaf(box.SANDBOX), "is for somebody else"),
    (lambda: box.PKI.root.leaf(box.AGENT + "0"), "is for somebody else"),
    (lambda: box.PKI.root.leaf(box.AGENT, life=-HOUR, start=-pki.DAY), "certificate has expired"),
    (lambda: box.PKI.root.leaf(box.AGENT, life=pki.DAY, start=HOUR), "certificate is not yet valid"),
    (lambda: box.PKI.root.leaf(box.AGENT, usage="server"), "certificate"),
    (lambda: pki.Authority.make().leaf(box.AGENT), "the peer's certificate"),
    (lambda: (None, None), "no client certificate"),
])
def test_nobody_else_connects(shared, who, words):
    before = len(shared.log())
    with shared.talk(identity=who(), hello=False) as t:
        t.send("hello", hello=pb.Hello())
        with pytest.raises(grpc.RpcError) as e:
            t.next_raw()
        assert e.value.code() == grpc.StatusCode.UNAVAILABLE
    proc.wait_for(lambda: words in shared.log()[before:], 5, every=0.01, text=words)
    assert "event=tls_refused" in shared.log()[before:]


@pytest.mark.req("CW-79")
def test_old_tls_and_plain_text_are_refused(shared):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", shared.port)) as c, pytest.raises((ssl.SSLError, ConnectionResetError)):
        context.wrap_socket(c)
    with socket.create_connection(("127.0.0.1", shared.port)) as c:
        c.settimeout(5)
        c.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" * 4)
        with contextlib.suppress(ConnectionResetError):
            while c.recv(4096):
                pass


@pytest.mark.req("CW-79")
def test_connections_that_say_nothing_keep_nobody_out(shared):
    with contextlib.ExitStack() as idle:
        for _ in range(90):
            idle.enter_context(socket.create_connection(("127.0.0.1", shared.port)))
        with shared.talk() as t:
            assert t.run(("true",)).code == 0


def raw_call(port, body):
    """The gRPC status of a stream that sends these bytes with the agent's own certificate; None: cut."""
    key, cert = box.PKI.agent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with tempfile.NamedTemporaryFile() as f:
        f.write(key + cert)
        f.flush()
        context.load_cert_chain(f.name)
    c = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as s:
        s.settimeout(5)
        c.initiate_connection()
        c.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":authority", "x"), (":path", "/davit.session.v1.SessionService/Session"),
                           ("content-type", "application/grpc"), ("te", "trailers")])
        c.send_data(1, body)
        s.sendall(c.data_to_send())
        while data := s.recv(65536):
            for e in c.receive_data(data):
                if isinstance(e, (h2.events.TrailersReceived, h2.events.ResponseReceived)) and "grpc-status" in dict(e.headers):
                    return dict(e.headers)["grpc-status"]
            s.sendall(c.data_to_send())
    return None


def test_frames_that_are_none(shared):
    """A gigabyte announced, no message, a compressed one without a word about it, all by the agent's own certificate: the stream ends with a status,
    the next one works."""
    assert raw_call(shared.port, b"\0\x40\0\0\0" + b"x" * 100) == "8"
    for body in (b"\0\0\0\0\2\x0a\x7f", b"\0\0\0\0\4\xff\xff\xff\xff", b"\1\0\0\0\1x", b"\0\0\0\0\3\x0a\1\0"):
        assert raw_call(shared.port, body) not in (None, "0"), body
    with shared.talk() as t:
        assert t.run(("true",)).code == 0


# --- Material ---------------------------------------------------------------------------------------------------------------------

def pem(key, cert, root=None):
    return {"cert.pem": cert, "key.pem": key, "ca.pem": root or box.PKI.root.pem()}


@pytest.mark.req("CW-77", "CW-78")
@pytest.mark.parametrize("material,env,words", [
    ({}, {}, "material: cannot open"),
    (pem(box.PKI.sandbox[0], b""), {}, "do not fit together"),
    (pem(box.PKI.agent[0], box.PKI.sandbox[1]), {}, "do not fit together"),
    (pem(*box.PKI.sandbox, b"nothing"), {}, "do not fit together"),
    (None, {"DAVIT_SESSION_PEER": ""}, "DAVIT_SESSION_PEER is not set"),
])
def test_wrong_material_starts_nothing(material, env, words):
    with Sandbox(*sh("echo ran"), material=material, env=env) as s:
        assert s.wait() == 2 and words in s.log() and s.out.read_text() == "", s.log()


@pytest.mark.req("CW-78")
def test_assertion_is_read_once():
    with Sandbox(*sh("sleep 100"), assertion=b"a.b.c\n") as s, s.talk():
        assert not (s.material / "assertion.jwt").exists()
        assert sorted(p.name for p in s.material.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]


@pytest.mark.req("CW-77", "CW-78")
def test_renewal():
    with Sandbox(*sh("sleep 100")) as s, s.talk() as t:
        key, cert = box.PKI.root.leaf(box.SANDBOX)
        # What does not fit together changes nothing.
        for wrong in ((cert, box.PKI.agent[0]), (b"", key), (cert + b"x" * 70000, key)):
            t.send("wrong", renew=pb.Renew(certificate_pem=wrong[0], key_pem=wrong[1], ca_pem=box.PKI.root.pem()))
            assert t.take("wrong")[1].code == Code.ERROR_CODE_INVALID_REQUEST
        assert (s.material / "cert.pem").read_bytes() == box.PKI.sandbox[1]
        t.send("renew", renew=pb.Renew(certificate_pem=cert, key_pem=key, ca_pem=box.PKI.root.pem()))
        assert t.take("renew")[0] == "renewed"
        assert {p.name: (p.read_bytes(), p.stat().st_mode & 0o777) for p in s.material.iterdir()} == {
            "cert.pem": (cert, 0o400), "key.pem": (key, 0o400), "ca.pem": (box.PKI.root.pem(), 0o400)}
        assert server_certificate(s.port) == cert
        assert t.run(("true",)).code == 0  # the present stream goes on


def server_certificate(port):
    """What the listener shows now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as s:
        return ssl.DER_cert_to_PEM_cert(s.getpeercert(True)).encode()


def test_renewal_that_was_cut_off():
    key, cert = box.PKI.root.leaf(box.SANDBOX)
    root = box.PKI.root.pem()
    journal = cert + b"\n#davit#\n" + key + b"\n#davit#\n" + root
    # Cut between the certificate and its key.
    with Sandbox(*sh("sleep 100"), material={**pem(box.PKI.sandbox[0], cert), "renewal.pem": journal}) as s:
        s.listens()
        assert server_certificate(s.port) == cert and (s.material / "key.pem").read_bytes() == key
        assert not (s.material / "renewal.pem").exists()
    # Put anew since then: that counts.
    with Sandbox(*sh("sleep 100"), material={**pem(*box.PKI.sandbox), "renewal.pem": journal}) as s:
        s.listens()
        assert server_certificate(s.port) == box.PKI.sandbox[1] and not (s.material / "renewal.pem").exists()


# --- Registration -----------------------------------------------------------------------------------------------------------------

class Registry(box.agent_grpc.AgentServiceServicer):
    """7444 of the server's agent. Answers what the lists say, one entry for each call: a status, or None for success."""

    def __init__(self, exchange=(), register=(), identity=None):
        self.exchanges, self.registers, self.calls = list(exchange), list(register), []
        key, cert = identity or box.PKI.agent
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        box.agent_grpc.add_AgentServiceServicer_to_server(self, self.server)
        credentials = grpc.ssl_server_credentials([(key, cert)], box.PKI.root.pem(), True)
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.server.start()

    def answer(self, statuses, context):
        status = statuses.pop(0) if statuses else None
        if status:
            context.abort(status, "not now")

    def Exchange(self, request, context):
        self.calls.append(("exchange", request.assertion, context.auth_context()["x509_pem_cert"][0]))
        self.answer(self.exchanges, context)
        return box.agent_pb.ExchangeResponse(access_token="the.token", expires_us=1)

    def RegisterAgent(self, request, context):
        self.calls.append(("register", request.agent_name, request.project, dict(context.invocation_metadata()).get("authorization")))
        self.answer(self.registers, context)
        return box.agent_pb.RegisterResponse()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop(None)


@contextlib.contextmanager
def registering(assertion=b"a.b.c", **more):
    with Registry(**more) as r, Sandbox(*sh("sleep 100"), assertion=assertion, env={"DAVIT_REGISTER": f"127.0.0.1:{r.port}"}) as s, s.talk() as t:
        yield r, s, t


def register(t, name="reg", timeout=20):
    t.send(name, register_required=pb.RegisterRequired())
    kind, m = t.take(name, timeout)
    assert kind == "register_done"
    return m


@pytest.mark.req("CW-89", "CW-90")
def test_registration():
    with registering() as (r, s, t):
        time.sleep(0.2)
        assert r.calls == []  # not by itself
        assert register(t).ok
        assert r.calls == [("exchange", "a.b.c", box.PKI.sandbox[1]), ("register", "box", "demo", "Bearer the.token")]
        # Asked once more it calls nobody.
        assert register(t).ok and len(r.calls) == 2
        assert "event=registered" in s.log() and "a.b.c" not in s.log() and "the.token" not in s.log()


@pytest.mark.req("CW-89", "CW-114")
def test_registration_waits_for_the_control_plane():
    status = grpc.StatusCode.UNAVAILABLE
    with registering(exchange=[status, status], register=[status]) as (r, _, t):
        assert register(t).ok
        assert [c[0] for c in r.calls] == ["exchange", "exchange", "exchange", "register", "register"]


@pytest.mark.req("CW-73", "CW-89")
@pytest.mark.parametrize("more,calls", [
    ({"exchange": [grpc.StatusCode.UNAUTHENTICATED]}, ["exchange"]),
    ({"register": [grpc.StatusCode.PERMISSION_DENIED]}, ["exchange", "register"]),
])
def test_registration_that_was_refused_is_not_tried_again(more, calls):
    with registering(**more) as (r, s, t):
        done = register(t)
        assert not done.ok and "not now" in done.error
        assert not register(t).ok
        assert [c[0] for c in r.calls] == calls
        assert s.log().count("event=register_failed") == 2 and t.run(("true",)).code == 0


@pytest.mark.req("CW-73")
def test_registration_without_an_assertion():
    with registering(assertion=None) as (r, s, t):
        assert not register(t).ok and r.calls == [] and "event=register_failed" in s.log()


@pytest.mark.all_tier
@pytest.mark.req("CW-89", "CW-114")
def test_registration_at_a_stranger_and_again():
    """Whoever is not the server's agent is told nothing; the assertion is still good when the right one is there."""
    with Registry(identity=box.PKI.sandbox) as wrong:
        with Sandbox(*sh("sleep 100"), assertion=b"a.b.c", env={"DAVIT_REGISTER": f"127.0.0.1:{wrong.port}"}) as s, s.talk() as t:
            t.send("busy", register_required=pb.RegisterRequired())
            t.send("busy2", register_required=pb.RegisterRequired())
            assert t.take("busy2")[1].code == Code.ERROR_CODE_BUSY
            assert not t.take("busy", 40)[1].ok and wrong.calls == [] and "again=\"may be tried\"" in s.log()


# --- A hostile image, a hostile neighbour -----------------------------------------------------------------------------------------

@pytest.mark.req("SA-8")
def test_opens_nothing_of_the_image():
    """Every file that davit-session opens, from its start to its end, with pipelines, also for a user that /etc/passwd knows, and a registration."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    hostile = {name: "/tmp/evil" for name in ("OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "GCONV_PATH", "LOCPATH", "SSL_CERT_FILE", "NLSPATH",
                                              "RESOLV_HOST_CONF", "TZDIR")}
    with tempfile.TemporaryDirectory() as d, Registry() as r:
        trace = pathlib.Path(d, "trace")
        with Sandbox(*sh("exec sleep 100"), assertion=b"a.b.c", wrapper=("strace", "-ff", "-qq", "-e", "trace=open,openat,execve", "-o", trace),
                     env={**hostile, "LANG": "de_DE.UTF-8", "TZ": "Europe/Berlin", "DAVIT_REGISTER": f"127.0.0.1:{r.port}"}) as s:
            with s.talk() as t:
                assert register(t).ok
                assert t.run(("true",)).code == 0
                assert t.run(pb.PipeStage(argv=["true"], uid=0, gid=0, as_given=True)).code == 0
                s.ready(t)
                material = str(s.material)
        half = [f.read_text() for f in pathlib.Path(d).iterdir() if 'davit-session", ["davit-session"]' in f.read_text()]
    assert len(half) == 1
    opened = re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]*)"', half[0].split('davit-session", ["davit-session"]', 1)[1])
    ours = ("/etc/passwd", "/etc/group", material + "/", "/proc/self/", "/dev/null")
    if sanitized():
        ours += ("/lib/", "/etc/ld.so", "/usr/lib", "/proc/", "/sys/")
    assert [f for f in opened if not f.startswith(ours)] == []
    assert "/etc/passwd" in opened and material + "/key.pem" in opened


def sanitized():
    return b"__asan_init" in (box.BIN / "davit-session").read_bytes()


@pytest.mark.req("SA-5")
def test_no_descriptors_left():
    """As many as the listener itself needs and a few more: what cannot be started is said so, the stream lives."""
    with Sandbox(*sh("exec sleep 100"), before="ulimit -n 24") as s, s.talk() as t:
        names = [t.begin(("cat",), keep_stdin=True, timeout_seconds=20) for _ in range(8)]
        kinds = [t.take(name) for name in names]
        failed = [m for kind, m in kinds if kind == "error"]
        assert failed and all(m.code == Code.ERROR_CODE_SPAWN_FAILED for m in failed), kinds
        for name, (kind, _) in zip(names, kinds):
            if kind == "started":
                t.send(name, close_stdin=pb.CloseStdin())
                assert t.finish(name).code == 0
        assert t.run(("true",)).code == 0
