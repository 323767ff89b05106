# SPDX-License-Identifier: Apache-2.0
"""An agent that updates itself, or does not: against a control plane, a service manager and a shelf of releases made by lib.updates."""
import pathlib
import shutil
import tempfile

import pytest

from lib import daemon, updates
from lib.updates import NEW, OLD


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    return daemon.generate(tmp_path_factory.mktemp("proto"))


@pytest.fixture
def host(modules):
    top = pathlib.Path(tempfile.mkdtemp(prefix="du."))
    h = updates.Host(modules, top, more=("--trial-wait", "20s"))
    yield h
    h.close()
    shutil.rmtree(top)


@pytest.mark.req("CL-18", "CL-80", "CL-81")
def test_an_update_takes_over_and_keeps_the_one_before(host):
    host.start()
    before, first = host.manager.main, host.plane.hellos[-1]
    assert first.system.update_method == "slots" and first.system.agent_version == OLD
    result = host.update(host.offer())
    assert not result.HasField("failure"), f"{result}\n{host.manager.text()[-6000:]}"
    assert result.outcome == f"updated to {NEW}"
    assert host.plane.online().system.agent_version == NEW
    assert host.current() == f"{NEW}-1" == host.manager.exe()
    assert host.slots() == {f"{OLD}-1", f"{NEW}-1", "counter"}
    assert host.manager.main != before and host.manager.starts == 1, "handed over, not started anew"
