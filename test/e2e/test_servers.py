# SPDX-License-Identifier: Apache-2.0
"""Servers: adding, enrolling, what is known about them, and what bad tokens get."""
import os
import platform
import re
import socket
import sqlite3
import subprocess

import pytest

from lib import proc
from lib.remote import ESTABLISHED, LISTEN, Remote, inet_sockets


@pytest.fixture
def up(davit_of_file):
    davit_of_file.revive()
    return davit_of_file


@pytest.fixture
def remote(up):
    r = Remote(up, "web-1")
    r.add()
    yield r
    r.leave()


@pytest.fixture
def online(remote):
    remote.enroll()
    remote.start()
    remote.wait()
    return remote


def certificates(d):
    with sqlite3.connect(f"file:{d.home}/state/control.db?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM certificates").fetchone()[0]


# --- Adding --------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CL-35", "CL-71")
def test_added_server_is_pending_until_it_connects(remote):
    s = remote.show()
    assert s["state"] == "SERVER_STATE_PENDING"
    assert int(s.get("lastHeartbeatUs", 0)) == 0
    assert int(s["tokenExpiresUs"]) > 0


@pytest.mark.req("CL-36")
def test_token_is_shown_once_and_stands_in_the_install_command(up):
    said = up.json("server", "add", "web-2")
    assert re.fullmatch(r"davit1\.[a-z2-7]{10}\.[\w-]{43}\.[\w-]{43}", said["token"])
    assert said["token"] in said["installCommand"]
    secret = said["token"].split(".")[2]
    again = up.run("server", "show", "web-2").out + up.run("server", "show", "web-2", "-o", "json").out + up.run("server", "ls", "-o", "json").out
    assert secret not in again
    for root, _, files in os.walk(up.home / "state"):
        for name in files:
            with open(os.path.join(root, name), "rb") as f:
                assert secret.encode() not in f.read(), f"{name} holds the secret of a token"


@pytest.mark.req("CL-30", "CL-31")
def test_profile_is_unknown_until_set_and_takes_three_values(up):
    up.run("server", "add", "a")
    assert up.json("server", "show", "a")["server"]["profile"] == "SERVER_PROFILE_UNKNOWN"
    for word in ("public", "local", "unknown"):
        up.run("server", "set", "a", "--profile", word)
        assert up.json("server", "show", "a")["server"]["profile"] == f"SERVER_PROFILE_{word.upper()}"
    bad = up.run("server", "set", "a", "--profile", "home", check=False)
    assert bad.rc == 2 and "public" in bad.err


@pytest.mark.req("CL-85")
def test_profile_is_asked_on_a_terminal_with_each_choice_explained(up):
    import pty
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(up.env)
        os.execv(str(up.bin / "davit"), ["davit", "server", "add", "asked"])
    text = b""
    while b"[unknown]:" not in text:
        text += os.read(fd, 4096)
    os.write(fd, b"local\n")
    try:
        while chunk := os.read(fd, 4096):
            text += chunk
    except OSError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    said = text.decode()
    for word, reason in (("public", "public IP"), ("local", "NAT"), ("unknown", "not yet classified")):
        assert re.search(rf"{word}\s+.*{reason}", said), said
    assert up.json("server", "show", "asked")["server"]["profile"] == "SERVER_PROFILE_LOCAL"


@pytest.mark.req("CL-22")
def test_install_line_carries_direct_mode_where_an_address_is_reachable_else_tunnel(davit):
    davit.up("--advertise", "192.0.2.10", "--web-listen", f"0.0.0.0:{proc.free_port()}")
    line = davit.json("server", "add", "near")["installCommand"]
    assert "--mode direct" in line and "--server 192.0.2.10:" in line
    davit.up("--advertise", "", "--hostname", "davit.example.org")
    line = davit.json("server", "add", "far")["installCommand"]
    assert "--mode tunnel" in line and "https://davit.example.org" in line
    davit.up("--advertise", "192.0.2.10", "--hostname", "davit.example.org")
    assert "--server 192.0.2.10:" in davit.json("server", "add", "both")["installCommand"]
    line = davit.json("server", "token", "both", "--mode", "tunnel")["installCommand"]
    assert "--mode tunnel --server https://davit.example.org" in line and "--force" not in line


def test_adding_twice_or_with_a_bad_name_is_refused(up):
    up.run("server", "add", "twice")
    again = up.run("server", "add", "twice", check=False)
    assert again.rc == 7 and "twice" in again.err
    for name in ("UPPER", "-x", "a" * 64, "a b", "a/b", ""):
        assert up.run("server", "add", "--", name, check=False).rc == 2


def test_deploy_ends_when_its_server_is_removed_meanwhile(remote):
    d = remote.davit
    b = d.start("davit", "deploy", "--server", "web-1", "--name", "web", "nothing:1")
    proc.wait_for(lambda: "waiting: server web-1 is pending" in b.text(), 20, text="the deployment that waits")
    assert "  default/web\n" in d.run("server", "rm", "web-1").out
    proc.wait_for(lambda: not b.running(), 20, text="the end of davit deploy")
    assert b.p.returncode == 1 and "was removed meanwhile" in b.text(), b.text()


# --- Enrolling -----------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CL-1", "CL-46")
def test_enrolled_server_comes_online_with_all_it_knows(online):
    s = online.show()
    assert s["state"] == "SERVER_STATE_ONLINE"
    assert int(s["lastHeartbeatUs"]) > 0
    assert s["system"]["hostname"] == socket.gethostname()
    assert s["system"]["agentVersion"] and s["system"]["bootId"] and "tailscale" in s["system"]


@pytest.mark.req("CL-43", "CL-44")
def test_credentials_lie_in_the_config_directory_closed_to_others(remote):
    remote.enroll()
    modes = remote.modes()
    assert modes.pop(".") == 0o700
    assert {"client.crt", "client.key", "ca.crt", "config.yaml"} <= set(modes)
    assert set(modes.values()) == {0o600}
    text = subprocess.run(["openssl", "x509", "-in", remote.dir / "client.crt", "-noout", "-ext", "subjectAltName,extendedKeyUsage"],
                          capture_output=True, text=True, check=True).stdout
    assert f"davit://server/{remote.show()['id']}" in text and "Client Authentication" in text and "Server" not in text


@pytest.mark.req("CL-45")
def test_config_file_records_id_endpoint_mode_and_certificates(remote):
    remote.enroll()
    text = (remote.dir / "config.yaml").read_text()
    said = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith("#"))
    strip = {k: v.strip('"') for k, v in said.items()}
    assert strip["server_id"] == remote.show()["id"]
    assert strip["grpc_endpoint"] == f"127.0.0.1:{remote.davit.link}"
    assert strip["auth_mode"] == "mtls"
    assert strip["cert_dir"] == str(remote.dir)


@pytest.mark.req("CL-42")
def test_nothing_is_issued_for_a_bad_token(remote):
    good = remote.token
    head, ident, secret, pin = good.split(".")
    flipped = ("A" if secret[0] != "A" else "B") + secret[1:]
    before = certificates(remote.davit)
    for bad in (f"{head}.{ident}.{flipped}.{pin}", f"{head}.{'a' * 10}.{secret}.{pin}"):
        got = remote.enroll(bad, check=False)
        assert got.rc == 4, got
        assert "hint:" in got.err
    for bad in (good[:-5], good[:30], "", "davit2" + good[6:], good + "x", good.replace(".", "-")):
        got = remote.enroll(bad, check=False)
        assert got.rc == 2, got
    assert certificates(remote.davit) == before
    assert not (remote.dir / "client.crt").exists()
    remote.enroll()


@pytest.mark.req("CL-48")
def test_token_works_once(remote):
    remote.enroll()
    other = Remote(remote.davit, "thief")
    got = other.enroll(remote.token, check=False)
    assert got.rc == 4 and "used" in got.err


@pytest.mark.req("CL-49")
def test_new_token_after_a_failed_enrolment_voids_the_old_one(remote):
    old = remote.token
    assert remote.enroll(old[:-2] + "AA", check=False).rc != 0
    remote.token = remote.davit.json("server", "token", remote.name)["token"]
    assert remote.token != old
    assert remote.enroll(old, check=False).rc == 4
    remote.enroll()


def test_expired_token_is_refused(remote):
    with sqlite3.connect(f"{remote.davit.home}/state/control.db", timeout=10) as db:
        db.execute("UPDATE tokens SET expires_us = 1")
    got = remote.enroll(check=False)
    assert got.rc == 4 and "expired" in got.err and "davit server token" in got.err


def test_a_server_with_another_certificate_gets_no_byte_of_the_token(remote, tmp_path):
    """A TLS server that has a certificate of its own; what it can read after the handshake is kept."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "k.pem",
                    "-out", tmp_path / "c.pem", "-days", "2", "-subj", "/CN=controlplane", "-addext", "subjectAltName=URI:davit://controlplane"],
                   check=True, capture_output=True)
    port = proc.free_port()
    with subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", tmp_path / "c.pem", "-key", tmp_path / "k.pem",
                           "-alpn", "h2", "-tls1_3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
        proc.wait_for(lambda: proc.listens(port), text="the other server")
        got = remote.enroll(server=f"127.0.0.1:{port}", check=False)
        p.terminate()
        heard = p.stdout.read()
    assert got.rc == 4, got
    assert "another control plane" in got.err or "certificate" in got.err
    assert remote.token.split(".")[2].encode() not in heard and b"PRI * HTTP/2" not in heard
    remote.enroll()


def test_unreachable_control_plane_is_said_plainly(remote):
    got = remote.enroll(server=f"127.0.0.1:{proc.free_port()}", check=False)
    assert got.rc == 5 and "hint:" in got.err


# --- What is known ---------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CL-41", "CL-50")
def test_the_record_shows_the_machine(remote):
    remote.enroll()
    s = remote.show()["system"]
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(f.readline().split()[1]) * 1024
    assert s["hostname"] == socket.gethostname()
    assert s["arch"] == {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    assert s["cpuCount"] == os.cpu_count()
    assert int(s["memoryBytes"]) == memory
    assert s["os"] and s["kernel"] == platform.release()
    assert s["dockerVersion"] == remote.davit.engine.json("GET", "/version")["Version"]


@pytest.mark.req("CL-51")
def test_all_lan_addresses_are_reported(online):
    out = subprocess.run(["ip", "-o", "addr", "show", "up"], capture_output=True, text=True, check=True).stdout
    want = set()
    for line in out.splitlines():
        word = line.split()
        if word[1] == "lo" or word[1].startswith(("docker", "br-", "veth", "davit", "cni", "podman", "virbr")):
            continue
        address = word[3].split("/")[0]
        if not address.startswith(("fe80:", "169.254.", "127.")):
            want.add(address)
    assert set(online.show()["system"].get("lanAddresses", [])) == want


@pytest.mark.req("CL-52")
def test_public_address_is_what_the_control_plane_sees_only_if_it_is_global(online):
    s = online.show()
    assert s["seenAddress"] == "127.0.0.1"
    assert s.get("publicAddress", "") == ""


@pytest.mark.req("CL-53")
def test_tailscale_is_reported_when_installed(remote, tmp_path):
    """The stand-in prints what `tailscale status --json` prints (ipnstate.Status: BackendState, Self.TailscaleIPs, Self.DNSName)."""
    fake = tmp_path / "tailscale"
    fake.write_text('#!/bin/sh\n[ "$1 $2" = "status --json" ] || exit 2\n'
                    'echo \'{"BackendState":"Running","Self":{"DNSName":"web-1.tail.example.","TailscaleIPs":["100.64.0.7","fd7a::7"]}}\'\n')
    fake.chmod(0o755)
    remote.enroll()
    remote.start(extra=("--tailscale", fake))
    remote.wait()
    t = remote.show()["system"]["tailscale"]
    assert t == {"installed": True, "state": "Running", "address": "100.64.0.7", "hostname": "web-1.tail.example"}


@pytest.mark.req("CL-54")
def test_preferred_address_follows_the_rule_and_the_users_choice(online):
    s = online.show()
    lan = s["system"].get("defaultRouteAddress") or next(iter(s["system"].get("lanAddresses", [])), "")
    assert (s.get("preferredAddress", ""), s.get("preferredSource", "")) == ((lan, "lan") if lan else ("", ""))
    online.davit.run("server", "set", "web-1", "--address", "192.0.2.44")
    s = online.show()
    assert (s["preferredAddress"], s["preferredSource"]) == ("192.0.2.44", "user")
    online.davit.run("server", "set", "web-1", "--address", "auto")
    assert online.show().get("preferredAddress", "") == lan


@pytest.mark.req("CL-55", "CL-56")
def test_version_and_everything_else_are_shown_to_people_too(online):
    version = online.davit.run("version").out.split()[1]
    assert online.show()["agentVersion"] == version
    text = online.davit.run("server", "show", "web-1").out
    s = online.show()
    for value in (version, s["id"], s["system"]["hostname"], s["system"]["dockerVersion"], s["system"]["os"], "amd64" if platform.machine() == "x86_64" else "arm64"):
        assert value in text


@pytest.mark.req("CL-57")
def test_health_of_a_server_tells_what_is_wrong(online):
    assert online.show()["health"] == "ok"
    online.p.stop()
    online.start(env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    s = proc.wait_for(lambda: (lambda s: s if s["health"] == "warning" and s["state"] == "SERVER_STATE_ONLINE" else None)(online.show()), 30,
                      text="warning about Docker")
    assert any("ocker" in reason for reason in s["healthReasons"])


# --- The link ------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("CL-3", "CL-26")
def test_agent_listens_nowhere_and_keeps_one_connection(online):
    found = inet_sockets(online.p.pid)
    assert [s for s in found if s[1] == LISTEN or s[0].startswith("udp")] == []
    assert [s[3] for s in found if s[1] == ESTABLISHED] == [online.davit.link]


@pytest.mark.req("CL-19")
def test_the_control_plane_dials_nobody(online):
    listening = {s[2] for s in inet_sockets(online.davit.pid("davitd")) if s[1] == LISTEN}
    assert online.davit.link in listening
    for _, state, local, _ in inet_sockets(online.davit.pid("davitd")):
        assert state == LISTEN or local in listening, "a connection that davitd opened itself"


@pytest.mark.req("CL-2")
def test_second_agent_is_refused_by_the_lock(online):
    got = proc.run([online.davit.bin / "davit-agent", "run", "--config-dir", online.dir], env=online.davit.env, check=False)
    assert got.rc == 7 and str(online.p.pid) in got.err
    assert online.p.running()


@pytest.mark.req("CL-7")
def test_agent_comes_back_after_the_control_plane_was_killed(online):
    online.davit.kill("davitd")
    online.davit.up()
    online.wait(timeout=30)
    assert online.p.running()


def test_another_servers_certificate_opens_nothing_of_the_api(online):
    """An agent's certificate is for the link only (its audience)."""
    got = proc.run(["curl", "-s", "-m", "10", "-k", "--cert", online.dir / "client.crt", "--key", online.dir / "client.key", "-H",
                    "content-type: application/json", "-d", "{}", "-w", "%{http_code}",
                    f"https://127.0.0.1:{online.davit.api}/davit.control.v1.ServerService/ListServers"], check=False)
    assert "servers" not in got.out
    assert got.rc != 0 or got.out.endswith(("401", "403")), got


def test_the_control_planes_own_machine_is_not_removed_by_the_way(up):
    name = up.json("server", "ls")["servers"][0]["name"]
    got = up.run("server", "rm", name, check=False)
    assert got.rc == 7 and "--purge" in got.err
    assert up.json("server", "show", name)["server"]["state"] == "SERVER_STATE_ONLINE"


def test_removed_server_is_cut_off(online):
    d = online.davit
    refused = d.down("--purge", check=False)
    assert refused.rc == 7 and re.search(r"enrolled here and would be cut off for good: .*\bweb-1\b", refused.err), str(refused)
    assert "--force" in refused.err
    assert d.down("--force", check=False).rc == 2 and d.pid("davitd")
    online.davit.run("server", "rm", "web-1")
    assert online.davit.run("server", "show", "web-1", check=False).rc == 3
    proc.wait_for(lambda: not [s for s in inet_sockets(online.p.pid) if s[1] == ESTABLISHED] if online.p.running() else True, 20,
                  text="end of the link")
