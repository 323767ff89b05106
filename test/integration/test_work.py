# SPDX-License-Identifier: Apache-2.0
"""test_work: the agent's side of workloads against a real Docker Engine, through test/integration/work_driver.c: commands go in
as the control plane would send them, messages come out as the link would carry them."""
import base64
import json
import socket
import time
import uuid

import pytest

from lib import images
from lib.tiers import long
from lib.work import Driver, Proxy, ended, entries, open_log

STEPS = ["pull", "inspect", "network", "volumes", "create", "stop_old", "start", "health", "route", "drain", "commit", "retire"]
DONE, FAILED, UNDONE = "STEP_STATE_DONE", "STEP_STATE_FAILED", "STEP_STATE_UNDONE"


@pytest.fixture
def project(docker):
    """A project's name; all its objects go at the end."""
    name = "t" + uuid.uuid4().hex[:8]
    yield name
    label = f"davit.project={name}"
    for c in docker.containers(label):
        docker.remove(c["Id"])
    for n in docker.networks(label):
        docker.call("DELETE", f"/networks/{n['Id']}")
    for v in docker.volumes(label):
        docker.call("DELETE", f"/volumes/{v['Name']}")


@pytest.fixture
def driver(docker):
    with Driver(docker.sock) as d:
        yield d


def spec_of(project, image, name="web", **more):
    return {"project": project, "name": name, "image": image, **more}


HTTP = {"kind": "HEALTH_KIND_HTTP", "path": "/health", "port": 8080, "intervalMs": 300, "timeoutMs": 1000, "retries": 3, "graceMs": 1500}
QUICK = {"kind": "HEALTH_KIND_NONE", "graceMs": 200}


def ours(docker, project, service=None):
    found = [c for c in docker.containers(f"davit.project={project}") if service in (None, c["Labels"]["davit.service"])]
    return [docker.inspect(c["Id"]) for c in found]


def notes_of(driver, cmd_id):
    return [m["progress"]["progress"].get("message", "") for m in driver.seen if m.get("progress", {}).get("id") == cmd_id]


# --- Deploy --------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CL-10", "CL-11", "CL-12")
def test_container_is_what_was_asked_for(driver, docker, web_image, project):
    env = [{"name": "A", "value": "x=y z"}, {"name": "EMPTY", "value": ""}, {"name": "Q", "value": "\"'$HOME\n"}]
    dep = str(uuid.uuid4())
    r = driver.deploy(spec_of(project, web_image, env=env, cpuMilli="500", memoryBytes=str(64 << 20), health=HTTP,
                              volumes=[{"name": "data", "path": "/data"}, {"name": "ro", "path": "/ro", "readOnly": True}]), dep)
    assert "failure" not in r, r
    assert r["outcome"] == "running"
    c, = ours(docker, project)
    host, conf = c["HostConfig"], c["Config"]
    assert r["containerId"] == c["Id"]
    assert c["Name"] == f"/davit-{project}-web-{dep[:8]}"
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 64 << 20, 512)
    image_env = docker.json("GET", f"/images/{web_image}/json")["Config"]["Env"]
    assert sorted(conf["Env"]) == sorted(["A=x=y z", "EMPTY=", "Q=\"'$HOME\n", *image_env])
    assert {(m["Name"], m["Destination"], m["RW"]) for m in c["Mounts"]} == \
        {(f"davit-{project}-data", "/data", True), (f"davit-{project}-ro", "/ro", False)}
    labels = conf["Labels"]
    assert labels["davit.managed"] == "true" and labels["davit.deployment"] == dep and labels["davit.server"] == "srv-test"
    assert labels["davit.job"].endswith("/create")
    assert not host["Privileged"] and host["CapDrop"] == ["ALL"] and "no-new-privileges" in host["SecurityOpt"][0]
    assert set(host["CapAdd"]) >= {"NET_BIND_SERVICE", "CHOWN"} and "NET_RAW" not in host["CapAdd"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    assert host["RestartPolicy"]["Name"] == "unless-stopped" and conf["Hostname"] == "web"
    net = c["NetworkSettings"]["Networks"]
    assert list(net) == [f"davit-{project}"] and "web" in net[f"davit-{project}"]["Aliases"]


@pytest.mark.req("CL-8", "CL-9")
def test_pull_from_a_registry_with_progress(driver, docker, registry, project):
    # An image that is here under another name comes without layers: this one must be here under none.
    image = images.web(docker, "davit-test/pulled:1", hello=uuid.uuid4().hex)
    full = registry.push(image, "app/web:1")
    docker.remove_image(image)
    r = driver.deploy(spec_of(project, full, health=HTTP))
    assert "failure" not in r, r
    assert r["imageDigest"].startswith("sha256:") and docker.has_image(full)
    notes = [m["progress"]["progress"].get("message", "") for m in driver.seen if "progress" in m]
    assert any(n.startswith("layer 1 of 1") for n in notes), notes
    order = [s for s, state in driver.steps(r["id"]) if state == DONE]
    assert order == STEPS


@pytest.mark.all_tier
def test_private_registry(driver, docker, web_image, private_registry, project):
    full = private_registry.push(web_image, "app/private:1")
    r = driver.deploy(spec_of(project, full, health=HTTP))
    assert r["failure"]["reason"] in ("registry_denied", "image_not_found"), r
    bad = {"server": private_registry.host, "username": "u1", "password": "no"}
    assert driver.deploy(spec_of(project, full, health=HTTP), auth=bad)["failure"]["reason"] == "registry_denied"
    good = {"server": private_registry.host, "username": "u1", "password": "pw1"}
    r = driver.deploy(spec_of(project, full, health=HTTP), auth=good)
    assert "failure" not in r, r
    assert "pw1" not in json.dumps(ours(docker, project))


@pytest.mark.parametrize("image,pull,reason", [("127.0.0.1:1/none:1", "", "registry_unreachable"),
                                               ("davit-test/none:1", "never", "image_not_found")])
def test_image_that_cannot_be_had(driver, docker, project, image, pull, reason):
    r = driver.deploy(spec_of(project, image, pull=pull))
    assert r["failure"]["reason"] == reason, r
    assert not ours(docker, project) and not docker.networks(f"davit.project={project}")


def test_missing_tag(driver, registry, project):
    assert driver.deploy(spec_of(project, f"{registry.host}/app/none:1"))["failure"]["reason"] == "image_not_found"


def test_a_disk_that_is_short_takes_nothing_more_unless_told_to(docker, web_image, project):
    with Driver(docker.sock, "--disk-reserve", 1 << 62) as d:
        failure = d.deploy(spec_of(project, "davit-test/never-fetched:1", pull="always"))["failure"]
        assert failure["reason"] == "disk_short" and "davit prune" in failure["hint"], failure
        assert f"at least {1 << 42} MiB shall be" in failure["message"]
        assert not ours(docker, project) and not docker.networks(f"davit.project={project}")
        r = d.command(deploy={"deploymentId": str(uuid.uuid4()), "spec": spec_of(project, web_image, health=QUICK), "force": True})
        assert "failure" not in r and len(ours(docker, project)) == 1, r


@pytest.mark.req("CL-14", "CX-6")
def test_failed_health_leaves_the_old_one_serving(driver, docker, web_image, project):
    first = driver.deploy(spec_of(project, web_image, health=HTTP))
    assert "failure" not in first
    for change, reason in (({"path": "/missing"}, "health_bad_status"), ({"port": 9}, "health_refused")):
        r = driver.deploy(spec_of(project, web_image, health={**HTTP, **change, "graceMs": 1}))
        assert r["failure"]["reason"] == reason, r
        tries = [n for n in notes_of(driver, r["id"]) if n.startswith("attempt")]
        assert [t[:14] for t in tries] == [f"attempt {i} of 3" for i in (1, 2, 3)], tries
        assert "ready" in r["failure"]["detail"]
        c, = ours(docker, project)
        assert c["Id"] == first["containerId"] and c["State"]["Running"] and c["RestartCount"] == 0
        assert ("create", UNDONE) in driver.steps(r["id"]) and ("commit", DONE) not in driver.steps(r["id"])


@pytest.mark.all_tier
@pytest.mark.req("CX-6")
def test_health_timeout(driver, docker, project):
    image = images.make(docker, "davit-test/slow-answer:1", ["/bin/sh", "-c", images.WAITING + "httpd -f -p 8080 -h /www & wait"],
                        {"www/cgi-bin/slow": ("#!/bin/sh\nsleep 30\n", 0o755)})
    slow = {**HTTP, "path": "/cgi-bin/slow", "timeoutMs": 300, "retries": 2, "graceMs": 500}
    r = driver.deploy(spec_of(project, image, health=slow))
    assert r["failure"]["reason"] == "health_timeout", r
    said = [n.split(":")[0] for n in notes_of(driver, r["id"]) if n.startswith(("not yet", "attempt"))]
    assert said[0] == "not yet" and said[-2:] == ["attempt 1 of 2", "attempt 2 of 2"] and len(set(said)) == 3, said


def test_tcp_and_engine_health(driver, docker, web_image, project):
    assert "failure" not in driver.deploy(spec_of(project, web_image, "tcp", health={**HTTP, "kind": "HEALTH_KIND_TCP", "port": 0}))
    image = images.make(docker, "davit-test/checked:1", ["/bin/sh", "-c", images.WAITING + "sleep 600 & wait"],
                        changes=["HEALTHCHECK --interval=300ms --retries=1 CMD test -e /bin/sh"])
    assert "failure" not in driver.deploy(spec_of(project, image, "own", health={"kind": "HEALTH_KIND_DOCKER"}))
    image = images.make(docker, "davit-test/sick:1", ["/bin/sh", "-c", images.WAITING + "sleep 600 & wait"],
                        changes=["HEALTHCHECK --interval=300ms --retries=1 CMD echo out of order; false"])
    r = driver.deploy(spec_of(project, image, "sick", health={"kind": "HEALTH_KIND_DOCKER", "graceMs": 300}))
    assert r["failure"]["reason"] == "unhealthy" and "out of order" in r["failure"]["message"], r


@pytest.mark.all_tier
def test_container_that_ends(driver, docker, project):
    image = images.script(docker, "davit-test/ends:1", "echo about to end; echo bad >&2; printf '\\377\\001\\n'; exit 7\n")
    r = driver.deploy(spec_of(project, image, health={"kind": "HEALTH_KIND_NONE", "graceMs": 3000}, restart="no"))
    assert r["failure"]["reason"] == "exited" and "7" in r["failure"]["message"], r
    assert "about to end" in r["failure"]["detail"] and "bad" in r["failure"]["detail"]
    assert not ours(docker, project)


def test_volumes_and_ports_stop_the_old_one_first(driver, docker, web_image, project, free_port):
    port = [{"hostPort": free_port(), "containerPort": 8080}]
    first = driver.deploy(spec_of(project, web_image, health=HTTP, ports=port, volumes=[{"name": "d", "path": "/d"}]))
    assert "failure" not in first, first
    c, = ours(docker, project)
    assert c["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostIp"] == "127.0.0.1"
    # A bad one: the old one was stopped, and is started again.
    r = driver.deploy(spec_of(project, web_image, health={**HTTP, "path": "/no", "graceMs": 1}, ports=port))
    assert r["failure"]["reason"] == "health_bad_status", r
    c, = ours(docker, project)
    assert c["Id"] == first["containerId"] and c["State"]["Running"]
    r = driver.deploy(spec_of(project, web_image, health=HTTP, ports=port))
    assert r["outcome"] == "running, 1 older container removed", r
    assert [c["Id"] for c in ours(docker, project)] == [r["containerId"]]


@pytest.mark.all_tier
def test_port_that_is_taken(driver, docker, web_image, project):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        r = driver.deploy(spec_of(project, web_image, ports=[{"hostPort": s.getsockname()[1], "containerPort": 8080}]))
    assert r["failure"]["reason"] == "port_taken", r
    assert not ours(docker, project)


@pytest.mark.all_tier
def test_same_deployment_again_is_harmless(driver, docker, web_image, project):
    dep = str(uuid.uuid4())
    one = driver.deploy(spec_of(project, web_image, health=HTTP), dep)
    started = ours(docker, project)[0]["State"]["StartedAt"]
    two = driver.deploy(spec_of(project, web_image, health=HTTP), dep)
    assert two["outcome"] == "already running" and two["containerId"] == one["containerId"]
    # Even when it fails this time.
    three = driver.deploy(spec_of(project, web_image, health={**HTTP, "path": "/no", "graceMs": 1}), dep)
    assert three["failure"]["reason"] == "health_bad_status"
    c, = ours(docker, project)
    assert c["State"]["Running"] and c["State"]["StartedAt"] == started


@pytest.mark.parametrize("die", ["4:before", long("4:1"), "5:1", long("6:1"), "7:1", long("8:1"), long("9:1"), long("10:1"), long("11:1")])
def test_agent_that_dies_in_a_deployment(docker, web_image, project, free_port, die):
    port = [{"hostPort": free_port(), "containerPort": 8080}]
    spec = spec_of(project, web_image, health=HTTP, ports=port, volumes=[{"name": "d", "path": "/d"}])
    with Driver(docker.sock) as d:
        assert "failure" not in d.deploy(spec)
    dep, cmd = str(uuid.uuid4()), str(uuid.uuid4())
    with Driver(docker.sock, "--die", die) as d:
        d.deploy(spec, dep, cmd_id=cmd, wait=False)
        d.p.wait(60)
        d.reader.join(10)
        last = [m["journal"] for m in d.seen if "journal" in m][-1]
        assert not any("result" in m for m in d.seen)
    with Driver(docker.sock, "--resume", f"{last['index']}:{last['state']}") as d:
        r = d.deploy(spec, dep, cmd_id=cmd)
        assert "failure" not in r and r["outcome"].startswith("running"), r
    c, = ours(docker, project)
    assert c["Name"].endswith(dep[:8]) and c["State"]["Running"] and c["Id"] == r["containerId"]


@pytest.mark.parametrize("die", ["7:3", long("6:4"), long("5:4"), "4:4"])
def test_agent_that_dies_while_undoing(docker, web_image, project, free_port, die):
    port = [{"hostPort": free_port(), "containerPort": 8080}]
    with Driver(docker.sock) as d:
        first = d.deploy(spec_of(project, web_image, health=HTTP, ports=port))
    dep, cmd = str(uuid.uuid4()), str(uuid.uuid4())
    bad = spec_of(project, web_image, health={**HTTP, "path": "/no", "graceMs": 1}, ports=port, volumes=[{"name": "n", "path": "/n"}])
    with Driver(docker.sock, "--die", die) as d:
        d.deploy(bad, dep, cmd_id=cmd, wait=False)
        d.p.wait(60)
        d.reader.join(10)
        last = [m["journal"] for m in d.seen if "journal" in m][-1]
    with Driver(docker.sock, "--resume", f"{last['index']}:{last['state']}") as d:
        assert d.deploy(bad, dep, cmd_id=cmd)["failure"]["reason"] == "interrupted"
    c, = ours(docker, project)
    assert c["Id"] == first["containerId"] and c["State"]["Running"]
    assert not docker.volumes(f"davit.project={project}")


def test_agent_that_stops_suspends(docker, project):
    image = images.script(docker, "davit-test/never:1", images.WAITING + "sleep 600 & wait\n")
    with Driver(docker.sock) as d:
        d.deploy(spec_of(project, image, health={**HTTP, "graceMs": 60000}), wait=False)
        d.wait(lambda m: m.get("journal", {}).get("name") == "health")
        d.p.stdin.close()
        assert d.wait(lambda m: "suspended" in m)
        assert d.p.wait(30) == 0
    assert ours(docker, project)[0]["State"]["Running"]


def test_foreign_objects_are_left_alone(driver, docker, web_image, project):
    docker.json("POST", "/networks/create", {"Name": f"davit-{project}", "CheckDuplicate": True})
    try:
        r = driver.deploy(spec_of(project, web_image))
        assert r["failure"]["reason"] == "name_taken", r
        assert driver.remove(project, "web")["outcome"] == "already removed"
        assert docker.json("GET", f"/networks/davit-{project}")
    finally:
        docker.call("DELETE", f"/networks/davit-{project}")


def test_refused_by_name(driver, docker, web_image, project):
    r = driver.deploy(spec_of(project, web_image, volumes=[{"name": "x", "path": "/proc"}]))
    assert r["failure"]["reason"] == "invalid" and "/proc" in r["failure"]["message"], r
    r = driver.command(deploy={"deploymentId": str(uuid.uuid4()), "spec": spec_of(project, web_image)}, deadlineUs="1000")
    assert r["failure"]["reason"] == "deadline"
    assert not ours(docker, project)


@pytest.mark.all_tier
def test_services_in_parallel_one_job_each(driver, docker, web_image, project):
    slow = {"kind": "HEALTH_KIND_NONE", "graceMs": 1500}
    ids = [driver.deploy(spec_of(project, web_image, f"s{i}", health=slow), wait=False) for i in range(3)]
    second = driver.deploy(spec_of(project, web_image, "s0", health=QUICK), wait=False)
    for i in [*ids, second]:
        assert "failure" not in driver.result(i)
    over = {m["result"]["id"]: m["at"] for m in driver.seen if "result" in m}
    began = {i: next(m["at"] for m in driver.seen if m.get("progress", {}).get("id") == i) for i in [*ids, second]}
    assert max(began[i] for i in ids) < min(over[i] for i in ids)
    assert began[second] >= over[ids[0]]
    assert len(ours(docker, project, "s0")) == 1


# --- Actions and removal ---------------------------------------------------------------------------------------------------------
@pytest.mark.all_tier
@pytest.mark.req("CL-84")
def test_stop_start_restart_remove_and_again(driver, docker, web_image, project):
    assert "failure" not in driver.deploy(spec_of(project, web_image, health=HTTP, volumes=[{"name": "d", "path": "/d"}]))
    said = [driver.action(project, "web", a)["outcome"] for a in
            ("ACTION_STOP", "ACTION_STOP", "ACTION_START", "ACTION_START", "ACTION_RESTART")]
    assert said == ["stopped", "already stopped", "started", "already running", "restarted"]
    assert driver.action(project, "none", "ACTION_START")["failure"]["code"] == 5
    assert "failure" not in driver.deploy(spec_of(project, web_image, "two", health=QUICK))
    assert driver.remove(project, "web")["outcome"] == "removed"
    assert docker.networks(f"davit.project={project}") and docker.volumes(f"davit.project={project}")
    assert driver.remove(project, "two")["outcome"] == "removed"
    assert not docker.networks(f"davit.project={project}") and not ours(docker, project)
    assert driver.remove(project, "two")["outcome"] == "already removed"
    assert driver.remove(project, "web", volumes=True)["outcome"] == "removed"
    assert not docker.volumes(f"davit.project={project}")


def test_shared_volume_stays(driver, docker, web_image, project):
    volume = [{"name": "shared", "path": "/d"}]
    for name in ("one", "two"):
        assert "failure" not in driver.deploy(spec_of(project, web_image, name, health=QUICK, volumes=volume))
    assert driver.remove(project, "one", volumes=True)["outcome"] == "removed"
    assert docker.volumes(f"davit.project={project}")
    assert driver.remove(project, "two", volumes=True)["outcome"] == "removed"
    assert not docker.volumes(f"davit.project={project}")


# --- States and usage ------------------------------------------------------------------------------------------------------------
def states_of(m, container):
    return [c for c in m.get("containers", {}).get("containers", []) if c["id"] == container]


def test_states_follow_the_engine(docker, web_image, project):
    with Driver(docker.sock, "--full") as d:
        d.wait(lambda m: m.get("containers", {}).get("full"))
        r = d.deploy(spec_of(project, web_image, health=HTTP))
        running = d.wait(lambda m: any(c["state"] == "running" for c in states_of(m, r["containerId"])))
        c, = states_of(running, r["containerId"])
        assert (c["project"], c["service"]) == (project, "web") and c["startedAtUs"] != "0" and "full" not in running["containers"]
        before = time.monotonic()
        docker.call("POST", f"/containers/{r['containerId']}/kill")
        m = d.wait(lambda m: m["at"] > before and any(c["state"] == "exited" for c in states_of(m, r["containerId"])), 10)
        assert states_of(m, r["containerId"])[0]["exitCode"] == "137" and m["at"] - before < 3
        docker.remove(r["containerId"])
        d.wait(lambda m: r["containerId"] in m.get("containers", {}).get("removedIds", []), 10)


def test_engine_that_goes_and_returns(docker, web_image, project, tmp_home):
    proxy = Proxy(tmp_home / "s", docker.sock)
    proxy.up()
    with Driver(tmp_home / "s", "--full") as d:
        r = d.deploy(spec_of(project, web_image, health=HTTP))
        assert "failure" not in r, r
        proxy.down()
        time.sleep(1)
        assert d.action(project, "web", "ACTION_STOP")["failure"]["reason"] == "engine_unavailable"
        # What happens meanwhile is found when it returns.
        docker.call("POST", f"/containers/{r['containerId']}/kill")
        proxy.up()
        d.wait(lambda m: any(c["state"] == "exited" for c in states_of(m, r["containerId"])), 30)
    proxy.down()


@pytest.mark.req("CL-16")
def test_usage_of_host_and_containers(docker, project):
    image = images.script(docker, "davit-test/busy:1", images.WAITING + "while :; do dd if=/dev/zero of=/tmp/x bs=1M count=4 2>/dev/null;"
                          " wget -q -O /dev/null http://127.0.0.1:1/ 2>/dev/null; done & wait\n")
    with Driver(docker.sock, "--usage-ms", 1000) as d:
        r = d.deploy(spec_of(project, image, health=QUICK, memoryBytes=str(128 << 20)))
        assert "failure" not in r, r

        def sample(m, which):
            return [u for u in m.get("usage", {}).get("samples", []) if u.get("containerId", "") == which]

        first = d.wait(lambda m: sample(m, r["containerId"]), 20)
        m = d.wait(lambda m: m["at"] > first["at"] + 1.5 and sample(m, r["containerId"]), 20)
        u, = sample(m, r["containerId"])
        stats = docker.json("GET", f"/containers/{r['containerId']}/stats", query={"stream": "false", "one-shot": "true"})
        assert int(u["cpuUsec"]) > 0 and u["cpuMilli"] > 50 and u["pids"] >= 2
        assert int(u["memoryLimitBytes"]) == 128 << 20 == stats["memory_stats"]["limit"]
        assert 0 < int(u["memoryBytes"]) <= 128 << 20
        assert int(u["cpuUsec"]) * 1000 <= stats["cpu_stats"]["cpu_usage"]["total_usage"]
        assert int(u["netRxBytes"]) > 0
        h, = sample(m, "")
        with open("/proc/meminfo", encoding="ascii") as f:
            total = int(f.readline().split()[1]) * 1024
        assert int(h["memoryLimitBytes"]) == total and 0 < int(h["memoryBytes"]) < total
        assert int(h["cpuUsec"]) > 0 and int(h["diskTotalBytes"]) > int(h["diskFreeBytes"]) > 0


# --- Logs ------------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def talker(driver, docker, project):
    """A container of ours that wrote ten lines to each stream and waits."""
    image = images.script(docker, "davit-test/talks:1", images.WAITING +
                          "for i in 0 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done\n"
                          "printf '\\377\\000raw\\n'; echo\nsleep 600 & wait\n")
    r = driver.deploy(spec_of(project, image, "talk", health=QUICK))
    assert "failure" not in r, r
    return r["containerId"]


@pytest.mark.req("CL-15")
def test_logs_apart_and_in_real_time(driver, docker, project, talker):
    open_log(driver, 1, talker, follow=True)
    driver.wait(lambda m: len(entries(driver, 1)) >= 22)
    got = entries(driver, 1)
    assert [line for s, _, line in got if s == "LOG_STREAM_STDERR"] == [b"err %d" % i for i in range(10)]
    assert [line for s, _, line in got if s == "LOG_STREAM_STDOUT"] == \
        [*(b"out %d" % i for i in range(10)), "\ufffd\0raw".encode(), b""]  # json-file keeps UTF-8 only
    before = time.monotonic()
    docker.exec(talker, ["sh", "-c", "echo now >/proc/1/fd/1"])
    m = driver.wait(lambda m: any(base64.b64decode(e.get("line", "")) == b"now" for e in m.get("logs", {}).get("entries", [])), 5)
    assert m["at"] - before < 1
    docker.remove(talker)
    assert "failure" not in ended(driver, 1)


def test_log_cursor_and_tail(driver, talker):
    open_log(driver, 1, talker)
    assert "failure" not in ended(driver, 1)
    got = entries(driver, 1)
    assert len(got) == 22
    cursor = sorted(at for _, at, _ in got)[9]
    open_log(driver, 2, talker, sinceNs=str(cursor), tail="0")
    ended(driver, 2)
    assert sorted(entries(driver, 2)) == sorted(e for e in got if e[1] > cursor)
    open_log(driver, 3, talker, tail="3")
    ended(driver, 3)
    assert len(entries(driver, 3)) == 3


def test_a_resumed_log_goes_on_behind_each_outputs_own_cursor(driver, docker, project):
    image = images.script(docker, "davit-test/pieces:1", images.WAITING +
                          "head -c 200000 /dev/zero | tr '\\0' b; echo\necho err >&2\necho after\nsleep 600 & wait\n")
    r = driver.deploy(spec_of(project, image, "pieces", health=QUICK))
    open_log(driver, 1, r["containerId"])
    ended(driver, 1)
    got = entries(driver, 1)
    out = [e for e in got if e[0] == "LOG_STREAM_STDOUT"]
    err, = [e for e in got if e[0] == "LOG_STREAM_STDERR"]
    assert [len(line) for _, _, line in out] == [65536, 65536, 65536, 200000 - 3 * 65536, 5]
    assert len({at for _, at, _ in out[:4]}) == 1  # pieces of one line have one stamp

    def rest(stream, seen, stderr_from):
        open_log(driver, stream, r["containerId"], stdoutFrom={"atNs": str(out[0][1]), "entries": seen}, stderrFrom=stderr_from)
        ended(driver, stream)
        return entries(driver, stream)

    for seen in (1, 2, 4):
        assert sorted(rest(10 + seen, seen, {"atNs": str(err[1]), "entries": 1})) == sorted(out[seen:])
    # Of stderr nothing was seen: it comes, also with a stamp before stdout's (the engine stamps each output by itself).
    assert sorted(rest(20, 4, {"atNs": str(min(out[0][1], err[1])), "entries": 0})) == sorted([*out[4:], err])


def test_log_credit_holds_the_reader(driver, talker):
    open_log(driver, 1, talker, credit=12)
    time.sleep(1)
    got = entries(driver, 1)
    assert 3 <= len(got) <= 4 and not any("logEnd" in m for m in driver.seen), got
    driver.send(logCredit={"streamId": "1", "bytes": 1000})
    ended(driver, 1)
    assert len(entries(driver, 1)) == 22


def test_log_streams_have_a_limit(driver, docker, talker):
    for i in range(1, 65):
        open_log(driver, i, talker, follow=True)
    open_log(driver, 65, talker, follow=True)
    assert ended(driver, 65)["failure"]["code"] == 8
    driver.wait(lambda m: len(entries(driver, 64)) >= 22)
    driver.send(logClose={"streamId": "1"})
    open_log(driver, 66, talker)
    assert "failure" not in ended(driver, 66)
    assert not any(m.get("logEnd", {}).get("streamId") == "1" for m in driver.seen)


def test_logs_of_others_are_not_shown(driver, docker, busybox_image):
    made = docker.json("POST", "/containers/create", {"Image": busybox_image})
    try:
        open_log(driver, 1, made["Id"])
        assert ended(driver, 1)["failure"]["reason"] == "not_found"
        open_log(driver, 2, "no-such-container")
        assert ended(driver, 2)["failure"]["reason"] == "not_found"
    finally:
        docker.remove(made["Id"])


def test_many_lines_come_whole(driver, docker, project):
    image = images.script(docker, "davit-test/many-lines:1", images.WAITING + "seq 1 100000; sleep 600 & wait\n")
    r = driver.deploy(spec_of(project, image, "many", health=QUICK))
    assert "failure" not in r, r
    open_log(driver, 1, r["containerId"], credit=1 << 30, follow=True)
    last = base64.b64encode(b"100000").decode()
    driver.wait(lambda m: m.get("logs", {}).get("entries", [{}])[-1].get("line") == last, 120)
    got = entries(driver, 1)
    assert [line for _, _, line in got] == [b"%d" % i for i in range(1, 100001)]
    assert max(len(m["logs"]["entries"]) for m in driver.seen if "logs" in m) <= 8192
