#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""init_start: what davit-init costs beside tini (which is docker-init) and beside no init at all, interleaved in one run: start to end of a program that
does nothing, passing a signal on, sizes, memory, orphans. Prints a table; nothing here passes or fails.

usage: test/bench/init_start.py [BUILD_DIR]      (release build with its tests; root, for PID namespaces; tini from Debian's package)
The session half is the tests' stand-in, which says at once that the program may start: what is measured is init's part alone, two forks and their
frames included."""
import os
import pathlib
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ROUNDS = 300
SPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def say(what, *values):
    print(f"{what:<44}" + "".join(f"{v:>16}" for v in values), flush=True)


def figures(times, unit):
    times = sorted(times)
    return f"{statistics.median(times) * unit:.2f}", f"{times[int(len(times) * 0.99)] * unit:.2f}"


def start_to_end(ways, program):
    took = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.monotonic()
            subprocess.run([*SPACE, *way, program, "die", "0"], check=True, stdin=subprocess.DEVNULL)
            took[name].append(time.monotonic() - began)
    return took


class Running:
    """`probe signals` under one of them."""

    def __init__(self, way, program):
        self.p = subprocess.Popen([*SPACE, *way, program, "signals"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.p.stdout.readline() == b"ready\n"
        self.pid1 = int(pathlib.Path(f"/proc/{self.p.pid}/task/{self.p.pid}/children").read_text())

    def signal(self):
        began = time.monotonic()
        os.kill(self.pid1, signal.SIGUSR1)
        select.select([self.p.stdout], [], [])
        took = time.monotonic() - began
        os.read(self.p.stdout.fileno(), 64)
        return took

    def rss(self):
        return int(pathlib.Path(f"/proc/{self.pid1}/smaps_rollup").read_text().split("Rss:")[1].split()[0])

    def close(self):
        os.kill(self.pid1, signal.SIGTERM)
        self.p.wait()


# Each turn leaves an orphan that ends at once; the last line is written when nothing is left of them.
ORPHANS = 3000
STORM = f"""i=0; while [ $i -lt {ORPHANS} ]; do (/bin/true &) ; i=$((i+1)); done
while [ "$(ls -d /proc/[0-9]* | wc -l)" -gt "$1" ]; do sleep 0.01; done"""


def reaped(way, others):
    began = time.monotonic()
    subprocess.run([*SPACE, *way, "/bin/sh", "-c", STORM, "sh", str(others)], check=True, stdin=subprocess.DEVNULL)
    return ORPHANS / (time.monotonic() - began)


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="di."))
    try:
        shutil.copy(build / "src/main/davit-init", folder / "davit-init")
        shutil.copy(build / "test/integration/init/davit-session-standin", folder / "davit-session")
        program = str(build / "test/integration/init/probe")
        ways = {"none": [], "tini -g": ["tini", "-g", "--"], "davit-init": [str(folder / "davit-init")]}
        say("", *ways)
        took = {name: figures(t, 1e3) for name, t in start_to_end(ways, program).items()}
        say("start to end of a program, ms, p50", *(t[0] for t in took.values()))
        say("the same, p99", *(t[1] for t in took.values()))
        running = {name: Running(way, program) for name, way in ways.items()}
        took = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, r in running.items():
                took[name].append(r.signal())
        took = {name: figures(t, 1e6) for name, t in took.items()}
        say("a signal until the program has it, us, p50", *(t[0] for t in took.values()))
        say("the same, p99", *(t[1] for t in took.values()))
        say("memory of PID 1 at rest, KB RSS", *("" if n == "none" else r.rss() for n, r in running.items()))
        for r in running.values():
            r.close()
        subprocess.run(["strip", folder / "davit-init"], check=True)
        say("size, KB", "", os.stat(shutil.which("tini")).st_size // 1024, os.stat(folder / "davit-init").st_size // 1024)
        for name, way in ways.items():
            if name != "none":
                out = subprocess.run([*SPACE, *way, program, "storm", "20", "100"], check=True, stdin=subprocess.DEVNULL, capture_output=True).stdout
                rate = max(reaped(way, 6) for _ in range(3))
                say(f"{name}: orphans made and reaped a second", f"{rate:.0f}")
                say(f"{name}: zombies 10 ms behind 100 orphans", max(map(int, out.split())))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
