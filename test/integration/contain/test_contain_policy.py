# SPDX-License-Identifier: Apache-2.0
"""test_contain_policy: a control plane in foreign hands (lib.sandboxes plays it) asks for sandboxes that the owner of the machine would not have."""
import base64
import os
import subprocess
import time
import uuid

import pytest

from lib.sandboxes import Control, clean, name_of

RUNNING = "SANDBOX_STATE_RUNNING"
SLEEP = ["/bin/busybox", "sleep", "1000"]


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """The folder of an agent, with what only it may read."""
    folder = tmp_path_factory.mktemp("agent")
    (folder / "journal.key").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def control(docker, agent):
    with open(agent / "log", "w", encoding="utf-8") as log:
        Control.log = log
        try:
            with Control(docker.sock, agent / "sandboxes", "--policy", agent / "policy.yaml") as c:
                yield c
        finally:
            del Control.log
    clean(docker, c.server)


@pytest.fixture(name="owner")
def owner_fixture(agent):
    def says(text):
        """A new file in place of the old one, as editors write it."""
        (agent / "new").write_text(text)
        (agent / "new").chmod(0o600)
        (agent / "new").rename(agent / "policy.yaml")

    yield says
    (agent / "policy.yaml").unlink(missing_ok=True)


def refused(control, reason, image, **spec):
    """The message of what came to nothing: no container, no volume, nothing kept."""
    box, r = control.create(image, command=SLEEP, **spec)
    assert "failure" in r and r["failure"]["reason"] == reason, (spec, r)
    assert not list((control.folder).glob(box["id"] + "*"))
    hint = r["failure"].get("hint")
    return r["failure"]["message"] + (f" hint: {hint}" if hint else "")


def bound(source, path="/w"):
    return {"workspace": {"source": str(source), "path": path}}


@pytest.mark.req("CB-15")
def test_folders_that_rule_the_server_are_not_bound(control, docker, agent, busybox_image, tmp_path):
    before = {c["Id"] for c in docker.containers()}
    links = tmp_path / "links"
    links.mkdir()
    for name, to in (("etc", "/etc"), ("root", "/"), ("socket", docker.sock), ("agent", agent), ("twice", "etc")):
        (links / name).symlink_to(to)
    # As it is written: one spelling, none of what rules the server.
    for source in ("/", "/etc", "/etc/ssh", "/root", "/proc/1/root", "/sys", "/dev", "/run", "/var/run/docker.sock", "/var/lib/docker", "/usr", "", "srv",
                   "//etc", f"{tmp_path}/", f"{tmp_path}//links", f"{tmp_path}/../..", f"{links}/./etc", f"{tmp_path}:/x"):
        assert "hint:" not in refused(control, "invalid", busybox_image, **bound(source))
    # As it is: wherever a link leads, the agent's own folder and the engine's socket, and what holds or lies in them.
    for source in (links / "etc", links / "etc/ssh", links / "root", links / "root/etc", links / "twice", links / "socket", links / "agent",
                   links / "agent/sandboxes", agent, agent / "sandboxes", agent.parent, docker.sock, os.path.dirname(docker.sock)):
        assert "may not be mounted" in refused(control, "mount_forbidden", busybox_image, **bound(source))
    refused(control, "mount_missing", busybox_image, **bound(tmp_path / "none"))
    for place in ("/", "/etc/x", "/proc/x", "/bin", "/.davit", "/.davit-1", "/run/davit", "/run/davit/x", "//run/davit", "/run//davit", "/x/../run/davit"):
        refused(control, "invalid", busybox_image, **bound(tmp_path, place))
        refused(control, "invalid", busybox_image, volumes=[{"name": "v", "path": place}] if place != "/etc/x" else [{"name": "v", "path": "/bin"}])
    assert {c["Id"] for c in docker.containers()} == before
    said = (agent / "log").read_text()
    assert f"source={links}/etc" in said.replace('"', "") and "reason=mount_forbidden" in said
    # What is allowed works, and what is mounted is where it led when it was judged.
    (tmp_path / "mine").mkdir()
    (links / "mine").symlink_to(tmp_path / "mine")
    box, r = control.create(busybox_image, command=SLEEP, **bound(links / "mine"))
    assert "failure" not in r, r
    [mount] = [m for m in docker.inspect(name_of(box))["Mounts"] if m["Destination"] == "/w"]
    assert mount["Source"] == str(tmp_path / "mine")
    control.act(box, "ACTION_REMOVE", volumes=True)


@pytest.mark.req("CB-15")
def test_the_owners_file_holds_for_sandboxes(control, docker, agent, owner, busybox_image, tmp_path):
    inside, outside = tmp_path / "srv", tmp_path / "other"
    inside.mkdir()
    outside.mkdir()
    (inside / "out").symlink_to(outside)
    runs, r = control.create(busybox_image, command=["/bin/sh", "-c", "while read x; do echo got $x; done"], stdin=True, **bound(outside))
    assert "failure" not in r, r
    owner(f"exec: forbid\nimages:\n  - registry.example.org/*\nprivileged: forbid\nmounts:\n  - {inside}\n")
    assert "line 2: images" in refused(control, "policy_image_source", busybox_image)
    owner(f"exec: forbid\nprivileged: forbid\nmounts:\n  - {inside}\n")
    assert "line 3: mounts" in refused(control, "policy_mount", busybox_image, **bound(outside))
    refused(control, "policy_mount", busybox_image, **bound(inside / "out"))
    assert "network:open" in refused(control, "policy_privileged", busybox_image, openNetwork=True)
    # Who types into a program commands it.
    for call, stdin in ((11, True), (12, False)):
        control.send(callOpen={"callId": str(call), "creditBytes": 1 << 20, "sandboxAttach": {"sandboxId": runs["id"], "stdin": stdin, "fromStart": True}})
    assert control.wait(lambda m: m.get("callEnd", {}).get("callId") == "11")["callEnd"]["failure"]["reason"] == "policy_exec"
    owner("exec: forbid\nprivileged:\n  - network:open\nsandboxes: allow\n")
    made, r = control.create(busybox_image, command=SLEEP, openNetwork=True, **bound(outside))
    assert "failure" not in r, r
    owner("sandboxes: forbid\n")
    assert "line 1: sandboxes" in refused(control, "policy_sandbox", busybox_image)
    fill = str(uuid.uuid4())
    control.send(callOpen={"callId": "13", "creditBytes": 1 << 20, "sandboxFill": {"sandboxId": fill}})
    control.send(callData={"callId": "13", "data": base64.b64encode(bytes(1024)).decode(), "last": True})
    assert control.wait(lambda m: m.get("callEnd", {}).get("callId") == "13")["callEnd"]["failure"]["reason"] == "policy_sandbox"
    assert not docker.volumes(f"davit.sandbox={fill}")
    (agent / "policy.yaml").chmod(0o622)
    refused(control, "policy_unreadable", busybox_image)
    # What runs goes on, whatever the file says by now, and who looked on still does.
    time.sleep(0.2)
    for box in (runs, made):
        assert docker.inspect(name_of(box))["State"]["Running"] and control.states(box)[-1]["state"] == RUNNING
    assert not [m for m in control.seen if m.get("callEnd", {}).get("callId") == "12"]
    said = (agent / "log").read_text()
    assert all(f"reason={r}" in said for r in ("policy_image_source", "policy_mount", "policy_privileged", "policy_exec", "policy_sandbox", "policy_unreadable"))
    for box in (runs, made):
        assert control.act(box, "ACTION_STOP", stopTimeoutS=1)["outcome"] == "stopped"
        assert control.act(box, "ACTION_REMOVE", volumes=True)["outcome"] == "removed"


@pytest.mark.req("CB-15")
def test_a_start_looks_where_the_folder_is_by_now(control, docker, owner, busybox_image, tmp_path):
    place, other = tmp_path / "srv" / "a", tmp_path / "other"
    place.mkdir(parents=True)
    other.mkdir()
    box, r = control.create(busybox_image, command=SLEEP, **bound(place))
    assert "failure" not in r, r

    def start():
        assert "stopped" in control.act(box, "ACTION_STOP", stopTimeoutS=1)["outcome"]
        return control.act(box, "ACTION_START")

    # Whoever may write beside it puts a link in its place, which the engine would follow.
    place.rename(tmp_path / "srv" / "kept")
    for to, reason in ((other, "mount_moved"), ("/etc", "mount_forbidden")):
        place.symlink_to(to)
        assert start()["failure"]["reason"] == reason and not docker.inspect(name_of(box))["State"]["Running"]
        place.unlink()
    (tmp_path / "srv" / "kept").rename(place)
    owner(f"mounts:\n  - {other}\n")
    assert start()["failure"]["reason"] == "policy_mount"
    owner("exec: allow\n")
    r = start()
    assert r.get("outcome") == "started", r
    control.act(box, "ACTION_STOP", stopTimeoutS=1)
    control.act(box, "ACTION_REMOVE", volumes=True)


def test_a_snapshot_goes_with_what_was_refused(control, docker, owner, busybox_image):
    def fill(call, sandbox):
        control.send(callOpen={"callId": call, "creditBytes": 1 << 20, "sandboxFill": {"sandboxId": sandbox}})
        control.send(callData={"callId": call, "data": base64.b64encode(bytes(1024)).decode(), "last": True})
        assert "failure" not in control.wait(lambda m: m.get("callEnd", {}).get("callId") == call)["callEnd"]
        assert docker.volumes(f"davit.sandbox={sandbox}")

    for call, spec, reason in (("21", {"image": "nowhere.example/none:1", "pull": "never"}, "image_not_found"),
                               ("22", {"image": busybox_image, "openNetwork": True}, "policy_privileged")):
        owner("privileged: forbid\n")
        box = {"id": str(uuid.uuid4()), "name": "s" + call, "command": SLEEP, "workspace": {"snapshot": True, "path": "/w"}, **spec}
        fill(call, box["id"])
        assert control.command(createSandbox={"spec": box}, timeout=25)["failure"]["reason"] == reason
        assert not docker.volumes(f"davit.sandbox={box['id']}") and not list(control.folder.glob(box["id"] + "*"))


def test_limits_are_those_of_services(control, docker, busybox_image):
    assert "memory" in refused(control, "invalid", busybox_image, memoryBytes=str(1 << 20))
    assert "cpu" in refused(control, "invalid", busybox_image, cpuMilli="2000000")
    assert "pids_limit" in refused(control, "invalid", busybox_image, pidsLimit=5000000)
    refused(control, "invalid", "busybox:BAD TAG")
    refused(control, "invalid", busybox_image, env=[{"name": "DAVIT_MATERIAL", "value": "/tmp"}])
    refused(control, "invalid", busybox_image, initSteps=[{"name": f"s{i}", "command": ["x"]} for i in range(33)])
    assert not subprocess.run(["pgrep", "-f", "BAD TAG"], capture_output=True, check=False).stdout


def test_a_short_disk_takes_no_more(control, docker, busybox_image, agent):
    stat = os.statvfs(docker.json("GET", "/info")["DockerRootDir"])
    with Control(docker.sock, agent / "second", "--disk-reserve", (stat.f_bavail * stat.f_frsize * 2)) as short:
        r = short.create(busybox_image, command=SLEEP)[1]
        assert r["failure"]["reason"] == "disk_short" and "disk of this server is short" in r["failure"]["message"], r
        box = {"id": str(uuid.uuid4()), "name": "forced", "image": busybox_image, "command": SLEEP}
        # The port for registrations is the other agent's; what matters is that the disk was said and did not stop it.
        r = short.command(createSandbox={"spec": box, "force": True}, timeout=25)
        assert r["failure"]["reason"] != "disk_short" and any("of the disk are free" in str(m.get("progress")) for m in short.seen), r
    clean(docker, short.server)
