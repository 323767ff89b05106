# SPDX-License-Identifier: Apache-2.0
"""A renewal, broken at the agent's system calls: the next start has credentials that are whole and connects with them, without an enrolment."""
import contextlib
import os
import subprocess

import pytest

import flows
from lib import faults, proc

BUNDLE = {"client.key", "client.crt", "ca.crt"}


def active(lane):
    """The directory of the credentials that are used."""
    pointer = lane.r.dir / "bundles/current"
    return lane.r.dir / "bundles" / os.readlink(pointer) if pointer.is_symlink() else lane.r.dir


def whole(lane):
    top = active(lane)
    assert BUNDLE <= {p.name for p in top.iterdir()}, sorted(p.name for p in top.iterdir())
    key, crt = (subprocess.run(["openssl", *words], capture_output=True, check=True).stdout for words in (
        ["pkey", "-pubout", "-in", top / "client.key"], ["x509", "-noout", "-pubkey", "-in", top / "client.crt"]))
    assert key == crt
    bundles = lane.r.dir / "bundles"
    assert {oct(p.stat().st_mode & 0o777) for p in bundles.rglob("*") if p.is_file()} <= {"0o600"}
    assert not [p for p in bundles.iterdir() if p.name.endswith(".tmp")], "something was left"


def rotate(lane, check):
    return lane.davit.run("server", "rotate", lane.r.name, "--timeout", "20s", check=check)


def one(lane, fault):
    """From arm to the end of rotate lies a renewal as a whole: the request, the bundle, the new link, the old bundle's end."""
    lane.start(fault)
    lane.arm()
    cli = lane.begin("server", "rotate", lane.r.name, "--timeout", "20s")
    lane.wait_broken(cli, 20)
    with contextlib.suppress(AssertionError):
        proc.wait_for(lambda: not lane.p.running() or alone(lane), 2, every=0.02)
    said = str(lane.report.hit())
    lane.end()
    lane.start()
    if cli.running():
        cli.stop()
    # What was asked for before goes on when it connects: for a moment there is no link to ask for more.
    proc.wait_for(lambda: rotate(lane, False).rc == 0, 30, every=0.5, text=f"a renewal after {said}")
    proc.wait_for(lambda: alone(lane), 20, text=f"one bundle alone after {said}")
    whole(lane)
    lane.end()
    return said


def alone(lane):
    bundles = lane.r.dir / "bundles"
    return bundles.is_dir() and sorted(p.name for p in bundles.iterdir()) == sorted(["current", active(lane).name])


def calls_of(lane):
    lane.start(faults.Fault())
    lane.arm()
    rotate(lane, True)
    proc.wait_for(lambda: alone(lane), 20, text="one bundle alone")
    calls = lane.report.calls()
    lane.end()
    return calls


@pytest.mark.all_tier
@pytest.mark.req("CB-4")
def test_a_renewal_survives_a_kill_at_every_call(davit):
    rng = faults.seed()
    with flows.lanes(davit, 2) as made:
        calls = calls_of(made[0])
        kills = [faults.Fault(at, do) for at in range(1, len(calls) + 1) for do in faults.KILLS]
        rng.shuffle(kills)
        faults.sweep(made, kills, one, seconds=400)
        faults.sweep(made, faults.sampled(rng, calls, 12), one, seconds=120)
