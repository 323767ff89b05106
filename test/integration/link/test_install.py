# SPDX-License-Identifier: Apache-2.0
"""Installing, under a real systemd: the line that `davit server add` prints, what is refused, a reboot, the watchdog, uninstalling."""
import json
import os
import re
import subprocess
import sys

import pytest

grpc = pytest.importorskip("grpc")

from lib import proc, release, systemd  # noqa: E402
from lib.daemon import BUILD, Daemon, generate  # noqa: E402

BIN = BUILD / "test/integration/update"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
PLATFORM = "linux-" + ARCH
# A sanitized agent needs more than a real one, and no test waits for half a minute.
DROP_IN = "[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\nMemoryMax=infinity\nTasksMax=infinity\nWatchdogSec=4\n"
ENV = {"ASAN_OPTIONS": "detect_leaks=0"}


class Plane(Daemon):
    """A davitd that believes the releases of the tests and has one, and `davit` for it."""

    def __init__(self, api, releases):
        self.web = proc.free_port()
        super().__init__(api, ["--web-listen", f"127.0.0.1:{self.web}", "--release-dir", releases])

    def command(self):
        return [BIN / "davitd", *super().command()[1:]]

    def cli(self, *args):
        if not (self.dir / "config").exists():
            (self.dir / "config").symlink_to(self.user)
            (self.user / "cli.json").write_text(json.dumps({"api": f"127.0.0.1:{self.api}"}))
        out = proc.run([BIN / "davit", *args, "--output", "json"], env=dict(os.environ, DAVIT_HOME=str(self.dir), HOME=str(self.dir)))
        return json.loads(out.out)

    def server(self, name):
        return self.cli("server", "show", name)["server"]

    def wait(self, name, state, timeout=30):
        return proc.wait_for(lambda: (lambda s: s if s["state"] == f"SERVER_STATE_{state}" else None)(self.server(name)), timeout, text=f"{name} {state}")


def fake_agent(folder, version="0.1.0"):
    """A program that installs like the agent and takes no time."""
    path = folder / "davit-agent"
    path.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo "davit-agent {version}"\n')
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    return tmp_path_factory.mktemp("install")


@pytest.fixture(scope="module")
def plane(top):
    programs, stubs = top / "programs", top / "stubs"
    programs.mkdir()
    stubs.mkdir()
    subprocess.run(["strip", "-o", programs / "davit-agent", BIN / "davit-agent"], check=True, timeout=60)
    release.make(top / "release", "0.1.0", {PLATFORM: {"davit-agent": programs / "davit-agent"}})
    api = generate(stubs)
    p = Plane(api, top / "release").start()
    try:
        yield p
    finally:
        p.close()
        sys.path.remove(str(stubs))


@pytest.fixture(scope="module")
def bad(top):
    """Releases of a program that takes no time, good and bad ones: {name: folder}."""
    folder = top / "bad"
    folder.mkdir()
    programs = {PLATFORM: {"davit-agent": fake_agent(folder)}}
    tar = f"davit-0.1.0-{PLATFORM}.tar"

    def make(name, change=None, **more):
        release.make(folder / name, "0.1.0", programs, scratch=folder, **more)
        if change:
            change(folder / name)

    def edit(path, f):
        path.write_bytes(f(path.read_bytes()))

    make("good")
    make("one-signature", keys=(1,))
    make("foreign-signatures", keys=(1, 4))
    make("no-signature", keys=())
    make("expired", created=1000000, days=1)
    make("changed-archive", lambda d: edit(d / tar, lambda b: b.replace(b"echo", b"eval")))
    make("truncated", lambda d: edit(d / tar, lambda b: b[:-512]))
    make("too-long", lambda d: edit(d / tar, lambda b: b + bytes(512)))
    make("changed-metadata", lambda d: edit(d / "release.json", lambda b: b.replace(b'"counter":', b'"counter":9')))
    make("bad-signature", lambda d: edit(d / "release.sig", lambda b: b[:-9] + (b"00000000\n" if b[-9:] != b"00000000\n" else b"11111111\n")))
    make("endless-metadata", lambda d: edit(d / "release.json", lambda b: b + bytes(20000)))
    make("no-archive", lambda d: (d / tar).unlink())
    (folder / "past").mkdir()
    release.make(folder / "older", "0.0.9", {PLATFORM: {"davit-agent": fake_agent(folder / "past", "0.0.9")}}, counter=5, scratch=folder)
    other = {"linux-" + {"amd64": "arm64", "arm64": "amd64"}[ARCH]: programs[PLATFORM]}
    release.make(folder / "other-arch", "0.1.0", other, scratch=folder)
    return folder


@pytest.fixture(scope="module")
def machine(docker, bad):
    with systemd.Machine(docker, share={bad: "/rel"}, tmpfs={"/small": "size=16k"}) as m:
        m.run("chgrp", "docker", "/run/docker.sock")
        yield m


def nothing_there(m):
    left = m.run("sh", "-c", LEFT, check=False).stdout
    assert left == "", left


# What an installation would have left.
LEFT = ("for p in /opt/davit /etc/davit-agent /etc/systemd/system/davit-agent.service /tmp/davit-install.* /small/*; do [ ! -e $p ] || echo $p; done; "
        "grep davit-agent /etc/passwd /etc/group")


def refused(m, cases):
    """cases: {name: (shell words before the script, its options, what it must say)}; all in one go, a word into the container takes long."""
    script = "\n".join(f"echo '@@ {name}'; {before} sh /rel/good/install.sh {options} 2>&1 </dev/null; echo \"@rc $?\"; {LEFT} | sed 's/^/@left /'"
                       for name, (before, options, _) in cases.items())
    said = m.run("sh", "-c", script, timeout=120, check=False).stdout
    parts = dict(part.split("\n", 1) for part in said.split("@@ ")[1:])
    assert parts.keys() == cases.keys()
    for name, (_, _, says) in cases.items():
        assert "install.sh: " in parts[name] and says in parts[name] and "@rc 1" in parts[name] and "@left" not in parts[name], (name, parts[name])


@pytest.mark.all_tier
@pytest.mark.req("CL-38")
def test_a_release_that_does_not_hold_leaves_nothing_behind(machine):
    refused(machine, {name: ("", f"--from /rel/{name}", says) for name, says in (
        ("one-signature", "signature"), ("foreign-signatures", "signature"), ("no-signature", "signature"), ("changed-metadata", "signature"),
        ("bad-signature", "signature"), ("changed-archive", "checksum"), ("truncated", "checksum"), ("too-long", "larger"),
        ("endless-metadata", "larger"), ("expired", "expired"), ("no-archive", "missing"), ("other-arch", "nothing for"), ("nowhere", "missing"))})


@pytest.mark.req("CL-38")
def test_a_machine_that_does_not_fit_is_told_so(machine, plane):
    m = machine
    pin = re.search("sha256//[^']+", plane.cli("server", "add", "web-0")["installCommand"])[0]
    m.run("sh", "-c", """mkdir /opt/arch /opt/few
        printf '#!/bin/sh\\n[ "$1" = -m ] && echo riscv64 || echo Linux\\n' >/opt/arch/uname && chmod 755 /opt/arch/uname
        for t in sh awk cat chown cut date grep head id mkdir mktemp rm rmdir sed sha256sum systemctl tar tr uname wc; do
            ln -s "$(command -v $t)" /opt/few/$t
        done
        mkdir /opt/curl && ln -s "$(command -v curl)" /opt/curl/""")
    good = "--from /rel/good"
    refused(m, {
        "architecture": ("PATH=/opt/arch:/usr/bin:/usr/sbin", good, "riscv64"),
        "nothing to fetch with": ("PATH=/opt/few", "--from https://127.0.0.1:1/releases", "neither curl nor wget"),
        "nobody answers": ("", "--from https://127.0.0.1:1/releases", "could not be fetched"),
        "no openssl": ("PATH=/opt/few", good, "OpenSSL 3 is missing"),
        "no openssl, and not served by who is asked": ("PATH=/opt/few:/opt/curl", f"--from https://127.0.0.1:{plane.web}/releases --pin {pin}",
                                                       "OpenSSL 3 is missing"),
        "full disk for the download": ("TMPDIR=/small", good, "room"),
        "not root": ("setpriv --reuid=65534 --regid=65534 --clear-groups", good, "only root"),
        "no token": ("", good + " --server 127.0.0.1:1", "token is missing"),
        "not encrypted": ("", "--from http://127.0.0.1/x", "only https"),
        "no option": ("", good + " --frm x", "unknown"),
    })
    p = m.run("sh", "-c", "mkdir /opt/davit && mount -t tmpfs -o size=4k none /opt/davit && sh /rel/good/install.sh --from /rel/good; rc=$?; "
              "ls /opt/davit; umount /opt/davit; rmdir /opt/davit; exit $rc", check=False)
    assert p.returncode == 1 and "room" in p.stderr and p.stdout.endswith("checksum right\n"), (p.stdout, p.stderr)
    nothing_there(m)


@pytest.mark.req("CL-37", "CL-39", "CL-40")
def test_the_line_that_server_add_prints(machine, plane):
    m = machine
    line = plane.cli("server", "add", "web-1")["installCommand"]
    assert f"curl -fsSL -k --pinnedpubkey 'sha256//" in line and f"https://127.0.0.1:{plane.web}/install.sh" in line
    m.write("/etc/systemd/system/davit-agent.service.d/test.conf", DROP_IN)
    m.run("systemctl", "daemon-reload")
    # Somebody else's key: the script is not even fetched.
    start = line.index("sha256//")
    other = line[:start] + "sha256//" + "A" * 43 + "=" + line[line.index("'", start):]
    m.run("sh", "-c", other.replace("sudo --preserve-env=DAVIT_TOKEN ", ""), env=ENV, check=False)
    nothing_there(m)
    said = m.run("sh", "-c", line.replace("sudo --preserve-env=DAVIT_TOKEN ", ""), env=ENV, timeout=120).stdout
    assert "signed by two of three keys" in said and "checksum right" in said
    assert m.run("readlink", "-f", "/opt/davit/bin/davit-agent").stdout.startswith("/opt/davit/slots/0.1.0-1/davit-agent")
    plane.wait("web-1", "ONLINE")
    assert m.active() and m.property("UnitFileState") == "enabled" and m.property("Type") == "notify"
    pid = m.property("MainPID")
    owner = m.run("ps", "-o", "user:20=,args=", "-p", pid).stdout.split(maxsplit=1)
    assert owner[0] == "davit-agent" and "davit1." not in owner[1]
    assert "docker" in m.run("id", "-nG", "davit-agent").stdout.split()
    assert m.run("stat", "-c", "%U %a", "/etc/davit-agent", "/etc/davit-agent/client.key").stdout.split("\n")[:2] == ["davit-agent 700", "davit-agent 600"]
    assert m.run("grep", "-E", "^Cap(Eff|Prm|Bnd):", f"/proc/{pid}/status").stdout.split()[1::2] == ["0000000000000000"] * 3
    proc.wait_for(lambda: m.property("StatusText").startswith("online: "), 15, text="status text")
    # Again: nothing changes, and nothing is started anew.
    m.run("sh", "-c", line.replace("sudo --preserve-env=DAVIT_TOKEN ", ""), env=ENV, timeout=120)
    counter = json.loads((plane.more[-1] / "release.json").read_text())["counter"]
    assert m.property("MainPID") == pid and m.run("sh", "-c", "ls /opt/davit/slots; cat /opt/davit/slots/counter").stdout.split() == [
        "0.1.0-1", "counter", str(counter)]
    # Cut off when the programs had been exchanged, and done again: now it runs what is there.
    m.run("sh", "-c", "cd /opt/davit && cp -a slots/0.1.0-1 slots/0.1.0-2 && ln -sfn slots/0.1.0-2 current\n"
          + line.replace("sudo --preserve-env=DAVIT_TOKEN ", ""), env=ENV, timeout=120)
    assert m.run("readlink", f"/proc/{m.property('MainPID')}/exe").stdout.strip() == "/opt/davit/slots/0.1.0-2/davit-agent"
    plane.wait("web-1", "ONLINE")


@pytest.mark.req("CL-5")
def test_a_program_that_hangs_is_started_anew(machine, plane):
    m = machine
    pid = m.property("MainPID")
    m.run("kill", "-STOP", pid)
    proc.wait_for(lambda: m.property("MainPID") not in (pid, "0") and m.active(), 20, text="the watchdog")
    assert "Watchdog timeout" in m.journal()
    plane.wait("web-1", "ONLINE")


@pytest.mark.req("CL-6")
def test_after_a_reboot_it_is_there_again(machine, plane):
    before = plane.wait("web-1", "ONLINE")["lastHeartbeatUs"]
    machine.restart()
    proc.wait_for(machine.active, 20, text="active after the reboot")
    proc.wait_for(lambda: int(plane.wait("web-1", "ONLINE")["lastHeartbeatUs"]) > int(before), 20, text="a new heartbeat")


@pytest.mark.all_tier
@pytest.mark.req("CL-40")
def test_uninstalling_tells_and_leaves_containers(machine, plane, docker, busybox_image):
    m, name = machine, f"kept-{os.getpid()}"
    m.run("chgrp", "docker", "/run/docker.sock")
    docker.json("POST", "/containers/create", {"Image": busybox_image, "Labels": {"davit.managed": "true"}}, query={"name": name})
    there = lambda: any(f"/{name}" in c["Names"] for c in docker.json("GET", "/containers/json", query={"all": "true"}))  # noqa: E731
    try:
        p = m.run("/opt/davit/bin/davit-uninstall", stdin="n\n", check=False)
        assert p.returncode == 1 and f"container {name}" in p.stdout and "stays:" in p.stdout and m.active()
        said = m.run("/opt/davit/bin/davit-uninstall", "--yes").stdout
        assert "the control plane was told" in said, m.journal()
        nothing_there(m)
        shown = plane.wait("web-1", "OFFLINE")
        assert "removed by its host" in shown["stateReason"]
        assert there()
        m.run("sh", "/rel/good/install.sh", "--from", "/rel/good")
        # What is there is no step back, whatever was seen since; what is older is one, and is left alone.
        p = m.run("sh", "-c", "echo 9999999999 >/opt/davit/slots/counter; sh /rel/good/install.sh --from /rel/good >/dev/null || exit 3; "
                  "sh /rel/older/install.sh --from /rel/older >/dev/null; echo $?; readlink /opt/davit/current; ls -A /opt/davit/slots")
        assert p.stdout.split() == ["1", "slots/0.1.0-1", "0.1.0-1", "counter"] and "it is an old one" in p.stderr, (p.stdout, p.stderr)
        said = m.run("/opt/davit/bin/davit-uninstall", "--yes", "--containers").stdout
        assert "could not be told" in said and not there()
        nothing_there(m)
    finally:
        docker.remove(name)
