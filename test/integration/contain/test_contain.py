# SPDX-License-Identifier: Apache-2.0
"""test_contain: the agent's part of sandboxes against a real engine and the real supervisor; the control plane is played by lib.sandboxes."""
import base64
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import uuid

import pytest

from lib import images
from lib.pki import DAY, Authority
from lib.sandboxes import Control, clean, name_of
from lib.work import Proxy

REGISTERED, UNTRUSTED = "SANDBOX_TRUST_REGISTERED", "SANDBOX_TRUST_UNTRUSTED"
RUNNING, FAILED, STOPPED = "SANDBOX_STATE_RUNNING", "SANDBOX_STATE_FAILED", "SANDBOX_STATE_STOPPED"
START, STOP, REMOVE = "ACTION_START", "ACTION_STOP", "ACTION_REMOVE"
SLEEP = ["/bin/busybox", "sleep", "1000"]


@pytest.fixture(scope="module")
def engine(docker, tmp_path_factory):
    proxy = Proxy(tmp_path_factory.mktemp("engine") / "s", docker.sock)
    proxy.up()
    yield proxy
    proxy.down()


@pytest.fixture(scope="module")
def control(docker, engine, tmp_path_factory):
    with Control(engine.path, tmp_path_factory.mktemp("agent") / "sandboxes") as c:
        yield c
    clean(docker, c.server)


def import_busybox(docker, name, *changes):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo("busybox")
        with open(images.BUSYBOX, "rb") as f:
            data = f.read()
        info.size, info.mode = len(data), 0o755
        t.addfile(info, io.BytesIO(data))
    docker.import_image(out.getvalue(), name, ['ENTRYPOINT ["/busybox"]', 'CMD ["sleep", "1000"]', *changes])
    return name


@pytest.fixture(scope="module")
def scratch_image(docker):
    """An image that has one file, /busybox, and nothing else: no shell, no /etc, no /tmp."""
    return import_busybox(docker, "davit-test/scratch:1", "USER 1000:1000")


def processes(docker, box):
    return docker.json("GET", f"/containers/{name_of(box)}/top", query={"ps_args": "-eo pid,uid,args"})["Processes"]


@pytest.mark.req("SA-1", "CW-106")
def test_images_as_they_are(control, docker, busybox_image, scratch_image):
    for image, more in ((busybox_image, {"command": SLEEP, "project": "shop"}), (scratch_image, {"readOnly": True})):
        box, r = control.create(image, **more)
        assert "failure" not in r and r["outcome"] == "running", (r, docker.call("GET", f"/containers/{name_of(box)}/logs?stdout=1&stderr=1"))
        c = docker.inspect(name_of(box))
        assert c["Id"] == r["containerId"] and c["Config"]["Labels"]["davit.sandbox"] == box["id"]
        folder = c["Path"].removesuffix("/davit-init")
        assert re.fullmatch("/\\.davit-[0-9a-f]{16}", folder) and c["State"]["Running"], c["Path"]
        mounts = {m["Destination"]: m for m in c["Mounts"]}
        assert mounts[folder]["Name"].startswith("davit-runtime-") and not mounts[folder]["RW"]
        ran = [p for p in processes(docker, box) if "sleep" in p[2] and "davit-init" not in p[2]]
        assert len(ran) == 1 and ran[0][1] == ("0" if image == busybox_image else "1000")
        assert list(c["NetworkSettings"]["Networks"]) == ["davit-net"]
        assert control.act(box, REMOVE, volumes=True)["outcome"] == "removed"


def log_of(docker, box):
    """What its program said: not what the supervisor did."""
    data, out = docker.call("GET", f"/containers/{name_of(box)}/logs?stdout=1&stderr=1"), b""
    while data:
        n = int.from_bytes(data[4:8], "big")
        out, data = out + data[8:8 + n], data[8 + n:]
    return "\n".join(line for line in out.decode(errors="replace").splitlines() if not line.startswith("program="))


def wait_for(what, timeout=20):
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.03)


def gone(control, *boxes):
    for box in boxes:
        assert control.act(box, REMOVE, volumes=True)["outcome"] == "removed"


SERVE = "import socketserver; socketserver.ThreadingTCPServer(('198.18.77.2', 7), socketserver.BaseRequestHandler).serve_forever()"


@pytest.fixture(scope="module")
def listener():
    """A service of another machine: a network namespace behind this one, which forwards."""
    ns = "davit" + uuid.uuid4().hex[:6]

    def ip(*words):
        subprocess.run(["ip", *words], check=True, timeout=10)

    ip("netns", "add", ns)
    ip("link", "add", ns, "type", "veth", "peer", "name", "eth0", "netns", ns)
    ip("addr", "add", "198.18.77.1/30", "dev", ns)
    ip("link", "set", ns, "up")
    ip("-n", ns, "addr", "add", "198.18.77.2/30", "dev", "eth0")
    ip("-n", ns, "link", "set", "eth0", "up")
    ip("-n", ns, "route", "add", "default", "via", "198.18.77.1")
    server = subprocess.Popen(["ip", "netns", "exec", ns, sys.executable, "-c", SERVE])
    yield "198.18.77.2", 7
    server.kill()
    server.wait()
    ip("netns", "del", ns)


LOOK = r"""timeout 3 nc {host} {port} </dev/null && echo reached
timeout 1 nslookup example.test >/dev/null 2>&1 && echo resolved
echo looked; sleep 1000"""


@pytest.mark.req("SA-9")
def test_there_is_no_way_out(control, docker, busybox_image, listener):
    host, port = listener
    look = ["/bin/sh", "-c", LOOK.format(host=host, port=port)]
    inside, r = control.create(busybox_image, command=look)
    outside, q = control.create(busybox_image, command=look, openNetwork=True)
    assert "failure" not in r and "failure" not in q, (r, q)
    for box in (inside, outside):
        wait_for(lambda box=box: "looked" in log_of(docker, box))
    assert "reached" in log_of(docker, outside)
    assert [line for line in log_of(docker, inside).split() if line != "Terminated"] == ["looked"]
    net = docker.json("GET", "/networks/davit-net")
    assert net["Internal"] and net["IPAM"]["Config"][0]["IPRange"].endswith(".0/25")
    gone(control, inside, outside)


@pytest.mark.req("CW-110", "CW-111", "CW-52")
def test_steps(control, docker, busybox_image):
    step = {"name": "one", "command": ["/bin/sh", "-c", "echo first"]}
    mcp = {"name": "tools", "command": ["/bin/sh", "-c", "echo mcp"], "mcp": True}
    boot = {"name": "each", "command": ["/bin/sh", "-c", "echo boot"]}
    asked = control.asked.count("sandboxRegister")
    box, r = control.create(busybox_image, command=["/bin/sh", "-c", "echo main; exec sleep 1000"], initSteps=[step, mcp], bootSteps=[boot])
    assert "failure" not in r, r
    told = [(s["step"], s.get("stepIndex"), s["stepTotal"], s.get("message")) for s in control.states(box) if s.get("step")]
    assert told == [("one", 1, 3, None), ("tools", 2, 3, "MCP set-up"), ("each", 3, 3, None)]
    wait_for(lambda: "main" in log_of(docker, box))
    assert control.act(box, STOP, stopTimeoutS=1)["outcome"] == "stopped"
    assert control.act(box, START)["outcome"] == "started"
    wait_for(lambda: log_of(docker, box).count("main") == 2)
    # Steps write to another stream than the program: the engine reads one of the two first.
    said = log_of(docker, box).split()
    assert [x for x in said if x in ("first", "mcp", "boot")] == ["first", "mcp", "boot", "boot"] and said.count("main") == 2
    # One registration for all that was run.
    assert control.asked.count("sandboxRegister") == asked + 1
    bad, r = control.create(busybox_image, command=["/bin/sh", "-c", "echo main; exec sleep 1000"],
                            initSteps=[step, {"name": "two", "command": ["/bin/sh", "-c", "echo broken; exit 3"]}, mcp])
    assert r["failure"]["reason"] == "step_failed" and "status 3: broken" in r["failure"]["message"]
    s = control.state(bad, state=FAILED)
    assert (s["step"], s["reason"]) == ("two", "step_failed") and "main" not in log_of(docker, bad) and "mcp" not in log_of(docker, bad)
    gone(control, box, bad)


@pytest.mark.req("CW-31")
def test_what_runs_is_counted_in_the_engine_and_drift_is_told(control, docker, busybox_image):
    def count(known):
        count.asked += 1
        control.send(sandboxCount={"requestId": str(count.asked), "known": known})
        got = control.wait(lambda m: m.get("sandboxCounted", {}).get("requestId") == str(count.asked))["sandboxCounted"]
        return got.get("running", 0), [m for m in control.seen[count.seen:] if m.get("sandboxes", {}).get("full")]

    count.asked, count.seen = 0, 0
    boxes = [control.create(busybox_image, command=SLEEP)[0] for _ in range(2)]
    # One that only looks like one of this server: it is counted, for something runs.
    stray = docker.json("POST", "/containers/create", {"Image": busybox_image, "Cmd": SLEEP, "Labels": {
        "davit.managed": "true", "davit.purpose": "sandbox", "davit.server": control.server}})["Id"]
    try:
        assert count(2)[0] == 2
        docker.call("POST", f"/containers/{stray}/start")
        assert count(2)[0] == 3
        docker.call("POST", f"/containers/{name_of(boxes[0])}/kill")
        wait_for(lambda: count(2)[0] == 2)
        count.seen = len(control.seen)
        assert count(2) == (2, [])
        running, told = count(7)
        assert running == 2 and {s["id"] for s in told[-1]["sandboxes"]["sandboxes"]} >= {b["id"] for b in boxes}
    finally:
        docker.remove(stray)
    gone(control, *boxes)


@pytest.mark.req("CW-24", "CW-114", "CW-73")
def test_unregistered_ones_are_told_and_get_nothing(control, docker, busybox_image):
    control.refuse = {"code": 7, "message": "not this one", "reason": "unknown_sandbox"}
    box, cmd = control.create(busybox_image, command=SLEEP, wait=False, initSteps=[{"name": "one", "command": ["/bin/sh", "-c", "echo first"]}])
    s = control.state(box, reason="register_failed")
    assert s["trust"] == "SANDBOX_TRUST_UNREGISTERED" and s["state"] == "SANDBOX_STATE_STARTING" and s["session"] and "not this one" in s["message"]
    wait_for(lambda: b"event=register_failed" in docker.call("GET", f"/containers/{name_of(box)}/logs?stdout=1&stderr=1"))
    assert "first" not in log_of(docker, box)
    control.refuse = None
    assert "failure" not in control.result(cmd)
    assert control.state(box, state=RUNNING)["trust"] == "SANDBOX_TRUST_REGISTERED" and "first" in log_of(docker, box)
    gone(control, box)


@pytest.mark.req("CW-104")
def test_another_certificate_is_cut_off(control, docker, busybox_image):
    box, _ = control.create(busybox_image, command=SLEEP)
    row = control.rows[box["id"]]
    assert control.act(box, STOP, stopTimeoutS=1)["outcome"] == "stopped"
    control.send(sandboxVerdict={**row, "thumbprint": "0" * 64})
    r = control.act(box, START)
    assert r["failure"]["reason"] == "cert_thumbprint_mismatch"
    s = control.state(box, state=FAILED)
    assert s["trust"] == "SANDBOX_TRUST_UNTRUSTED"
    wait_for(lambda: docker.inspect(name_of(box))["NetworkSettings"]["Networks"] == {})
    assert not [p for p in processes(docker, box) if p[2].startswith("/bin/busybox sleep")]
    gone(control, box)


@pytest.mark.req("CW-104")
def test_a_refused_registration_cuts_off(control, docker, busybox_image):
    control.refuse = {"code": 7, "message": "it calls itself by another name", "reason": "label_mismatch"}
    box, r = control.create(busybox_image, command=SLEEP)
    control.refuse = None
    assert r["failure"]["reason"] == "label_mismatch" and "another name" in r["failure"]["message"], r
    s = control.state(box, state=FAILED)
    assert (s["trust"], s["reason"]) == ("SANDBOX_TRUST_UNTRUSTED", "label_mismatch")
    wait_for(lambda: docker.inspect(name_of(box))["NetworkSettings"]["Networks"] == {})
    assert docker.inspect(name_of(box))["RestartCount"] == 0 and not [p for p in processes(docker, box) if p[2].startswith("/bin/busybox sleep")]
    gone(control, box)


def test_an_image_does_not_set_up_the_supervisor(control, docker):
    image = import_busybox(docker, "davit-test/env:1", "ENV DAVIT_MATERIAL=/tmp DAVIT_SESSION_LISTEN=127.0.0.1:9 DAVIT_LOG_LEVEL=none CLAWKER_USER=1234")
    box, r = control.create(image)
    assert "failure" not in r, r
    assert [p[1] for p in processes(docker, box) if p[2].startswith("/busybox sleep")] == ["0"]
    gone(control, box)


def test_labels_of_an_image_are_no_sandbox(control, docker, busybox_image):
    box, r = control.create(busybox_image, command=SLEEP)
    assert "failure" not in r, r
    labels = {"davit.managed": "true", "davit.server": control.server, "davit.purpose": "sandbox", "davit.sandbox": box["id"]}
    image = import_busybox(docker, "davit-test/labels:1", "LABEL " + " ".join(f"{k}={v}" for k, v in labels.items()))
    project = "p" + uuid.uuid4().hex[:8]
    n = len(control.states(box))
    try:
        assert "failure" not in control.deploy({"project": project, "name": "web", "image": image, "pull": "never"}, timeout=30)
        service = docker.containers(f"davit.project={project}")[0]["Id"]
        # Nor one that nobody gave other labels.
        docker.json("POST", "/containers/create", {"Image": image, "Cmd": ["sleep", "9"]}, query={"name": project})
        docker.call("POST", f"/containers/{project}/start")
        time.sleep(0.5)
        assert control.act(box, STOP, stopTimeoutS=1)["outcome"] == "stopped" and not docker.inspect(name_of(box))["State"]["Running"]
        assert {s["containerId"] for s in control.states(box)[n:]} == {r["containerId"]}
        assert docker.inspect(service)["State"]["Running"] and docker.inspect(project)["State"]["Running"]
    finally:
        for c in docker.containers(f"davit.project={project}"):
            docker.remove(c["Id"])
        docker.remove(project)
    gone(control, box)


@pytest.mark.req("CW-93", "CW-88")
def test_known_ones_start_while_the_control_plane_is_away(control, docker, busybox_image):
    # A third of what a certificate lives is over: it is renewed over the session.
    control.life = 10 * DAY
    old, _ = control.create(busybox_image, command=SLEEP)
    control.life = 90 * DAY
    first = next(s["thumbprint"] for s in control.states(old) if s.get("thumbprint"))
    wait_for(lambda: control.states(old)[-1]["thumbprint"] not in ("", first) and control.states(old)[-1].get("session"))
    assert control.states(old)[-1]["thumbprint"] == control.rows[old["id"]]["thumbprint"] and control.states(old)[-1]["state"] == RUNNING
    box, _ = control.create(busybox_image, command=["/bin/sh", "-c", "echo main; sleep 0.2; exit 7"], restart="on-failure")
    asked = list(control.asked)
    control.unlink()
    count = docker.inspect(name_of(box))["RestartCount"]
    wait_for(lambda: docker.inspect(name_of(box))["RestartCount"] >= count + 2 and log_of(docker, box).count("main") >= 3)
    assert control.asked == asked
    control.link()
    control.state(box, thumbprint=control.rows[box["id"]]["thumbprint"], exitCode=7)
    gone(control, box, old)


@pytest.mark.req("CW-93")
def test_a_renewal_that_is_cut_off(control, docker, busybox_image):
    """The control plane has written the new row, and the agent is gone before the sandbox has its new key: both certificates are its own then."""
    cut = threading.Event()
    control.on_renewal = lambda q, row: cut.set()
    control.life = 10 * DAY
    try:
        box, _ = control.create(busybox_image, command=SLEEP, wait=False)
        assert cut.wait(30)
        control.life = 90 * DAY
        row = dict(control.rows[box["id"]])
        assert row["previousThumbprint"] != row["thumbprint"]
        control.on_renewal = None
        control.restart()
        both = (row["thumbprint"], row["previousThumbprint"])
        wait_for(lambda: [s for s in control.states(box) if s.get("liveThumbprint", "") == s.get("thumbprint") not in both])
        wait_for(lambda: control.rows[box["id"]].get("previousThumbprint") is None)
        assert not [s for s in control.states(box) if s.get("trust") == UNTRUSTED]
        # Seen once, no other opens a session any more.
        control.rows[box["id"]] |= {"previousThumbprint": control.rows[box["id"]]["thumbprint"], "thumbprint": row["previousThumbprint"]}
        control.rows[box["id"]].pop("previousThumbprint")
        control.restart()
        control.state(box, state=FAILED, trust=UNTRUSTED, reason="cert_thumbprint_mismatch")
        gone(control, box)
    finally:
        control.on_renewal, control.life = None, 90 * DAY


@pytest.mark.req("CW-93")
def test_stopped_for_longer_than_a_certificate_lasts(control, docker, busybox_image):
    refuse = {"code": 14, "message": "not now", "reason": "unavailable"}

    def no(q, row):
        row["thumbprint"] = row.pop("previousThumbprint")
        control.send(sandboxCertified={"requestId": q["requestId"], "failure": refuse})
    control.on_renewal = no
    control.life = DAY * 4 / 86400
    try:
        box, r = control.create(busybox_image, command=SLEEP)
        assert "failure" not in r, r
        born = time.monotonic()
        control.act(box, STOP, stopTimeoutS=1)
        control.on_renewal, control.life = None, 90 * DAY
        first = control.rows[box["id"]]["thumbprint"]
        time.sleep(max(0, born + 4.2 - time.monotonic()))
        control.unlink()
        assert "certificate has expired" in control.act(box, START)["failure"]["message"]
        # That the one before counts no more did not arrive: what it has stays good all the same, should this start be cut off.
        control.rows[box["id"]]["previousThumbprint"] = "a" * 64
        control.link()
        assert "failure" not in control.act(box, START)
        control.state(box, state=RUNNING, session=True, trust=REGISTERED)
        assert [m["sandboxCertify"] for m in control.seen if m.get("sandboxCertify", {}).get("sandboxId") == box["id"]][-1]["liveThumbprint"] == first
        wait_for(lambda: control.states(box)[-1].get("liveThumbprint") == control.rows[box["id"]]["thumbprint"] != first)
        gone(control, box)
    finally:
        control.on_renewal, control.life = None, 90 * DAY


def test_what_another_engine_does_not_list_is_kept(control, docker, busybox_image):
    box, _ = control.create(busybox_image, command=["/bin/true"])
    folder = pathlib.Path(control.folder)

    def again(engine):
        control.p.kill()
        control.p.wait()
        (folder / "engine").write_text(engine)
        if docker.containers(f"davit.sandbox={box['id']}"):
            docker.remove(name_of(box))
        n = len(control.seen)
        control.restart()
        return n
    own = (folder / "engine").read_text()
    assert own == docker.json("GET", "/info")["ID"]
    n = again("another")
    time.sleep(1.5)
    assert not any(m["sandboxes"].get("full") for m in control.seen[n:] if "sandboxes" in m) and (folder / f"{box['id']}.row").exists()
    again(own)
    wait_for(lambda: not (folder / f"{box['id']}.spec").exists())
    assert control.act(box, REMOVE, volumes=True)["outcome"] == "already removed"


@pytest.mark.req("SA-5", "CW-29", "CW-30")
def test_sessions_come_back(control, engine, docker, busybox_image):
    box, r = control.create(busybox_image, command=SLEEP)
    assert "failure" not in r, r
    kept = (control.folder / f"{box['id']}.spec").read_bytes()  # its words may be secrets
    assert kept.startswith(b"\0DS\1") and b"sleep" not in kept
    half = [p for p in processes(docker, box) if "davit-session" in p[2]]
    n = len(control.states(box))
    os.kill(int(half[0][0]), signal.SIGKILL)
    wait_for(lambda: [s.get("session", False) for s in control.states(box)[n:]][-2:] == [False, True])
    # The engine is not to be heard: what happens meanwhile is seen afterwards.
    engine.down()
    docker.call("POST", f"/containers/{name_of(box)}/restart?t=1")
    n = len(control.states(box))
    engine.up()
    wait_for(lambda: any(s["state"] == RUNNING for s in control.states(box)[n:]))
    started, n, asked = docker.inspect(name_of(box))["State"]["StartedAt"], len(control.states(box)), len(control.asked)
    control.restart()
    wait_for(lambda: any(s["state"] == RUNNING and s.get("session") for s in control.states(box)[n:]))
    assert docker.inspect(name_of(box))["State"]["StartedAt"] == started and len(control.asked) == asked
    gone(control, box)


@pytest.mark.req("SA-2")
def test_workspaces(control, docker, busybox_image, tmp_path):
    (tmp_path / "mine").write_text("bound")
    os.chown(tmp_path / "mine", 1234, 1234)
    os.chmod(tmp_path, 0o777)
    look = ["/bin/sh", "-c", "stat -c '%u %n' /w/mine; cat /w/mine; echo; echo more >/w/new; sleep 1000"]
    bound, r = control.create(busybox_image, command=look, user="1234", workspace={"source": str(tmp_path), "path": "/w"})
    assert "failure" not in r, r
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo("mine")
        info.uid, info.size = 4321, 4
        t.addfile(info, io.BytesIO(b"snap"))
    box_id = str(uuid.uuid4())
    control.send(callOpen={"callId": "9", "creditBytes": 1 << 20, "sandboxFill": {"sandboxId": box_id}})
    control.send(callData={"callId": "9", "data": base64.b64encode(out.getvalue()).decode(), "last": True})
    end = control.wait(lambda m: m.get("callEnd", {}).get("callId") == "9")["callEnd"]
    assert "failure" not in end, end
    snap, r = control.create(busybox_image, id=box_id, command=look, workspace={"path": "/w", "snapshot": True})
    assert "failure" not in r, r
    wait_for(lambda: "snap" in log_of(docker, snap) and "bound" in log_of(docker, bound))
    assert "1234 /w/mine" in log_of(docker, bound) and "4321 /w/mine" in log_of(docker, snap)
    gone(control, bound, snap)
    assert not docker.volumes(f"davit.sandbox={box_id}")


def call_output(control, call_id):
    return b"".join(base64.b64decode(m["callData"].get("data", "")) for m in list(control.seen) if m.get("callData", {}).get("callId") == call_id)


def test_attach(control, docker, busybox_image):
    box, r = control.create(busybox_image, command=["/bin/sh", "-c", "echo hello; read x; stty size; exit 5"], tty=True, stdin=True)
    assert "failure" not in r, r
    for call_id in ("21", "22"):
        control.send(callOpen={"callId": call_id, "creditBytes": 1 << 20, "sandboxAttach": {
            "sandboxId": box["id"], "stdin": True, "fromStart": True, "rows": 31, "columns": 97}})
        wait_for(lambda call_id=call_id: b"hello" in call_output(control, call_id))
        if call_id == "21":
            control.send(callClose={"callId": call_id})
    control.send(callData={"callId": "22", "data": base64.b64encode(b"x\r").decode()})
    end = control.wait(lambda m: m.get("callEnd", {}).get("callId") == "22")["callEnd"]
    assert end["exec"]["exitCode"] == 5 and b"31 97" in call_output(control, "22")
    assert control.state(box, state=STOPPED)["exitCode"] == 5
    gone(control, box)


@pytest.mark.req("CW-18", "CW-19")
def test_the_relay_is_for_sandboxes_alone(control, docker, busybox_image, tmp_path):
    box, _ = control.create(busybox_image, command=SLEEP)
    gateway = docker.json("GET", "/networks/davit-net")["IPAM"]["Config"][0]["Gateway"]
    listening = subprocess.run(["ss", "-Hltn", "sport = :7444"], capture_output=True, text=True, check=True).stdout
    ours = {f"{n['IPAM']['Config'][0]['Gateway']}:7444" for n in docker.networks("davit.purpose=sandbox")}
    assert f"{gateway}:7444" in ours and {line.split()[3] for line in listening.splitlines()} & ours
    assert not docker.inspect(name_of(box))["HostConfig"]["PortBindings"]
    # Who has no certificate, or one of another authority, does not get past the handshake.
    shaken = []
    for ca in (None, Authority.make(), control.ca):
        words = []
        if ca:
            (tmp_path / "pair.pem").write_bytes(b"".join(ca.leaf(f"davit://sandbox/{box['id']}")))
            words = ["--cert", tmp_path / "pair.pem"]
        got = subprocess.run(["curl", "-vk", "-m", "5", "--http2", *words, f"https://{gateway}:7444/"], capture_output=True, text=True, check=False)
        shaken.append(got.returncode == 0)
    assert shaken == [False, False, True]
    gone(control, box)


def test_an_image_cannot_put_its_own_over_our_pid_1(control, docker):
    """The engine fills a volume that an image declares with what lies there, and mounts it where a link of the image leads."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        with open(images.BUSYBOX, "rb") as f:
            busybox = f.read()
        hostile = b"#!/busybox sh\necho HOSTILE $$; exec /busybox sleep 1000\n"
        for name, data in (("busybox", busybox), (".davit/davit-init", hostile), ("a/", None), ("a/b/", None)):
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode, info.size, info.type = 0o755, len(data or b""), tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            t.addfile(info, io.BytesIO(data or b""))
        for name, to in (("a/b/x", "/.davit"), ("a/b/y", "/run/davit"), ("a/b/z", "/")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, to
            t.addfile(info)
    for places in ('["/a/b/x"]', '["/a/b/y"]', '["/a/b/z"]'):
        name = "davit-test/cover" + places[-3] + ":1"
        docker.import_image(out.getvalue(), name, ['ENTRYPOINT ["/busybox"]', 'CMD ["sleep", "1000"]', f"VOLUME {places}"])
        box, r = control.create(name)
        said = docker.call("GET", f"/containers/{name_of(box)}/logs?stdout=1&stderr=1") if "failure" not in r else b""
        assert b"HOSTILE" not in said, (places, said)
        assert "failure" in r or [p for p in processes(docker, box) if "davit-session" in p[2]], (places, r)
        if "failure" not in r:  # else nothing was left
            gone(control, box)
