# SPDX-License-Identifier: Apache-2.0
"""A deployment on a real engine, broken at the agent's system calls: one container at the end, none doubled, none orphaned, nothing lost."""
import pytest

import flows
from lib import faults, proc
from lib.work import Proxy


def first(lane):
    """The deployment that the others replace."""
    lane.start()
    lane.davit.run(*words(lane), timeout=90)
    lane.wait_settled()
    lane.end()


def words(lane):
    # A port and a volume: the old container has to go before the new one starts.
    return lane.deploy_words("--volume", "data:/data", "--publish", f"{lane.port}:8080")


def one(lane, fault):
    """Deploys the next version under @fault, then goes on without it."""
    before = lane.version
    lane.version += 1
    lane.start(fault)
    lane.arm()
    cli = lane.begin(*words(lane))
    lane.wait_broken(cli, 4 if fault.always else 15 if fault.do == "fail" else 70)
    hit, died = lane.report.hit(), not lane.p.running()
    lane.end()
    lane.start()
    assert flows.ended(cli, 75), f"{hit}: the deployment does not end: {cli.text()}"
    said = f"{hit} -> agent {'killed' if died else 'lived'}, deployment {cli.p.returncode}"
    try:
        if cli.p.returncode != 0:
            # Only an error that the agent was told of may fail a deployment; then the one before runs as it did.
            assert fault.do == "fail" and cli.text().strip(), f"{said}: {cli.text()}"
            lane.clean(before)
            lane.davit.run(*words(lane), timeout=90)
        lane.clean(lane.version)
    except AssertionError as e:
        raise AssertionError(f"{said}: {e}\n{lane.p.text()[-3000:]}") from e
    lane.end()
    return said


def calls_of(lane):
    lane.version += 1
    lane.start(faults.Fault())
    lane.arm()
    lane.davit.run(*words(lane), timeout=90)
    lane.wait_settled()
    calls = lane.report.calls()
    lane.end()
    return calls


@pytest.mark.req("MA-5")
def test_a_deployment_survives_a_fault_at_any_call(davit):
    flows.any_call(davit, 2, first, calls_of, one, 4)


@pytest.mark.all_tier
@pytest.mark.req("MA-5")
def test_a_deployment_survives_every_fault_at_every_call(davit):
    flows.every_call(davit, 3, first, calls_of, one)


# --- Exactly between the effect and its record ------------------------------------------------------------------------------------
class Recorder(Proxy):
    """Notes the first line of every request; calls hook() before the answer to one that contains @what is passed on."""

    def __init__(self, path, to, what, hook):
        super().__init__(path, to)
        self.what, self.hook, self.requests, self.asked = what, hook, [], {}

    def pump(self, x, y):
        try:
            while data := x.recv(65536):
                head = data.split(b"\r\n", 1)[0].decode(errors="replace")
                if head.startswith(("GET /", "POST /", "DELETE /")):
                    self.requests.append(head)
                    self.asked[y] = head
                elif self.what in self.asked.get(x, "") and self.hook:
                    hook, self.hook = self.hook, None
                    hook()
                y.sendall(data)
            y.shutdown(2)
        except OSError:
            pass

    def count(self):
        return sum(self.what in r for r in self.requests)


EFFECTS = ("POST /v1.41/networks/create", "POST /v1.41/volumes/create", "POST /v1.41/containers/create?", "/start")


def killed_before_the_record(lane, what, command=words):
    """Gives a command; the agent dies when the engine has answered @what and nothing of it is written down."""
    recorder = Recorder(lane.davit.top / f"d{lane.r.name}.sock", lane.engine.sock, what, lane.arm)
    recorder.up()
    env = {"DOCKER_HOST": f"unix://{recorder.path}"}
    # The next write to the journal, whatever it is, is the record that the effect has happened.
    lane.start(faults.Fault(1, "kill-before", options=("--fd", "file", "--path", str(lane.r.dir / "journal.db"))), env)
    cli = lane.begin(*command(lane))
    proc.wait_for(lambda: not lane.p.running(), 30, every=0.02, text="death of the agent")
    assert "journal.db" in lane.report.hit() and recorder.count() == 1, (lane.report.lines(), recorder.requests)
    lane.end()
    lane.start(env=env)
    assert flows.ended(cli, 75) and cli.p.returncode == 0, cli.text()
    lane.clean(0)
    assert recorder.count() == 1, recorder.requests
    lane.end()
    recorder.down()
    return "found"


@pytest.mark.req("MA-5")
def test_kill_between_effect_and_record_the_effect_is_found_and_not_repeated(davit):
    with flows.lanes(davit, len(EFFECTS)) as lanes:
        faults.sweep(lanes, EFFECTS, killed_before_the_record)
        killed_before_the_record(lanes[0], "/restart?", lambda lane: ("restart", "--project", lane.project, "svc"))
