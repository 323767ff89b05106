# SPDX-License-Identifier: Apache-2.0
"""Enrolment, broken at its system calls: the same line finishes it, with one certificate for one key and nothing left over."""
import sqlite3
import subprocess

import pytest

from lib import faults, proc
from lib.relay import Relay
from lib.remote import Remote

FILES = {"client.key", "client.crt", "ca.crt", "config.yaml", "lock"}


class Enrolments:
    """Each position has a server of its own."""

    def __init__(self, davit):
        self.davit, self.n = davit, 0
        davit.up("--advertise", "127.0.0.1", "--no-agent")

    def new(self):
        self.n += 1
        r = Remote(self.davit, f"e-{self.n}")
        r.add()
        return r

    def faulted(self, r, fault):
        report = faults.Report(self.davit.top / f"report-{r.name}")
        with Relay(self.davit.link) as relay:
            return proc.run([*fault.prefix(report.path), self.davit.bin / "davit-agent", "enroll", "--server", relay.addr, "--token-file", "-",
                             "--config-dir", r.dir], stdin=r.token + "\n", env=self.davit.env | faults.ENV, check=False, timeout=90), report

    def whole(self, r):
        """The files are complete and fit each other; the control plane has issued one certificate."""
        assert {p.name for p in r.dir.iterdir()} == FILES, sorted(p.name for p in r.dir.iterdir())
        assert set(r.modes().values()) <= {0o600, 0o700}
        key, crt = (subprocess.run(["openssl", *words], capture_output=True, check=True).stdout for words in (
            ["pkey", "-pubout", "-in", r.dir / "client.key"], ["x509", "-noout", "-pubkey", "-in", r.dir / "client.crt"]))
        assert key == crt
        server = r.show()["id"]
        with sqlite3.connect(f"file:{self.davit.home}/state/control.db?mode=ro", uri=True) as db:
            assert db.execute("SELECT count(*) FROM certificates WHERE server_id = ?", (server,)).fetchone()[0] == 1
        config = (r.dir / "config.yaml").read_text()
        assert server in config and r.name in config

    def one(self, fault):
        r = self.new()
        got, report = self.faulted(r, fault)
        said = f"{report.hit()} -> {got.rc}"
        if got.rc != 0:
            assert got.rc == 128 + 9 or got.err.strip(), f"a failure without a word: {said}"
            with Relay(self.davit.link) as relay:
                again = r.enroll(server=relay.addr, check=False)
            # All was done when it was killed: the line says so.
            assert again.rc == 0 or (again.rc == 7 and "already" in again.err), f"{said}, then {again}"
        self.whole(r)
        return said


@pytest.fixture
def enrolments(davit):
    return Enrolments(davit)


def calls_of(e):
    got, report = e.faulted(e.new(), faults.Fault())
    assert got.rc == 0, str(got)
    return report.calls()


@pytest.mark.req("MA-5")
def test_enrolment_survives_a_fault_at_any_call(enrolments):
    rng, calls = faults.seed(), calls_of(enrolments)
    faults.sweep([0, 1], faults.sampled(rng, calls, 12), lambda lane, fault: enrolments.one(fault))


@pytest.mark.all_tier
@pytest.mark.req("MA-5")
def test_enrolment_survives_every_fault_at_every_call(enrolments):
    rng, calls = faults.seed(), calls_of(enrolments)
    faults.sweep([0, 1], faults.every(rng, calls), lambda lane, fault: enrolments.one(fault), seconds=240)
