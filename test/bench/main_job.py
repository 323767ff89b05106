#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""main_job: figures of the main job, each beside its peer in the same run. Prints a table; nothing here passes or fails.

usage: test/bench/main_job.py [BIN_DIR]      (release build; DOCKER_HOST names the engine, one is started when none answers)"""
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "test"))

from lib import davit as davit_lib  # noqa: E402
from lib import engine as engine_lib  # noqa: E402
from lib import images, proc  # noqa: E402

FAST = ("--health", "/health", "--health-interval", "200ms", "--health-grace", "200ms")
# The agent keeps three files of 10 MB a container; more lines than this would be rotated away.
LOG_LINES = 150_000


def say(what, value, beside=""):
    print(f"{what:<52} {value:>22}   {beside}", flush=True)


def rss(pid):
    """(RSS, private dirty) in MB."""
    total = {"Rss": 0, "Private_Dirty": 0}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        for line in f:
            key = line.split(":")[0]
            if key in total:
                total[key] = int(line.split()[1]) / 1024
    return total["Rss"], total["Private_Dirty"]


def cpu(pid):
    """Seconds of CPU that a process used so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        word = f.read().rpartition(")")[2].split()
    return (int(word[11]) + int(word[12])) / os.sysconf("SC_CLK_TCK")


def memory(d, when):
    for program in ("davit-agent", "davitd"):
        whole, dirty = rss(d.pid(program))
        peer = "DockPal agent 10.4 MB, Portainer agent 30 MB and up (stated)" if program == "davit-agent" else ""
        say(f"{program} {when}: RSS / private dirty", f"{whole:.1f} / {dirty:.1f} MB", peer)


def sizes(bin_dir):
    for program, peer in (("davit-agent", "DockPal agent 9.7 MB (stated)"), ("davitd", ""), ("davit", f"docker CLI {os.path.getsize('/usr/bin/docker') / 1e6:.1f} MB")):
        stripped = tempfile.mktemp()
        subprocess.run(["strip", "-o", stripped, bin_dir / program], check=True)
        say(f"{program}: size stripped", f"{os.path.getsize(stripped) / 1e6:.2f} MB", peer)
        os.unlink(stripped)


def idle(d, seconds=40):
    """CPU and wire bytes while nothing happens. The local agent's link is a unix socket: the bytes are those that davitd counts."""
    pids = {p: d.pid(p) for p in ("davit-agent", "davitd")}
    before = {p: cpu(i) for p, i in pids.items()}
    wire0 = wire(d)
    time.sleep(seconds)
    for program, pid in pids.items():
        say(f"{program}: CPU idle", f"{(cpu(pid) - before[program]) / seconds * 100:.2f} % of a core", "budget 0.1 %")
    used = wire(d) - wire0
    if used > 0:
        say("link, nobody watching", f"{used * 8 / seconds:.0f} bit/s", f"= {used * 3600 / seconds / 1000:.0f} kB an hour; Portainer 324 bit/s (stated)")


def wire(d):
    """Bytes both ways over all links, from /metrics."""
    text = subprocess.run(["curl", "-s", f"http://127.0.0.1:{d.health}/metrics"], capture_output=True, text=True, check=True).stdout
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("davit_link_bytes_total"))


def timed(call):
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def deploys(d, web, n=5):
    ours, plain = [], []
    for i in range(n + 1):
        t = timed(lambda: d.run("deploy", "--name", "timed", "--env", f"I={i}", *FAST, web))
        name = f"bench-{os.getpid()}-{i}"
        u = timed(lambda: subprocess.run(["/usr/bin/docker", "run", "-d", "--name", name, web], env=d.env, capture_output=True, check=True))
        subprocess.run(["/usr/bin/docker", "rm", "-f", name], env=d.env, capture_output=True, check=True)
        if i:
            ours.append(t)
            plain.append(u)
    say("warm davit deploy, health checked, old retired", f"{statistics.median(ours):.2f} s", f"docker run -d, no health check: {statistics.median(plain):.2f} s")
    d.run("rm", "timed")


def status(d, n=11):
    ours = [timed(lambda: d.run("status")) for _ in range(n)]
    peer = [timed(lambda: subprocess.run(["/usr/bin/docker", "version"], env=d.env, capture_output=True, check=True)) for _ in range(n)]
    say("davit status", f"{statistics.median(ours) * 1000:.0f} ms", f"docker version: {statistics.median(peer) * 1000:.0f} ms (budget 20 ms)")


def logs(d, engine):
    line = "x" * 99
    image = images.script(engine, "davit-bench/lines:1", f"yes {line} | head -n {LOG_LINES}\ntrap 'exit 0' TERM\nsleep 1000 & wait $!\n")
    d.run("deploy", "--name", "lines", "--health", "none", image)
    ident = d.json("ps")["services"][0]["containers"][0]["id"]
    count = lambda cmd: int(subprocess.run(["sh", "-c", f"{cmd} | wc -l"], env=d.env, capture_output=True, text=True, check=True).stdout)
    proc.wait_for(lambda: count(f"/usr/bin/docker logs {ident}") >= LOG_LINES, 120, every=1)
    ours, plain, lines = [], [], 0
    for _ in range(3):
        plain.append(timed(lambda: subprocess.run(["sh", "-c", f"/usr/bin/docker logs {ident} >/dev/null"], env=d.env, check=True)))
        ours.append(timed(lambda: subprocess.run(["sh", "-c", f"{d.bin}/davit logs lines >/dev/null"], env=d.env, check=True)))
    lines = count(f"{d.bin}/davit logs lines")
    size = LOG_LINES * 100 / 1e6
    say(f"davit logs, {LOG_LINES} lines of 100 bytes, lost: {LOG_LINES - lines}", f"{size / statistics.median(ours):.1f} MB/s",
        f"docker logs: {size / statistics.median(plain):.1f} MB/s; ratio {statistics.median(plain) / statistics.median(ours):.2f}")
    d.run("rm", "lines")


def main():
    bin_dir = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release/src/main").resolve()
    engine = engine_lib.Engine(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    folder = None
    if not engine.answers():
        folder = tempfile.mkdtemp(prefix="davit-docker.")
        engine = engine_lib.Engine(subprocess.run([ROOT / "tools/dockerd-start", folder], capture_output=True, text=True, check=True).stdout.strip())
    home = pathlib.Path(tempfile.mkdtemp(prefix="dvb."))
    home.chmod(0o755)
    d = davit_lib.Davit(bin_dir, engine, home)
    try:
        sizes(bin_dir)
        say("davit up, first time", f"{timed(d.up):.2f} s")
        web = images.web(engine)
        time.sleep(2)
        memory(d, "idle")
        idle(d)
        status(d)
        deploys(d, web)
        logs(d, engine)
        for i in range(20):
            d.run("deploy", "--name", f"many-{i}", "--health", "none", web)
        time.sleep(20)
        memory(d, "with 20 containers")
        idle(d)
    finally:
        d.close()
        if folder:
            subprocess.run([ROOT / "tools/dockerd-stop", folder], check=False)


if __name__ == "__main__":
    main()
