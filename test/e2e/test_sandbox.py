# SPDX-License-Identifier: Apache-2.0
"""Sandboxes from the command line to the container and back: the real control plane, agent, engine and supervisor."""
import os
import pty
import select
import signal
import subprocess
import time

import pytest

from lib import proc


@pytest.fixture(scope="module")
def up(davit_of_file):
    davit_of_file.up()
    yield davit_of_file
    for s in davit_of_file.json("sandbox", "ls").get("sandboxes", []):
        davit_of_file.run("sandbox", "rm", "--force", "--volumes", s["id"], check=False)


class Terminal:
    """davit ARGS... on a terminal of its own."""

    def __init__(self, d, *args):
        self.master, slave = pty.openpty()
        self.p = subprocess.Popen([d.bin / "davit", *args], stdin=slave, stdout=slave, stderr=slave, env=d.env, start_new_session=True)
        os.close(slave)
        self.seen = b""

    def until(self, text, timeout=20):
        end = time.monotonic() + timeout
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 4096)
        self.seen = self.seen.partition(text)[2]

    def type(self, data):
        os.write(self.master, data)

    def wait(self, timeout=20):
        rc = self.p.wait(timeout)
        os.close(self.master)
        return rc


@pytest.mark.req("CW-20", "CW-25")
def test_a_program_runs_registers_and_ends_with_its_code(up, docker, busybox_image):
    r = up.run("run", "--name", "one", "--project", "shop", busybox_image, "/bin/busybox", "sh", "-c", "echo hello; echo oops >&2; exit 3", check=False)
    assert (r.rc, r.out) == (3, "hello\n") and "oops\n" in r.err, r
    ended = proc.wait_for(lambda: next((s for s in up.json("sandbox", "ls")["sandboxes"] if s["state"] == "SANDBOX_STATE_STOPPED"), None), 10, text="stopped")
    assert ended["trust"] == "SANDBOX_TRUST_REGISTERED" and ended["exitCode"] == 3
    row, = up.json("controlplane", "agents")
    assert (row["agent_name"], row["project"], row["container_id"]) == ("one", "shop", ended["containerId"])
    assert up.run("sandbox", "logs", "shop/one").out == "hello\n"
    up.run("sandbox", "rm", "--volumes", "shop/one")
    assert up.json("controlplane", "agents") == [] and not docker.containers("davit.purpose=sandbox")


@pytest.mark.req("SA-3")
def test_attach_let_go_and_attach_again(up, busybox_image):
    t = Terminal(up, "run", "-it", "--name", "shell", busybox_image, "/bin/busybox", "sh")
    t.until(b"built-in commands")  # of the prompt, which is no whole line, only what comes after the attach is seen
    t.type(b"X=4; echo a$((X * 10))\n")
    t.until(b"a40")
    t.type(b"\x10\x11")
    assert t.wait() == 0
    assert up.run("sandbox", "exec", "shell", "--", "/bin/busybox", "echo", "beside").out == "beside\n"
    t = Terminal(up, "sandbox", "attach", "shell")
    t.type(b"echo b$((X + 1))\n")
    t.until(b"b5")
    t.type(b"exit 9\n")
    assert t.wait() == 9


def test_rm_removes_it_after_an_interrupt_and_exec_has_its_user(up, docker, busybox_image):
    with subprocess.Popen([up.bin / "davit", "run", "--rm", "--name", "brief", "--user", "1234", busybox_image, "/bin/busybox", "sh", "-c",
                           "echo up; exec /bin/busybox sleep 60"], stdout=subprocess.PIPE, env=up.env) as p:
        assert p.stdout.readline() == b"up\n"
        assert up.run("sandbox", "exec", "brief", "--", "/bin/busybox", "id", "-u").out == "1234\n"
        p.send_signal(signal.SIGINT)
        assert p.wait(30) == 130
    assert not any(s["name"] == "brief" for s in up.json("sandbox", "ls").get("sandboxes", []))
