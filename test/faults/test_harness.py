# SPDX-License-Identifier: Apache-2.0
"""The fault tool itself: what it counts, and that each kind of fault does what it says."""
import sys

import pytest

from lib import faults, proc

# Three writes by a thread, and a write to standard output, which does not count.
PROGRAM = """
import os, sys, threading
def work():
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
    for i in range(3):
        try:
            os.write(fd, b"%d" % i)
        except OSError as e:
            os.write(1, b"%d " % e.errno)
    os.fsync(fd)
t = threading.Thread(target=work); t.start(); t.join()
os.write(1, b"end")
"""


@pytest.fixture
def go(tmp_path):
    def run(fault, *options):
        report = faults.Report(tmp_path / "report")
        report.path.unlink(missing_ok=True)
        (tmp_path / "f").unlink(missing_ok=True)
        fault.options = ("--path", str(tmp_path / "f"), *options)
        got = proc.run([*fault.prefix(report.path), sys.executable, "-B", "-c", PROGRAM, tmp_path / "f"], check=False)
        return got, report, (tmp_path / "f").read_text() if (tmp_path / "f").exists() else None
    return run


def test_it_counts_by_class_and_path(go, tmp_path):
    got, report, text = go(faults.Fault())
    assert got.rc == 0 and got.out == "end" and text == "012"
    assert report.calls() == [f"{name} {tmp_path}/f" for name in ("openat", "write", "write", "write", "fsync")]
    assert report.count() == 5 and report.hit() is None
    _, report, _ = go(faults.Fault(), "--call", "sync")
    assert report.count() == 1


@pytest.mark.parametrize("do,text", [("kill-before", "0"), ("kill-after", "01")])
def test_it_kills_on_either_side_of_a_call(go, do, text):
    got, report, found = go(faults.Fault(3, do))
    assert got.rc == 128 + 9 and found == text
    assert report.hit().split()[:3] == ["fault", "3", "write"]


@pytest.mark.parametrize("always,text,said", [(False, "02", "28 end"), (True, "0", "28 28 ")])
def test_a_call_fails_once_or_from_then_on(go, always, text, said):
    got, _, found = go(faults.Fault(3, "fail", "ENOSPC", always=always))
    assert found == text and got.out.startswith(said)


def test_positions_are_spread_and_repeatable():
    import random
    rng = random.Random(7)
    for total in (1, 5, 40, 997):
        some = faults.evenly(rng, total, 20)
        assert some == sorted(set(some)) and some[0] >= 1 and some[-1] <= total
        assert len(some) == min(20, total)
        assert max(b - a for a, b in zip([0, *some], [*some, total + 1])) <= 2 * max(1, total / 20) + 1
