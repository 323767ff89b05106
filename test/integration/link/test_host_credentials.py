# SPDX-License-Identifier: Apache-2.0
"""A server's credentials over the years, in seconds: renewed while it works, got back after they ran out, given up when a copy has them; and what
a machine does whose clock is wrong."""
import json
import os
import pathlib
import re
import shutil
import sqlite3
import struct
import subprocess
import time

import pytest

from lib import images, proc
from lib.remote import Remote

BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", pathlib.Path(__file__).resolve().parents[3] / "build/asan"))
CLOCK_AGENT = BUILD / "test/unit/host/davit-agent-clock"


def up(davit, life, **more):
    davit.up("--advertise", "127.0.0.1", "--no-agent", env=davit.env | {"DAVIT_AGENT_CERTIFICATE_LIFE": life} | more)


def online(davit, name):
    r = Remote(davit, name)
    r.add()
    r.enroll()
    r.start()
    r.wait()
    return r


def status(r):
    got = proc.run([r.davit.bin / "davit-agent", "status", "--json", "--config-dir", r.dir], env=r.davit.env, check=False)
    return json.loads(got.out) if got.out else {}


def checks(r, program=None, env=None):
    got = proc.run([program or r.davit.bin / "davit-agent", "doctor", "--json", "--config-dir", r.dir], env=r.davit.env | (env or {}), check=False,
                   timeout=90)
    return {c["name"]: c for c in json.loads(got.out)["checks"]}


def generations(davit):
    """Server -> the last generation that was issued."""
    with sqlite3.connect(f"file:{davit.home}/state/control.db?mode=ro", uri=True) as db:
        return dict(db.execute("SELECT name, generation FROM servers"))


def renewed(r):
    return len(re.findall("credentials renewed", r.p.text()))


def whole(r):
    """The active bundle is complete, its key fits its certificate, and nothing else is left."""
    top = r.dir / "bundles"
    names = {p.name for p in top.iterdir()}
    current = os.readlink(top / "current")
    assert names <= {"current", "previous", current, os.readlink(top / "previous") if (top / "previous").is_symlink() else current}, names
    key, crt = (subprocess.run(["openssl", *words], capture_output=True, check=True).stdout for words in (
        ["pkey", "-pubout", "-in", top / current / "client.key"], ["x509", "-noout", "-pubkey", "-in", top / current / "client.crt"]))
    assert key == crt
    return int(current)


def at_rest(look, r):
    """What @look says of @r's files, between two renewals: the agent goes on meanwhile, and what it is about to change is not yet whole."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return look(r)
        except (AssertionError, FileNotFoundError, subprocess.CalledProcessError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def keys(r):
    return [(p / "client.key").read_bytes() for p in (r.dir / "bundles").iterdir() if p.name.isdigit()]


def modes(r):
    return {p.name: oct(p.stat().st_mode & 0o777) for p in (r.dir / "bundles" / os.readlink(r.dir / "bundles/current")).iterdir()}


# --- Renewal and recovery ----------------------------------------------------------------------------------------------------------
def run_out_and_come_back(davit, agents, life, **more):
    """The control plane is away until every certificate has run out; without an enrolment all come back."""
    before = generations(davit)
    davit.kill("davitd")
    time.sleep(life + 1)
    up(davit, f"{life}s", **more)
    for r in agents:
        r.wait(timeout=60)
        assert r.p.running()
        proc.wait_for(lambda r=r: generations(davit)[r.name] > before[r.name], 30, text="newer credentials")
        proc.wait_for(lambda r=r: status(r).get("state") == "online", 30, text="its own word")


@pytest.mark.all_tier
def test_credentials_are_renewed_and_got_back(davit):
    up(davit, "5s")
    r = online(davit, "web-1")
    key = (r.dir / "client.key").read_bytes()
    proc.wait_for(lambda: renewed(r) >= 2, 30, text="two renewals")
    proc.wait_for(lambda: not (r.dir / "client.key").exists(), 10, text="the first key to go")
    assert key not in at_rest(keys, r)
    assert at_rest(modes, r) == {name: "0o600" for name in ("client.key", "client.crt", "ca.crt")}
    assert status(r)["credential_error"] is None and "was lost" not in r.p.text()
    run_out_and_come_back(davit, [r], 5)
    assert at_rest(whole, r) >= 3


# --- Copies -----------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CB-8")
def test_a_copied_server_is_fenced_shown_and_idle_until_it_is_enrolled_anew(davit):
    davit.up("--advertise", "127.0.0.1", "--no-agent")
    r = online(davit, "web-1")
    copy = Remote(davit, "copy")
    shutil.copytree(r.dir, copy.dir, ignore=shutil.ignore_patterns("health.sock"))
    copy.start()
    said = proc.wait_for(lambda: r.show().get("duplicate"), 30, text="a duplicate")
    assert said["address"] and said["connectedAddress"]
    proc.wait_for(lambda: "credentials renewed" in copy.p.text(), 30, text="other credentials for the winner")
    # The one that lost stays alive and idle, and says so.
    proc.wait_for(lambda: status(r)["state"] == "fenced", 20, text="fenced")
    assert r.p.running() and "stays idle" in r.p.text() and status(copy)["state"] == "online"
    row = checks(r)["certificates"]
    assert row["result"] == "FAIL" and "another agent" in row["message"] and row["fix"]
    # A restart does not make it forget, and it takes nothing over.
    r.p.stop()
    r.start()
    proc.wait_for(lambda: status(r).get("state") == "fenced", 20, text="fenced again")
    assert status(copy)["state"] == "online"
    # Enrolled anew it is the server again, and the copy is out.
    r.p.stop()
    r.token = davit.json("server", "token", "web-1")["token"]
    r.enroll(extra=("--force",))
    r.start()
    proc.wait_for(lambda: status(r).get("state") == "online", 30, text="the server itself")
    proc.wait_for(lambda: status(copy)["state"] != "online", 30, text="the copy to be out")


# --- Clocks ------------------------------------------------------------------------------------------------------------------------
class Clock:
    """The clock of a machine; set(seconds since 1970) or right()."""

    def __init__(self, path):
        self.path = path
        self.right()

    def put(self, shift):
        self.path.write_bytes(struct.pack("=q", shift))

    def set(self, at):
        self.put(int(at - time.time()))

    def right(self):
        self.put(0)

    def env(self):
        return {"DAVIT_TEST_CLOCK": str(self.path)}


class Mistimed(Remote):
    """A server with such a clock."""

    def __init__(self, davit, name):
        super().__init__(davit, name)
        self.clock = Clock(davit.top / f"clock-{name}")

    def enroll(self, check=True):
        return proc.run([CLOCK_AGENT, "enroll", "--server", f"127.0.0.1:{self.davit.link}", "--token-file", "-", "--config-dir", self.dir],
                        stdin=self.token + "\n", env=self.davit.env | self.clock.env(), check=check)

    def start(self):
        log = self.davit.top / f"agent-{self.name}.log"
        self.p = proc.Background([CLOCK_AGENT, "run", "--config-dir", self.dir], log, env=self.davit.env | self.clock.env())
        self.davit.background.append(self.p)
        return self.p


@pytest.mark.req("CB-10")
def test_a_machine_that_boots_in_1970_enrols_and_works(davit):
    davit.up("--advertise", "127.0.0.1", "--no-agent")
    r = Mistimed(davit, "old-1")
    r.add()
    r.clock.set(10)
    r.enroll()
    r.start()
    shown = r.wait()
    assert shown["clockUnsure"] and int(shown["clockSkewUs"]) < -1_000_000_000_000_000
    assert status(r)["clock_unsure"] is True
    assert not (r.dir / "last_known_good_time").exists(), "two clocks that differ move no floor"
    row = checks(r, CLOCK_AGENT, r.clock.env())["clock"]
    assert row["result"] == "FAIL" and "1970-01-01" in row["message"]
    # NTP comes.
    r.clock.right()
    r.p.stop()
    r.start()
    proc.wait_for(lambda: status(r).get("state") == "online" and not r.show().get("clockUnsure"), 20, text="a sure clock")
    proc.wait_for((r.dir / "last_known_good_time").exists, 10, text="a time that is known to be good")
    # And 1970 again, at the next boot without a battery.
    r.p.stop()
    r.clock.set(10)
    r.start()
    proc.wait_for(lambda: status(r).get("state") == "online", 20, text="a link")


def test_a_clock_that_is_ahead_burns_no_token(davit):
    davit.up("--advertise", "127.0.0.1", "--no-agent")
    r = Mistimed(davit, "new-1")
    r.add()
    r.clock.set(time.time() + 20 * 365 * 86400)
    got = r.enroll(check=False)
    assert got.rc != 0 and "expired" in got.err, got
    assert not (r.dir / "config.yaml").exists()
    r.clock.right()
    r.enroll()
    # Days ahead, while the certificate holds: deadlines of commands are the control plane's, and so is its clock.
    r.clock.set(time.time() + 5 * 86400)
    r.start()
    r.wait()
    davit.run("deploy", "--project", "p", "--name", "svc", "--server", "new-1", "--health", "none", "--health-grace", "100ms",
              images.busybox(davit.engine), timeout=90)
    davit.run("rm", "--project", "p", "svc")
