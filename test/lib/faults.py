# SPDX-License-Identifier: Apache-2.0
"""faults: the tool of test/faults from Python, and which positions of a flow a sweep visits."""
import os
import pathlib
import random
import signal
import time
from concurrent import futures

from lib import proc

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))
TOOL = BUILD / "test/faults/faults"
# LeakSanitizer traces the program at its end, which a traced program cannot have twice.
ENV = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0"}
KILLS = ("kill-before", "kill-after")
FILE_ERRORS, SOCKET_ERRORS = ("EIO", "ENOSPC"), ("ECONNRESET", "EINTR")


class Fault:
    """What happens at which call. str() names it for messages."""

    def __init__(self, at=0, do="kill-before", error=None, always=False, options=()):
        self.at, self.do, self.error, self.always, self.options = at, do, error, always, tuple(options)

    def __str__(self):
        return f"{self.do}{' ' + self.error if self.error else ''}{' always' if self.always else ''} at {self.at}"

    def prefix(self, report, wait=False):
        words = [TOOL, "--report", report, "--trace", "--at", self.at, "--do", self.do]
        words += ["--error", self.error] if self.error else []
        words += ["--always"] if self.always else []
        words += ["--wait"] if wait else []
        return [str(w) for w in (*words, *self.options, "--")]


class Report:
    """What the tool said so far."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def lines(self):
        return self.path.read_text(errors="replace").splitlines() if self.path.exists() else []

    def calls(self):
        return [line.split(" ", 2)[2] for line in self.lines() if line.startswith("call ")]

    def hit(self):
        """The call that was hit, None if the flow had ended before."""
        return next((line for line in self.lines() if line.startswith("fault ")), None)

    def count(self):
        return int([line for line in self.lines() if line.startswith("count ")][-1].split()[1])


def arm(background, report, timeout=10):
    """Lets the tool, which runs as @background, count from now on."""
    os.kill(background.pid, signal.SIGUSR1)
    proc.wait_for(lambda: "armed" in report.lines(), timeout, every=0.01, text="armed")


def snapshot(background, report, timeout=10):
    """How many calls counted since it was armed."""
    os.kill(background.pid, signal.SIGUSR2)
    proc.wait_for(lambda: any(line.startswith("count ") for line in report.lines()), timeout, every=0.01, text="a count")
    return report.count()


def seed():
    value = int(os.environ.get("DAVIT_SEED", time.time_ns() % 1_000_000))
    print(f"seed: DAVIT_SEED={value}")
    return random.Random(value)


def evenly(rng, total, wanted):
    """About @wanted of the positions 1..@total, one at a random place of each equal part."""
    if wanted >= total:
        return list(range(1, total + 1))
    part = total / wanted
    return sorted({1 + int(i * part + rng.random() * part) for i in range(wanted)})


def sampled(rng, calls, wanted):
    """A fault for each of @wanted positions of a flow whose calls are @calls; kinds of faults take turns."""
    faults, turn = [], rng.randrange(4)
    for at in evenly(rng, len(calls), wanted):
        errors = SOCKET_ERRORS if calls[at - 1].endswith("socket") else FILE_ERRORS
        turn += 1
        if turn % 4 < 2:
            faults.append(Fault(at, KILLS[turn % 2]))
        else:
            error, always = errors[turn % 2], turn % 8 > 5
            # No kernel interrupts a call for ever.
            faults.append(Fault(at, "fail", error, always=always and error != "EINTR"))
    return faults


def every(rng, calls):
    """Every fault at every position, in random order: what a time limit cuts off is another part each time."""
    faults = []
    for at in range(1, len(calls) + 2):
        errors = SOCKET_ERRORS if at <= len(calls) and calls[at - 1].endswith("socket") else FILE_ERRORS
        faults += [Fault(at, do) for do in KILLS] + [Fault(at, "fail", e) for e in errors] + [Fault(at, "fail", errors[0], always=True)]
    rng.shuffle(faults)
    return faults


def sweep(lanes, faults, one, seconds=None):
    """Calls one(lane, fault) for all @faults, on as many threads as there are @lanes; all failures are told. Ends after @seconds."""
    left, failures, done, end = list(reversed(faults)), [], [], time.monotonic() + (seconds or 1e9)

    def work(lane):
        while left and time.monotonic() < end and not failures:
            fault = left.pop()
            try:
                done.append((str(fault), one(lane, fault)))
            except Exception as e:  # noqa: BLE001
                failures.append(f"{fault}: {e}")

    with futures.ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(work, lanes))
    print(f"{len(done)} of {len(faults)} positions and kinds of faults")
    for what in done:
        print("  %s: %s" % what)
    assert not failures, "\n".join(failures)
    assert done
