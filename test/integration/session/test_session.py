# SPDX-License-Identifier: Apache-2.0
"""davit-session, the real one under the real davit-init, with an agent of the test."""
import os
import time

import pytest

import session_sandbox as box
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

    for body in ({"stdin": pb.Stdin(data=b"x")}, {"close_stdin": pb.CloseStdin()}):
        assert error("nobody", **body) == Code.ERROR_CODE_UNKNOWN_COMMAND_ID
    for shell in (pb.ShellCommand(), pb.ShellCommand(stages=[pb.PipeStage()]), pb.ShellCommand(stages=[pb.PipeStage(argv=["x"], cwd="y")]),
                  pb.ShellCommand(stages=[pb.PipeStage(argv=["true"])] * 17)):
        assert error("wrong", shell=shell) == Code.ERROR_CODE_INVALID_REQUEST
    assert error("s", signal=pb.Signal(signo=11)) == Code.ERROR_CODE_INVALID_REQUEST
    assert error("s", signal=pb.Signal(signo=15)) == Code.ERROR_CODE_NOT_FOUND
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
