# SPDX-License-Identifier: Apache-2.0
"""davit-init as PID 1, the real program, with a session half that the test moves."""
import concurrent.futures
import errno
import os
import pathlib
import signal
import struct
import subprocess
import time

import pytest

import init_sandbox as box
from init_sandbox import Sandbox, sh
from lib import proc

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="PID namespaces need root")


# --- How it ends ------------------------------------------------------------------------------------------------------------------

@pytest.mark.smoke
@pytest.mark.req("CW-87", "SA-6")
@pytest.mark.parametrize("argv,status,wait_status,error", [
    (sh("exit 0"), 0, 0, 0),
    (sh("exit 255"), 255, 255 << 8, 0),
    ((box.PROBE, "die", 15), 143, 15, 0),
    ((box.PROBE, "die", 9), 137, 9, 0),
    ((box.PROBE, "die", 64), 192, 64, 0),
    (("no-such-program",), 127, 127 << 8, errno.ENOENT),
    (("/etc/hostname/x",), 127, 127 << 8, errno.ENOTDIR),
    (("/etc/passwd",), 126, 126 << 8, errno.EACCES),
    (("/etc",), 126, 126 << 8, errno.EACCES),
])
def test_exit_status_is_the_programs(argv, status, wait_status, error):
    f, got, _, log = box.run(*argv)
    assert (f.status, f.errno, got) == (wait_status, error, status), log
    assert (f"cannot start {argv[0]}: {os.strerror(error)}" in log) == (error != 0), log


@pytest.mark.req("CW-81")
@pytest.mark.parametrize("argv,env,more,words", [
    (sh("echo ran"), {"DAVIT_USER": "nobody-of-that-name"}, {}, 'DAVIT_USER "nobody-of-that-name": /etc/passwd of the image has no such account'),
    (sh("echo ran"), {"CLAWKER_USER": "root:no-such-group"}, {}, 'CLAWKER_USER "root:no-such-group": /etc/group of the image has no such group'),
    (sh("echo ran"), {"DAVIT_IMAGE_USER": "a:b:c"}, {}, "it is not NAME[:GROUP] or UID[:GID]"),
    (sh("echo ran"), {"DAVIT_STOP_GRACE": "3601"}, {}, "not a number of seconds from 0 to 3600"),
    (sh("echo ran"), {"DAVIT_STATE_DIR": "state"}, {}, "not an absolute path"),
    (sh("echo ran"), {}, {"half": False}, "davit-session\": it is missing or cannot be executed"),
])
def test_wrong_configuration_starts_nothing(argv, env, more, words):
    with Sandbox(*argv, env=env, **more) as s:
        assert s.wait() == 2
        assert words in s.log() and s.out.read_text() == ""
        s.server.settimeout(0)
        with pytest.raises(BlockingIOError):
            s.server.accept()


def test_without_a_program():
    with Sandbox() as s:
        h, _ = s.hello()
        h.send(box.ready())
        h.expect(box.STOPPING)
        h.do("x", b"\0")
        assert s.wait() == 2 and "no program to start" in s.log()


# --- Before the program -----------------------------------------------------------------------------------------------------------

@pytest.mark.req("CW-76", "CW-82")
def test_nothing_starts_before_ready():
    with Sandbox(*sh("echo $$; exit 3")) as s:
        h, hello = s.hello()
        assert (hello.state, hello.main_pid, hello.initialized, hello.grace_ms) == (box.WAITING, 0, 0, 10000)
        assert os.readlink(f"/proc/{s.pid}/exe") == str(s.folder / "davit-init")
        assert pathlib.Path(f"/proc/{s.pid}/status").read_text().split("NSpid:")[1].split()[1] == "1"
        for signo in (signal.SIGHUP, signal.SIGUSR1, signal.SIGCONT):
            s.kill(signo)
        h.send(box.frame(box.SIGNAL, struct.pack("=iI", signal.SIGTERM, 0)))
        refused = h.expect(box.REFUSED)
        assert (refused.type, refused.reason) == (box.SIGNAL, box.NOT_RUNNING)
        assert not box.readable(h.sock, 0.1) and s.out.read_text() == ""
        h.send(box.ready())
        started = h.expect(box.STARTED)
        _, status = s.end(h)
        assert status == 3 and s.out.read_text() == f"{started.pid}\n"


@pytest.mark.req("CW-82")
def test_stopped_before_ready():
    with Sandbox(*sh("echo ran")) as s:
        h, _ = s.hello()
        s.kill(signal.SIGTERM)
        h.expect(box.STOPPING)
        h.send(box.ready())
        refused = h.expect(box.REFUSED)
        assert (refused.type, refused.reason) == (box.READY, box.ENDING)
        h.do("x", b"\0")
        assert s.wait() == 1 and s.out.read_text() == ""


@pytest.mark.parametrize("what,status", [("stop", 42), ("config", 2)])
def test_session_half_may_end_it_before_ready(what, status):
    with Sandbox(*sh("echo ran")) as s:
        h, _ = s.hello()
        if what == "stop":
            h.send(box.frame(box.STOP, struct.pack("=II", 42, 0)))
            h.expect(box.STOPPING)
            h.do("x", b"\0")
        else:
            h.do("x", b"\2")
        assert s.wait() == status and s.out.read_text() == ""


def test_default_command_that_cannot_be_started_is_named():
    with Sandbox("-c") as s:
        h, _ = s.hello()
        # What comes behind it must not write over its name.
        h.send(box.ready("no-such-program"))
        h.send(box.frame(box.SIGNAL, struct.pack("=iI", signal.SIGCONT, 0)))
        h.send(box.ready(*"x" * 16))
        h.expect(box.STARTED)
        while h.take().kind != box.STOPPING:
            pass
        h.do("x", b"\0")
        assert s.wait() == 127 and "cannot start no-such-program: No such file" in s.log()


def test_default_command_goes_in_front():
    with Sandbox("-c", "echo default; exit 4") as s:
        _, status = s.end(s.start("sh", "-e"))
        assert status == 4 and s.out.read_text() == "default\n"


# --- Who the program is -------------------------------------------------------------------------------------------------------------

PASSWD = "root:x:0:0::/root:/bin/sh\ndev:x:1000:1000::/homes/dev:/bin/sh\n"
GROUP = "root:x:0:\ndev:x:1000:\naudio:x:29:dev\nwheel:x:10:dev,root\n"
WHO = sh("grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Sig(Blk|Ign))' /proc/self/status; echo HOME=$HOME USER=$USER; ls /proc/self/fd | wc -w; "
         "cut -d' ' -f1,5,6 /proc/$$/stat; id -u </proc/1/environ")


@pytest.mark.req("CW-83", "CW-81")
@pytest.mark.parametrize("env,uid,gid,groups,home,user", [
    ({"DAVIT_USER": "dev"}, 1000, 1000, "29 10", "/homes/dev", "dev"),
    ({"CLAWKER_USER": "dev:audio"}, 1000, 29, "", "/homes/dev", "dev"),
    ({"DAVIT_USER": "4711:12", "CLAWKER_USER": "dev"}, 4711, 12, "", "/", ""),
    ({"DAVIT_IMAGE_USER": "4711"}, 4711, 0, "", "/", ""),
    ({"DAVIT_IMAGE_USER": "root", "DAVIT_USER": ""}, 0, 0, "10", "/root", "root"),
])
def test_user(env, uid, gid, groups, home, user):
    with Sandbox(*WHO, env=env, passwd=PASSWD, group=GROUP, before="trap '' HUP PIPE USR1 35 TTOU; exec 7</etc/passwd; ") as s:
        h, hello = s.hello()
        assert (hello.uid, hello.gid, hello.user, hello.home) == (uid, gid, user, home)
        assert hello.groups == [int(g) for g in groups.split()]
        h.send(box.ready())
        h.expect(box.STARTED)
        s.end(h)
        out, log = s.out.read_text(), s.log()
    got = dict(line.split(":", 1) for line in out.splitlines() if ":" in line)
    assert got["Uid"].split() == [str(uid)] * 4 and got["Gid"].split() == [str(gid)] * 4
    assert sorted(got["Groups"].split()) == sorted(groups.split())
    assert {got[c].strip() for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert got["NoNewPrivs"].strip() == "1"
    assert {got[c].strip() for c in ("SigBlk", "SigIgn")} == {"0" * 16}
    assert f"HOME={home} USER={user}\n" in out
    lines = out.splitlines()
    assert lines[-2] == "4", out  # 0, 1, 2 and the folder itself
    pid, group, session = lines[-1].split()
    assert pid == group == session
    # What is in the environment of PID 1 is nobody's business, not even of a program that is root.
    assert "Permission denied" in log


@pytest.mark.req("CW-83")
def test_pid1_stays_root_and_shut():
    with Sandbox(box.PROBE, "stubborn", env={"DAVIT_USER": "dev", "DAVIT_SECRET": "x"}, passwd=PASSWD, group=GROUP) as s:
        s.start()
        status = pathlib.Path(f"/proc/{s.pid}/status").read_text()
        assert "Uid:\t0\t0\t0\t0\n" in status and status.startswith("Name:\tdavit-init\n")
        # Where the program may not look: of a process that cannot be dumped, files are root's.
        assert os.stat(f"/proc/{s.pid}/environ").st_uid == 0


NO_CAPABILITY = ("setpriv", "--bounding-set=-all", "--clear-groups")


def test_container_without_capabilities():
    """PID 1 and program are the same to the kernel then; what PID 1 knows is still its own."""
    f, status, out, log = box.run(*sh("id -u; cat /proc/1/environ"), env={"DAVIT_TOKEN": "secret"}, wrapper=NO_CAPABILITY)
    assert (f.status, status, out) == (256, 1, "0\n") and "Permission denied" in log
    f, status, out, log = box.run(*sh("echo ran"), env={"DAVIT_USER": "4711"}, wrapper=NO_CAPABILITY)
    assert (f.status, f.errno, status, out) == (512, errno.EPERM, 2, "") and "cannot set the user" in log


@pytest.mark.req("CW-83")
def test_environment_of_the_program():
    env = {"DAVIT_USER": "dev", "DAVIT_SANDBOX": "box", "DAVIT_PROJECT": "p", "DAVIT_AGENT_ADDRESS": "10.0.0.1", "CLAWKER_CP_AGENT_ADDR": "x",
           "DAVIT_TOKEN": "secret", "OWN": "kept"}
    _, _, out, _ = box.run("/usr/bin/env", env=env, passwd=PASSWD, group=GROUP)
    got = dict(line.split("=", 1) for line in out.splitlines())
    assert {k: v for k, v in got.items() if k not in ("PATH", "PWD")} == {
        "DAVIT_USER": "dev", "DAVIT_SANDBOX": "box", "DAVIT_PROJECT": "p", "OWN": "kept", "HOME": "/homes/dev", "USER": "dev", "LOGNAME": "dev"}


# --- Signals ------------------------------------------------------------------------------------------------------------------------

@pytest.mark.req("CW-84", "CW-85")
def test_signals_reach_the_group():
    with Sandbox(box.PROBE, "signals") as s:
        h = s.start()
        s.says("ready")
        sent = [*box.SIGNALS, *range(34, 65)]
        for signo in sent:
            s.kill(signo)
            s.says(f"\n{int(signo)}\n")
        # What tells of bugs, or belongs to the kernel's bookkeeping, stays here; so does what is for a process in the background.
        for signo in (signal.SIGSEGV, signal.SIGABRT, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD, signal.SIGURG, 32, 33):
            s.kill(signo)
        h.send(box.frame(box.SIGNAL, struct.pack("=iI", signal.SIGUSR2, 0)))
        proc.wait_for(lambda: s.out.read_text().count("\n12\n") == 2, every=0.005)
        s.kill(signal.SIGTERM)
        _, status = s.end(h)
        got = [int(line) for line in s.out.read_text().split()[1:]]
        assert status == 0
        assert sorted(got) == sorted([*map(int, sent), 12, 15, *([18] if got.count(18) == 2 else [])])


def test_whole_group_gets_them():
    with Sandbox(*sh("trap 'echo shell; exit 6' USR1; (trap 'echo child; exit' USR1; echo ready; while :; do sleep 0.05; done) & wait; wait")) as s:
        h = s.start()
        s.says("ready")
        s.kill(signal.SIGUSR1)
        s.says("child")
        _, status = s.end(h)
        assert status == 6 and "shell" in s.out.read_text()


def state_of(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def in_front(pid):
    """Does it run and is its group the terminal's foreground group?"""
    state, _, group, _, _, front = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:6]
    return state != "T" and group == front


def child_of(s, name):
    """The number out here of the program that PID 1 started."""
    for pid in pathlib.Path(f"/proc/{s.pid}/task/{s.pid}/children").read_text().split():
        if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name:
            return int(pid)
    return None


@pytest.mark.req("SA-3")
def test_suspended_and_continued():
    with Sandbox("sleep", "100") as s:
        h = s.start()
        pid = proc.wait_for(lambda: child_of(s, "sleep"), every=0.01)
        s.kill(signal.SIGTSTP)
        proc.wait_for(lambda: state_of(pid) == "T", every=0.005)
        s.kill(signal.SIGCONT)
        proc.wait_for(lambda: state_of(pid) == "S", every=0.005)
        # One that is stopped obeys as well.
        s.kill(signal.SIGTSTP)
        proc.wait_for(lambda: state_of(pid) == "T", every=0.005)
        s.kill(signal.SIGTERM)
        assert s.end(h)[1] == 143


class Terminal:
    """The other side of a program's terminal."""

    def __init__(self):
        self.fd, self.slave = os.openpty()
        self.text = self.seen = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
        os.close(self.slave)

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def shows(self, text):
        """Waits for @text behind what was waited for before."""
        end = time.monotonic() + 10
        while text not in self.text:
            assert time.monotonic() < end, (text, self.text)
            if box.readable(self.fd, 0.1):
                got = os.read(self.fd, 4096).decode(errors="replace")
                self.text += got
                self.seen += got
        self.text = self.text.partition(text)[2]


# PID 1 of a container with a terminal leads that terminal's session.
LEADER = ("setsid", "-c")


@pytest.mark.smoke
@pytest.mark.req("SA-3")
def test_job_control_in_a_shell():
    with Terminal() as t, Sandbox("bash", "--norc", "-i", env={"PS1": "next> ", "TERM": "dumb"}, stdin=t.slave, wrapper=LEADER) as s:
        h = s.start()
        t.shows("next> ")
        t.type("sleep 100\n")
        shell = child_of(s, "bash")
        pid = int(proc.wait_for(lambda: subprocess.run(["pgrep", "-P", str(shell), "-x", "sleep"], capture_output=True, check=False).stdout, every=0.01))
        proc.wait_for(lambda: in_front(pid), every=0.01)
        t.type("\x1a")
        t.shows("Stopped")
        t.shows("next> ")
        t.type("jobs; fg\n")
        t.shows("sleep 100\r\n")
        t.shows("sleep 100\r\n")
        proc.wait_for(lambda: in_front(pid), every=0.01)
        t.type("\x03")
        t.shows("next> ")
        t.type("exit 7\n")
        assert s.end(h)[1] == 7
        assert "no job control" not in t.seen


@pytest.mark.req("SA-3")
def test_the_suspend_key_does_not_stop_a_program_without_a_shell():
    with Terminal() as t, Sandbox(*sh("echo up; exec sleep 100"), stdin=t.slave, wrapper=LEADER) as s:
        h = s.start()
        t.shows("up")
        proc.wait_for(lambda: child_of(s, "sleep"), every=0.01)
        t.type("\x1a")
        time.sleep(0.1)
        assert state_of(child_of(s, "sleep")) == "S"
        t.type("\x03")
        assert s.end(h)[1] == 130


@pytest.mark.req("SA-3")
def test_interrupt_key_before_the_program_starts():
    with Terminal() as t, Sandbox(*sh("echo up"), stdin=t.slave, wrapper=LEADER) as s:
        h, _ = s.hello()
        t.type("\x03")
        h.expect(box.STOPPING)
        h.do("x", b"\0")
        assert s.wait() == 1


# --- Time: what takes seconds by its nature goes on side by side --------------------------------------------------------------------

def grace(signo):
    with Sandbox(box.PROBE, "stubborn", env={"DAVIT_STOP_GRACE": "1"}) as s:
        h = s.start()
        s.says("ready")
        began = time.monotonic()
        s.kill(signo)
        f = h.expect(box.EXITED)
        took = time.monotonic() - began
        h.expect(box.STOPPING)
        h.do("x", b"\0")
        return f.status, s.wait(), took


def int_then_term():
    with Sandbox(*sh("trap 'echo int' INT; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.05; done"),
                 env={"DAVIT_STOP_GRACE": "1"}) as s:
        h = s.start()
        s.says("ready")
        s.kill(signal.SIGINT)
        _, status = s.end(h)
        return status, s.out.read_text()


def listening(pid):
    """Does anybody listen on 7700 in its network namespace?"""
    return any(line.split()[1].endswith(":1E14") and line.split()[3] == "0A" for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])


def listener_goes_first():
    """The half keeps listening on 7700 when it should close; the program leaves an orphan that will not go."""
    with Sandbox(box.PROBE, "orphan", "stubborn", before="ip link set lo up; ", share=["--net"]) as s:
        h = s.start()
        h.do("l")
        proc.wait_for(lambda: listening(s.pid), every=0.005)
        h.expect(box.EXITED)
        h.expect(box.STOPPING)
        began = time.monotonic()
        children = pathlib.Path(f"/proc/{s.pid}/task/{s.pid}/children")
        assert len(children.read_text().split()) == 2
        h.gone()
        closed = time.monotonic() - began
        proc.wait_for(lambda: len(children.read_text().split()) == 1, every=0.005)
        orphans = children.read_text().split()
        assert pathlib.Path(f"/proc/{orphans[0]}/comm").read_text() == "probe\n"
        still = listening(s.pid)
        status = s.wait()
        return status, closed, time.monotonic() - began, still


def orphan_obeys():
    with Sandbox(box.PROBE, "orphan", "obeys") as s:
        h = s.start()
        h.expect(box.EXITED)
        h.expect(box.STOPPING)
        began = time.monotonic()
        h.do("x", b"\0")
        return s.wait(), time.monotonic() - began


@pytest.fixture(scope="module", autouse=True)
def slow():
    """Begins with the first test of the file and is looked at when the others are done."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        yield {name: pool.submit(*call) for name, call in {
            "term": (grace, signal.SIGTERM), "int": (grace, signal.SIGINT), "both": (int_then_term,), "listener": (listener_goes_first,),
            "orphan": (orphan_obeys,)}.items()}


@pytest.mark.req("CW-85")
def test_kill_after_the_grace(slow):
    for name in ("term", "int"):
        status, code, took = slow[name].result(30)
        assert (status, code) == (9, 137) and took >= 0.99


@pytest.mark.req("CW-84")
def test_int_is_passed_on_and_term_follows(slow):
    status, out = slow["both"].result(30)
    assert status == 9 and out == "ready\nint\nterm\n"


@pytest.mark.req("CW-86", "CW-85")
def test_listener_is_closed_before_orphans_are_drained(slow):
    status, closed, ended, listening = slow["listener"].result(30)
    assert status == 5 and not listening
    assert closed >= 1.9 and ended >= closed + 1.9


def test_an_orphan_that_obeys_costs_no_time(slow):
    status, took = slow["orphan"].result(30)
    assert status == 5 and took < 1.9
