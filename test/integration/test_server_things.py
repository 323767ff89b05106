# SPDX-License-Identifier: Apache-2.0
"""test_server_things: what a server has beside services, through test/integration/work_driver.c and a real engine: containers that Davit did not make,
images, volumes, and cleaning up."""
import base64
import itertools
import json
import socket
import time
import uuid

import pytest

from lib import images
from lib.work import Driver, Proxy

QUICK = {"kind": "HEALTH_KIND_NONE", "graceMs": 100}
NUMBERS = itertools.count(1)
PRECONDITION, NOT_FOUND, DENIED = 9, 5, 7


@pytest.fixture(scope="module")
def agent(docker):
    with Driver(docker.sock, "--full") as d:
        yield d


@pytest.fixture
def things(docker):
    """Makes objects behind Davit's back; all go at the end, and those of the project, too."""
    t = Things(docker)
    yield t
    t.clean()


class Things:
    def __init__(self, docker):
        self.docker, self.project, self.made = docker, "t" + uuid.uuid4().hex[:8], []

    def name(self):
        return "foreign-" + uuid.uuid4().hex[:8]

    def container(self, image, start=False, name=None, **body):
        name = name or self.name()
        made = self.docker.json("POST", "/containers/create", {"Image": image, **body}, query={"name": name})["Id"]
        self.made.append(("containers", made))
        if start:
            self.docker.call("POST", f"/containers/{made}/start")
        return made, name

    def network(self, name=None, **labels):
        made = self.docker.json("POST", "/networks/create", {"Name": name or self.name(), "Labels": labels})["Id"]
        self.made.append(("networks", made))
        return made

    def volume(self, name=None, **labels):
        made = self.docker.json("POST", "/volumes/create", {"Name": name or self.name(), "Labels": labels})["Name"]
        self.made.append(("volumes", made))
        return made

    def clean(self):
        label = f"davit.project={self.project}"
        for c in self.docker.containers(label):
            self.docker.remove(c["Id"])
        self.made += [("networks", n["Id"]) for n in self.docker.networks(label)] + [("volumes", v["Name"]) for v in self.docker.volumes(label)]
        for kind, made in sorted(self.made):  # containers first
            try:
                self.docker.call("DELETE", f"/{kind}/{made}", query={"force": 1})
            except Exception:  # noqa: BLE001 - gone already
                pass


def labels(project, service="web", server="srv-test", **more):
    return {"davit.managed": "true", "davit.server": server, "davit.project": project, "davit.service": service,
            **{f"davit.{k}": v for k, v in more.items()}}


def call(d, timeout=60, **body):
    number = str(next(NUMBERS))
    d.send(callOpen={"callId": number, "creditBytes": 262144, **body})
    return d.wait(lambda m: m.get("callEnd", {}).get("callId") == number, timeout)["callEnd"]


def failure(end):
    assert "failure" in end, end
    return end["failure"]["code"]


def told(m, container):
    return [c for c in m.get("containers", {}).get("containers", []) if c["id"] == container]


def inventory(docker):
    """All that there is, as text that is the same if nothing changed."""
    containers = [{k: v for k, v in c.items() if k not in ("Status", "NetworkSettings")} for c in docker.containers()]
    everything = [containers, docker.json("GET", "/images/json", query={"digests": 1}), docker.networks(), docker.volumes()]
    return [sorted(json.dumps(x, sort_keys=True) for x in kind) for kind in everything]


# --- Containers that Davit did not make --------------------------------------------------------------------------------------------------
@pytest.mark.req("WK-15")
def test_containers_of_others_are_told_apart(agent, things, busybox_image):
    spoofed = {"davit.managed": "true", "davit.project": "shop", "davit.service": "web"}
    plain, name = things.container(busybox_image, start=True)
    other, _ = things.container(busybox_image, Labels=labels("shop", server="another", deployment="d"))
    liar, _ = things.container(busybox_image, Labels=spoofed)
    ingress, _ = things.container(busybox_image, Labels={"davit.managed": "true", "davit.server": "srv-test", "davit.ingress": "1"})
    for made in (plain, other, liar):
        c, = told(agent.wait(lambda m, made=made: told(m, made), 10), made)
        assert c["foreign"] and not c.get("project") and not c.get("service") and not c.get("deploymentId"), c
    c, = told(agent.wait(lambda m: told(m, ingress), 10), ingress)
    assert c["role"] == "ingress" and not c.get("foreign")
    c, = told(agent.wait(lambda m: any(c["state"] == "running" for c in told(m, plain)), 10), plain)
    assert c["name"] == name
    # Watched: its end and its going are told.
    things.docker.call("POST", f"/containers/{plain}/kill")
    c, = told(agent.wait(lambda m: any(c["state"] == "exited" for c in told(m, plain)), 10), plain)
    assert c["exitCode"] == "137"
    things.docker.remove(plain)
    agent.wait(lambda m: plain in m.get("containers", {}).get("removedIds", []), 10)


@pytest.mark.req("WK-15")
def test_what_services_do_never_touches_others(agent, things, busybox_image):
    spoofed = {"davit.managed": "true", "davit.project": things.project, "davit.service": "web", "davit.deployment": "d"}
    others = [things.container(busybox_image, start=True, Labels=spoofed)[0],
              things.container(busybox_image, start=True, Labels=labels(things.project, server="another", deployment="d"))[0]]
    assert "failure" not in agent.deploy({"project": things.project, "name": "web", "image": busybox_image, "health": QUICK})
    assert agent.action(things.project, "web", "ACTION_STOP")["outcome"] == "stopped"
    assert agent.remove(things.project, "web")["outcome"] == "removed"
    for made in others:
        assert things.docker.inspect(made)["State"]["Running"]


@pytest.mark.req("WK-15", "CX-9")
def test_one_container_by_its_name(agent, things, busybox_image):
    made, name = things.container(busybox_image, start=True, HostConfig={"Mounts": [{"Type": "volume", "Source": things.volume(), "Target": "/d"}]})
    def act(action, container=name, **more):
        return call(agent, container={"container": container, "action": action, "stopTimeoutS": 1, **more})
    assert failure(act("ACTION_STOP", container=made[:12])) == NOT_FOUND  # the beginning of an id is no name
    assert failure(act("ACTION_STOP", container=name[:-1])) == NOT_FOUND
    assert failure(act("ACTION_REMOVE")) == PRECONDITION  # it runs
    assert act("ACTION_STOP")["outcome"] == "stopped" and act("ACTION_STOP", container=made)["outcome"] == "already stopped"
    assert act("ACTION_START")["outcome"] == "started"
    assert act("ACTION_RESTART")["outcome"] == "restarted"
    volume = things.docker.inspect(made)["Mounts"][0]["Name"]
    assert act("ACTION_REMOVE", force=True)["outcome"] == "removed"
    assert volume in [v["Name"] for v in things.docker.volumes()]
    # Of a service, and what Davit runs for itself: only by force.
    for more in ({"Labels": labels("shop", deployment="d")}, {"Labels": {"davit.ingress": "1", "davit.server": "srv-test"}}):
        _, other = things.container(busybox_image, **more)
        assert failure(act("ACTION_REMOVE", container=other)) == PRECONDITION
        assert act("ACTION_REMOVE", container=other, force=True)["outcome"] == "removed"


# --- Images ------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("WK-5")
def test_images_are_pulled_compared_and_removed(agent, things, docker, registry):
    first = images.web(docker, "davit-test/thing:1", hello=uuid.uuid4().hex)
    full = registry.push(first, "app/thing:1")
    docker.remove_image(first)
    begun = len(agent.seen)
    end = call(agent, imagePull={"image": full})
    digest = end["imageDigest"]
    assert digest.startswith("sha256:"), end
    layers = [m["callProgress"]["progress"] for m in agent.seen[begun:] if "callProgress" in m]
    assert layers and layers[-1]["state"] == "STEP_STATE_DONE" and layers[-1]["index"] == layers[-1]["total"] == 1, layers
    listed, = [i for i in call(agent, imageList={})["imageList"]["images"] if full in i.get("tags", [])]
    assert listed["digests"] == [full.rsplit(":", 1)[0] + "@" + digest] and int(listed["bytes"]) > 0 and not listed.get("usedBy")
    same = call(agent, imageCheck={"image": full})["imageCheck"]
    assert (same["localDigest"], same["remoteDigest"], same.get("differs", False)) == (digest, digest, False)
    # Another one under the same name.
    second = images.web(docker, "davit-test/thing:2", hello=uuid.uuid4().hex)
    docker.tag(full, "davit-test/thing:kept")
    registry.push(second, "app/thing:1")
    docker.remove_image(second)
    call(agent, imagePull={"image": f"{full.rsplit(':', 1)[0]}@{digest}"})
    docker.tag("davit-test/thing:kept", full)
    docker.remove_image("davit-test/thing:kept")
    other = call(agent, imageCheck={"image": full})["imageCheck"]
    assert other["differs"] and other["localDigest"] == digest and other["remoteDigest"] not in ("", digest)
    # In use: it stays, and who has it is named.
    made, name = things.container(full)
    used, = [i for i in call(agent, imageList={})["imageList"]["images"] if full in i.get("tags", [])]
    assert used["usedBy"] == [name]
    end = call(agent, imageRemove={"image": full})
    assert failure(end) == PRECONDITION and name in end["failure"]["message"] and docker.has_image(full)
    docker.remove(made)
    assert call(agent, imageRemove={"image": full})["outcome"] == "removed" and not docker.has_image(full)
    assert failure(call(agent, imageRemove={"image": full})) == NOT_FOUND
    assert failure(call(agent, imagePull={"image": f"{registry.host}/app/none:1"})) == NOT_FOUND


@pytest.mark.req("WK-5")
def test_the_owners_policy_is_asked_before_a_pull(docker, tmp_home):
    policy = tmp_home / "policy.yaml"
    policy.write_text("images:\n  - example.org/only/this\n")
    policy.chmod(0o644)
    with Driver(docker.sock, "--policy", policy) as d:
        for kind in ("imagePull", "imageCheck"):
            end = call(d, **{kind: {"image": "127.0.0.1:1/app/web:1"}})
            assert failure(end) == DENIED and end["failure"]["reason"] == "policy_image_source", end


# --- Cleaning up -------------------------------------------------------------------------------------------------------------------------
def crowd(things, image):
    """An engine full of what others made, some of it with labels that lie."""
    managed = {"davit.managed": "true"}
    things.container(image)
    things.container(image, start=True)
    things.container(image, Labels=managed)
    things.container(image, Labels=labels("crowd", server="another", deployment="unknown"))
    things.container(image, Labels={**labels("crowd", deployment="unknown"), "davit.managed": "no"})
    things.container(image, start=True, Labels=labels("crowd", deployment="unknown"))  # whoever made it: it runs
    things.container(image, Labels=labels("crowd", deployment="d-known"))
    things.network()
    things.network(name="davit-crowd-spoofed", **managed)
    things.network(name="davit-crowd-there", **labels("crowd-there", server="another"))
    things.volume()
    things.volume(**managed)
    things.volume(name="davit-crowd-there", **labels("crowd", server="another", volume="there"))
    things.volume(name="davit-crowd-known", **labels("crowd", volume="known"))
    things.docker.json("POST", "/volumes/create", {})  # anonymous


@pytest.mark.req("CB-13", "WK-5")
def test_cleaning_up_removes_the_plan_and_nothing_else(agent, things, docker, busybox_image, registry):
    project = things.project
    crowd(things, busybox_image)
    images_before = images.web(docker, "davit-test/old:1", hello=uuid.uuid4().hex)
    old = registry.push(images_before, f"app/{project}:1")
    docker.remove_image(images_before)
    digest = call(agent, imagePull={"image": old})["imageDigest"]
    gone_image = docker.json("GET", f"/images/{old}/json")["Id"]
    left, _ = things.container(busybox_image, Labels=labels(project, deployment="unknown"))
    changed, _ = things.container(busybox_image, Labels=labels(project, deployment="unknown"))
    network = things.network(name=f"davit-{project}", **labels(project))
    volume = things.volume(name=f"davit-{project}-data", **labels(project, volume="data"))
    anonymous = [v["Name"] for v in docker.volumes() if len(v["Name"]) == 64]
    known = {"containers": True, "networks": True, "images": True, "knownDeployments": ["d-known"], "knownServices": ["crowd/web"],
             "oldDigests": [digest], "oldImages": [old]}
    plan = call(agent, prunePlan=known)["prunePlan"]
    assert plan["complete"]
    mine = {(i["kind"], i["id"]) for i in plan["items"]}
    assert mine == {("container", left), ("container", changed), ("network", network), ("image", gone_image)}, plan
    with_volumes = call(agent, prunePlan={**known, "volumes": True})["prunePlan"]
    assert {(i["kind"], i["id"]) for i in with_volumes["items"]} == mine | {("volume", volume)}
    before = inventory(docker)
    # Since the plan was shown one of them came into use: it stays. So does what stands in no plan of now.
    docker.call("POST", f"/containers/{changed}/start")
    extra, _ = things.container(busybox_image)
    forged = {**with_volumes, "items": [*with_volumes["items"], {"kind": "container", "id": extra, "name": "x"}]}
    result = call(agent, pruneApply={"plan": forged, "now": {**known, "volumes": True}})["pruneResult"]
    assert {(i["kind"], i["id"]) for i in result["removed"]} == (mine | {("volume", volume)}) - {("container", changed)}, result
    kept = {i["id"]: i["why"] for i in result["kept"]}
    assert set(kept) == {changed, extra} and all(kept.values())
    docker.remove(extra)
    docker.remove(changed)
    after = inventory(docker)
    gone = [[x for x in was if x not in now] for was, now in zip(before, after)]
    assert [len(x) for x in gone] == [2, 1, 1, 1] and not any(x for was, now in zip(before, after) for x in now if x not in was), gone
    for v in anonymous:
        docker.call("DELETE", f"/volumes/{v}")


@pytest.mark.req("CB-13")
def test_an_apply_without_a_plan_is_refused(agent):
    for body in ({}, {"plan": {"complete": True}}, {"plan": {"items": []}, "now": {}}):
        assert "failure" in call(agent, pruneApply=body)


# --- Volumes -----------------------------------------------------------------------------------------------------------------------------
@pytest.mark.all_tier
@pytest.mark.req("CX-9")
def test_what_is_in_a_volume_outlives_its_containers(agent, things, docker, busybox_image):
    project, volume = things.project, f"davit-{things.project}-data"
    spec = {"project": project, "name": "web", "image": busybox_image, "health": QUICK, "volumes": [{"name": "data", "path": "/data"}]}

    def content():
        c, = docker.containers(f"davit.project={project}")
        return docker.exec(c["Id"], ["cat", "/data/x"])[1].strip()

    def removal(name=volume, **more):
        return call(agent, volumeRemove={"name": name, **more})

    r = agent.deploy(spec)
    assert "failure" not in r, r
    assert docker.exec(r["containerId"], ["sh", "-c", "echo precious >/data/x"])[0] == 0
    assert "failure" not in agent.deploy({**spec, "env": [{"name": "A", "value": "b"}]}) and content() == "precious"
    assert "failure" in agent.deploy({**spec, "command": ["/no-such-program"]}) and content() == "precious"
    assert agent.action(project, "web", "ACTION_RESTART")["outcome"] == "restarted" and content() == "precious"
    row, = [v for v in call(agent, volumeList={})["volumeList"]["volumes"] if v["name"] == volume]
    assert (row["project"], row["service"], row["volume"], len(row["usedBy"])) == (project, "web", "data", 1)
    end = removal()
    assert failure(end) == PRECONDITION and row["usedBy"][0] in end["failure"]["message"]
    assert agent.remove(project, "web")["outcome"] == "removed"
    assert "failure" not in agent.deploy(spec) and content() == "precious"
    assert agent.remove(project, "web")["outcome"] == "removed"
    assert failure(removal(volume[:-1])) == NOT_FOUND
    assert removal()["outcome"] == "removed" and volume not in [v["Name"] for v in docker.volumes()]
    # One that Davit did not make: only where that is said.
    foreign = things.volume()
    assert failure(removal(foreign)) == PRECONDITION
    assert removal(foreign, force=True)["outcome"] == "removed"


# --- Commands in containers -------------------------------------------------------------------------------------------------------------------
class SlowToSize(Proxy):
    """Terminals get their size late."""

    @staticmethod
    def pump(x, y):
        try:
            while data := x.recv(65536):
                time.sleep(1 if b"/resize?" in data else 0)
                y.sendall(data)
            y.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.mark.req("WK-3")
def test_what_is_typed_at_once_finds_a_terminal_with_its_size(docker, things, busybox_image, tmp_path):
    box, _ = things.container(busybox_image, start=True)
    slow = SlowToSize(tmp_path / "engine.sock", docker.sock)
    slow.up()
    with Driver(tmp_path / "engine.sock", "--full") as d:
        number = str(next(NUMBERS))
        d.send(callOpen={"callId": number, "creditBytes": 262144,
                         "exec": {"containerId": box, "command": ["sh"], "tty": True, "stdin": True, "rows": 33, "columns": 111}})
        d.send(callData={"callId": number, "data": base64.b64encode(b"stty size\nexit 3\n").decode()})
        end = d.wait(lambda m: m.get("callEnd", {}).get("callId") == number, 20)["callEnd"]
        out = b"".join(base64.b64decode(m["callData"]["data"]) for m in d.seen if m.get("callData", {}).get("callId") == number)
    slow.down()
    assert end["exec"]["exitCode"] == 3 and b"33 111\r\n" in out, (end, out)
