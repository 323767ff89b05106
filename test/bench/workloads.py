#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""workloads: what a redeployment, a command in a container and a large file cost, each beside its peer in the same run. Prints a table; nothing here
passes or fails.

usage: test/bench/workloads.py [BIN_DIR]     (release build; DOCKER_HOST names the engine, one is started when none answers; docker-compose is
                                              measured where it is installed)"""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "test"))

from bench.main_job import FAST, cpu, say, timed  # noqa: E402
from lib import davit as davit_lib  # noqa: E402
from lib import engine as engine_lib  # noqa: E402
from lib import images  # noqa: E402

TIMES, EXECS, GIGABYTE = 7, 21, 1 << 30
COMPOSE = """version: "2.4"
services:
  web:
    image: {image}
    environment: {{I: "{number}"}}
    healthcheck: {{test: ["CMD", "/bin/sh", "-c", "wget -q -O /dev/null http://127.0.0.1:8080/health"], interval: 1s, retries: 3}}
"""


def quietly(d, *words):
    subprocess.run(words, env=d.env, capture_output=True, check=True)


def redeployments(d, web, folder):
    """Ours waits for the health check and keeps the old container until then; compose stops the old one, starts the new one and does not look."""
    compose, ours, plain = shutil.which("docker-compose"), [], []
    for i in range(TIMES + 1):
        ours.append(timed(lambda: d.run("deploy", "--name", "web", "--env", f"I={i}", *FAST, web)))
        if compose:
            (folder / "docker-compose.yml").write_text(COMPOSE.format(image=web, number=i))
            plain.append(timed(lambda: quietly(d, compose, "-f", folder / "docker-compose.yml", "-p", "davitbench", "up", "-d")))
    beside = f"docker-compose up -d, none of it: {statistics.median(plain[1:]):.2f} s" if compose else "docker-compose is not installed"
    say("redeployment, new one healthy before the old one goes", f"{statistics.median(ours[1:]):.2f} s", beside)
    if compose:
        quietly(d, compose, "-f", folder / "docker-compose.yml", "-p", "davitbench", "down", "-t", "1")


def commands(d, name):
    ours = [timed(lambda: d.run("exec", "web", "--", "/bin/true")) for _ in range(EXECS)]
    plain = [timed(lambda: quietly(d, "/usr/bin/docker", "exec", name, "/bin/true")) for _ in range(EXECS)]
    say("davit exec web -- true", f"{statistics.median(ours) * 1000:.0f} ms", f"docker exec: {statistics.median(plain) * 1000:.0f} ms")


def peak(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))


def large_file(d, name, folder):
    big, back = folder / "big", folder / "back"
    with open(big, "wb") as f:
        block = os.urandom(1 << 20)
        for _ in range(GIGABYTE >> 20):
            f.write(block)
    pids = {p: d.pid(p) for p in ("davitd", "davit-agent")}
    used = {p: cpu(i) for p, i in pids.items()}
    plain = timed(lambda: quietly(d, "/usr/bin/docker", "cp", big, f"{name}:/tmp/plain"))
    ours = timed(lambda: d.run("cp", str(big), "web:/tmp/big", timeout=600))
    say("1 GB into a container", f"{GIGABYTE / 1e6 / ours:.0f} MB/s", f"docker cp: {GIGABYTE / 1e6 / plain:.0f} MB/s")
    plain = timed(lambda: quietly(d, "/usr/bin/docker", "cp", f"{name}:/tmp/plain", back))
    ours = timed(lambda: d.run("cp", "web:/tmp/big", str(back), timeout=600))
    say("1 GB out of a container", f"{GIGABYTE / 1e6 / ours:.0f} MB/s", f"docker cp: {GIGABYTE / 1e6 / plain:.0f} MB/s")
    for p, i in pids.items():
        say(f"{p}: most memory ever held; CPU for both ways", f"{peak(i):.1f} MB; {cpu(i) - used[p]:.1f} s")


def main():
    bin_dir = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release/src/main").resolve()
    engine = engine_lib.Engine(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    own = None
    if not engine.answers():
        own = tempfile.mkdtemp(prefix="davit-docker.")
        engine = engine_lib.Engine(subprocess.run([ROOT / "tools/dockerd-start", own], capture_output=True, text=True, check=True).stdout.strip())
    home = pathlib.Path(tempfile.mkdtemp(prefix="dvb."))
    home.chmod(0o755)
    d = davit_lib.Davit(bin_dir, engine, home)
    try:
        d.up()
        web = images.web(engine)
        redeployments(d, web, home)
        name = engine.containers("davit.service=web")[0]["Id"]
        commands(d, name)
        large_file(d, name, home)
    finally:
        d.close()
        shutil.rmtree(home, ignore_errors=True)
        if own:
            subprocess.run([ROOT / "tools/dockerd-stop", own], check=False)


if __name__ == "__main__":
    main()
