# SPDX-License-Identifier: Apache-2.0
"""postgres: a PostgreSQL of its own on a unix socket, of Debian's packages; no cluster of the system is touched."""
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile


def programs():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    return found[-1] if found else None


class Postgres:
    """with Postgres() as p: p.url is an address without a password; p.sql("SELECT 1") asks as a client would."""

    def __enter__(self):
        self.bin = programs()
        assert self.bin, "no PostgreSQL is installed (apt-get install postgresql)"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="dvpg."))
        self.dir.chmod(0o755)
        self.user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self.user:
            os.chown(self.dir, self.user.pw_uid, self.user.pw_gid)
        # Nothing here must survive a power cut: without fsync it starts in a second.
        self.call("initdb", "-D", self.dir / "data", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-U", "davit", "--no-sync")
        self.start()
        self.url = f"postgres:///postgres?host={self.dir}&user=davit"
        return self

    def __exit__(self, *exc):
        self.call("pg_ctl", "-D", self.dir / "data", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def call(self, program, *args, check=True):
        who = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        p = subprocess.run([self.bin / program, *map(str, args)], cwd=self.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=120, check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, **who)
        assert not check or p.returncode == 0, p.stdout + p.stderr
        return p

    def start(self):
        # Its output must not go into our pipe, which would stay open as long as the server lives.
        self.call("pg_ctl", "-D", self.dir / "data", "-w", "-t", "60", "-l", self.dir / "log", "-o",
                  f"-F -k {self.dir} -c listen_addresses= -c max_connections=60", "start")

    def stop(self):
        self.call("pg_ctl", "-D", self.dir / "data", "-m", "fast", "stop")

    def sql(self, text):
        p = subprocess.run([self.bin / "psql", "-h", self.dir, "-U", "davit", "-At", "-v", "ON_ERROR_STOP=1", "-c", text, "postgres"],
                           capture_output=True, text=True, timeout=60, check=False)
        assert p.returncode == 0, p.stderr
        return p.stdout.strip()
