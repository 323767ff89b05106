# SPDX-License-Identifier: Apache-2.0
"""An update under a real systemd, with the unit as it is shipped: the main process changes hands, and the service is never down."""
import pathlib
import shutil
import sys
import tempfile

import pytest

from lib import daemon, proc, systemd, updates
from lib.updates import NEW, OLD

ROOT = pathlib.Path(__file__).resolve().parents[3]
DROP_IN = "[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\nMemoryMax=infinity\nTasksMax=infinity\nWatchdogSec=4\n"
SET_UP = """
echo davit-agent:x:971:971::/nonexistent:/usr/sbin/nologin >>/etc/passwd
echo davit-agent:x:971: >>/etc/group
cp -r /share/opt /opt/davit && cp -r /share/etc /etc/davit-agent
chown -R davit-agent:davit-agent /opt/davit /etc/davit-agent
systemctl daemon-reload && systemctl start davit-agent
"""


@pytest.fixture
def host(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proto")
    top = pathlib.Path(tempfile.mkdtemp(prefix="dus."))
    h = updates.Host(daemon.generate(folder), top)
    try:
        yield h
    finally:
        h.close()
        sys.path.remove(str(folder))
        shutil.rmtree(top)


@pytest.mark.all_tier
@pytest.mark.req("CL-81", "CL-82")
def test_the_main_process_changes_hands(docker, host):
    with systemd.Machine(docker, share={host.top: "/share"}) as m:
        m.write("/etc/systemd/system/davit-agent.service", (ROOT / "dist/systemd/davit-agent.service").read_text())
        m.write("/etc/systemd/system/davit-agent.service.d/test.conf", DROP_IN)
        m.run("sh", "-ec", SET_UP)
        assert host.plane.online(30).system.update_method == "slots"
        main = m.property("MainPID")
        result = host.update(host.offer())
        assert not result.HasField("failure"), f"{result}\n{m.journal()}"
        after = m.property("MainPID")
        assert after != main and m.property("NRestarts") == "0" and m.active()
        assert m.run("readlink", "/opt/davit/current").stdout.strip() == f"slots/{NEW}-1"
        # It outlived the watchdog by now; a reboot starts it, and it dies like any other, without going back.
        m.run("kill", "-9", after)
        proc.wait_for(lambda: m.property("MainPID") not in ("0", after), 20, text="a restart")
        assert host.plane.online(20).system.agent_version == NEW
        # The next one dies in its first seconds: the one before it comes back.
        seq = host.plane.send(update_agent=host.modules.link.UpdateAgent(**host.offer("0.3.0")))
        host.plane.wait(lambda: host.plane.hellos[-1].system.agent_version == "0.3.0", 60, "the third")
        proc.wait_for(lambda: m.run("readlink", "/opt/davit/current").stdout.strip() == f"slots/0.3.0-{seq}", 20, every=0.05)
        before = m.property("MainPID")
        m.run("kill", "-9", before)
        assert host.plane.result(seq).failure.reason in ("update_replace", "update_trial"), m.journal()
        assert m.run("readlink", "/opt/davit/current").stdout.strip() == f"slots/{NEW}-1"
        assert host.plane.online(20).system.agent_version == NEW
    assert OLD not in (h.system.agent_version for h in list(host.plane.hellos)[1:])
