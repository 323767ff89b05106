# SPDX-License-Identifier: Apache-2.0
"""test_work_routes: containers that take over from others behind the ingress, and how many there are: the agent's side of workloads and HAProxy as
it is in Debian against a real Docker Engine, through test/integration/work_driver.c."""
import pathlib
import shutil
import socket
import tempfile
import time
import uuid

import pytest

from lib import haproxy_image, images, proc
from lib.ingress import CONTAINER, Load, get
from lib.tiers import long
from lib.work import Driver

NETWORK = "davit--ingress"
HTTP = {"kind": "HEALTH_KIND_HTTP", "path": "/health", "port": 8080, "intervalMs": 200, "timeoutMs": 1000, "retries": 2, "graceMs": 3000}
NONE = {"kind": "HEALTH_KIND_NONE", "graceMs": 100}


class Place:
    """One agent with a way in, and a project of its own per test."""

    def __init__(self, docker):
        self.docker, self.port = docker, proc.free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="davit-routes."))
        self.folder.chmod(0o700)
        self.image = images.web(docker)
        self.words = ["--desired", self.folder, "--ingress", self.folder / "ingress", haproxy_image.make(docker), f"127.0.0.1:{self.port}"]

    def open(self, *more):
        return Driver(self.docker.sock, *self.words, *more)

    def get(self, host, path="/health"):
        return get(self.port, host, path)[0]

    def gone(self, host):
        """Nothing leads there any more: no such name, or no ingress, which goes with the last name."""
        try:
            return self.get(host) in (404, 503)
        except OSError:
            return True

    def ours(self, project):
        found = [self.docker.inspect(c["Id"]) for c in self.docker.containers(f"davit.project={project}")]
        return sorted((c for c in found if c["State"]["Status"] != "removing"), key=lambda c: int(c["Config"]["Labels"]["davit.replica"]))

    def clear(self, project):
        label = f"davit.project={project}"
        for c in self.docker.containers(label):
            self.docker.remove(c["Id"])
        for n in self.docker.networks(label):
            for c in self.docker.json("GET", f"/networks/{n['Id']}").get("Containers") or {}:
                self.docker.json("POST", f"/networks/{n['Id']}/disconnect", {"Container": c, "Force": True})
            self.docker.call("DELETE", f"/networks/{n['Id']}")
        for v in self.docker.volumes(label):
            self.docker.call("DELETE", f"/volumes/{v['Name']}")


@pytest.fixture(scope="module")
def place(docker):
    p = Place(docker)
    # What another file's tests left has its range from them.
    docker.remove(CONTAINER)
    for n in docker.networks("davit.ingress"):
        docker.call("DELETE", f"/networks/{n['Id']}")
    yield p
    docker.remove(CONTAINER)
    shutil.rmtree(p.folder)


@pytest.fixture
def project(place):
    name = "r" + uuid.uuid4().hex[:8]
    yield name
    with place.open() as d:  # what it does not know to be gone it would make again
        d.remove(name, "web", volumes=True)
    place.clear(name)


@pytest.fixture
def agent(place, project):
    """Ends before the project is cleared away."""
    with place.open() as d:
        yield d


def spec_of(place, project, **more):
    return {"project": project, "name": "web", "image": place.image, "health": HTTP, **more}


def route(project):
    return [{"hostname": f"{project}.test"}]


def ok(result):
    assert "failure" not in result, result
    return result


def notes(d, cmd_id, step):
    return [m["progress"]["progress"].get("message", "") for m in d.seen
            if m.get("progress", {}).get("id") == cmd_id and m["progress"]["progress"]["step"] == step]


# --- How it is replaced -----------------------------------------------------------------------------------------------------------
@pytest.mark.req("CX-5")
@pytest.mark.parametrize("more,strategy", [({}, "blue-green"), ({"health": NONE}, "no health check"),
                                           ({"volumes": [{"name": "d", "path": "/d"}]}, "a volume"),
                                           ({"ports": [{"hostPort": 0, "containerPort": 8080}]}, "a port")])
def test_the_strategy_is_told_and_kept(agent, place, project, more, strategy):
    if "ports" in more:
        more = {"ports": [{"hostPort": proc.free_port(), "containerPort": 8080}]}
    first = ok(agent.deploy(spec_of(place, project, **more)))
    said = notes(agent, first["id"], "inspect")
    assert any(strategy in n for n in said) and not any("runs now" in n for n in said), said
    r = ok(agent.deploy(spec_of(place, project, **more)))
    assert any(strategy in n and "what runs now" in n for n in notes(agent, r["id"], "inspect")), notes(agent, r["id"], "inspect")
    # The old one went before the new one started, or only after the commit.
    stopped = any(n.startswith("stopping") for n in notes(agent, r["id"], "stop_old"))
    assert stopped == (strategy != "blue-green")
    assert [c["Id"] for c in place.ours(project)] == [r["containerId"]]


@pytest.mark.req("CX-5")
def test_the_images_own_check_is_enough(agent, place, docker, project):
    image = images.make(docker, "davit-test/checks-itself:1", ["/bin/sh", "-c", images.WAITING + "sleep 600 & wait"],
                        changes=["HEALTHCHECK --interval=300ms --retries=1 CMD true"])
    r = ok(agent.deploy({"project": project, "name": "web", "image": image}))
    assert any("blue-green" in n for n in notes(agent, r["id"], "inspect"))
    assert docker.inspect(r["containerId"])["State"]["Health"]["Status"] == "healthy"


# --- Replicas ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("WK-13", "WK-8")
def test_scaling_loses_no_request(agent, place, project):
    dep = str(uuid.uuid4())
    ok(agent.deploy(spec_of(place, project, routes=route(project)), dep))
    assert place.get(f"{project}.test") == 200
    with Load(place.port, f"{project}.test") as load:
        assert ok(agent.scale(project, "web", dep, 3))["outcome"] == "3 running"
        assert [c["Name"] for c in place.ours(project)] == [f"/davit-{project}-web-{dep[:8]}{s}" for s in ("", "-2", "-3")]
        again = ok(agent.scale(project, "web", dep, 3))
        assert again["outcome"] == "already 3 running"
        # A new deployment without a number takes over the one that is there.
        new = str(uuid.uuid4())
        assert ok(agent.deploy(spec_of(place, project, routes=route(project)), new))["outcome"] == "3 running, 3 older containers removed"
        assert ok(agent.action(project, "web", "ACTION_RESTART"))["outcome"] == "restarted"
        ok(agent.scale(project, "web", new, 1))
        assert [c["Name"] for c in place.ours(project)] == [f"/davit-{project}-web-{new[:8]}"]
    assert load.count > 20 and not load.failed, (load.count, load.failed[:5])
    assert agent.scale(project, "web", dep, 2)["failure"]["reason"] == "aborted"
    assert agent.scale(project, "web", new, 33)["failure"]["reason"] == "invalid"
    assert agent.scale(project, "none", new, 2)["failure"]["reason"] == "not_found"
    ok(agent.action(project, "web", "ACTION_STOP"))
    assert place.get(f"{project}.test") == 503
    assert agent.scale(project, "web", new, 2)["failure"]["reason"] == "stopped"
    ok(agent.action(project, "web", "ACTION_START"))
    assert place.get(f"{project}.test") == 200
    assert agent.remove(project, "web")["outcome"] == "removed"
    assert place.gone(f"{project}.test") and not place.docker.networks(f"davit.project={project}")


@pytest.mark.req("CX-4", "WK-8")
def test_old_ones_keep_serving_when_the_new_ones_fail(agent, place, project):
    dep = str(uuid.uuid4())
    ok(agent.deploy(spec_of(place, project, routes=route(project), replicas=2), dep))
    before = [c["Id"] for c in place.ours(project)]
    with Load(place.port, f"{project}.test", clients=2) as load:
        r = agent.deploy(spec_of(place, project, routes=route(project), health={**HTTP, "path": "/none", "graceMs": 1}))
        assert r["failure"]["reason"] == "health_bad_status", r
        # The route fails only after the verdict: what was begun there is taken back as well.
        r = agent.scale(project, "web", dep, 4, wait=False)
        agent.wait(lambda m: m.get("progress", {}).get("id") == r and m["progress"]["progress"]["step"] == "health")
        agent.cancel(r)
        assert agent.result(r)["failure"]["reason"] == "cancelled"
    assert [c["Id"] for c in place.ours(project)] == before and not load.failed, load.failed[:5]


@pytest.mark.all_tier
@pytest.mark.req("WK-8")
def test_recreated_replicas_are_started_again_when_the_new_ones_fail(agent, place, project):
    more = {"volumes": [{"name": "d", "path": "/d"}], "routes": route(project), "replicas": 2}
    ok(agent.deploy(spec_of(place, project, **more)))
    before = [c["Id"] for c in place.ours(project)]
    r = agent.deploy(spec_of(place, project, **more, command=["/bin/sh", "-c", "exit 3"]))
    assert r["failure"]["reason"] == "exited", r
    steps = [s for s, state in agent.steps(r["id"]) if state == "STEP_STATE_DONE"]
    assert steps.index("pull") < steps.index("stop_old")
    after = place.ours(project)
    assert [c["Id"] for c in after] == before and all(c["State"]["Running"] for c in after)
    end = time.monotonic() + 5
    while place.get(f"{project}.test") != 200:
        assert time.monotonic() < end
    r = ok(agent.deploy(spec_of(place, project, **more)))
    assert not {c["Id"] for c in place.ours(project)} & set(before)
    assert {"removing 1 of 2 containers", "removing 2 of 2 containers"} <= set(notes(agent, r["id"], "retire"))


@pytest.mark.req("WK-13")
def test_what_cannot_be_is_refused_before_anything_is_made(agent, place, docker, project):
    port = [{"hostPort": proc.free_port(), "containerPort": 8080}]
    r = agent.deploy(spec_of(place, project, ports=port, replicas=2))
    assert r["failure"]["reason"] == "invalid", r
    with Driver(docker.sock) as plain:
        assert plain.deploy(spec_of(place, project, routes=route(project)))["failure"]["reason"] == "no_ingress"
    ok(agent.deploy(spec_of(place, project, routes=route(project))))
    r = agent.deploy({**spec_of(place, project, routes=route(project)), "name": "other"})
    assert r["failure"]["reason"] == "hostname_taken" and "web" in r["failure"]["message"], r
    assert len(place.ours(project)) == 1
    # A deployment whose hostname went takes the route away; nobody else's.
    ok(agent.deploy(spec_of(place, project)))
    assert place.gone(f"{project}.test")


def test_an_ingress_whose_image_cannot_be_had_is_its_registrys_fault(place, docker, project):
    with Driver(docker.sock, "--ingress", place.folder / "no-image", "127.0.0.1:1/none:1", f"127.0.0.1:{place.port}") as d:
        r = d.deploy(spec_of(place, project, routes=route(project), health=NONE))
    assert r["failure"]["reason"] == "registry_unreachable" and "the image of the ingress" in r["failure"]["message"], r


# --- Cancelling --------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CX-4")
def test_a_pull_a_health_check_and_a_command_that_waits_end_at_once(agent, place, docker, project):
    def cancelled(cmd_id, seq=None):
        at = time.monotonic()
        agent.cancel(cmd_id, seq)
        r = agent.result(cmd_id)
        assert r["failure"]["code"] == 1 and r["failure"]["reason"] == "cancelled", r
        assert time.monotonic() - at < 4

    first = ok(agent.deploy(spec_of(place, project)))
    with socket.create_server(("127.0.0.1", 0)) as registry:
        silent = f"127.0.0.1:{registry.getsockname()[1]}/none:1"
        pull = agent.deploy(spec_of(place, project, image=silent), wait=False)
        agent.wait(lambda m: m.get("progress", {}).get("id") == pull)
        waits = agent.deploy(spec_of(place, project), wait=False)
        time.sleep(0.3)  # until both are where they wait
        cancelled(waits)
        cancelled(pull, agent.seq - 1)
    sick = agent.deploy(spec_of(place, project, health={**HTTP, "path": "/none", "graceMs": 60000}), wait=False)
    agent.wait(lambda m: m.get("progress", {}).get("id") == sick and m["progress"]["progress"]["step"] == "health")
    cancelled(sick)
    agent.cancel(sick)
    agent.cancel("nobody", 999)
    assert [c["Id"] for c in place.ours(project)] == [first["containerId"]]


# --- Crashes -------------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("WK-8")
@pytest.mark.parametrize("die", ["8:1", long("9:1"), long("10:1"), long("11:1")])
def test_an_agent_that_dies_at_the_switch_leaves_one_that_serves(place, docker, project, die):
    dep, cmd, host = str(uuid.uuid4()), str(uuid.uuid4()), f"{project}.test"
    with place.open() as d:
        ok(d.deploy(spec_of(place, project, routes=route(project), replicas=2)))
    spec = spec_of(place, project, routes=route(project), replicas=2)
    with place.open("--die", die) as d:
        d.deploy(spec, dep, cmd_id=cmd, wait=False)
        d.p.wait(60)
        d.reader.join(10)
        last = [m["journal"] for m in d.seen if "journal" in m][-1]
    assert place.get(host) == 200
    with place.open("--resume", f"{last['index']}:{last['state']}") as d:
        ok(d.deploy(spec, dep, cmd_id=cmd))
    assert [c["Name"] for c in place.ours(project)] == [f"/davit-{project}-web-{dep[:8]}{s}" for s in ("", "-2")]
    assert place.get(host) == 200


# --- With nobody's command ------------------------------------------------------------------------------------------------------------
@pytest.mark.req("WK-16")
def test_routes_follow_what_is_healed_and_the_way_in_comes_back(agent, place, docker, project):
    def serves():
        try:
            return place.get(f"{project}.test") == 200
        except OSError:
            return False

    def told():
        config = (place.folder / "ingress/config/haproxy.cfg").read_text()
        at = [c["NetworkSettings"]["Networks"][f"davit-{project}"]["IPAddress"] for c in place.ours(project)]
        return len(at) == 2 and all(a and f" {a}:8080 weight 100" in config for a in at)

    ok(agent.deploy(spec_of(place, project, routes=route(project), replicas=2)))
    # The network of the way in has its range from the pools, as those of projects have.
    for network in (f"davit-{project}", NETWORK):
        assert docker.json("GET", f"/networks/{network}")["IPAM"]["Config"][0]["Subnet"].startswith("10.213."), network
    for c in place.ours(project):
        docker.remove(c["Id"])
    proc.wait_for(lambda: told() and serves(), 30, text="both, and requests for them")
    was = docker.inspect(CONTAINER)["Id"]
    docker.remove(CONTAINER)
    proc.wait_for(serves, 45, text="an ingress that somebody removed")
    assert docker.inspect(CONTAINER)["Id"] != was


def slow_to_be_well(place, project, nap, **health):
    """Started once more it answers at once, and says only @nap seconds later that it is well."""
    start = images.WAITING + ("httpd -f -p 8080 -h /www &\nrm -f /www/health; test -e /d/born && sleep $NAP\n"
                              ": >/d/born; echo ok >/www/health\nwait $!\n")
    image = images.make(place.docker, "davit-test/slow-to-be-well:2", ["/bin/sh", "/start"],
                        {"www/index.html": "hello\n", "start": (start, 0o755)}, ["EXPOSE 8080"])
    return {**spec_of(place, project, routes=route(project), volumes=[{"name": "d", "path": "/d"}], env=[{"name": "NAP", "value": str(nap)}]),
            "image": image, "health": {**HTTP, **health}}


@pytest.mark.req("WK-16")
def test_what_is_healed_gets_no_request_before_it_is_healthy(agent, place, docker, project):
    host = f"{project}.test"
    ok(agent.deploy(slow_to_be_well(place, project, 2)))
    was = place.ours(project)[0]["Id"]
    assert place.get(host, "/index.html") == 200
    docker.remove(was)
    proc.wait_for(lambda: [c["State"] for c in docker.containers(f"davit.project={project}") if c["Id"] != was] == ["running"], 30, text="a new one")
    # A command that finds it running has not judged it.
    assert ok(agent.action(project, "web", "ACTION_START"))["outcome"] == "already running"
    proc.wait_for(lambda: place.get(host, "/index.html") == 200, 30, every=0.02, text="a request that comes through")
    assert place.get(host) == 200, "a request came to one that was not healthy yet"


@pytest.mark.req("WK-16")
def test_a_command_that_failed_has_judged_nothing(agent, place, project):
    host = f"{project}.test"
    ok(agent.deploy(slow_to_be_well(place, project, 1.2, graceMs=300)))
    assert "did not become healthy" in agent.action(project, "web", "ACTION_RESTART")["failure"]["message"]
    proc.wait_for(lambda: place.get(host, "/index.html") == 200, 30, every=0.02, text="a request that comes through")
    assert place.get(host) == 200, "a request came to one that was not healthy yet"


@pytest.mark.req("CX-6")
def test_other_containers_do_not_use_up_the_attempts(agent, place, docker, project):
    ok(agent.deploy(spec_of(place, project)))
    busy = place.ours(project)[0]["Id"]
    new = agent.deploy(spec_of(place, project, health={**HTTP, "path": "/none", "intervalMs": 500, "retries": 3, "graceMs": 1}), wait=False)
    while not any(m.get("result", {}).get("id") == new for m in agent.seen):
        for act in ("pause", "unpause"):
            docker.call("POST", f"/containers/{busy}/{act}")
            time.sleep(0.06)  # longer than what makes several events one
    assert agent.result(new)["failure"]["reason"] == "health_bad_status"
    attempts = [m["at"] for m in agent.seen if m.get("progress", {}).get("id") == new
                and m["progress"]["progress"].get("message", "").startswith("attempt")]
    assert len(attempts) >= 2 and min(b - a for a, b in zip(attempts, attempts[1:])) > 0.4, attempts
