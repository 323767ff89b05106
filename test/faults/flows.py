# SPDX-License-Identifier: Apache-2.0
"""flows: agents whose flows are broken at their system calls, and what must be true of each afterwards."""
import contextlib
import signal
import sqlite3

from lib import faults, images, proc
from lib.remote import Remote

FILES = {"client.key", "client.crt", "ca.crt", "config.yaml", "lock", "journal.db", "journal.db-wal", "journal.db-shm", "journal.key",
         "desired.db", "desired.db-wal", "desired.db-shm", "health.sock", "last_known_good_time", "sandboxes"}


class Lane:
    """One server with one service of a project of its own; sweeps visit it again and again."""

    def __init__(self, davit, n):
        self.davit, self.engine, self.version, self.runs = davit, davit.engine, 0, 0
        self.pool = f"10.{220 + n}.0.0/16/24"  # of its own: two agents of one engine may choose the same range at once
        self.r = Remote(davit, f"s-{n}")
        self.project = f"p-{n}"
        self.image = images.busybox(davit.engine)
        self.r.add()
        self.r.enroll()
        self.port = proc.free_port()
        self.p = None

    # --- The agent ---
    def start(self, fault=None, env=None):
        """Starts it and returns when its link is up; with a fault the tool waits for arm()."""
        self.runs += 1
        self.faulted = fault is not None
        log = self.davit.top / f"agent-{self.r.name}.{self.runs}.log"
        self.report = faults.Report(self.davit.top / f"report-{self.r.name}.{self.runs}")
        words = [*(fault.prefix(self.report.path, wait=True) if fault else ()), self.davit.bin / "davit-agent", "run", "--config-dir", self.r.dir,
                 "--address-pool", self.pool]
        self.p = proc.Background(words, log, env=self.davit.env | (faults.ENV if fault else {}) | (env or {}))
        self.davit.background.append(self.p)
        proc.wait_for(lambda: "connected to the control plane" in self.p.text() or not self.p.running(), 20, every=0.02, text="a link")
        assert self.p.running(), self.p.text()

    def arm(self):
        faults.arm(self.p, self.report)

    def wait_broken(self, cli, seconds):
        """Until the command ended or the agent died, at most @seconds."""
        with contextlib.suppress(AssertionError):
            proc.wait_for(lambda: not cli.running() or not self.p.running(), seconds, every=0.02)

    def end(self):
        """As a crash would."""
        if self.p.running():
            self.p.stop(signal.SIGQUIT if self.faulted else signal.SIGKILL)
        self.davit.background.remove(self.p)
        text = self.p.text()
        assert "Sanitizer" not in text and "runtime error" not in text, text[-6000:]

    # --- The service ---
    def davit_words(self, *args):
        return [self.davit.bin / "davit", *args]

    def begin(self, *args):
        """davit ARGS in the background."""
        log = self.davit.top / f"cli-{self.r.name}.{self.runs}.log"
        cli = proc.Background(self.davit_words(*args), log, env=self.davit.env)
        self.davit.background.append(cli)
        return cli

    def deploy_words(self, *more):
        return ("deploy", "--project", self.project, "--name", "svc", "--server", self.r.name, "--env", f"V={self.version}", "--health", "none",
                "--health-grace", "100ms", "--timeout", "60s", *more, self.image)

    def containers(self):
        return self.engine.containers(f"davit.project={self.project}")

    def version_of(self, container):
        env = self.engine.inspect(container["Id"])["Config"]["Env"]
        return int(next(e for e in env if e.startswith("V="))[2:])

    def settled(self):
        """The journal has no command left: every result was acknowledged."""
        with sqlite3.connect(f"file:{self.r.dir}/journal.db?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM command").fetchone()[0] == 0

    def wait_settled(self, timeout=20):
        proc.wait_for(self.settled, timeout, every=0.05, text="acknowledged results")

    def clean(self, version=None):
        """One container, one network, the volumes asked for, no file too many, a journal that opens."""
        self.wait_settled()
        found = self.containers()
        assert len(found) == 1 and found[0]["State"] == "running", [(c["Names"], c["State"]) for c in found]
        job = found[0]["Labels"]["davit.job"]
        assert job.endswith("/create") and len(job) == 36 + len("/create")
        assert version is None or self.version_of(found[0]) == version
        assert len(self.engine.networks(f"davit.project={self.project}")) == 1
        assert len(self.engine.volumes(f"davit.project={self.project}")) == 1
        names = {p.name for p in self.r.dir.iterdir()}
        assert names <= FILES, names
        with sqlite3.connect(f"file:{self.r.dir}/journal.db?mode=ro", uri=True) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return found[0]


@contextlib.contextmanager
def lanes(davit, n):
    made = []
    davit.up("--advertise", "127.0.0.1", "--no-agent")
    try:
        for i in range(n):
            made.append(Lane(davit, i))
        yield made
    finally:
        for lane in made:
            if lane.p and lane.p.running():  # else it heals what is removed here
                lane.end()
            for c in lane.containers():
                davit.engine.remove(c["Id"])
            for network in davit.engine.networks(f"davit.project={lane.project}"):
                davit.engine.call("DELETE", f"/networks/{network['Id']}")
            for volume in davit.engine.volumes(f"davit.project={lane.project}"):
                davit.engine.call("DELETE", f"/volumes/{volume['Name']}")


def any_call(davit, n, prepare, calls_of, one, wanted):
    """@n lanes that prepare(lane) made ready, and one(lane, fault) at @wanted of the calls that calls_of(lane) tells."""
    rng = faults.seed()
    with lanes(davit, n) as made:
        for lane in made:
            prepare(lane)
        faults.sweep(made, faults.sampled(rng, calls_of(made[0]), wanted), one)


def every_call(davit, n, prepare, calls_of, one):
    """The same with every fault at every call, as far as four minutes go."""
    rng = faults.seed()
    with lanes(davit, n) as made:
        for lane in made:
            prepare(lane)
        faults.sweep(made, faults.every(rng, calls_of(made[0])), one, seconds=240)


def ended(cli, timeout):
    with contextlib.suppress(AssertionError):
        proc.wait_for(lambda: not cli.running(), timeout, every=0.02)
    return not cli.running()


def commands(davit):
    """Rows of the control plane's commands that have no result."""
    with sqlite3.connect(f"file:{davit.home}/state/control.db?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM commands WHERE state <> 3").fetchone()[0]
