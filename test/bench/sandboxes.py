#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""sandboxes: what a sandbox costs beside a plain container: until its program runs, a command beside it, sizes, memory. Each is interleaved with its
peer in one run. Prints a table; nothing here passes or fails.

usage: test/bench/sandboxes.py [BIN_DIR]     (release build; DOCKER_HOST names the engine, one is started when none answers)
"Until its program runs" ends where the first line of the program is read from a pipe in a folder that it shares with us, so it holds everything: the
command line, the engine, and for a sandbox the session, the word of the agent and the supervisor."""
import os
import pathlib
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "test"))

from bench.main_job import say, timed  # noqa: E402
from lib import davit as davit_lib  # noqa: E402
from lib import engine as engine_lib  # noqa: E402
from lib import images  # noqa: E402

DOCKER = "/usr/bin/docker"
ROUNDS, EXECS, MANY = 11, 15, 5
PROGRAM = ["/bin/busybox", "sh", "-c", "echo . >/shared/pipe; exec /bin/busybox sleep 10000"]


def quietly(d, *words):
    subprocess.run([str(w) for w in words], env=d.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)


def figures(times):
    return f"{statistics.median(times) * 1000:.0f} ms (best {min(times) * 1000:.0f})"


class Pipe:
    """The folder that a program shares with us."""

    def __init__(self, folder):
        self.folder = folder
        os.mkfifo(folder / "pipe")
        self.fd = os.open(folder / "pipe", os.O_RDWR | os.O_NONBLOCK)

    def runs(self, d, *words):
        """From the beginning of the command to the first line of the program."""
        began = time.monotonic()
        with subprocess.Popen([str(w) for w in words], env=d.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as p:
            ready, _, _ = select.select([self.fd], [], [], 60)
            took = time.monotonic() - began
            assert ready, f"{words}: its program does not run: {p.stderr.read()}"
            os.read(self.fd, 64)
        return took


def starts(d, pipe, image, davit):
    """One that is there is started again."""
    volume = f"{pipe.folder}:/shared"
    quietly(d, DOCKER, "create", "--name", "bench-plain", "-v", volume, image, *PROGRAM)
    quietly(d, DOCKER, "create", "--name", "bench-init", "--init", "-v", volume, image, *PROGRAM)
    pipe.runs(d, davit, "run", "-d", "--name", "bench", "--pull", "never", "--workspace", volume, image, *PROGRAM)
    pipe.runs(d, DOCKER, "start", "bench-plain")
    pipe.runs(d, DOCKER, "start", "bench-init")
    ways = {"docker start": (DOCKER, "start", "bench-plain"), "docker start, --init": (DOCKER, "start", "bench-init"),
            "davit sandbox start": (davit, "sandbox", "start", "bench")}
    took = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name in ("bench-plain", "bench-init"):
            quietly(d, DOCKER, "kill", name)
        quietly(d, davit, "sandbox", "stop", "bench")
        for name, words in ways.items():
            took[name].append(pipe.runs(d, *words))
    return took


def runs(d, pipe, image, davit):
    """A new one of an image that is there; removed again, which is not measured."""
    volume = f"{pipe.folder}:/shared"
    ways = {"docker run -d": (DOCKER, "run", "-d", "--name", "bench-new", "-v", volume, image, *PROGRAM),
            "docker run -d --init": (DOCKER, "run", "-d", "--init", "--name", "bench-new", "-v", volume, image, *PROGRAM),
            "davit run -d": (davit, "run", "-d", "--name", "bench-new", "--pull", "never", "--workspace", volume, image, *PROGRAM)}
    took = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, words in ways.items():
            took[name].append(pipe.runs(d, *words))
            quietly(d, *((davit, "sandbox", "rm", "-f", "bench-new") if name.startswith("davit") else (DOCKER, "rm", "-f", "bench-new")))
    return took


def show(took):
    plain, *_, ours = took.values()
    for name, times in took.items():
        say(f"until its program runs: {name}", figures(times), "")
    over = [a - b for a, b in zip(ours, plain)]
    say("of that over the plain one, pair by pair", figures(over), "budget 60 ms with a firewall, 5 ms for init alone")


def commands(d, davit):
    ways = {"davit sandbox exec": (davit, "sandbox", "exec", "bench", "--", "/bin/busybox", "true"),
            "docker exec": (DOCKER, "exec", "bench-plain", "/bin/busybox", "true"),
            "davit status": (davit, "status"), "docker version": (DOCKER, "version")}
    took = {name: [] for name in ways}
    for _ in range(EXECS):
        for name, words in ways.items():
            took[name].append(timed(lambda w=words: quietly(d, *w)))
    for name, times in took.items():
        say(name, figures(times), "budget 20 ms" if name == "davit status" else "")


def memory(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return tuple(int(text.split(f"\n{what}:")[1].split()[0]) for what in ("Rss", "Pss"))


def halves(d, image, davit, build):
    for name in ("davit-init", "davit-session"):
        with tempfile.NamedTemporaryFile() as f:
            subprocess.run(["strip", "-o", f.name, build / name], check=True)
            say(f"{name}: size stripped", f"{os.stat(f.name).st_size // 1024} KB", "budget 100 KB" if name == "davit-init" else "")
    for i in range(MANY):
        quietly(d, davit, "run", "-d", "--name", f"bench-{i}", "--pull", "never", image, "/bin/busybox", "sleep", "10000")
    time.sleep(3)
    found = {"davit-init": [], "davit-session": []}
    for c in d.engine.containers("davit.purpose=sandbox"):
        first = d.engine.inspect(c["Id"])["State"]["Pid"]
        found["davit-init"].append(memory(first))
        for child in pathlib.Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii").split():
            if pathlib.Path(f"/proc/{child}/comm").read_text(encoding="ascii").startswith("davit-session"):
                found["davit-session"].append(memory(child))
    for name, of in found.items():
        rss, pss = (statistics.median(x) for x in zip(*of))
        say(f"{name} at rest, of {len(of)}: RSS / PSS", f"{rss:.0f} / {pss:.0f} KB", "budget 150 KB" if name == "davit-init" else "budget 3 MB")


def main():
    bin_dir = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release/src/main").resolve()
    engine = engine_lib.Engine(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    own = None
    if not engine.answers():
        own = tempfile.mkdtemp(prefix="davit-docker.")
        engine = engine_lib.Engine(subprocess.run([ROOT / "tools/dockerd-start", own], capture_output=True, text=True, check=True).stdout.strip())
    home = pathlib.Path(tempfile.mkdtemp(prefix="dvb."))
    home.chmod(0o755)
    shared = home / "shared"
    shared.mkdir()
    pipe, image, d = Pipe(shared), images.busybox(engine), davit_lib.Davit(bin_dir, engine, home)
    davit = bin_dir / "davit"
    try:
        d.up()
        say("load of the machine when it began", " ".join(f"{x:.1f}" for x in os.getloadavg()), f"{os.cpu_count()} cores")
        show(starts(d, pipe, image, davit))
        show(runs(d, pipe, image, davit))
        commands(d, davit)
        halves(d, image, davit, bin_dir)
        say("load of the machine when it ended", " ".join(f"{x:.1f}" for x in os.getloadavg()))
    finally:
        for s in d.json("sandbox", "ls").get("sandboxes", []):
            d.run("sandbox", "rm", "--force", "--volumes", s["id"], check=False)
        for name in ("bench-plain", "bench-init", "bench-new"):
            subprocess.run([DOCKER, "rm", "-f", name], env=d.env, capture_output=True, check=False)
        d.close()
        shutil.rmtree(home, ignore_errors=True)
        if own:
            subprocess.run([ROOT / "tools/dockerd-stop", own], check=False)


if __name__ == "__main__":
    main()
