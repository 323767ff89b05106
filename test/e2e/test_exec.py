# SPDX-License-Identifier: Apache-2.0
"""davit exec: a process in a container as if it ran here, with a terminal and without."""
import contextlib
import fcntl
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from lib import proc


@pytest.fixture(scope="module")
def up(davit_of_file, busybox_image):
    davit_of_file.up()
    davit_of_file.run("deploy", "--name", "box", "--health", "none", busybox_image)
    yield davit_of_file
    davit_of_file.clear()


def container(d):
    found, = [c for c in d.engine.containers("davit.service=box") if c["State"] == "running"]
    return found["Id"]


def runs(d, text):
    """Does a process with @text among its words run in a container of this engine? Looked for from outside."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes() and container(d) in (entry / "cgroup").read_text():
                    return True
    return False


class Terminal:
    """davit ARGS... on a terminal of its own: t.until(b"text"), t.type(b"..."), t.wait()."""

    def __init__(self, d, *args, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.size(rows, columns, told=False)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.p = subprocess.Popen([d.bin / "davit", *args], stdin=slave, stdout=slave, stderr=slave, env=d.env, start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = b""

    def size(self, rows, columns, told=True):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if told:
            self.p.send_signal(signal.SIGWINCH)

    def until(self, text, timeout=20):
        end = time.monotonic() + timeout
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)
        self.seen = self.seen.partition(text)[2]

    def type(self, text):
        os.write(self.master, text)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def wait(self, timeout=20):
        """Its exit status; the terminal is as it was."""
        rc = self.p.wait(timeout)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal is not as it was"
        return rc

    def close(self):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(up):
    made = []

    def make(*args, **more):
        made.append(Terminal(up, *args, **more))
        return made[-1]
    yield make
    for t in made:
        t.close()


@pytest.mark.req("WK-3")
def test_outputs_apart_and_the_exact_exit_code(up):
    got = up.run("exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (got.rc, got.out, got.err) == (7, "out\n", "err\n")
    assert up.run("exec", "box", "--", "sh", "-c", "kill -9 $$", check=False).rc == 137
    got = up.run("exec", "box", "--", "no-such-program", check=False)
    assert got.rc in (126, 127) and got.out == "" and "no-such-program" in got.err, str(got)


@pytest.mark.req("WK-3")
def test_what_follows_the_first_word_is_the_commands(up):
    assert up.run("exec", "box", "-e", "A=1", "sh", "-c", "echo $A $0", "--help", "--").out == "1 --help\n"
    assert up.run("exec", "--container", container(up), "echo", "-p", "x").out == "-p x\n"


@pytest.mark.req("WK-3")
def test_user_folder_and_variables(up):
    got = up.run("exec", "--user", "7:8", "--workdir", "/bin", "--env", "A=b c", "--env", "HOME", "box", "--", "sh", "-c", "id -u; id -g; pwd; echo $A; echo $HOME")
    assert got.out.split("\n") == ["7", "8", "/bin", "b c", up.env["HOME"], ""]
    assert "no matching entries" in up.run("exec", "--user", "nobody-here", "box", "--", "id", check=False).err


@pytest.mark.req("WK-3")
def test_input_goes_through_byte_for_byte_to_its_end(up):
    data = bytes(range(256)) * 12345
    with subprocess.Popen([up.bin / "davit", "exec", "-i", "box", "--", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=up.env) as p:
        out, _ = p.communicate(data, timeout=60)
        assert p.returncode == 0 and out == data
    # What is not asked for is not read.
    assert up.run("exec", "box", "--", "cat", stdin="x").out == ""


@pytest.mark.req("WK-3")
def test_the_end_of_input_ends_no_output_of_a_terminal(up):
    # It stays at its end, for every read and whatever the program makes of its terminal meanwhile.
    got = up.run("exec", "-i", "-t", "box", "--", "sh", "-c", "cat; cat; sleep .2; echo more; exit 3", check=False, stdin="")
    assert (got.rc, got.out) == (3, "more\n")
    got = up.run("exec", "-i", "-t", "box", "--", "cat", stdin="half a line")
    assert got.out.count("half a line") == 2, str(got)  # the terminal's echo and what cat writes
    assert "seen-5" in up.run("exec", "-i", "-t", "box", "--", "sh", stdin="echo seen-$((2+3))\n").out


@pytest.mark.req("WK-3")
def test_a_terminal_with_its_size_and_as_it_was_afterwards(terminal):
    t = terminal("exec", "box", "--", "sh", rows=33, columns=111)
    t.type(b"stty size\n")
    t.until(b"33 111")
    assert t.is_raw()
    t.size(44, 99)
    for _ in range(20):  # the size travels beside what is typed
        t.type(b"stty size\n")
        t.until(b"stty size\r\n")
        with contextlib.suppress(AssertionError):
            t.until(b"44 99", 1)
            break
    else:
        raise AssertionError("it keeps its old size")
    t.type(b"\x03echo after-$((20+3))\n")
    t.until(b"after-23")
    t.type(b"exit 5\n")
    assert t.wait() == 5


@pytest.mark.req("WK-3")
def test_who_is_ended_leaves_the_terminal_as_it_was_and_no_process(up, terminal):
    t = terminal("exec", "box", "--", "sh", "-c", "echo begun; sleep 4711")
    t.until(b"begun")
    assert proc.wait_for(lambda: runs(up, "4711"), text="the process")
    t.p.terminate()
    assert t.wait() == 130
    proc.wait_for(lambda: not runs(up, "4711"), text="end of the process")


@pytest.mark.req("WK-3")
def test_without_a_terminal_where_there_is_one(terminal):
    t = terminal("exec", "--no-tty", "box", "--", "sh", "-c", "tty; echo no-$((1+1))")
    t.until(b"no-2")
    assert t.wait() == 0


@pytest.mark.req("WK-3")
def test_any_container_of_a_server_by_its_name(up):
    server = up.json("server", "ls")["servers"][0]["name"]
    assert up.run("exec", "--server", server, "--container", container(up)[:12], "--", "echo", "here").out == "here\n"
    got = up.run("exec", "--container", "none-of-this-name", "--", "echo", check=False)
    assert got.rc != 0 and "none-of-this-name" in got.err
    assert "replica 9" in up.run("exec", "--replica", "9", "box", "--", "true", check=False).err


@pytest.mark.req("WK-3")
def test_in_a_container_that_does_not_run(up, docker):
    ident = docker.json("POST", "/containers/create", {"Image": "davit-test/busybox:1"}, query={"name": f"still-{os.getpid()}"})["Id"]
    try:
        got = up.run("exec", "--container", ident, "--", "true", check=False)
        assert got.rc != 0 and "does not run" in got.err and "davit container start " in got.err
    finally:
        docker.remove(ident)
    up.run("stop", "box")
    try:
        got = up.run("exec", "box", "--", "true", check=False)
        assert got.rc != 0 and "does not run" in got.err and "davit start box\n" in got.err
    finally:
        up.run("start", "box")


@pytest.mark.req("WK-3")
def test_not_in_what_is_davits_own(up, docker):
    made = {"Image": "davit-test/busybox:1", "Labels": {"davit.purpose": "ingress"}}
    ident = docker.json("POST", "/containers/create", made, query={"name": f"own-{os.getpid()}"})["Id"]
    try:
        got = up.run("exec", "--container", ident, "--", "true", check=False)
        assert got.rc != 0 and "part of Davit" in got.err
    finally:
        docker.remove(ident)


@pytest.mark.req("CB-15")
def test_the_owner_of_a_server_forbids_it(up):
    policy = up.home / "agent/policy.yaml"
    policy.write_text("exec: forbid\n")
    policy.chmod(0o600)
    try:
        for args in (("exec", "box", "--", "touch", "/tmp/was-here"), ("files", "cat", "box:/etc/passwd"), ("files", "mkdir", "box:/tmp/was-here")):
            got = up.run(*args, check=False)
            assert got.rc != 0 and "policy" in got.err, (args, got)
    finally:
        policy.unlink()
    assert up.run("exec", "box", "--", "ls", "/tmp/was-here", check=False).rc == 1


def rss(d):
    """KiB of davitd and davit-agent together."""
    return sum(int(pathlib.Path(f"/proc/{d.pid(p)}/status").read_text().partition("VmRSS:")[2].split()[0]) for p in ("davitd", "davit-agent"))


# The sanitizer keeps what was freed, up to 256 MiB a process.
SPARE = 0 if os.environ.get("DAVIT_TREE") == "release" else 600 * 1024


def read_slowly(d, megabytes, pause):
    """All of it, after a pause in which nothing is read. Returns how much the daemons grew."""
    before, most = rss(d), 0
    command = f"dd if=/dev/zero bs=1048576 count={megabytes} 2>/dev/null | tr '\\0' x"
    with subprocess.Popen([d.bin / "davit", "exec", "box", "--", "sh", "-c", command], stdout=subprocess.PIPE, env=d.env) as p:
        time.sleep(pause)
        got = 0
        while piece := p.stdout.read(1 << 20):
            assert piece.count(b"x") == len(piece)
            got += len(piece)
            most = max(most, rss(d))
        assert p.wait(20) == 0
    assert got == megabytes << 20
    return most - before


@pytest.mark.req("WK-3")
def test_a_slow_reader_holds_up_the_process_and_not_our_memory(up):
    assert read_slowly(up, 24, 1) < 20 * 1024 + SPARE


@pytest.mark.all_tier
@pytest.mark.req("WK-3")
def test_a_gigabyte_in_bounded_memory(up):
    assert read_slowly(up, 1024, 3) < 40 * 1024 + SPARE


@pytest.mark.req("WK-3")
def test_the_loss_of_the_agent_is_told_and_ends_it(up, terminal):
    t = terminal("exec", "box", "--", "sh", "-c", "echo begun; sleep 60")
    t.until(b"begun")
    up.kill("davit-agent")
    t.until(b"was lost")
    assert t.wait() not in (0, 130)
    up.up()
