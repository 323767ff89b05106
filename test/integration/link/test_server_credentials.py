# SPDX-License-Identifier: Apache-2.0
"""What a person does about the credentials of a server: exchanges them, takes them away; and what the audit log tells of it."""
import json
import time

from lib import proc
from lib.remote import Remote


def actions(davit):
    return [(e["action"], e["object"], e["outcome"]) for e in map(json.loads, davit.run("audit", "export").out.splitlines())]


def test_rotate_and_revoke(davit):
    davit.up("--advertise", "127.0.0.1", "--no-agent")
    r = Remote(davit, "web-1")
    r.add()
    # Nobody is there to be asked.
    got = davit.run("server", "rotate", "web-1", check=False)
    assert got.rc == 1 and "web-1: failed: the server is not connected" in got.out, got
    r.enroll()
    r.start()
    shown = r.wait()
    assert (shown["generation"], shown["generationConnected"]) == (1, 1) and not shown.get("revoked")
    assert 89 * 86400 < (int(shown["certificateExpiresUs"]) / 1e6 - time.time()) < 91 * 86400
    proc.wait_for(lambda: r.show()["generationConnected"] >= 1)

    before = r.show()["generationConnected"]
    got = davit.run("server", "rotate", "web-1", "--timeout", "30s")
    assert f"web-1: connected with generation {before + 1}" in got.out, got
    assert f"generation {before + 1}, until " in davit.run("server", "show", "web-1").out
    got = davit.run("server", "rotate", "--all", "-o", "json")
    [event] = json.loads(got.out)["servers"]
    assert event["server"] == "web-1" and event["state"] == "ROTATE_STATE_DONE" and event["generation"] == before + 2, event
    for wrong in ((), ("web-1", "--all"), ("web-1", "--timeout", "0s")):
        assert davit.run("server", "rotate", *wrong, check=False).rc == 2
    assert davit.run("server", "rotate", "nobody", check=False).rc != 0

    # Revoked: the link is cut within a second, nobody is let in, also not after a restart.
    start = time.monotonic()
    davit.run("server", "revoke", "web-1")
    proc.wait_for(lambda: r.show()["state"] == "SERVER_STATE_OFFLINE", 5)
    assert time.monotonic() - start < 5 and "revoked" in r.show()["stateReason"]
    said = davit.run("server", "show", "web-1").out
    assert "credentials        revoked" in said and "its credentials were revoked" in said, said
    proc.wait_for(lambda: "were revoked" in r.p.text(), 20, text="the agent's log")
    got = davit.run("server", "rotate", "web-1", check=False)
    assert got.rc == 1 and "revoked" in got.out, got
    davit.kill("davitd")
    davit.up("--advertise", "127.0.0.1", "--no-agent")
    assert r.show()["revoked"]

    def certificates():
        told = proc.run([davit.bin / "davit-agent", "doctor", "--json", "--config-dir", r.dir], env=davit.env, check=False, timeout=40)
        return {c["name"]: c for c in json.loads(told.out)["checks"]}["certificates"]

    # While it dials the control plane that came back, it has not been told again.
    row = proc.wait_for(lambda: (lambda row: row if row["result"] == "FAIL" else None)(certificates()), 60, every=0.5, text="doctor says so")
    assert row["result"] == "FAIL" and "revoked" in row["message"] and "davit server token" in row["fix"], row
    r.p.stop()
    said = davit.run("server", "token", "web-1")
    assert "--force" in said.out and "systemctl stop davit-agent" in said.out and "enrolled before" in said.err, str(said)
    said = davit.json("server", "token", "web-1")
    assert said["replaces"] and "--force" in said["installCommand"]
    r.token = said["token"]
    r.enroll(extra=("--force",))
    r.start()
    assert not r.wait().get("revoked")

    seen = actions(davit)
    assert seen.count(("server.renewed", "web-1", "ok")) == 2
    assert ("CredentialService/Revoke", "web-1", "ok") in seen and ("CredentialService/Rotate", "web-1", "ok") in seen
    assert ("server.enrolled", "web-1", "ok") in seen
