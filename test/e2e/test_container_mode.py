# SPDX-License-Identifier: Apache-2.0
"""The control plane in a container of its own: `davit up --mode container`. Every tree puts its own programs into the image, so that of a sanitizer tree
is one of dynamic programs with their libraries; davit-init and davit-session are static in both (lib/runtime.py)."""
import ctypes
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import threading
import time
import urllib.request

import pytest

from lib import davit as davit_lib
from lib import proc
from lib.engine import EngineError

NAME, NETWORK, VOLUME = "davit-controlplane", "davit-admin", "davit-agent-data"
ROOT = pathlib.Path(__file__).resolve().parents[2]
SLEEP = ("/bin/busybox", "sleep", "1000")


def log(docker):
    """What the programs in the container wrote; the engine's frames around it are left in."""
    return docker.call("GET", f"/containers/{NAME}/logs", query={"stdout": 1, "stderr": 1}).decode(errors="replace")


def inside(docker, program):
    """Process id, as this machine counts, of a program in the container."""
    top = docker.json("GET", f"/containers/{NAME}/top", query={"ps_args": "-o pid,args"})
    found = [int(p[0]) for p in top["Processes"] if p[1].startswith(f"/davit/{program} ") and "--monitor" not in p[1]]
    return found[0] if found else 0


def names(docker):
    return {c["Names"][0].lstrip("/") for c in docker.containers()}


class Plane(davit_lib.Davit):
    """One whose control plane is in a container."""

    def up(self, *args, **more):
        return super().up("--mode", "container", *args, **more)

    def close(self):
        text = log(self.engine) if NAME in names(self.engine) else ""
        super().close()
        assert "Sanitizer" not in text and "runtime error" not in text, text[-8000:]


@pytest.fixture(scope="module")
def plane(docker, bin_dir, tmp_path_factory):
    home = tmp_path_factory.mktemp("plane")
    home.chmod(0o755)
    d = Plane(bin_dir, docker, home)
    try:
        d.up()
        yield d
    finally:
        d.close()


@pytest.fixture
def up(plane):
    """It runs, whatever the test before did to it."""
    plane.up()
    return plane


@pytest.fixture
def box(up, docker, busybox_image):
    """A sandbox that runs: its name."""
    if "davit.box" not in names(docker):
        up.run("run", "-d", "--name", "box", busybox_image, *SLEEP)
    return "box"


def execute(up, script, name="box"):
    return up.run("sandbox", "exec", name, "--", "/bin/busybox", "sh", "-c", script).out


# --- What it is ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CW-1", "CW-57")
def test_one_container_of_the_installed_programs(up, docker, bin_dir):
    c = docker.inspect(NAME)
    assert c["Path"] == "/davit/davitd" and c["Args"][0] == "--monitor" and c["State"]["Running"]
    repo, _, tag = c["Config"]["Image"].rpartition(":")
    content = c["Config"]["Labels"]["davit.binary"]
    assert repo == "davit-controlplane" and tag == f"bin-{content[:16]}" and len(content) == 64
    assert 'msg="control plane started"' in up.log_file.read_text()
    assert c["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert inside(docker, "davitd") and inside(docker, "davit-agent")
    # What is in it is what is installed here and nothing else, with the libraries that it names, at the same paths.
    tar = subprocess.run(["tar", "-t"], input=docker.call("GET", f"/containers/{NAME}/export"), capture_output=True, check=True).stdout.decode()
    files = {"/" + name.rstrip("/") for name in tar.split()}
    expect = {"/davit/davitd", "/davit/davit-agent", "/davit/davit-init", "/davit/davit-session"}
    for program in ("davitd", "davit-agent"):
        listed = subprocess.run(["ldd", bin_dir / program], capture_output=True, text=True, check=False).stdout
        expect |= {word for word in listed.split() if word.startswith("/")}
    assert expect <= files
    assert {f for f in files if "/lib" in f and ".so" in f} == {f for f in expect if ".so" in f}
    assert not {"/bin/sh", "/usr/bin/sh"} & files
    # The engine was never asked to fetch anything: there is no image but this and those of the tests.
    images = {t for i in docker.json("GET", "/images/json") for t in i["RepoTags"] or []}
    assert [t for t in images if t.startswith("davit-controlplane:")] == [c["Config"]["Image"]]


def test_ports_are_on_loopback_only_and_told_as_they_are(up, docker):
    c = docker.inspect(NAME)
    published = {p: [b["HostIp"] + ":" + b["HostPort"] for b in at] for p, at in c["NetworkSettings"]["Ports"].items() if at}
    assert published == {f"{p}/tcp": [f"127.0.0.1:{p}"] for p in (up.api, up.health, up.local_web)}
    assert c["HostConfig"]["NetworkMode"] == NETWORK
    s = up.json("status")
    assert (s["apiAddress"], s["localWebAddress"], s["localRole"]) == (f"127.0.0.1:{up.api}", f"127.0.0.1:{up.local_web}", "sandbox")
    assert "role           sandbox" in up.run("status").out
    with urllib.request.urlopen(up.json("dashboard")["dashboard"], timeout=10) as r:
        assert r.status == 200 and str(up.local_web) in r.url


@pytest.mark.req("CW-58")
def test_it_joins_the_network_of_sandboxes_at_202_and_serves_nothing_there_but_7444(up, docker, box):
    net = proc.wait_for(lambda: docker.inspect(NAME)["NetworkSettings"]["Networks"].get("davit-net"), 20, text="davit-net")
    subnet = next(n for n in docker.networks() if n["Name"] == "davit-net")["IPAM"]["Config"][0]
    head = subnet["Gateway"].rpartition(".")[0]
    assert subnet["Subnet"] == f"{head}.0/24" and net["IPAddress"] == f"{head}.202"
    assert [n for n in docker.networks() if n["Name"] == NETWORK][0]["Internal"] is False
    # From a sandbox: the relay answers, the ports of davitd do not.
    ports = (7444, up.api, up.health, up.local_web)
    tries = "; ".join(f"/bin/busybox nc -w 2 {net['IPAddress']} {p} </dev/null >/dev/null 2>&1 && echo open {p}" for p in ports)
    assert execute(up, tries + "; true").split("\n")[:-1] == ["open 7444"]


def make_wide(docker, labels):
    """davit-net as somebody else might have made it, where no network of the engine is yet; its range."""
    for n in range(200, 250):
        wide = f"10.{n}.0.0/20"
        try:
            docker.json("POST", "/networks/create", {"Name": "davit-net", "Internal": True, "IPAM": {"Config": [{"Subnet": wide}]}, "Labels": labels})
            return wide
        except EngineError as e:
            assert "overlaps" in str(e), e
    raise AssertionError("no range is free")


@pytest.mark.req("CW-58")
def test_a_network_of_another_size_is_refused_with_a_reason(up, docker, busybox_image):
    up.run("sandbox", "rm", "--force", "--volumes", "box", check=False)
    up.down()
    docker.call("DELETE", "/networks/davit-net")
    server = json.loads((up.home / "config/cli.json").read_text())["serverId"]
    wide = make_wide(docker, {"davit.managed": "true", "davit.purpose": "sandbox", "davit.server": server})
    try:
        up.up()
        r = up.run("run", "--name", "wide", busybox_image, *SLEEP, check=False)
        assert r.rc != 0 and wide in r.err and "/24" in r.err and "docker network rm davit-net" in r.err, r
    finally:
        docker.call("DELETE", "/networks/davit-net")
    up.run("run", "-d", "--name", "box", busybox_image, *SLEEP)


def test_sandboxes_run_as_without_it(up, box, busybox_image, tmp_path):
    script = "/bin/busybox sleep 1; echo hello; echo oops >&2; exit 3"
    r = up.run("run", "--name", "one", busybox_image, "/bin/busybox", "sh", "-c", script, check=False)
    assert (r.rc, r.out) == (3, "hello\n") and "oops\n" in r.err
    assert up.run("sandbox", "logs", "one").out == "hello\n"
    assert execute(up, "echo there") == "there\n"
    # The folder of the machine; in the network that is open the agent is at .202, too.
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    (tmp_path / "file").write_text("mine")
    up.run("run", "-d", "--network", "open", "--workspace", tmp_path, "--name", "two", "--user", "1234", busybox_image, *SLEEP)
    assert execute(up, "/bin/busybox id -u; /bin/busybox cat /workspace/file", "two") == "1234\nmine"
    # But not one in which Davit keeps what is its own.
    r = up.run("run", "-d", "--name", "thief", "--workspace", up.home / "config", busybox_image, *SLEEP, check=False)
    assert r.rc != 0 and "may not be mounted" in r.err, r
    for name in ("one", "two"):
        up.run("sandbox", "rm", "--force", "--volumes", name)


def test_it_does_nothing_else_and_says_what_does(up, busybox_image):
    r = up.run("deploy", "--name", "web", busybox_image, check=False)
    assert r.rc != 0 and "role sandbox" in r.err and "davit up --mode native" in r.err, r
    r = up.run("exec", NAME, "--", "/davit/davitd", "--version", check=False)
    assert r.rc != 0 and "0.1" not in r.out, r
    r = up.run("up", "--mode", "native", check=False)
    assert r.rc == 7 and "davit down" in r.err and "container" in r.err, r
    r = up.run("controlplane", "restore", "/etc/hostname", check=False)
    assert r.rc == 7 and "davit down" in r.err, r


def test_facts_are_the_machines(up):
    server, = up.json("server", "ls")["servers"]
    facts, engine = server["system"], up.engine.json("GET", "/info")
    assert (facts["hostname"], facts["os"], facts["kernel"]) == (engine["Name"], engine["OperatingSystem"], engine["KernelVersion"])
    assert facts["cpuCount"] == engine["NCPU"] and int(facts["memoryBytes"]) == engine["MemTotal"]
    assert facts["role"] == "sandbox" and not facts.get("lanAddresses")


# --- What davitd may do --------------------------------------------------------------------------------------------------------------
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, PR_SET_NO_NEW_PRIVS, SYS_BPF, PR_CAPBSET_DROP = 0x20000, 38, 321, 24


def status_of(pid):
    return dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def tries_as(pid, uid, gid, attempts):
    """Enters the mount namespace of @pid, becomes @uid and @gid with nothing else, and tries each of @attempts: {name: exception or None}."""
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
            if LIBC.setns(fd, CLONE_NEWNS) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            out = {}
            for name, attempt in attempts.items():
                try:
                    attempt()
                    out[name] = None
                except OSError as e:
                    out[name] = e.errno
            os.write(w, json.dumps(out).encode())
        except BaseException as e:  # noqa: BLE001 - told to the parent
            os.write(w, json.dumps({"failed": repr(e)}).encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        data = f.read()
    os.waitpid(child, 0)
    return json.loads(data)


def connect(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)


def bpf():
    if LIBC.syscall(SYS_BPF, 0, ctypes.create_string_buffer(128), 128) < 0:
        raise OSError(ctypes.get_errno(), "bpf")


@pytest.mark.req("CW-118")
def test_davitd_has_no_privilege_and_reaches_nothing_that_has(up, docker):
    davitd, agent = inside(docker, "davitd"), inside(docker, "davit-agent")
    s = status_of(davitd)
    nobody = os.stat(up.home / "state").st_uid
    assert nobody != 0 and s["Uid"].split() == [str(nobody)] * 4 and s["Gid"].split()[0] != "0" and s["Groups"].strip() == ""
    assert {k: int(s[k], 16) for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
    assert s["NoNewPrivs"] == "1" and s["Seccomp"] == "2"
    a = status_of(agent)
    assert a["Uid"].split()[0] == "0" and int(a["CapEff"], 16) != 0 and a["NoNewPrivs"] == "1"
    attempts = {"socket": lambda: connect("/private/docker.sock"), "look": lambda: os.listdir("/private"),
                "agent": lambda: os.open("/private/agent/config.yaml", os.O_RDONLY), "key": lambda: os.listdir("/private/agent"),
                "owner": lambda: os.listdir("/private/owner"), "bpffs": lambda: os.open("/sys/fs/bpf/x", os.O_CREAT | os.O_RDWR),
                "bpf": bpf, "memory": lambda: os.open(f"/proc/{agent}/mem", os.O_RDONLY), "root": lambda: os.listdir(f"/proc/{agent}/root"),
                "program": lambda: os.open("/davit/davit-agent", os.O_WRONLY), "state": lambda: os.listdir("/state")}
    got = tries_as(davitd, nobody, int(s["Gid"].split()[0]), attempts)
    assert got.pop("state") is None, got  # its own
    assert got.keys() == attempts.keys() - {"state"} and all(got.values()), got
    # Beside the socket itself: root of the container may.
    assert stat.S_ISSOCK(os.stat(f"/proc/{agent}/root/private/docker.sock").st_mode)


@pytest.mark.req("CW-118")
def test_the_monitor_is_short_and_starts_the_agent_again(up, docker):
    text = (ROOT / "src/main/monitor.c").read_text()
    assert len(text.splitlines()) < 400 and not any(word in text for word in ("recv", "accept(", "read(", "open(", "socket("))
    pid, before = inside(docker, "davit-agent"), docker.inspect(NAME)["Id"]
    os.kill(pid, signal.SIGKILL)
    proc.wait_for(lambda: inside(docker, "davit-agent") not in (0, pid), 15, text="the agent again")
    davitd = inside(docker, "davitd")
    os.kill(davitd, signal.SIGKILL)
    proc.wait_for(lambda: inside(docker, "davitd") not in (0, davitd), 15, text="davitd again")
    proc.wait_for(lambda: up.run("controlplane", "status", "-q", check=False).rc == 0, 15, text="an answer")
    proc.wait_for(lambda: up.run("image", "ls", check=False).rc == 0, 15, text="the agent at work")
    assert docker.inspect(NAME)["Id"] == before and docker.inspect(NAME)["RestartCount"] == 0


@pytest.mark.req("CW-118")
def test_the_owners_policy_holds_and_is_the_owners(up, busybox_image, tmp_path):
    policy = up.home / "agent/policy.yaml"
    try:
        policy.write_text("images: forbid\n")
        r = up.run("run", "--name", "denied", busybox_image, *SLEEP, check=False)
        assert r.rc != 0 and "policy.yaml" in r.err, r
        # Where a listed folder leads cannot be seen from a container: nothing is believed.
        policy.write_text(f"mounts:\n  - {tmp_path}\n")
        r = up.run("run", "--name", "denied", "--workspace", tmp_path, busybox_image, *SLEEP, check=False)
        assert r.rc != 0 and "cannot see where" in r.err and "snapshot" in r.err, r
    finally:
        policy.unlink()


# --- Its life ------------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CW-56", "CW-60")
def test_up_is_idempotent_and_two_at_once_make_one(up, docker):
    before = docker.inspect(NAME)["Id"]
    r = up.run("up", "--user", "nobody")
    assert "up already" in r.out and docker.inspect(NAME)["Id"] == before
    up.run("controlplane", "down")
    assert NAME not in names(docker)
    both, words = [], (("up", "--user", "nobody"), ("controlplane", "up", "--user", "nobody"))
    threads = [threading.Thread(target=lambda w=w: both.append(up.run(*w, "--output", "json", check=False, timeout=90))) for w in words]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [r.rc for r in both] == [0, 0], both
    assert sorted(json.loads(r.out)["changed"] for r in both) == [False, True], both
    assert [c for c in docker.containers("davit.purpose=controlplane")][0]["Names"] == [f"/{NAME}"]
    # What needs it takes the same way, and leaves alone what runs.
    before = docker.inspect(NAME)["Id"]
    assert up.run("controlplane", "agents").rc == 0 and docker.inspect(NAME)["Id"] == before
    up.run("controlplane", "down")
    assert "it is started" in up.run("controlplane", "agents").err
    assert "--for-sandboxes" in docker.inspect(NAME)["Args"] and docker.inspect(NAME)["State"]["Running"]


@pytest.mark.req("CW-41", "CW-59")
def test_up_waits_for_the_same_answer_that_status_gives(up, docker):
    """What keeps davitd from answering keeps `up` waiting, to its end and not beyond; the same look is that of status."""
    os.kill(inside(docker, "davitd"), signal.SIGSTOP)
    try:
        assert up.run("controlplane", "status", "-q", check=False).rc == 1
        begin = time.monotonic()
        r = up.run("up", "--user", "nobody", "--wait", "1s", check=False)
        assert 1 <= time.monotonic() - begin < 12 and r.rc == 5 and "in time" in r.err and f"docker logs {NAME}" in r.err, r
    finally:
        os.kill(inside(docker, "davitd"), signal.SIGCONT)
    proc.wait_for(lambda: up.run("controlplane", "status", "-q", check=False).rc == 0, 15, text="an answer")
    assert up.run("up", "--user", "nobody", "--wait", "9s").rc == 0
    assert "60s" in up.run("up", "--help").out


@pytest.mark.req("CW-59")
def test_one_that_does_not_live_is_told_with_its_last_words(up, docker):
    up.down()
    store = up.home / "state/control.db"
    content = store.read_bytes()
    store.write_bytes(b"no database " * 1000)
    try:
        r = up.run("up", "--user", "nobody", check=False)
        assert r.rc == 5 and "has ended" in r.err and f"docker logs {NAME}" in r.err and "control.db" in r.err, r
        assert f"({NAME}, " in up.run("controlplane", "status", check=False).out
    finally:
        store.write_bytes(content)


@pytest.mark.all_tier
def test_other_settings_replace_it_and_sandboxes_go_on(up, docker, box):
    started, before = docker.inspect("davit.box")["State"]["StartedAt"], docker.inspect(NAME)["Id"]
    port = proc.free_port()
    r = up.run("up", "--user", "nobody", "--health-listen", f"127.0.0.1:{port}")
    assert "replaced" in r.err and docker.inspect(NAME)["Id"] != before
    assert docker.inspect("davit.box")["State"]["StartedAt"] == started and execute(up, "echo there") == "there\n"


@pytest.mark.req("CW-53")
def test_a_death_is_seen_and_up_restores_supervision(up, docker, box):
    docker.json("POST", f"/containers/{NAME}/update", {"RestartPolicy": {"Name": "no"}})
    os.kill(docker.inspect(NAME)["State"]["Pid"], signal.SIGKILL)
    proc.wait_for(lambda: not docker.inspect(NAME)["State"]["Running"], 10, text="its end")
    r = up.run("controlplane", "status", check=False)
    assert r.rc == 1 and "stopped" in r.out and "1 runs on" in r.out and "dispatch is not available" in r.out, r
    seen = json.loads(up.run("controlplane", "status", "--output", "json", check=False).out)
    assert seen == {"container_running": False, "sandboxes_running": 1, "dispatch_available": False}
    assert up.run("sandbox", "exec", box, "--", "/bin/busybox", "true", check=False).rc == 5
    up.up()
    seen, = proc.wait_for(lambda: [s for s in up.json("sandbox", "ls")["sandboxes"] if s["name"] == box and s.get("session")], 20, text="a session")
    assert (seen["state"], seen["trust"]) == ("SANDBOX_STATE_RUNNING", "SANDBOX_TRUST_REGISTERED")
    assert execute(up, "echo again") == "again\n"


@pytest.mark.req("CW-112")
def test_what_is_left_of_one_that_was_killed_half_made_goes(up, docker):
    up.down()
    p = subprocess.Popen([up.bin / "davit", "up", "--user", "nobody"], env=up.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        pid = proc.wait_for(lambda: NAME in names(docker) and docker.inspect(NAME)["State"]["Pid"], 20, text="its first process")
        p.kill()
        os.kill(pid, signal.SIGKILL)
    finally:
        p.kill()
        p.wait()
    up.run("controlplane", "down")
    assert NAME not in names(docker)
    held = [n for n in docker.networks() if n["Name"] in ("davit-net", NETWORK)]
    assert all(NAME not in json.dumps(docker.json("GET", f"/networks/{n['Id']}")["Containers"]) for n in held)
    for port in (up.api, up.health, up.local_web):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what was closed may linger
            s.bind(("127.0.0.1", port))
    # One that was made and never ran, too.
    docker.json("POST", f"/containers/create?name={NAME}", {"Image": "davit-test/busybox:1", "Labels": {"davit.home": str(up.home / "config")}})
    assert up.up().rc == 0 and docker.inspect(NAME)["Config"]["Image"].startswith("davit-controlplane:")


@pytest.mark.req("CW-56")
def test_the_name_is_the_lock_of_the_engine(up, docker, bin_dir, tmp_home):
    other = davit_lib.Davit(bin_dir, docker, tmp_home)
    before = docker.inspect(NAME)["Id"]
    r = other.up("--mode", "container", check=False)
    assert r.rc == 7 and str(up.home / "config") in r.err, r
    other.down("--purge")
    assert docker.inspect(NAME)["Id"] == before and docker.volumes("davit.purpose=controlplane")


def test_purge_takes_all_of_it(up, docker, box):
    up.down("--purge", "--force")
    assert not [n for n in names(docker) if n == NAME or n.startswith("davit.")]  # services of other tests may still be here
    assert not {n["Name"] for n in docker.networks()} & {NETWORK, "davit-net", "davit-open"}
    assert not [v for v in docker.volumes() if v["Name"].startswith("davit-")]
    assert not [t for i in docker.json("GET", "/images/json") for t in i["RepoTags"] or [] if t.startswith("davit-controlplane")]
    assert not up.home.exists()
