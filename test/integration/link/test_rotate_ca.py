# SPDX-License-Identifier: Apache-2.0
"""The root is changed while servers are connected: in direct mode, through an edge, enrolled in the middle of it, and one that was away."""
import shutil

import pytest

from lib import edges, proc
from lib.remote import Remote


def waiting(davit):
    """{name: what the control plane says of it} of the servers that a change still waits for."""
    return {s["server"]: s for s in davit.json("controlplane", "rotate-ca", "--status").get("servers", [])}


def roots(davit):
    return davit.json("controlplane", "rotate-ca", "--status")["roots"]


def certificates_in(path):
    return path.read_text().count("BEGIN CERTIFICATE")


def bundle(remote):
    """ca.crt as the agent uses it now."""
    current = remote.dir / "bundles/current"
    return (current if current.exists() else remote.dir) / "ca.crt"


@pytest.mark.all_tier
def test_change_of_the_root(davit):
    web = proc.free_port()
    up = ("--advertise", "127.0.0.1", "--web-listen", f"127.0.0.1:{web}", "--hostname", "localhost", "--no-agent")
    davit.up(*up)
    folder = davit.top / "edge"
    folder.mkdir()
    certificates = edges.Certificates(folder)
    edge = edges.Relay(certificates, web)
    direct, tunnel, away, late = (Remote(davit, name) for name in ("direct", "tunnel", "away", "late"))
    for r in (direct, tunnel, away, late):
        r.add()
    dead = davit.json("server", "add", "dead")["token"]
    direct.enroll()
    away.enroll()
    tunnel.enroll(server=f"https://localhost:{edge.port}", extra=("--mode", "tunnel", "--tunnel-ca", certificates.root))
    for r in (direct, tunnel, away):
        r.start()
    for r in (direct, tunnel, away):
        proc.wait_for(lambda r=r: "connected to the control plane" in r.p.text(), 20, text=f"{r.name} connected")
    away.p.stop()
    old = davit.top / "old"
    shutil.copytree(davit.home / "config", old / "config")
    got = davit.run("controlplane", "rotate-ca", "--force", check=False)
    assert got.rc == 2 and "--finish" in got.err, got
    assert len(roots(davit)) == 1 and not waiting(davit)

    # Both are believed. Who is connected gets the new one, who is away is named.
    said = davit.run("controlplane", "rotate-ca")
    assert "old root" in said.out and "waiting    away" in said.out, said
    before, both = roots(davit)[1], roots(davit)
    proc.wait_for(lambda: set(waiting(davit)) == {"away"}, 20, 0.5, text="servers with the new root")
    assert "the root is being changed; 1 server has not got the new one" in davit.run("status").out
    assert "the root is being changed" in str(away.show()["healthReasons"])
    assert certificates_in(bundle(direct)) == 2 and certificates_in(tunnel.dir / "ca.crt") == 2

    # Everybody comes back after a crash, with what it has. A second begin changes nothing; a token of before the change still works.
    davit.kill("davitd")
    direct.p.stop()
    davit.up(*up)
    direct.start()
    for r in (direct, tunnel):
        r.wait()
    assert "already" in davit.run("controlplane", "rotate-ca").err and roots(davit) == both
    late.enroll()
    late.start()
    late.wait()
    assert certificates_in(bundle(late)) == 2
    again = davit.run("status", env=davit.env | {"DAVIT_HOME": str(old)}, check=False)
    assert again.rc == 0 and "controlplane rotate-ca" in again.out, again

    # Not finished while one is missing, but by force: it is named, and from then on the old root opens nothing on either side.
    got = davit.run("controlplane", "rotate-ca", "--finish", check=False)
    assert got.rc != 0 and "1 server has not got the new root: away" in got.err, got
    assert (davit.home / "config/old-root.key").exists()
    got = davit.run("controlplane", "rotate-ca", "--finish", "--force")
    assert "away is locked out" in got.out and not (davit.home / "config/old-root.key").exists(), got
    assert [r["pin"] for r in roots(davit)] == [both[0]["pin"]] and before["pin"] not in str(roots(davit))
    davit.kill("davitd")
    davit.up(*up)
    for r in (direct, tunnel, late):
        proc.wait_for(lambda r=r: r.name not in waiting(davit), 20, 0.5, text=f"{r.name} without the old root")
    assert certificates_in(bundle(direct)) == 1 and certificates_in(tunnel.dir / "ca.crt") == 1
    got = davit.run("status", env=davit.env | {"DAVIT_HOME": str(old)}, check=False)
    assert got.rc != 0 and "certificate" in got.err, got
    away.start()
    proc.wait_for(lambda: "certificate" in away.p.text(), 20, text=f"refusal: {away.p.text()}")
    away.p.stop()
    got = away.enroll(token=dead, check=False, extra=("--force",))
    assert got.rc != 0 and "pinned root" in got.err and "new token" in got.err, got
    away.token = davit.json("server", "token", "away")["token"]
    away.enroll(extra=("--force",))
    away.start()
    away.wait()
    proc.wait_for(lambda: not waiting(davit), 20, 0.5, text="away has told what it holds")
    assert "warning" not in davit.run("status").out
    seen = davit.run("audit", "export").out
    assert all(f"RootService/{m}" in seen for m in ("PrepareRoot", "BeginRoot", "FinishRoot"))
    edge.stop()
