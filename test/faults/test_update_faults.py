# SPDX-License-Identifier: Apache-2.0
"""An update of an agent, broken at the system calls of the old and the new one, from the command's arrival to its result: whatever happens, there is
one agent, it is the one that `current` leads to, and the command comes to an end that is true."""
import contextlib
import os

import pytest

from lib import faults, proc, updates
from lib.updates import NEW, OLD, modules  # noqa: F401 (a fixture)


class Broken(updates.Host):
    """A host whose first agent runs under the tool."""

    def begin(self, fault):
        self.report = faults.Report(self.top / "report")
        self.wrap = fault.prefix(self.report.path, wait=True)
        os.environ.setdefault("ASAN_OPTIONS", faults.ENV["ASAN_OPTIONS"])
        self.start()
        self.manager.words = self.manager.words[len(self.wrap):]  # the next ones are whole
        return self


def broken(modules):
    return updates.a_host(modules, "--trial-wait", "30s", kind=Broken, untidy=True)


def begin(host, fault):
    words = host.offer()
    host.begin(fault)
    faults.arm(host.manager.child, host.report)
    return host.plane.send(update_agent=host.modules.link.UpdateAgent(**words))


def conclude(host, seq, said):
    result = host.plane.result(seq, 90)
    version = OLD if result.HasField("failure") else NEW
    slot = {OLD: f"{OLD}-1", NEW: f"{NEW}-{seq}"}[version]
    assert host.current() == slot, f"{said}: {host.current()} is current, and the result is\n{result}"
    if host.manager.main != host.manager.child.pid or host.manager.starts > 1:  # else it still runs, under the tool
        proc.wait_for(lambda: host.manager.exe() == slot, 30, text=f"{said}: {slot} runs")
    proc.wait_for(lambda: host.plane.live and host.plane.hellos[-1].system.agent_version == version, 30, text=f"{said}: a link of {version}")
    assert host.slots() <= {f"{OLD}-1", slot, "counter"}, f"{said}: {host.slots()}"


def one(modules, fault):
    with broken(modules) as host:
        seq = begin(host, fault)
        # What fails for ever may keep the agent from saying so: it is started anew without the fault.
        with contextlib.suppress(AssertionError):
            host.plane.result(seq, 4 if fault.always else 25)
        if seq not in host.plane.results and host.manager.starts == 1:
            with contextlib.suppress(OSError):
                host.manager.child.p.kill()
        conclude(host, seq, f"{fault}: {host.report.hit()}")
        return str(host.report.hit())


@pytest.mark.all_tier
@pytest.mark.req("CB-4")
def test_an_update_survives_every_fault_at_every_call(modules):
    rng = faults.seed()
    with broken(modules) as host:
        seq = begin(host, faults.Fault())
        conclude(host, seq, "nothing was broken")
        calls = host.report.calls()
    assert len(calls) > 50, calls
    faults.sweep([modules] * 4, faults.every(rng, calls), one, seconds=240)
