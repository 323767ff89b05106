# SPDX-License-Identifier: Apache-2.0
"""What a server shall run is kept running by its agent alone; what a container may do; and projects that do not reach each other. Without a
control plane: through test/integration/work_driver.c."""
import re
import subprocess
import time
import uuid

import pytest

from lib import engine, images, proc
from lib.work import Driver

QUICK = {"kind": "HEALTH_KIND_NONE", "graceMs": 100}


@pytest.fixture
def project(docker):
    """A project's name; all its objects go at the end, as do those of names that begin with it."""
    name = "h" + uuid.uuid4().hex[:8]
    yield name
    for p in (name, name + "-2"):
        label = f"davit.project={p}"
        for c in docker.containers(label):
            docker.remove(c["Id"])
        for n in docker.networks(label):
            docker.call("DELETE", f"/networks/{n['Id']}")
        for v in docker.volumes(label):
            docker.call("DELETE", f"/volumes/{v['Name']}")


def spec_of(project, image, name="web", **more):
    return {"project": project, "name": name, "image": image, "health": QUICK, **more}


def containers(docker, project, service="web"):
    found = []
    for c in docker.containers(f"davit.project={project}"):
        if c["Labels"]["davit.service"] == service:
            try:
                found.append(docker.inspect(c["Id"]))
            except engine.EngineError as e:
                if e.status != 404:  # one that went since it was listed
                    raise
    return found


def running(docker, project, n=1, service="web"):
    """@n of them, if they all run."""
    found = containers(docker, project, service)
    return found if len(found) == n and all(c["State"]["Running"] for c in found) else None


@pytest.mark.req("WK-16")
def test_what_is_missing_or_ended_comes_back_without_a_control_plane(docker, web_image, project, tmp_path):
    with Driver(docker.sock, "--desired", tmp_path) as d:
        assert "failure" not in d.deploy(spec_of(project, web_image, replicas=2, env=[{"name": "A", "value": "1"}]))
        first = running(docker, project, 2)
        assert first
        docker.remove(first[0]["Id"])
        again = proc.wait_for(lambda: running(docker, project, 2), 20, text="the container that was removed by hand")
        assert {c["Name"] for c in again} == {c["Name"] for c in first}
        kept = [c for c in again if c["Id"] == first[1]["Id"]]
        assert len(kept) == 1, "the one that was well was touched"
        made = next(c for c in again if c["Id"] != first[1]["Id"])
        labels = {k: v for k, v in first[0]["Config"]["Labels"].items() if k != "davit.job"}
        assert {k: v for k, v in made["Config"]["Labels"].items() if k != "davit.job"} == labels
        assert "A=1" in made["Config"]["Env"] and made["Image"] == first[0]["Image"]
    # The agent is away; what happens meanwhile is mended when it comes, with nobody's command: as after a reboot.
    for c in again:
        docker.remove(c["Id"])
    for n in docker.networks(f"davit.project={project}"):
        docker.call("DELETE", f"/networks/{n['Id']}")
    with Driver(docker.sock, "--desired", tmp_path) as d:
        proc.wait_for(lambda: running(docker, project, 2), 20, text="both, and their network")
        docker.call("POST", f"/containers/{containers(docker, project)[0]['Id']}/kill")
        proc.wait_for(lambda: running(docker, project, 2), 20, text="the one that was killed")
        # What its user stops stays so, and what is removed is.
        assert "failure" not in d.action(project, "web", "ACTION_STOP")
        time.sleep(2)
        assert not any(c["State"]["Running"] for c in containers(docker, project))
        assert "failure" not in d.action(project, "web", "ACTION_START")
        proc.wait_for(lambda: running(docker, project, 2), 20, text="all of them")
        assert "failure" not in d.remove(project, "web")
        time.sleep(2)
        assert containers(docker, project) == []


@pytest.mark.all_tier
@pytest.mark.req("WK-16")
def test_what_ended_by_itself_with_restart_no_stays(docker, web_image, project, tmp_path):
    with Driver(docker.sock, "--desired", tmp_path) as d:
        assert "failure" not in d.deploy(spec_of(project, web_image, restart="no"))
        [c] = running(docker, project)
        docker.call("POST", f"/containers/{c['Id']}/kill")
        time.sleep(2)
        [c] = containers(docker, project)
        assert not c["State"]["Running"]
        docker.remove(c["Id"])
        proc.wait_for(lambda: running(docker, project), 20, text="one that is missing is made all the same")


@pytest.mark.req("WK-16")
def test_what_is_healed_after_scaling_is_of_the_image_that_was_deployed(docker, web_image, project, tmp_path):
    name, dep = f"davit-test/{project}:1", str(uuid.uuid4())
    other = images.web(docker, "davit-test/web-other:1", "other\n")
    docker.tag(web_image, name)
    try:
        with Driver(docker.sock, "--desired", tmp_path) as d:
            assert "failure" not in d.deploy(spec_of(project, name), dep)
            assert "failure" not in d.scale(project, "web", dep, 2)
            first = running(docker, project, 2)
            docker.tag(other, name)  # from now on the name means another one
            docker.remove(first[1]["Id"])
            again = proc.wait_for(lambda: running(docker, project, 2), 20, text="the container that was removed by hand")
            assert {c["Image"] for c in again} == {first[0]["Image"]}
            assert "failure" not in d.remove(project, "web")
    finally:
        docker.remove_image(name)


@pytest.mark.req("WK-12")
def test_defaults_are_narrow_and_each_right_wants_its_name_and_the_owners_leave(docker, web_image, project, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "agent").mkdir()
    owner = tmp_path / "agent/policy.yaml"
    with Driver(docker.sock, "--policy", owner) as d:
        assert "failure" not in d.deploy(spec_of(project, web_image))
        [c] = containers(docker, project)
        host = c["HostConfig"]
        kept = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]
        assert sorted(x.removeprefix("CAP_") for x in host["CapAdd"]) == kept
        assert host["CapDrop"] == ["ALL"] and host["SecurityOpt"] == ["no-new-privileges"] and host["PidsLimit"] == 512
        assert not host["Privileged"] and not host["Devices"] and not host["PidMode"] and host["IpcMode"] != "host"
        assert host["NetworkMode"] == f"davit-{project}" and c["Mounts"] == []
        for more, said in (({"binds": [{"source": "/etc", "path": "/x"}]}, "source:/etc"),
                           ({"binds": [{"source": str(data), "path": "/proc"}]}, "target:/proc"),
                           ({"binds": [{"source": "/var/run/docker.sock", "path": "/s"}]}, "source:/var/run"), ({"allow": ["all"]}, "privileged"),
                           ({"volumes": [{"name": "v", "path": "/lib"}]}, "target:/lib")):
            failure = d.deploy(spec_of(project, web_image, **more))["failure"]
            assert failure["reason"] == "invalid" and said in failure["hint"], failure
        owner.write_text("privileged:\n  - pid:host\n  - cap:NET_ADMIN\nmounts:\n  - " + str(data) + "\n")
        owner.chmod(0o600)
        wide = {"allow": ["pid:host", "device:/dev/null"], "capAdd": ["NET_ADMIN"], "pidsLimit": 600,
                "binds": [{"source": str(data), "path": "/d", "readOnly": True}]}
        failure = d.deploy(spec_of(project, web_image, **wide))["failure"]
        assert failure["reason"] == "policy_privileged" and "device:/dev/null" in failure["message"]
        owner.write_text("privileged:\n  - pid:host\n  - device:/dev/null\n")
        failure = d.deploy(spec_of(project, web_image, **wide))["failure"]
        assert failure["reason"] == "policy_privileged" and "cap:NET_ADMIN" in failure["message"]
        owner.write_text("privileged:\n  - pid:host\n  - device:/dev/null\n  - cap:NET_ADMIN\nmounts: forbid\n")
        assert d.deploy(spec_of(project, web_image, **wide))["failure"]["reason"] == "policy_mount"
        owner.unlink()
        (tmp_path / "link").symlink_to("/etc")
        binds = [{"source": str(tmp_path / "link"), "path": "/d"}]
        assert d.deploy(spec_of(project, web_image, binds=binds))["failure"]["reason"] == "mount_forbidden"
        assert "failure" not in d.deploy(spec_of(project, web_image, **wide))
        [c] = containers(docker, project)
        host = c["HostConfig"]
        assert host["PidMode"] == "host" and [x["PathOnHost"] for x in host["Devices"]] == ["/dev/null"] and not host["Privileged"]
        assert [(m["Source"], m["Destination"], m["RW"]) for m in c["Mounts"]] == [(str(data), "/d", False)]
        assert sorted(x.removeprefix("CAP_") for x in host["CapAdd"]) == sorted([*kept, "NET_ADMIN"]) and host["PidsLimit"] == 600
        assert "no-new-privileges" in host["SecurityOpt"] and host["CapDrop"] == ["ALL"]  # to pid:host the engine adds label=disable


def inside(c, *words):
    """Runs a program of this machine in the network of container @c."""
    pid = str(c["State"]["Pid"])
    return subprocess.run(["nsenter", "-t", pid, "-n", *words], capture_output=True, text=True, timeout=20, check=False)


def reaches(c, host):
    """Does @c get an answer on port 8080 of @host?"""
    return inside(c, "curl", "-s", "-m", "1", f"http://{host}:8080/health").stdout.strip() == "ok"


def knows(docker, container, name):
    """The address that @container finds for @name, or None. By its own resolver: a static program has no other."""
    found = re.findall(r"^Address(?: \d+)?: ([0-9.]+)(?!:)\s*$", docker.exec(container, ["nslookup", name])[1], re.M)
    return found[-1] if found else None


def address(c, project):
    return c["NetworkSettings"]["Networks"][f"davit-{project}"]["IPAddress"]


@pytest.mark.req("CX-2")
def test_services_of_a_project_know_each_other_and_projects_do_not_meet(docker, web_image, project):
    other = project + "-2"
    with Driver(docker.sock) as d:
        for p, name in ((project, "web"), (project, "db"), (other, "web")):
            assert "failure" not in d.deploy(spec_of(p, web_image, name))
        [web], [db], [foreign] = containers(docker, project), containers(docker, project, "db"), containers(docker, other)
        assert knows(docker, web["Id"], "db") == address(db, project) and knows(docker, db["Id"], "web") == address(web, project)
        proc.wait_for(lambda: reaches(web, address(db, project)), 10, text="db by its address")
        nets = [docker.json("GET", f"/networks/davit-{p}")["IPAM"]["Config"][0]["Subnet"] for p in (project, other)]
        assert nets[0] != nets[1] and all(n.startswith("10.213.") and n.endswith("/24") for n in nets)
        # Neither by name nor by address, from the one to the other and back; "web" is each one's own.
        assert knows(docker, foreign["Id"], "web") == address(foreign, other), "its own"
        for frm, to, p in ((web, foreign, other), (foreign, web, project), (foreign, db, project)):
            assert not reaches(frm, address(to, p))
        assert knows(docker, foreign["Id"], "db") is None
        # A container that is in both, as the way in is, forwards nothing.
        docker.json("POST", f"/networks/davit-{other}/connect", {"Container": web["Id"]})
        assert reaches(web, address(foreign, other)), "it is in both"
        assert not reaches(foreign, address(db, project))
        gateway = docker.inspect(web["Id"])["NetworkSettings"]["Networks"][f"davit-{other}"]["IPAddress"]
        assert inside(foreign, "ip", "route", "add", nets[0], "via", gateway).returncode == 0
        assert not reaches(foreign, address(db, project))
