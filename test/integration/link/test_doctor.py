# SPDX-License-Identifier: Apache-2.0
"""davit-agent doctor: on a healthy server next to its running agent, and on broken ones. What is needed of systemd, tailscale, sick engines and
strange control planes are stand-ins that give canned answers, and are named so."""
import contextlib
import http.server
import json
import os
import pathlib
import pty
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time

import pytest

from lib import davit as davit_lib
from lib import pki, proc
from lib.remote import Remote

NAMES = ["docker", "docker_socket", "docker_group", "disk_space", "config", "policy", "certificates", "grpc", "systemd", "tailscale", "engine_api",
         "address_pools", "cgroup", "bpf", "log_driver", "clock"]
HEALTHY_UNIT = "echo LoadState=loaded; echo ActiveState=active; echo UnitFileState=enabled"
HEALTHY_NODE = """echo '{"BackendState":"Running","TailscaleIPs":["100.64.0.7"],"Self":{"DNSName":"web-1.tail.ts.net."}}'"""


@pytest.fixture(scope="module")
def plane(bin_dir, docker):
    """A control plane with one server that is enrolled and online; tests copy its directory before they break it."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="dv."))
    top.chmod(0o755)
    d = davit_lib.Davit(bin_dir, docker, top)
    try:
        d.up("--advertise", "127.0.0.1")
        d.remote = Remote(d, "web-1")
        d.remote.add()
        d.remote.enroll()
        d.remote.start()
        d.remote.wait()
        yield d
    finally:
        d.close()
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def copy(plane, tmp_path):
    """A copy of the enrolled directory, for breaking."""
    to = tmp_path / "agent"
    shutil.copytree(plane.remote.dir, to, ignore=shutil.ignore_patterns("health.sock", "lock"))
    set_config(to, "cert_dir", to)
    return to


@pytest.fixture
def stand_ins(tmp_path):
    """A folder for PATH with stand-ins of systemctl and tailscale that say that all is well."""
    folder = tmp_path / "stand-ins"
    folder.mkdir()
    stand_in(folder, "systemctl", HEALTHY_UNIT)
    stand_in(folder, "tailscale", HEALTHY_NODE)
    return folder


def stand_in(folder, name, says):
    (folder / name).write_text(f"#!/bin/sh\n# stand-in for {name}\n{says}\n")
    (folder / name).chmod(0o755)


def doctor(plane, directory, *args, path=None, prefix=(), env=None, timeout=40):
    """(exit status, {name: row}, seconds) of doctor --json."""
    env = plane.env | ({"PATH": f"{path}:{os.environ['PATH']}"} if path else {}) | (env or {})
    begun = time.monotonic()
    got = proc.run([*prefix, plane.bin / "davit-agent", "doctor", "--json", "--config-dir", directory, *args], env=env, check=False, timeout=timeout)
    took = time.monotonic() - begun
    assert "Sanitizer" not in got.err, got.err
    report = json.loads(got.out)
    assert [c["name"] for c in report["checks"]] == NAMES
    assert report["ok"] == (got.rc == 0) == all(c["result"] != "FAIL" for c in report["checks"])
    for c in report["checks"]:
        assert set(c) == {"name", "result", "message", "fix"} and c["result"] in ("OK", "WARN", "FAIL") and c["message"]
        assert bool(c["fix"]) == (c["result"] != "OK"), c
    return got.rc, {c["name"]: c for c in report["checks"]}, took


def set_config(directory, key, value):
    lines = (directory / "config.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(key + ":")]
    (directory / "config.yaml").write_text("\n".join([*kept, f"{key}: {value}"]) + "\n")


# --- A healthy server ---------------------------------------------------------------------------------------------------------
@pytest.mark.req("CL-58", "CL-59", "CL-65")
def test_a_healthy_server_passes_and_its_link_does_not_notice(plane, stand_ins):
    before = plane.remote.show()
    root = plane.engine.json("GET", "/info")["DockerRootDir"]
    rc, row, _ = doctor(plane, plane.remote.dir, path=stand_ins)
    assert rc == 0, row
    good = ("docker", "docker_socket", "docker_group", "config", "policy", "certificates", "grpc", "systemd", "tailscale", "engine_api", "log_driver", "clock")
    assert {n: row[n]["result"] for n in good} == dict.fromkeys(good, "OK"), row
    version = plane.engine.json("GET", "/version")
    assert version["Version"] in row["docker"]["message"] and version["ApiVersion"] in row["engine_api"]["message"]
    assert f"127.0.0.1:{plane.link} answers by gRPC over mutual TLS" == row["grpc"]["message"]
    assert "the control plane's" in row["clock"]["message"]
    assert "/: " in row["disk_space"]["message"] and f"({root})" in row["disk_space"]["message"]
    if min(shutil.disk_usage(path).free for path in ("/", root)) > 3e9:
        assert row["disk_space"]["result"] == "OK"
    after = plane.remote.show()
    assert after["state"] == before["state"] == "SERVER_STATE_ONLINE"
    said = proc.run([plane.bin / "davit-agent", "status", "--json", "--config-dir", plane.remote.dir], env=plane.env)
    assert json.loads(said.out)["connections"] == 1


@pytest.mark.req("CL-65")
def test_the_agent_of_the_control_planes_own_machine(plane, stand_ins):
    stand_in(stand_ins, "systemctl", "echo LoadState=not-found; echo ActiveState=inactive")
    rc, row, _ = doctor(plane, plane.home / "agent", path=stand_ins)
    assert rc == 0, row
    assert "none is needed" in row["certificates"]["message"] and "its unix socket" in row["grpc"]["message"]
    assert row["systemd"]["result"] == "OK" and "davit up" in row["systemd"]["message"]


@pytest.mark.req("CL-68", "CL-70", "CB-14")
@pytest.mark.parametrize("bad,expected", [(False, 0), (True, 1)])
def test_every_output_mode_has_the_same_exit_status(plane, copy, stand_ins, bad, expected):
    stand_in(stand_ins, "tailscale", "exit 1")  # a WARN counts as OK
    if bad:
        (copy / "config.yaml").unlink()
    env = plane.env | {"PATH": f"{stand_ins}:{os.environ['PATH']}"}
    command = [plane.bin / "davit-agent", "doctor", "--config-dir", copy]
    got = {mode: proc.run([*command, *mode], env=env, check=False) for mode in ((), ("--json",), ("--quiet",))}
    assert {g.rc for g in got.values()} == {expected}, got[()]
    assert got[("--quiet",)].out + got[("--quiet",)].err == ""
    human = got[()].out
    assert [line.split()[1] for line in human.splitlines() if line[:4].strip() in ("OK", "WARN", "FAIL")] == NAMES
    assert "WARN  tailscale" in human and "fix: " in human and "\033" not in human
    assert got[()].err == got[("--json",)].err == ""


def test_usage_errors_are_those_of_the_other_verbs(plane):
    for args in (("--bogus",), ("more",), ("--link", "127.0.0.1:1"), ("--docker", "ftp://x")):
        got = proc.run([plane.bin / "davit-agent", "doctor", "--quiet", *args], env=plane.env, check=False)
        assert got.rc == 2 and got.out == "" and got.err, str(got)
    said = proc.run([plane.bin / "davit-agent", "doctor", "--help"], env=plane.env)
    assert all(o in said.out for o in ("--json", "--quiet", "--config-dir", "--docker", "--link", "--tailscale"))


def test_colours_are_for_terminals(plane, copy):
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        ours, theirs = pty.openpty()
        command = [plane.bin / "davit-agent", "doctor", "--config-dir", copy]
        subprocess.run(command, stdout=theirs, stdin=subprocess.DEVNULL, env=plane.env | {"TERM": "xterm"} | env, timeout=40, check=False)
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # a terminal that nobody holds any more ends with EIO
            while data := os.read(ours, 65536):
                text += data
        os.close(ours)
        assert b"16 checks" in text and (b"\033[" in text) == coloured


# --- Nothing is there ---------------------------------------------------------------------------------------------------------
@pytest.mark.req("CL-63", "CL-67")
def test_without_docker_systemd_enrolment_and_privileges(plane, tmp_home):
    empty = tmp_home / "empty"
    empty.mkdir()
    agent = shutil.copy(plane.bin / "davit-agent", tmp_home / "davit-agent")
    as_nobody = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    got = proc.run([*as_nobody, agent, "doctor", "--json", "--docker", f"unix:{empty}/none.sock", "--tailscale", "/nonexistent"],
                   env={"HOME": str(empty), "PATH": str(empty)}, check=False)
    row = {c["name"]: c for c in json.loads(got.out)["checks"]}
    assert got.rc == 1 and list(row) == NAMES, str(got)
    for name in ("docker", "docker_socket", "config", "certificates", "grpc"):
        assert row[name]["result"] == "FAIL", row[name]
    for name in ("systemd", "tailscale", "engine_api", "address_pools", "log_driver"):
        assert row[name]["result"] == "WARN", row[name]
    assert "holds no enrolment" in row["config"]["message"] and "server add" in row["config"]["fix"]
    assert list(empty.iterdir()) == [], "doctor changes nothing"


@pytest.mark.req("CL-60", "CL-61")
def test_a_socket_that_the_agents_account_may_not_use(plane, copy, stand_ins):
    if os.geteuid() != 0:
        pytest.skip("needs to give a directory to another account")
    for path in (copy, *copy.iterdir()):
        os.chown(path, 65534, 65534)
    _, row, _ = doctor(plane, copy, path=stand_ins)  # root asks about the agent's account
    st = os.stat(plane.engine.sock)
    assert st.st_uid == 0 and st.st_gid != 65534 and not st.st_mode & 0o006, "the engine's socket is as usual"
    assert row["docker"]["result"] == "OK"
    assert row["docker_socket"]["result"] == "FAIL" and "nobody may not" in row["docker_socket"]["message"]
    assert row["docker_group"]["result"] == "WARN" and "usermod -aG" in row["docker_group"]["fix"]


# --- Enrolments that broke ----------------------------------------------------------------------------------------------------
@pytest.mark.req("CL-63")
def test_config_that_cannot_be_read_or_is_open_to_others(plane, copy, stand_ins):
    copy.chmod(0o755)
    rc, row, _ = doctor(plane, copy, path=stand_ins)
    assert rc == 0 and row["config"]["result"] == "WARN" and f"chmod 700 {copy}" in row["config"]["fix"]
    (copy / "client.key").chmod(0o644)
    rc, row, _ = doctor(plane, copy, path=stand_ins)
    assert rc == 1 and row["config"]["result"] == "FAIL" and "private key" in row["config"]["message"]
    (copy / "config.yaml").write_text("server_id: a\nbogus: b\n")
    rc, row, _ = doctor(plane, copy, path=stand_ins)
    assert rc == 1 and row["config"]["result"] == "FAIL" and "line 2" in row["config"]["message"]


@pytest.mark.req("CL-64", "CB-14")
@pytest.mark.parametrize("days,result", [(6, "WARN"), (-0.01, "FAIL"), ("root", "FAIL")])
def test_certificates(plane, copy, stand_ins, days, result):
    agents = pki.Authority.load(plane.home / "state", "agents-ca")
    uri = "davit://server/" + plane.remote.show()["id"]
    if days == "root":
        (copy / "ca.crt").write_bytes(pki.Authority.make().pem())
    else:
        key, leaf = agents.leaf(uri, life=days * pki.DAY, start=-40 * pki.DAY, usage="client")
        (copy / "client.crt").write_bytes(leaf + agents.pem())
        (copy / "client.key").write_bytes(key)
    rc, row, _ = doctor(plane, copy, path=stand_ins)
    assert row["certificates"]["result"] == result, row["certificates"]
    if result == "FAIL":
        assert rc == 1 and "server token" in row["certificates"]["fix"]
        assert row["grpc"]["result"] == "FAIL" and "certificates check" in row["grpc"]["fix"]


@pytest.mark.req("CL-65", "CB-15")
def test_a_policy_file_that_forbids_everything_by_mistake(plane, copy, stand_ins):
    policy = copy / "policy.yaml"
    policy.write_text("exec: forbid\nprivileged:\n  - cap:FOO\n")
    policy.chmod(0o600)
    rc, row, _ = doctor(plane, copy, path=stand_ins)
    assert rc == 1 and row["policy"]["result"] == "FAIL" and "line 3" in row["policy"]["message"], row["policy"]
    policy.write_text("exec: forbid\n")
    policy.chmod(0o666)
    assert "chmod go-w" in doctor(plane, copy, path=stand_ins)[1]["policy"]["fix"]
    policy.chmod(0o600)
    assert doctor(plane, copy, path=stand_ins)[1]["policy"]["result"] == "OK"
    if os.geteuid() == 0:  # the agent runs under the account that owns its directory
        os.chown(copy, 65534, 65534)
        row = doctor(plane, copy, path=stand_ins)[1]["policy"]
        assert row["result"] == "FAIL" and "account cannot read" in row["message"], row
        policy.chmod(0o644)
        assert doctor(plane, copy, path=stand_ins)[1]["policy"]["result"] == "OK"


@pytest.mark.req("CL-65")
def test_a_server_that_was_removed_is_told_so(plane, stand_ins):
    gone = Remote(plane, "gone")
    gone.add()
    gone.enroll()
    plane.run("server", "rm", "gone")
    rc, row, _ = doctor(plane, gone.dir, path=stand_ins)
    assert rc == 1 and row["certificates"]["result"] == "OK", row
    assert row["grpc"]["result"] == "FAIL" and "removed" in row["grpc"]["message"] and "token" in row["grpc"]["fix"], row["grpc"]


@pytest.mark.req("CL-65", "CB-14")
def test_a_control_plane_with_another_root_is_not_taken_for_ours(plane, copy, stand_ins, tmp_path):
    strange = pki.TlsServer(*pki.Authority.make().leaf("davit://controlplane"), folder=tmp_path)
    set_config(copy, "grpc_endpoint", f"127.0.0.1:{strange.port}")
    rc, row, _ = doctor(plane, copy, path=stand_ins)
    strange.server.close()
    assert rc == 1 and row["grpc"]["result"] == "FAIL" and row["grpc"]["fix"], row["grpc"]
    assert strange.connections == 1 and strange.said == b"", "nothing of ours was sent"
    assert row["certificates"]["result"] == "OK"


@pytest.mark.req("CL-65", "CB-14")
def test_a_port_that_only_accepts_and_an_engine_that_hangs(plane, copy, stand_ins, tmp_home):
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_home / "hung.sock"))
        hung.listen(8)
        other = pki.TlsServer(greeting=b"220 another service\r\n")
        set_config(copy, "grpc_endpoint", f"127.0.0.1:{other.port}")
        rc, row, took = doctor(plane, copy, "--docker", f"unix:{tmp_home}/hung.sock", path=stand_ins)
        other.server.close()
    assert rc == 1 and row["grpc"]["result"] == "FAIL" and other.connections == 1, row["grpc"]
    assert row["docker"]["result"] == "FAIL" and "does not answer" in row["docker"]["message"]
    assert row["docker_socket"]["result"] == "OK"
    assert took < 13, took


@pytest.mark.all_tier
def test_the_end_comes_in_time_when_everything_hangs(plane, copy, stand_ins, tmp_home):
    for name in ("systemctl", "tailscale"):
        stand_in(stand_ins, name, "trap '' TERM; while :; do sleep 1; done")
    with socket.socket(socket.AF_UNIX) as hung, socket.create_server(("127.0.0.1", 0)) as silent:
        hung.bind(str(tmp_home / "hung.sock"))
        hung.listen(8)
        set_config(copy, "grpc_endpoint", "127.0.0.1:%d" % silent.getsockname()[1])
        rc, row, took = doctor(plane, copy, "--docker", f"unix:{tmp_home}/hung.sock", path=stand_ins)
    assert rc == 1 and row["systemd"]["result"] == row["tailscale"]["result"] == "WARN"
    assert took < 25, took


@pytest.mark.all_tier
def test_a_file_that_hangs_is_left_behind(plane, copy, stand_ins):
    (copy / "config.yaml").unlink()
    os.mkfifo(copy / "config.yaml")  # as a dead network file system: opening it does not return
    rc, row, took = doctor(plane, copy, path=stand_ins)
    assert rc == 1 and row["config"]["result"] == "FAIL" and "in time" in row["config"]["message"]
    assert row["docker"]["result"] == "OK" and row["systemd"]["result"] == "WARN" and "not checked" in row["systemd"]["message"]
    assert took < 15, took


# --- Stand-ins ----------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CL-66", "CL-67")
@pytest.mark.parametrize("systemctl,unit,tailscale,node", [
    ("echo LoadState=loaded; echo ActiveState=failed", "FAIL", "exit 1", "WARN"),
    ("echo 'System has not been booted with systemd' >&2; exit 1", "WARN", """echo '{"BackendState":"NeedsLogin"}'; exit 1""", "WARN"),
])
def test_what_systemctl_and_tailscale_say(plane, stand_ins, systemctl, unit, tailscale, node):
    stand_in(stand_ins, "systemctl", systemctl)
    stand_in(stand_ins, "tailscale", tailscale)
    rc, row, _ = doctor(plane, plane.remote.dir, path=stand_ins)
    assert (row["systemd"]["result"], row["tailscale"]["result"]) == (unit, node), row
    assert rc == (1 if unit == "FAIL" else 0)


class StandInEngine(socketserver.ThreadingUnixStreamServer):
    """A stand-in for an engine: canned answers for the few paths that doctor asks for."""

    daemon_threads = True

    def __init__(self, path, api="1.41", **info):
        self.api = api
        self.info = {"ServerVersion": "20.10.24", "DockerRootDir": "/", "LoggingDriver": "json-file"} | info
        self.networks = []
        super().__init__(str(path), self.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            engine = self.server
            path = self.path.split("?")[0]
            answers = {"/_ping": "OK", "/version": {"ApiVersion": engine.api, "MinAPIVersion": "1.12"}}
            if path.endswith("/info"):
                body = engine.info
            elif path.endswith("/networks"):
                body = engine.networks
            else:
                body = answers.get(path, {})
            raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Api-Version", engine.api)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def address_string(self):
            return "unix"

        def log_message(self, *args):
            pass


@pytest.mark.req("CL-59", "CB-14")
def test_engines_that_are_too_old_or_ill_set_up(plane, copy, stand_ins, tmp_home):
    with StandInEngine(tmp_home / "old.sock", api="1.40") as old:
        rc, row, _ = doctor(plane, copy, "--docker", f"unix:{tmp_home}/old.sock", path=stand_ins)
        old.shutdown()
    assert rc == 1 and row["docker"]["result"] == row["engine_api"]["result"] == "FAIL", row
    assert "20.10" in row["docker"]["fix"] and "1.40" in row["engine_api"]["message"]
    with open("/proc/net/route", encoding="ascii") as f:
        routes = [line.split() for line in f.readlines()[1:]]
    mine = next((r for r in routes if r[7] not in ("00000000", "FFFFFFFF")), None)
    with StandInEngine(tmp_home / "ill.sock", LoggingDriver="none\x1b[2J", DockerRootDir="/nonexistent/docker") as ill:
        if mine:  # a network beside the first route, of half its size: it is no bridge's own
            address = ".".join(str(b) for b in bytes.fromhex(mine[1])[::-1])
            bits = bin(int(mine[7], 16)).count("1") + 1
            ill.networks = [{"Name": "shop", "Id": "1", "Driver": "bridge", "IPAM": {"Config": [{"Subnet": f"{address}/{bits}"}]}}]
        rc, row, _ = doctor(plane, copy, "--docker", f"unix:{tmp_home}/ill.sock", path=stand_ins)
        ill.shutdown()
    assert rc == 0, row
    assert row["log_driver"]["result"] == "WARN" and "\x1b" not in row["log_driver"]["message"]
    assert row["disk_space"]["result"] == "WARN" and "cannot be seen" in row["disk_space"]["message"]
    assert row["address_pools"]["result"] == ("WARN" if mine else "OK"), row["address_pools"]
    assert row["docker_group"]["result"] == "OK"
