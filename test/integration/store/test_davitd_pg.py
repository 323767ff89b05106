# SPDX-License-Identifier: Apache-2.0
"""davitd-pg: the main job on PostgreSQL, a kill, the lock against a second one, a server that goes away for a while."""
import shutil

import pytest

from lib import proc


@pytest.mark.req("PR-1")
@pytest.mark.smoke
def test_main_job(davit, busybox_image, docker, pg):
    store = pg.url + "#main_job"
    davit.up("--store", store)
    assert davit.json("status")["store"] == "postgresql" and not (davit.home / "state/control.db").exists()
    davit.run("deploy", busybox_image, "--name", "web", timeout=90)
    davit.kill("davitd-pg")
    davit.up()
    assert davit.pid("davitd-pg") and [s["name"] for s in davit.json("ps")["services"]] == ["web"]
    deployments = davit.json("deployments", "web")["deployments"]
    assert [d["state"] for d in deployments] == ["DEPLOYMENT_STATE_ACTIVE"]

    # A second one, with a state directory of its own, says why it does not work on the same tables.
    shutil.copytree(davit.home / "state", davit.top / "state2")
    second = davit.start("davitd-pg", "--state-dir", davit.top / "state2", "--store", store)
    proc.wait_for(lambda: not second.running(), text="end of the second one")
    assert "another control plane works on this database" in second.text()
    # A password has no place where everybody can read it.
    said = proc.run([davit.bin / "davitd-pg", "--state-dir", davit.top / "state2", "--store", "postgres://u:pw@localhost/x"], check=False)
    assert said.rc != 0 and "holds a password" in said.err and "pw@" not in said.err

    # Away and back: what is asked meanwhile fails with words, afterwards all is as before.
    pg.stop()
    said = davit.run("server", "add", "away-1", check=False)
    assert said.rc != 0 and "database" in said.err
    pg.start()
    proc.wait_for(lambda: davit.run("server", "add", "back-1", check=False).rc == 0, 30, text="writes after the server came back")
