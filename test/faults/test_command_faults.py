# SPDX-License-Identifier: Apache-2.0
"""A command from its dispatch to the acknowledgement of its result, broken at the system calls of the agent and of davitd: it takes effect once,
and whoever gave it is never told of a success that did not happen."""
import json
import pathlib
import signal
import time

import pytest

import flows
from lib import faults, proc


def starts(lane, since):
    """How often the service's container was started."""

    filters = json.dumps({"type": ["container"], "event": ["start"], "label": [f"davit.project={lane.project}"]})
    said = lane.engine.call("GET", "/events", query={"since": f"{since:.6f}", "until": f"{time.time():.6f}", "filters": filters})
    return len(said.splitlines())


def prepare(lane):
    lane.start()
    lane.davit.run(*lane.deploy_words("--volume", "data:/data"), timeout=90)
    lane.wait_settled()


def stopped(lane):
    lane.davit.run("stop", "--project", lane.project, "svc")
    lane.wait_settled()


def conclude(lane, cli, said, since, kill):
    """After the fault: the command ends, or its giver was told why not and gives it again."""
    assert flows.ended(cli, 60), f"{said}: the command does not end: {cli.text()}"
    if cli.p.returncode != 0:
        assert not kill and cli.text().strip(), f"{said}: {cli.text()}"
        lane.davit.run("start", "--project", lane.project, "svc")
    lane.clean(0)
    assert starts(lane, since) == 1, f"{said}: started {starts(lane, since)} times"
    assert flows.commands(lane.davit) == 0 or proc.wait_for(lambda: flows.commands(lane.davit) == 0, 20, text="results of all commands")


def at_agent(lane, fault):
    stopped(lane)
    lane.end()
    lane.start(fault)
    since = time.time()
    lane.arm()
    cli = lane.begin("start", "--project", lane.project, "svc")
    lane.wait_broken(cli, 2 if fault.always else 15)
    said = str(lane.report.hit())
    lane.end()
    lane.start()
    conclude(lane, cli, said, since, fault.do != "fail")
    return said


def calls_of(lane):
    stopped(lane)
    lane.end()
    lane.start(faults.Fault())
    lane.arm()
    lane.davit.run("start", "--project", lane.project, "svc")
    lane.wait_settled()
    return lane.report.calls()


@pytest.mark.req("MA-5")
def test_a_command_survives_a_fault_at_any_call_of_the_agent(davit):
    flows.any_call(davit, 2, prepare, calls_of, at_agent, 4)


@pytest.mark.all_tier
@pytest.mark.req("MA-5")
def test_a_command_survives_every_fault_at_every_call_of_the_agent(davit):
    flows.every_call(davit, 2, prepare, calls_of, at_agent)


# --- davitd ------------------------------------------------------------------------------------------------------------------------
class ControlPlane:
    """The davitd that `up` started, started again by its own words, with or without a fault."""

    def __init__(self, davit):
        self.davit, self.runs = davit, 0
        pid = davit.pid("davitd")
        self.words = [w.decode() for w in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if w]
        self.words[0] = str(davit.bin / "davitd")
        davit.kill("davitd")
        self.p = None

    def start(self, fault=None):
        self.runs += 1
        self.faulted = fault is not None
        self.report = faults.Report(self.davit.top / f"report-davitd.{self.runs}")
        words = [*(fault.prefix(self.report.path, wait=True) if fault else ()), *self.words]
        self.p = proc.Background(words, self.davit.top / f"davitd.{self.runs}.log", env=self.davit.env | (faults.ENV if fault else {}))
        self.davit.background.append(self.p)
        ports = (self.davit.link, self.davit.api)  # which opens first is not said
        proc.wait_for(lambda: all(map(proc.listens, ports)) or not self.p.running(), 20, every=0.02, text="davitd")
        assert self.p.running(), self.p.text()

    def end(self):
        if self.p.running():
            self.p.stop(signal.SIGQUIT if self.faulted else signal.SIGKILL)
        self.davit.background.remove(self.p)
        assert "Sanitizer" not in self.p.text() and "runtime error" not in self.p.text(), self.p.text()[-6000:]


def online(lane):
    lane.r.wait(timeout=30)
    proc.wait_for(lambda: "cut" if lane.davit.run("stats", check=False).rc == 0 else None, 20, text="an answer")


def at_davitd(lane, control, fault):
    control.start()
    online(lane)
    stopped(lane)
    control.end()
    control.start(fault)
    lane.end()
    lane.start()
    since = time.time()
    faults.arm(control.p, control.report)
    cli = lane.begin("start", "--project", lane.project, "svc")
    with_end = time.monotonic() + (4 if fault.always else 15)
    while cli.running() and control.p.running() and time.monotonic() < with_end:
        time.sleep(0.02)
    said = str(control.report.hit())
    control.end()
    control.start()
    # The agent comes back by itself; here it is not waited for.
    lane.end()
    lane.start()
    conclude(lane, cli, said, since, False)
    control.end()
    return said


@pytest.fixture
def control(davit):
    with flows.lanes(davit, 1) as (lane,):
        prepare(lane)
        made = ControlPlane(davit)
        lane.end()
        made.start()
        lane.start()
        yield lane, made
        if made.p in davit.background:
            made.end()
        made.start()


def control_calls(lane, control):
    online(lane)
    stopped(lane)
    control.end()
    control.start(faults.Fault())
    lane.end()
    lane.start()
    faults.arm(control.p, control.report)
    lane.davit.run("start", "--project", lane.project, "svc")
    lane.wait_settled()
    control.end()
    return control.report.calls()


@pytest.mark.req("MA-5")
def test_a_command_survives_a_fault_at_any_call_of_davitd(control):
    lane, davitd = control
    rng = faults.seed()
    faults.sweep([lane], faults.sampled(rng, control_calls(lane, davitd), 2), lambda lane, fault: at_davitd(lane, davitd, fault))


@pytest.mark.all_tier
@pytest.mark.req("MA-5")
def test_a_command_survives_every_fault_at_every_call_of_davitd(control):
    lane, davitd = control
    rng = faults.seed()
    faults.sweep([lane], faults.every(rng, control_calls(lane, davitd)), lambda lane, fault: at_davitd(lane, davitd, fault), seconds=240)
