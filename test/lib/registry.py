# SPDX-License-Identifier: Apache-2.0
"""registry: Debian's docker-registry on loopback, open or behind a password."""
import shutil
import subprocess
import tempfile
import pathlib

from lib import proc

CONFIG = """version: 0.1
log: {{level: info}}
storage: {{filesystem: {{rootdirectory: {dir}/data}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}}}
"""
AUTH = "auth: {{htpasswd: {{realm: davit-test, path: {dir}/htpasswd}}}}\n"
# The registry takes bcrypt only; perl-base is on every Debian.
BCRYPT = 'print crypt($ARGV[0], "\\$2y\\$05\\$abcdefghijklmnopqrstuu")'


class Registry:
    """with Registry(engine) as r: r.host is "127.0.0.1:PORT"; r.push(image, "path/name:tag") -> full name."""

    def __init__(self, engine, user="", password=""):
        self.engine, self.user, self.password = engine, user, password

    def __enter__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="davit-registry."))
        self.port = proc.free_port()
        self.host = f"127.0.0.1:{self.port}"
        text = CONFIG.format(dir=self.dir, port=self.port)
        if self.user:
            text += AUTH.format(dir=self.dir)
            crypted = subprocess.run(["perl", "-e", BCRYPT, self.password], capture_output=True, text=True, check=True, timeout=10)
            (self.dir / "htpasswd").write_text(f"{self.user}:{crypted.stdout}\n")
        (self.dir / "config.yml").write_text(text)
        self.process = proc.Background(["docker-registry", "serve", self.dir / "config.yml"], self.dir / "log")
        proc.wait_for(lambda: proc.listens(self.port), text=f"registry on {self.host}")
        return self

    def __exit__(self, *exc):
        self.process.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def push(self, image, name):
        """Puts the engine's @image there as @name ("path/name:tag"), forgets the local tag; returns the full name."""
        full = f"{self.host}/{name}"
        self.engine.tag(image, full)
        self.engine.push(full, self.user, self.password)
        self.engine.remove_image(full)
        return full

    def log(self):
        return self.process.text()
