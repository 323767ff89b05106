# SPDX-License-Identifier: Apache-2.0
"""systemd: a machine with a real systemd, for tests: a container whose /usr is that of this machine, read only, so that it is made in a moment.
Its /etc and /opt are its own and survive m.restart(), which is a reboot. It shares the network of the engine: loopback reaches the test."""
import io
import json
import os
import pathlib
import subprocess
import tarfile
import time

from lib import proc

IMAGE = "davit-test/systemd:1"
UNITS = pathlib.Path("/usr/lib/systemd/system")
KEPT = {"systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-tmpfiles-setup.service", "basic.target"}
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
GROUP = "root:x:0:\nadm:x:4:\ntty:x:5:\nutmp:x:43:\nsystemd-journal:x:101:\ndocker:x:970:\nnogroup:x:65534:\n"


def needless():
    """Units that a machine starts by default and that a test has no use for."""
    found = set()
    for wants in UNITS.glob("*.wants"):
        found |= {u.name for u in wants.iterdir() if u.suffix in (".service", ".socket", ".timer", ".mount", ".automount", ".path", ".target")}
    return sorted((found | {"getty.target", "timers.target", "dbus.service", "dbus.socket"}) - KEPT)


def image():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:

        def add(name, text="", kind=tarfile.REGTYPE, mode=0o644, link=""):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size, info.linkname = kind, mode, len(text), link
            t.addfile(info, io.BytesIO(text.encode()))

        for folder, mode in (("usr", 0o755), ("etc", 0o755), ("etc/systemd", 0o755), ("etc/systemd/system", 0o755), ("etc/ssl", 0o755),
                             ("etc/default", 0o755), ("etc/pam.d", 0o755), ("var", 0o755), ("var/lib", 0o755), ("var/tmp", 0o1777),
                             ("tmp", 0o1777), ("run", 0o755), ("root", 0o700), ("opt", 0o755), ("home", 0o755), ("proc", 0o755), ("sys", 0o755),
                             ("dev", 0o755), ("mnt", 0o755)):
            add(folder, kind=tarfile.DIRTYPE, mode=mode)
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if os.path.islink("/" + name):
                add(name, kind=tarfile.SYMTYPE, link="usr/" + name)
        add("var/run", kind=tarfile.SYMTYPE, link="/run")
        for name, text in (("passwd", PASSWD), ("group", GROUP), ("shadow", "root:*:19000::::::\n"), ("gshadow", ""), ("machine-id", ""),
                           ("hostname", "machine\n"), ("os-release", "ID=debian\nNAME=Debian\n"), ("login.defs", "SYS_UID_MIN 100\nSYS_UID_MAX 999\n"),
                           ("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"),
                           ("pam.d/other", "auth required pam_deny.so\naccount required pam_permit.so\n")):
            add("etc/" + name, text)
        add("etc/systemd/system/default.target", kind=tarfile.SYMTYPE, link="/usr/lib/systemd/system/multi-user.target")
        for unit in needless():
            add("etc/systemd/system/" + unit, kind=tarfile.SYMTYPE, link="/dev/null")
        t.add("/etc/alternatives", "etc/alternatives")
        for path in ("/etc/ld.so.cache", "/etc/ssl/openssl.cnf"):
            if os.path.exists(path):
                t.add(path, path[1:])
    return out.getvalue()


class Machine:
    """with Machine(docker, share={host path: path there}) as m: m.run("systemctl", ...)"""

    def __init__(self, engine, share=None, tmpfs=None, docker_socket=True):
        self.engine, self.id = engine, None
        self.binds = ["/usr:/usr:ro", "/sys/fs/cgroup/systemd:/sys/fs/cgroup/systemd:rw"]
        self.binds += [f"{there}:{here}:ro" for there, here in (share or {}).items()]
        if docker_socket:
            self.binds.append(f"{engine.sock}:/run/docker.sock")
        self.tmpfs = {"/run": "", "/run/lock": "", **(tmpfs or {})}

    def __enter__(self):
        if not self.engine.has_image(IMAGE):
            self.engine.import_image(image(), IMAGE, ['CMD ["/usr/lib/systemd/systemd"]', "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", "ENV container=docker"])
        said = self.engine.json("POST", "/containers/create", {
            "Image": IMAGE, "Tty": True, "StopSignal": "SIGRTMIN+3", "Hostname": "machine",
            "HostConfig": {"Binds": self.binds, "Tmpfs": self.tmpfs, "CapAdd": ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"], "NetworkMode": "host",
                           "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"], "CgroupnsMode": "host"}})
        self.id = said["Id"]
        self.engine.call("POST", f"/containers/{self.id}/start")
        self.up()
        return self

    def __exit__(self, *_):
        self.engine.call("DELETE", f"/containers/{self.id}", query={"force": "true", "v": "true"})

    def up(self):
        proc.wait_for(lambda: self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"), 20,
                      text="systemd runs: " + self.console())

    def restart(self):
        """A reboot."""
        self.engine.call("POST", f"/containers/{self.id}/restart", query={"t": "10"})
        self.up()

    def run(self, *argv, stdin=None, env=None, check=True, timeout=60):
        more = [w for k, v in (env or {}).items() for w in ("-e", f"{k}={v}")]
        command = ["docker", "-H", self.engine.host, "exec", *(["-i"] if stdin is not None else []), *more, self.id, *map(str, argv)]
        p = subprocess.run(command, input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, capture_output=True, text=True, timeout=timeout, check=False)
        if check and p.returncode != 0:
            raise AssertionError(f"{argv}: exit {p.returncode}\n{p.stdout}\n{p.stderr}")
        return p

    def write(self, path, text, mode="0644"):
        self.run("sh", "-c", f'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod {mode} "$1"', "sh", path, stdin=text)

    def exists(self, path):
        return self.run("test", "-e", path, check=False).returncode == 0

    def active(self, unit="davit-agent.service"):
        return self.run("systemctl", "is-active", unit, check=False).stdout.strip() == "active"

    def property(self, name, unit="davit-agent.service"):
        return self.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def journal(self, unit="davit-agent.service"):
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, check=False).stdout

    def console(self):
        if not self.id:
            return ""
        return self.engine.call("GET", f"/containers/{self.id}/logs", query={"stdout": "1", "stderr": "1", "tail": "40"}).decode(errors="replace")
