# SPDX-License-Identifier: Apache-2.0
"""The control plane's own life: its log, how it ends when there is nothing to do and comes back when there is, what it waits for."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import time
import urllib.request

import pytest

from lib import proc, runtime


@pytest.fixture(scope="module")
def up(davit_of_file):
    davit_of_file.up()
    yield davit_of_file


@pytest.mark.req("CW-74")
def test_the_log_is_rotated_and_stderr_has_crashes_and_the_issuer(up):
    stderr = up.home / "log/davitd.log"
    assert 'msg="control plane started"' in up.log_file.read_text() and "control plane started" not in stderr.read_text()
    assert stat.S_IMODE(up.log_file.stat().st_mode) == 0o600
    assert 'msg="agent started"' in (up.home / "log/davit-agent-host.log").read_text()
    up.run("token", "add", "--name", "x", check=False)
    assert 'msg="token issued" client=davit-cli' in stderr.read_text()
    with open(up.log_file, "a", encoding="utf-8") as f:
        f.write("x" * 65536 + "\n")
    old = up.log_file.with_name("davit-controlplane.log.1")
    up.davitd_again("--log-max-size", "64k", "--log-max-backups", "1")
    assert old.read_text().endswith("x\n") and "control plane started" in up.log_file.read_text()
    if os.environ.get("DAVIT_TREE", "asan") == "asan":
        up.kill("davitd", signal.SIGSEGV)
        trace = up.background[-1].log.read_text()
        assert "AddressSanitizer: SEGV" in trace and "AddressSanitizer" not in up.log_file.read_text()
    else:
        up.kill("davitd")
    up.up()


# Of one that a sandbox is to be made in there is time between the question for its clock and the sandbox.
CALM = {"DAVIT_IDLE_POLL": "400ms", "DAVIT_IDLE_GRACE": "500ms"}
QUICK = {"DAVIT_IDLE_POLL": "100ms", "DAVIT_IDLE_GRACE": "500ms"}


def gone(d):
    return not d.pid("davitd") and not d.pid("davit-agent")


def wait_gone(d):
    proc.wait_for(lambda: gone(d), 10, text="the end of both")


@pytest.mark.req("CW-4")
@pytest.mark.parametrize("verb", ["run", "start", "firewall", "agents"])
def test_what_needs_it_brings_it_up(up, busybox_image, verb):
    up.revive()
    if verb == "start":
        up.run("run", "--name", "again", busybox_image, "/bin/busybox", "true")
    up.down()
    wait_gone(up)  # the lock of one that ends is free a little before it is gone
    words = {"run": ["run", "--rm", busybox_image, "/bin/busybox", "echo", "hello"], "start": ["sandbox", "start", "again"],
             "firewall": ["firewall", "status"], "agents": ["controlplane", "agents"]}[verb]
    r = up.run(*words)
    assert "the control plane is down: it is started" in r.err
    assert {"run": "hello\n", "start": "again: ", "firewall": "Firewall: off\n", "agents": ""}[verb] in r.out
    assert "--for-sandboxes" in up.words("davitd") and "--with-control-plane" in up.words("davit-agent")
    assert "started" not in up.run(*words, check=verb != "start").err
    if verb == "start":
        up.run("sandbox", "rm", "--force", "--volumes", "again")


def test_other_verbs_tell_how_to_start_it(up):
    up.down()
    r = up.run("ps", check=False)
    assert r.rc == 5 and "`davit up` starts it" in r.err
    wait_gone(up)
    time.sleep(0.2)
    assert gone(up)


@pytest.mark.req("CW-60")
def test_several_that_need_it_at_once_start_it_once(up):
    up.down()

    def starts():
        return up.log_file.read_text().count('msg="control plane started"')
    before = starts()
    elsewhere = up.env | {"DOCKER_HOST": "unix:///nowhere"}  # of their shells: nobody said `up` there
    crowd = [subprocess.Popen([up.bin / "davit", *words], env=elsewhere, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
             for words in (["controlplane", "agents"], ["firewall", "status"], ["controlplane", "agents"])]
    for p in crowd:
        out, err = p.communicate(timeout=60)
        assert p.returncode == 0, out + err
    assert starts() == before + 1
    words = up.words("davit-agent")
    assert words[words.index("--docker") + 1] == up.engine.host
    up.run("up")  # what started it says nothing of how it shall run
    assert "--for-sandboxes" not in up.words("davitd")
    assert up.run("up").out.startswith("Davit is up already")


@pytest.mark.req("CW-32", "CW-31")
def test_one_that_was_started_for_sandboxes_ends_when_there_is_none(up, busybox_image):
    up.down()
    env = up.env | CALM
    up.run("run", "--detach", "--name", "busy", busybox_image, "/bin/busybox", "sleep", "60", env=env)
    davitd = up.pid("davitd")
    time.sleep(1.6)  # two polls would end it in half of that
    assert up.pid("davitd") == davitd
    up.run("sandbox", "rm", "--force", "--volumes", "busy")
    wait_gone(up)
    assert "event=idle_exit" in up.log_file.read_text() and "the control plane ends, and this agent with it" in up.log("davit-agent")
    assert "is started" in up.run("run", "--rm", busybox_image, "/bin/busybox", "true", env=env).err
    wait_gone(up)
    up.run("firewall", "status", env=env)
    up.up(env=env)  # by `davit up` it stays
    davitd = up.pid("davitd")
    time.sleep(1.6)
    assert up.pid("davitd") == davitd and "--for-sandboxes" not in up.words("davitd")


@pytest.mark.req("CW-32")
def test_what_is_no_sandbox_keeps_it(up, web_image):
    """One thing after the other, the next before the last one goes."""
    up.run("up")
    up.run("server", "add", "edge")
    up.down()
    up.run("firewall", "status", env=up.env | QUICK)
    davitd = up.pid("davitd")

    def stays(what):
        time.sleep(0.9)  # two polls would end it in a third of that
        assert up.pid("davitd") == davitd, what

    def followers():
        with urllib.request.urlopen(f"http://127.0.0.1:{up.health}/metrics", timeout=10) as r:
            return b"davit_event_subscribers 1\n" in r.read()

    stays("a remote server")
    with subprocess.Popen([up.bin / "davit", "events", "--follow"], env=up.env, stdout=subprocess.DEVNULL) as p:
        proc.wait_for(followers, 10, text="who follows events")
        up.run("server", "rm", "edge")
        stays("who follows events")
        up.run("deploy", "--name", "web", web_image)
        p.send_signal(signal.SIGINT)
    stays("a service")
    secret = up.json("dashboard", "--reset")["setup"].split("#")[1]
    c = http.client.HTTPConnection("127.0.0.1", up.local_web, timeout=10)

    def call(method, **body):
        cookie = {"cookie": call.cookie} if call.cookie else {}
        c.request("POST", f"/davit.control.v1.SessionService/{method}", json.dumps(body), {"content-type": "application/json"} | cookie)
        r = c.getresponse()
        assert r.status == 200, r.read()
        r.read()
        return (r.getheader("set-cookie") or "").partition(";")[0]

    call.cookie = ""
    call.cookie = call("SetUpOwner", secret=secret, password="correct horse battery")
    up.run("rm", "--volumes", "web")
    stays("a session of the dashboard")
    call("Logout")
    wait_gone(up)


@pytest.mark.all_tier
def test_whoever_comes_while_it_ends_is_served_by_the_next_one(up):
    up.down()
    end, pids = time.monotonic() + 5, set()
    while time.monotonic() < end:
        up.run("controlplane", "agents", env=up.env | QUICK)
        pids.add(up.pid("davitd"))
    assert len(pids - {0}) >= 2  # it ended in between


def by_hand(up, poll):
    """Its davitd once more, as the child of this test, to see how it ends."""
    words = up.words("davitd")
    up.kill("davitd")
    return up.start("davitd", *words, "--idle-exit", "always", "--idle-poll", poll, "--idle-grace", "500ms").p


@pytest.mark.all_tier
def test_always_ends_also_what_up_started_and_what_cannot_be_counted_is_an_error(up):
    up.run("up")
    assert by_hand(up, "300ms").wait(10) == 0, up.background[-1].text()
    proc.wait_for(lambda: not up.pid("davit-agent"), 10, text="the end of the agent")
    up.run("up")
    up.kill("davit-agent")
    assert by_hand(up, "100ms").wait(10) == 5 and "it is not known whether sandboxes run" in up.background[-1].text()


@pytest.mark.req("CW-35")
def test_docker_does_not_bring_back_one_that_drained(up, docker, busybox_image):
    up.run("up")
    up.down()
    state = up.top / "state-of-container"
    shutil.copytree(up.home / "state", state)
    (state / "control.db").unlink()  # nobody is enrolled there
    made = docker.json("POST", "/containers/create", {
        "Image": busybox_image, "NetworkDisabled": True,
        "Entrypoint": ["/davitd", "--state-dir", "/state", "--local-web-listen", "none", "--idle-exit", "always", "--idle-poll", "100ms", "--idle-grace", "300ms"],
        "HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "Binds": [f"{runtime.directory()}/davitd:/davitd:ro", f"{state}:/state"]}})
    try:
        docker.call("POST", f"/containers/{made['Id']}/start")
        end = proc.wait_for(lambda: (i := docker.inspect(made["Id"]))["State"]["Status"] == "exited" and i, 15, text="its end")
        time.sleep(0.5)
        end = docker.inspect(made["Id"])
        log = docker.call("GET", f"/containers/{made['Id']}/logs?stdout=1&stderr=1")
        assert (end["State"]["Status"], end["State"]["ExitCode"], end["RestartCount"]) == ("exited", 0, 0), log
    finally:
        docker.remove(made["Id"])


class Clock:
    """Its davitd with a clock that is @seconds from right."""

    def __init__(self, up):
        self.file = up.top / "clock"
        self.set(0)
        words = up.words("davitd")
        up.kill("davitd")
        self.program = proc.Background([runtime.BUILD / "test/unit/control/davitd-clock", *words], up.top / "davitd-clock.log",
                                       env=up.env | {"DAVIT_TEST_CLOCK": str(self.file)})
        proc.wait_for(lambda: up.run("sandbox", "ls", check=False).rc == 0, 20, text="davitd again")
        # "Online" would be what the one before wrote; this asks the agent.
        proc.wait_for(lambda: up.run("image", "ls", check=False).rc == 0, 20, text="its agent")

    def set(self, seconds):
        self.file.write_bytes(seconds.to_bytes(8, "little", signed=True))


@pytest.fixture
def clock(up):
    up.run("up")
    c = Clock(up)
    yield c
    c.program.stop()
    up.run("up")
    assert "Sanitizer" not in c.program.text()


def assert_waited_in_vain(r):
    assert r.rc == 6 and "cp clock sync deadline exceeded" == r.err.splitlines()[-2].rsplit(": ", 1)[-1], r
    assert "waiting for the clock of the control plane" in r.err


@pytest.mark.req("CW-70", "CW-71")
def test_no_sandbox_starts_before_the_clocks_agree(up, docker, busybox_image, clock):
    assert "(default 30s;" in up.run("run", "--help").out.partition("--clock-wait")[2].partition("--")[0]
    run = ["run", "--detach", "--name", "late", busybox_image, "/bin/busybox", "sleep", "60"]
    clock.set(-1)  # no leeway
    assert_waited_in_vain(up.run("run", "--clock-wait", "1200ms", *run[1:], check=False))
    assert not docker.containers("davit.purpose=sandbox") and not up.json("sandbox", "ls").get("sandboxes")
    clock.set(0)
    up.run(*run)  # the same again
    before, = up.json("controlplane", "agents")
    up.run("sandbox", "stop", "late")
    clock.set(-5)
    assert_waited_in_vain(up.run("sandbox", "start", "--clock-wait", "700ms", "late", check=False))
    assert not docker.containers("davit.purpose=sandbox", every=False)
    with subprocess.Popen([up.bin / "davit", "run", "--name", "patient", busybox_image, "/bin/busybox", "echo", "hello"], env=up.env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p, \
            subprocess.Popen([up.bin / "davit", "sandbox", "start", "late"], env=up.env, text=True, stderr=subprocess.PIPE) as q:
        assert "waiting for the clock" in p.stderr.readline() and "waiting for the clock" in q.stderr.readline()
        clock.set(0)
        assert p.wait(20) == 0 and p.stdout.read() == "hello\n" and q.wait(20) == 0
    after = {a["agent_name"]: a for a in up.json("controlplane", "agents")}
    assert set(after) == {"late", "patient"} and after["late"]["container_id"] == before["container_id"]
    assert after["late"]["cert_thumbprint"] == before["cert_thumbprint"] and len(docker.containers("davit.purpose=sandbox")) == 2
    for name in after:
        up.run("sandbox", "rm", "--force", "--volumes", name)


@pytest.mark.req("CW-3")
def test_without_a_firewall_all_else_is_there(up, busybox_image):
    settings = up.home / "config/settings.yaml"
    settings.write_text("firewall:\n  enable: false\n")
    up.run("up")
    try:
        assert up.run("firewall", "status").out == "Firewall: off (firewall.enable: false in settings.yaml)\n"
        assert up.json("firewall", "status")["running"] is False and up.run("firewall", "status", "--quiet").out == "stopped\n"
        keys = ["--cert", up.home / "config/cli.crt", "--key", up.home / "config/cli.key"]
        ask = ["curl", "-s", "-m", "10", "--insecure", "--json", "{}", f"https://127.0.0.1:{up.api}/davit.admin.v1.AdminService/GetSystemTime"]
        assert "unixNanos" in proc.run([*ask, *keys]).out and proc.run(ask, check=False).rc != 0
        assert up.run("run", "--name", "known", busybox_image, "/bin/busybox", "echo", "hello").out == "hello\n"
        row, = up.json("controlplane", "agents")
        assert row["agent_name"] == "known"
        up.run("sandbox", "rm", "--volumes", "known")
    finally:
        settings.unlink()
        up.run("up")
    assert up.run("firewall", "status").out == "Firewall: off\n"


@pytest.mark.req("CW-74", "CW-4")
def test_a_user_who_never_said_up(bin_dir, docker, tmp_home):
    bin_ = tmp_home / "bin"
    bin_.mkdir()
    for program in ("davit", "davitd", "davit-agent"):  # where the account of the test gets at them
        shutil.copy(bin_dir / program, bin_)
    home = tmp_home / "user"
    (home / ".config/davit").mkdir(parents=True)
    api, health, web = proc.free_port(), proc.free_port(), proc.free_port()
    (home / ".config/davit/settings.yaml").write_text(f"control_plane:\n  admin_port: {api}\n  health_port: {health}\nlogging:\n  max_backups: 2\n")
    become = []
    if os.geteuid() == 0:
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        proc.run(["chown", "-R", "65534:65534", home])
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS")} | {
        "HOME": str(home), "LANG": "C.UTF-8", "DOCKER_HOST": docker.host} | runtime.env()

    def davit(*args, **more):
        return proc.run([*become, bin_ / "davit", *args], env=env, cwd=home, **more)

    r = davit("ps", check=False)
    assert r.rc == 7 and "run `davit up` first" in r.err
    r = davit("controlplane", "agents", "--home", home / "mistyped", check=False)
    assert r.rc == 7 and "or point --home to the one you mean" in r.err and not (home / "mistyped").exists()
    try:
        assert f"one is made, with its keys in {home}/.config/davit" in davit("controlplane", "agents").err and davit("controlplane", "agents", "--output", "json").out == "[]\n"
        log = home / ".local/state/davit/logs/davit-controlplane.log"
        assert "control plane started" in log.read_text() and stat.S_IMODE(log.stat().st_mode) == 0o600
        assert "running" in davit("status").out
        words = (pathlib.Path("/proc") / davit("status").out.partition("(pid ")[2].partition(")")[0] / "cmdline").read_bytes().split(b"\0")
        assert b"--for-sandboxes" in words and words[words.index(b"--log-max-backups") + 1] == b"2"
    finally:
        davit("down")
