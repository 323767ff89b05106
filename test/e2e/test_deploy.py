# SPDX-License-Identifier: Apache-2.0
"""Deployments: what is asked for is what runs; what fails leaves the old one serving and says why."""
import json
import socket
import time
import urllib.request

import pytest

from lib import images, proc


@pytest.fixture
def up(davit_of_file):
    davit_of_file.revive()
    yield davit_of_file
    davit_of_file.clear()


@pytest.fixture
def own(davit):
    """Up for one test alone."""
    davit.up()
    return davit


def ours(d, service="web", project="default"):
    return d.engine.containers(f"davit.service={service}") if project is None else [
        c for c in d.engine.containers(f"davit.service={service}") if c["Labels"].get("davit.project") == project and c["Labels"].get("davit.server") in ids(d)]


def ids(d):
    return {s["id"] for s in d.json("server", "ls").get("servers", [])}


def one(d, service="web", project="default"):
    found = ours(d, service, project)
    assert len(found) == 1, found
    return d.engine.inspect(found[0]["Id"])


def get(port, path="/"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as r:
        return r.read()


FAST = ("--health-interval", "300ms", "--health-timeout", "1s", "--health-grace", "2s")


# --- What is asked for is what runs --------------------------------------------------------------------------------------------
@pytest.mark.smoke
@pytest.mark.req("CL-8", "CL-14")
def test_deployed_service_is_active_once_its_health_path_answered(up, web_image):
    got = up.run("deploy", "--name", "web", "--health", "/health", *FAST, web_image)
    assert "active" in got.out
    requests = up.run("logs", "web").err
    assert "response:200" in requests
    s = up.json("ps")["services"][0]
    assert s["state"] == "DEPLOYMENT_STATE_ACTIVE" and s["containers"][0]["state"] == "running"


@pytest.mark.all_tier
@pytest.mark.req("CL-14")
def test_service_that_is_slow_to_answer_is_not_active_before(up, docker):
    image = images.script(docker, "davit-test/slow:1", images.WAITING + "sleep 3\nmkdir -p /tmp/w; echo ok > /tmp/w/health\nhttpd -f -p 8080 -h /tmp/w &\nwait $!\n",
                          changes=["EXPOSE 8080"])
    begin = time.monotonic()
    up.run("deploy", "--name", "web", "--health", "/health", *FAST, "--health-retries", "60", image)
    assert time.monotonic() - begin >= 3


@pytest.mark.req("CL-9")
def test_image_is_pulled_from_a_registry(up, registry, web_image):
    full = registry.push(web_image, "team/web:7")
    assert not up.engine.has_image(full)
    got = up.run("deploy", "--name", "web", "--health", "/health", *FAST, full)
    assert up.engine.has_image(full)
    assert "pull" in got.err or "image" in got.err
    assert one(up)["Config"]["Image"].startswith(registry.host)


def test_private_registry_wants_the_credentials_and_gets_them_once(up, private_registry, web_image, tmp_path):
    full = private_registry.push(web_image, "team/web:8")
    none = up.run("deploy", "--name", "web", full, check=False)
    assert none.rc == 1 and "hint:" in none.err
    word = tmp_path / "pw"
    word.write_text("wrong\n")
    wrong = up.run("deploy", "--name", "web", "--registry-user", "u1", "--registry-password-file", word, full, check=False)
    assert wrong.rc == 1
    word.write_text("pw1\n")
    up.run("deploy", "--name", "web", "--registry-user", "u1", "--registry-password-file", word, full)
    up.engine.remove_image(full)
    for path in (up.home / "state", up.home / "agent", up.home / "log"):
        for f in path.rglob("*"):
            if f.is_file():
                assert b"pw1" not in f.read_bytes(), f"the password stands in {f}"


@pytest.mark.all_tier
@pytest.mark.req("CL-10")
def test_limits_are_those_asked_for(up, busybox_image):
    up.run("deploy", "--name", "web", "--cpus", "0.5", "--memory", "64m", "--pids", "50", busybox_image)
    host = one(up)["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500000000, 64 << 20, 50)


@pytest.mark.all_tier
@pytest.mark.req("CL-11")
def test_environment_is_exactly_what_was_asked_and_what_the_image_sets(up, busybox_image):
    hostile = "a b\"c'd$E`f\\ \t=é"
    up.run("deploy", "--name", "web", "--env", "PLAIN=1", "--env", f"HARD={hostile}", "--env", "EMPTY=", busybox_image)
    env = dict(e.split("=", 1) for e in one(up)["Config"]["Env"])
    assert env == {"PATH": "/bin", "PLAIN": "1", "HARD": hostile, "EMPTY": ""}


@pytest.mark.all_tier
@pytest.mark.req("CL-12")
def test_volumes_are_mounted_where_asked_and_survive_a_redeployment(up, busybox_image):
    up.run("deploy", "--name", "web", "--volume", "data:/data", "--volume", "conf:/conf:ro", busybox_image)
    c = one(up)
    mounts = {m["Destination"]: (m["Name"], m["RW"]) for m in c["Mounts"]}
    assert mounts == {"/data": ("davit-default-data", True), "/conf": ("davit-default-conf", False)}
    assert up.engine.exec(c["Id"], ["/bin/sh", "-c", "echo kept > /data/f"])[0] == 0
    up.run("deploy", "--name", "web", "--volume", "data:/data", "--env", "NEW=1", busybox_image)
    c2 = one(up)
    assert c2["Id"] != c["Id"]
    assert up.engine.exec(c2["Id"], ["/bin/cat", "/data/f"])[1].strip() == "kept"


@pytest.mark.all_tier
def test_services_of_a_project_reach_each_other_by_name_and_no_others(up, web_image, busybox_image):
    up.run("deploy", "--project", "one", "--name", "web", "--health", "/health", *FAST, web_image)
    up.run("deploy", "--project", "one", "--name", "probe", busybox_image)
    up.run("deploy", "--project", "two", "--name", "probe", busybox_image)
    near, far = one(up, "probe", "one"), one(up, "probe", "two")
    address = next(iter(one(up, "web", "one")["NetworkSettings"]["Networks"].values()))["IPAddress"]
    # nslookup asks the project's own name server; Debian's static busybox has no other applet that resolves names.
    assert address in up.engine.exec(near["Id"], ["/bin/nslookup", "web"])[1]
    assert address not in up.engine.exec(far["Id"], ["/bin/nslookup", "web"])[1]
    assert next(iter(far["NetworkSettings"]["Networks"])) != next(iter(near["NetworkSettings"]["Networks"]))


def test_containers_are_hardened_by_default(up, busybox_image):
    up.run("deploy", "--name", "web", busybox_image)
    host = one(up)["HostConfig"]
    assert host["CapDrop"] == ["ALL"] and "CAP_NET_RAW" not in (host["CapAdd"] or []) and "NET_RAW" not in (host["CapAdd"] or [])
    assert any(o.startswith("no-new-privileges") for o in host["SecurityOpt"])
    assert not host["Privileged"] and host["PidsLimit"] == 512
    assert host["RestartPolicy"]["Name"] == "unless-stopped"


def test_deploying_the_same_again_changes_nothing(up, web_image):
    args = ("deploy", "--name", "web", "--health", "/health", *FAST, web_image)
    up.run(*args)
    before = one(up)["Id"]
    assert "unchanged" in up.run(*args).out
    assert one(up)["Id"] == before
    up.run(*args, "--force")
    assert one(up)["Id"] != before


def test_manifest_deploys_every_service(up, web_image, busybox_image, tmp_path):
    port = proc.free_port()
    f = tmp_path / "davit.yaml"
    f.write_text(f"""
projects:
  shop:
    services:
      web:
        image: {web_image}
        ports: ["{port}:8080"]
        health: {{check: /health, interval: 300ms}}
      worker:
        image: {busybox_image}
        env: {{MODE: fast}}
        memory: 32m
""")
    up.run("deploy", "--file", f)
    assert get(port, "/health") == b"ok\n"
    assert {s["name"] for s in up.json("ps", "--project", "shop")["services"]} == {"web", "worker"}
    again = up.run("deploy", "--file", f)
    assert again.out.count("unchanged") == 2


@pytest.mark.parametrize("text,words", [
    ("projects: {a: {services: {w: {image: x, colour: red}}}}", ["line 1", "colour"]),
    ("projects: {a: {services: {w: {image: [x]}}}}", ["line 1", "image"]),
    ("projects:\n  a:\n    services:\n      w: {image: x}\n      w: {image: y}\n", ["line 5", "twice"]),
    ("projects: " + "{a: " * 40 + "1" + "}" * 40, ["deep"]),
    ("a: &x 1\nb: *x\n", ["anchor"]),
    ("\tx", ["line 1"]),
    ("", ["no service"]),
])
def test_bad_manifest_is_refused_with_its_line(up, tmp_path, text, words):
    f = tmp_path / "davit.yaml"
    f.write_text(text)
    got = up.run("deploy", "--file", f, check=False)
    assert got.rc == 2, got
    for w in words:
        assert w in got.err, got


def test_manifest_of_100_mb_is_refused_at_once(up, tmp_path):
    f = tmp_path / "davit.yaml"
    with open(f, "wb") as out:
        out.truncate(100 << 20)
    got = up.run("deploy", "--file", f, check=False, timeout=20)
    assert got.rc == 8 and "larger" in got.err


# --- What fails leaves the old one serving -----------------------------------------------------------------------------------------
def failure(got, reason):
    assert got.rc == 1, got
    assert f"({reason})" in got.err, got


def test_failed_health_leaves_the_old_one_serving_and_shows_the_last_lines(up, web_image, docker):
    up.run("deploy", "--name", "web", "--health", "/health", *FAST, web_image)
    before = one(up)["Id"]
    bad = images.script(docker, "davit-test/refuses:1", images.WAITING + "echo something is wrong >&2\nsleep 600 & wait $!\n", changes=["EXPOSE 8080"])
    got = up.run("deploy", "--name", "web", "--health", "/health", *FAST, "--health-grace", "500ms", bad, check=False)
    failure(got, "health_refused")
    assert "something is wrong" in got.err
    c = one(up)
    assert c["Id"] == before and c["State"]["Running"]
    s = up.json("ps")["services"][0]
    assert s["state"] == "DEPLOYMENT_STATE_FAILED" and s["activeDeploymentId"] != s["deploymentId"]


@pytest.mark.all_tier
def test_old_one_is_started_again_when_a_recreated_one_fails(up, web_image, docker):
    port = proc.free_port()
    up.run("deploy", "--name", "web", "--publish", f"{port}:8080", "--health", "/health", *FAST, web_image)
    bad = images.script(docker, "davit-test/exits:1", "echo bye\nexit 3\n", changes=["EXPOSE 8080"])
    got = up.run("deploy", "--name", "web", "--publish", f"{port}:8080", "--health", "/health", *FAST, bad, check=False)
    failure(got, "exited")
    assert "bye" in got.err
    assert proc.wait_for(lambda: get(port, "/health"), 10) == b"ok\n"


def test_missing_image_is_told_apart(up, registry):
    failure(up.run("deploy", "--name", "web", f"{registry.host}/no/such:1", check=False), "image_not_found")
    failure(up.run("deploy", "--name", "web", f"127.0.0.1:{proc.free_port()}/x:1", check=False), "registry_unreachable")
    assert ours(up) == []


def test_taken_port_is_told_apart(up, web_image):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        got = up.run("deploy", "--name", "web", "--publish", f"{s.getsockname()[1]}:8080", web_image, check=False)
    failure(got, "port_taken")
    assert ours(up) == []


@pytest.mark.parametrize("args", [
    ("--name", "UPPER", "x"), ("--name", "a" * 64, "x"), ("--env", "=x", "x"), ("--env", "1A=x", "x"), ("--volume", "data:rel", "x"),
    ("--publish", "0:80", "x"), ("--publish", "70000:80", "x"), ("--cpus", "-1", "x"), ("--memory", "1", "x"),
    ("--health", "what", "x"), ("--name", "web", "Bad Image"), ("--name", "web", "x" * 600),
])
def test_bad_input_is_refused_before_anything_happens(up, args):
    got = up.run("deploy", *args, check=False)
    assert got.rc == 2, got
    assert up.json("ps").get("services", []) == []


def test_mounts_that_would_break_the_containment_are_refused(up, busybox_image):
    for target in ("/proc", "/sys/fs", "/dev", "/etc", "/var/run", "/run"):
        got = up.run("deploy", "--name", "web", "--volume", f"data:{target}", busybox_image, check=False)
        assert got.rc == 2 and f"nothing may be mounted on {target}" in got.err
    assert ours(up) == []


def test_engine_that_dies_fails_the_deployment_and_the_agent_lives(own, web_image):
    agent = own.pid("davit-agent")
    own.down()
    own.env_docker = "unix:///nonexistent/docker.sock"
    own.engine_host, own.engine.host = own.engine.host, own.env_docker
    try:
        own.up()
        got = own.run("deploy", "--name", "web", web_image, check=False, timeout=120)
        failure(got, "engine_unavailable")
        assert own.pid("davit-agent") != agent
        assert own.json("server", "ls")["servers"][0]["health"] == "warning"
    finally:
        own.engine.host = own.engine_host
        own.up()  # which engine it is, is kept: `down --purge` asks the one of the last up


# --- The control plane dies in the middle ----------------------------------------------------------------------------------------
def test_deployment_survives_the_death_of_the_control_plane(own, docker):
    image = images.script(docker, "davit-test/slow5:1", images.WAITING + "sleep 5\nmkdir -p /tmp/w; echo ok > /tmp/w/health\nhttpd -f -p 8080 -h /tmp/w &\nwait $!\n",
                          changes=["EXPOSE 8080"])
    own.run("deploy", "--detach", "--name", "web", "--health", "/health", *FAST, "--health-retries", "100", image)
    proc.wait_for(lambda: ours(own), 15, text="the container")
    own.kill("davitd")
    own.up()
    proc.wait_for(lambda: own.json("ps")["services"][0]["state"] == "DEPLOYMENT_STATE_ACTIVE", 60, text="active")
    one(own)


def test_deployment_survives_the_death_of_the_agent(own, docker):
    image = images.script(docker, "davit-test/slow5:1", images.WAITING + "sleep 5\nmkdir -p /tmp/w; echo ok > /tmp/w/health\nhttpd -f -p 8080 -h /tmp/w &\nwait $!\n",
                          changes=["EXPOSE 8080"])
    own.run("deploy", "--detach", "--name", "web", "--health", "/health", *FAST, "--health-retries", "100", image)
    proc.wait_for(lambda: ours(own), 15, text="the container")
    own.kill("davit-agent")
    own.up()
    proc.wait_for(lambda: own.json("ps")["services"][0]["state"] == "DEPLOYMENT_STATE_ACTIVE", 60, text="active")
    one(own)


# --- start, stop, restart, rm ----------------------------------------------------------------------------------------------------
@pytest.mark.req("CL-84")
def test_stop_start_restart_rm_answer_with_their_outcome_and_a_repeat_is_harmless(up, web_image):
    up.run("deploy", "--name", "web", "--health", "/health", *FAST, web_image)
    ident = one(up)["Id"]
    assert "stopped" in up.run("stop", "web").out
    assert not up.engine.inspect(ident)["State"]["Running"]
    assert "already stopped" in up.run("stop", "web").out
    assert "started" in up.run("start", "web").out
    assert up.engine.inspect(ident)["State"]["Running"]
    assert "already running" in up.run("start", "web").out
    begun = up.engine.inspect(ident)["State"]["StartedAt"]
    assert "restarted" in up.run("restart", "web").out
    assert up.engine.inspect(ident)["State"]["StartedAt"] != begun
    assert "removed" in up.run("rm", "web").out
    assert ours(up) == []
    gone = up.run("rm", "web", check=False)
    assert gone.rc in (0, 3)


def test_rm_keeps_volumes_unless_they_are_named(up, busybox_image):
    names = lambda: {v["Name"] for v in up.engine.volumes()}
    up.run("deploy", "--name", "web", "--volume", "keep:/data", busybox_image)
    up.run("rm", "web")
    assert "davit-default-keep" in names()
    up.run("deploy", "--name", "web", "--volume", "keep:/data", busybox_image)
    up.run("rm", "--volumes", "web")
    assert "davit-default-keep" not in names()


@pytest.mark.all_tier
def test_foreign_containers_are_never_touched(up, docker, busybox_image):
    made = docker.json("POST", "/containers/create", {"Image": busybox_image, "Labels": {"davit.service": "web", "davit.project": "default"}}, {"name": "davit-foreign-test"})
    try:
        docker.call("POST", f"/containers/{made['Id']}/start")
        up.run("deploy", "--name", "web", busybox_image)
        up.run("stop", "web")
        up.run("rm", "web")
        assert docker.inspect(made["Id"])["State"]["Running"]
    finally:
        docker.remove(made["Id"])


def test_containers_of_another_server_on_the_same_engine_are_not_shown(up, docker, busybox_image):
    labels = {"davit.managed": "true", "davit.service": "web", "davit.project": "default", "davit.server": "another"}
    made = docker.json("POST", "/containers/create", {"Image": busybox_image, "Labels": labels}, {"name": "davit-other-server"})
    try:
        up.run("deploy", "--name", "web", busybox_image)
        assert [c["state"] for c in up.json("ps")["services"][0]["containers"]] == ["running"]
    finally:
        docker.remove(made["Id"])


def test_json_output_is_json(up, web_image):
    got = up.run("deploy", "--output", "json", "--name", "web", "--health", "/health", *FAST, web_image)
    events = [json.loads(line) for line in got.out.splitlines()]
    assert events[-1]["state"] == "DEPLOYMENT_STATE_ACTIVE"
    bad = up.run("deploy", "--format", "json", "--name", "web", "--health", "what", web_image, check=False)
    assert json.loads(bad.err)["error"]["code"] == "invalid_argument"
