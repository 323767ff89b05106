#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""fleet: what many connected servers cost a control plane. Agents are made by test/bench/load, which speaks the real protocol; their number is split
over processes of 1,000. Prints a table; nothing here passes or fails.

usage: test/bench/fleet.py [BUILD_DIR] [AGENTS]      (release build; 5000 agents)"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PER_PROCESS = 1000
HEALTHY = 60  # seconds of a link after which agents come back spread over a time, see src/host/link/reconnect.h
API, LINK, HEALTH = "127.0.0.1:17443", "127.0.0.1:17442", "127.0.0.1:17080"


def say(what, value, beside=""):
    print(f"{what:<58} {value:>22}   {beside}", flush=True)


def memory(pid):
    """(RSS, private dirty) in kB."""
    found = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        for line in f:
            word = line.split()
            found[word[0]] = int(word[1]) if len(word) > 1 and word[1].isdigit() else 0
    return found["Rss:"], found["Private_Dirty:"]


def cpu(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        word = f.read().rpartition(")")[2].split()
    return (int(word[11]) + int(word[12])) / os.sysconf("SC_CLK_TCK")


class ControlPlane:
    """A real davitd on a seeded state directory."""

    def __init__(self, build, state, log):
        self.argv = [build / "src/main/davitd", "--state-dir", state, "--api-listen", API, "--link-listen", LINK, "--health-listen", HEALTH]
        self.log = log
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.argv, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while subprocess.run(["curl", "-sf", "-m", "2", f"http://{HEALTH}/healthz"], capture_output=True, check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("fleet: davitd does not come up; its log: " + self.log.name)
            time.sleep(0.02)

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Agents:
    def __init__(self, build, out, n):
        self.parts = []
        for first in range(0, n, PER_PROCESS):
            argv = [build / "test/bench/bench_agents", LINK, out, str(first), str(min(PER_PROCESS, n - first))]
            self.parts.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def tell(self, order):
        for p in self.parts:
            p.stdin.write(order + "\n")
            p.stdin.flush()

    def answers(self):
        return [json.loads(p.stdout.readline()) for p in self.parts]

    def order(self, order):
        self.tell(order)
        return self.answers()

    def quit(self):
        self.tell("quit")
        for p in self.parts:
            p.wait(timeout=30)


def total(answers, key):
    return sum(a[key] for a in answers)


def connect(davitd, agents, n):
    base, base_dirty = memory(davitd.pid)
    say("davitd before: RSS / private dirty", f"{base / 1024:.1f} / {base_dirty / 1024:.1f} MB", "budget 20 MB with 10 servers")
    spent, began = cpu(davitd.pid), time.monotonic()
    got = agents.order("connect")
    took = time.monotonic() - began
    spent = cpu(davitd.pid) - spent
    say(f"{total(got, 'up')} agents connect at once (mTLS, Hello, Welcome)", f"{took:.1f} s", f"{n / took:.0f} a second, load generator on the same cores")
    say("  CPU of davitd per connection", f"{spent / n * 1000:.2f} ms", "1.1 to 1.7 ms an mTLS accept (probe)")
    say("  dials that failed and were tried again", str(total(got, "refused")))
    time.sleep(8)
    rss, dirty = memory(davitd.pid)
    say("  davitd per connected agent: RSS / private dirty", f"{(rss - base) / n:.1f} / {(dirty - base_dirty) / n:.1f} kB", "budget 36 kB; grpc-go about 200 kB (stated)")
    return base


def messages(davitd, agents):
    spent = cpu(davitd.pid)
    got = agents.order("beat 5")
    spent = cpu(davitd.pid) - spent
    count = total(got, "count")
    say("heartbeats answered a second", f"{count / 5:.0f}", f"{spent / max(count, 1) * 1e6:.0f} us of davitd's CPU each, both ways")


def calls(build, user, agents, n):
    for at_once in (1, 16):
        out = subprocess.run([build / "test/bench/bench_calls", API, user, str(n), "1000", str(at_once)], stdout=subprocess.PIPE, text=True, timeout=300, check=True)
        got = json.loads(out.stdout)
        say(f"command to result at {n} agents, {at_once} at once: p50 / p99", f"{got['p50_ms']} / {got['p99_ms']} ms", f"budget p99 20 ms; failed {got['failed']}, {1000 / got['seconds']:.0f} a second")
    del agents


def storm(davitd, agents, n, healthy=False):
    if healthy:
        time.sleep(HEALTHY + 1)
    before = total(agents.order("wait"), "refused")
    davitd.kill()
    began = time.monotonic()
    davitd.start()
    up = time.monotonic() - began
    time.sleep(0.2)
    got = agents.order("wait")
    took, most = time.monotonic() - began, max(a["handshakes"] for a in got)
    say(f"kill -9 of davitd{', links of a minute' if healthy else ''}; most handshakes of one agent", str(most), "CB-7: 3")
    say(f"kill -9 of davitd; until {total(got, 'up')} agents are back", f"{took:.1f} s", f"davitd itself {up:.1f} s; failed dials {total(got, 'refused') - before}")
    return took, most


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release").resolve()
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        subprocess.run([build / "test/bench/bench_seed", tmp / "user", tmp / "state", str(n), tmp / "out"], check=True, timeout=600)
        with open(tmp / "davitd.log", "w", encoding="utf-8") as log:
            davitd, agents = ControlPlane(build, tmp / "state", log), None
            try:
                agents = Agents(build, tmp / "out", n)
                connect(davitd, agents, n)
                messages(davitd, agents)
                calls(build, tmp / "user", agents, min(n, 1000))
                storm(davitd, agents, n)
                storm(davitd, agents, n, healthy=True)
                agents.quit()
            finally:
                davitd.kill()
                for p in agents.parts if agents else []:
                    p.kill()


if __name__ == "__main__":
    main()
