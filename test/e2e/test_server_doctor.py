# SPDX-License-Identifier: Apache-2.0
"""`davit server doctor`: the doctor of a server through its link: the same report, the same exit status."""
import os
import signal

import pytest

from lib import proc
from lib.remote import Remote


@pytest.fixture
def far(davit):
    davit.up()
    r = Remote(davit, "far")
    r.add()
    r.enroll()
    r.start()
    r.wait()
    return r


def rows(text):
    """{check: verdict} of a table."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in ("OK", "WARN", "FAIL"):
            found[words[1]] = words[0]
    return found


def local(r, *args):
    return proc.run([r.davit.bin / "davit-agent", "doctor", "--config-dir", r.dir, *args], env=r.davit.env, check=False)


@pytest.mark.req("CL-58", "CB-14")
def test_report_and_exit_status_are_those_of_the_machine_itself(far):
    d = far.davit
    here, there = local(far), d.run("server", "doctor", "far", check=False)
    assert rows(there.out) == rows(here.out) and len(rows(there.out)) >= 14, there.out
    assert there.rc == here.rc and there.out.splitlines()[-1] == here.out.splitlines()[-1]
    said = d.run("server", "doctor", "far", "--quiet", check=False)
    assert said.rc == here.rc and said.out == "" and said.err == ""
    # A key that others can read is a FAIL in every output mode.
    os.chmod(far.dir / "client.key", 0o644)
    assert local(far).rc == 1
    for args in ((), ("--quiet",), ("--output", "json")):
        assert d.run("server", "doctor", "far", *args, check=False).rc == 1, args
    answer = d.json("server", "doctor", "far", check=False)
    assert not answer.get("ok")
    bad = [c for c in answer["checks"] if c["verdict"] == "DOCTOR_VERDICT_FAIL"]
    assert any("client.key" in c["message"] + c["fix"] for c in bad), bad
    # The local agent, too.
    name = next(s["name"] for s in d.json("server", "ls")["servers"] if s.get("local"))
    assert len(rows(d.run("server", "doctor", name, check=False).out)) >= 14


def test_who_cannot_be_asked_is_told_apart(far):
    d = far.davit
    nobody = d.run("server", "doctor", "nobody", check=False)
    assert nobody.rc not in (0, 1) and "nobody" in nobody.err
    # The agent ends in the middle of it: the link breaks and the caller hears that.
    slow = far.dir / "tailscale"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    far.p.stop()
    far.start(extra=("--tailscale", slow))
    status = (d.bin / "davit-agent", "status", "--config-dir", far.dir)
    proc.wait_for(lambda: proc.run(status, env=d.env, check=False).rc == 0, 30, text="the link")
    p = proc.Background([d.bin / "davit", "server", "doctor", "far"], d.top / "doctor.log", env=d.env)
    proc.wait_for(lambda: b"doctor" in b"".join(cmdlines(far.dir)), 10, text="the doctor of the agent")
    far.p.stop(signal.SIGKILL)
    proc.wait_for(lambda: not p.running(), 20, text="end of the call")
    assert "broke before its doctor was done" in p.text() or "is not connected" in p.text(), p.text()
    gone = d.run("server", "doctor", "far", check=False)
    assert gone.rc not in (0, 1) and "not connected" in gone.err and "davit-agent doctor" in gone.err


def cmdlines(folder):
    """Command lines of the doctors that run for the agent of @folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if b"doctor" in words and str(folder).encode() in words:
            found.append(b" ".join(words))
    return found
