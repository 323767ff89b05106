# SPDX-License-Identifier: Apache-2.0
"""davit: a whole Davit of its own for one test: everything below a temporary directory, free ports, programs of the tree under test."""
import contextlib
import json
import os
import pathlib
import signal

from lib import proc, runtime


class Davit:
    """d.up(), then d.run("deploy", ...), d.json("ps"), d.kill("davit-agent"); close() ends and removes all of it.

    home: the --home directory (config/, state/, agent/, run/, log/ below it); api, link, health, local_web: its ports."""

    def __init__(self, bin_dir, engine, home):
        self.bin, self.engine, self.top = bin_dir, engine, home
        self.home = home / "davit"
        self.api, self.link, self.health, self.local_web = (proc.free_port() for _ in range(4))
        self.background = []

    @property
    def env(self):
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")}
        return keep | {"HOME": str(self.top), "DAVIT_HOME": str(self.home), "LANG": "C.UTF-8", "DOCKER_HOST": self.engine.host} | runtime.env()

    def run(self, *args, **more):
        """davit ARGS..., to its end; proc.run's keywords."""
        return proc.run([self.bin / "davit", *args], **{"env": self.env, **more})

    def json(self, *args, **more):
        """The same with --output json, parsed."""
        return json.loads(self.run(*args, "--output", "json", **more).out)

    def up(self, *args, link=None, **more):
        """davit up on this object's ports. davitd's account is one that every Debian has: tests make no accounts."""
        account = ("--user", "nobody") if os.geteuid() == 0 else ()
        return self.run("up", "--api-listen", f"127.0.0.1:{self.api}", "--link-listen", link or f"127.0.0.1:{self.link}",
                        "--health-listen", f"127.0.0.1:{self.health}", "--local-web-listen", f"127.0.0.1:{self.local_web}", *account, *args, **{"timeout": 90, **more})

    def down(self, *args, **more):
        return self.run("down", *args, **{"timeout": 90, **more})

    def start(self, program, *args, env=None):
        """A program of the tree in the background: lib.proc.Background, ended with this object."""
        log = self.top / f"{program}.{len(self.background)}.log"
        b = proc.Background([self.bin / program, *args], log, env=self.env | (env or {}))
        self.background.append(b)
        return b

    # --- For one that many tests share -------------------------------------------------------------------------------------------
    def revive(self):
        """Up, if it is not."""
        if not (self.pid("davitd") and self.pid("davit-agent")):
            self.up()

    def clear(self):
        """Removes every service, with its volumes."""
        for s in self.json("ps").get("services", []):
            self.run("rm", "--volumes", f"{s['project']}/{s['name']}")

    # --- The two daemons that `up` started ---------------------------------------------------------------------------------------
    def pid(self, program):
        """Process id of this object's davitd or davit-agent, 0 if it does not run."""
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            mine = any(w.decode(errors="replace").startswith(str(self.home)) for w in words[1:])
            if words[0] == str(self.bin / program).encode() and mine:
                return int(entry.name)
        return 0

    def kill(self, program, sig=signal.SIGKILL, timeout=20):
        """Ends one of them without `davit down`, and waits until it is gone."""
        pid = self.pid(program)
        assert pid, f"{program} does not run"
        self._end(pid, program, sig, timeout)

    @staticmethod
    def _end(pid, program, sig=signal.SIGKILL, timeout=20):
        os.kill(pid, sig)
        try:
            proc.wait_for(lambda: proc.has_ended(pid), timeout, text=f"end of {program}")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{proc.state_of(pid)}") from None

    def words(self, program):
        """The arguments with which it runs."""
        return [w.decode() for w in pathlib.Path(f"/proc/{self.pid(program)}/cmdline").read_bytes().split(b"\0")[1:-1]]

    def davitd_again(self, *options, timeout=20):
        """Ends davitd without `davit down` and starts it by hand as it was, with @options behind."""
        words = self.words("davitd")
        self.kill("davitd")
        self.start("davitd", *words, *options)
        proc.wait_for(lambda: self.run("status", check=False).rc == 0, timeout, text="davitd again")

    def log(self, program):
        """What it wrote so far: to stderr, and into its log."""
        paths = [self.home / "log" / f"{program}.log", self.log_file if program == "davitd" else self.home / "log/davit-agent-host.log"]
        return "".join(p.read_text(errors="replace") for p in paths if p.exists())

    @property
    def log_file(self):
        """Of davitd; root keeps it in a directory of davitd's account."""
        return self.home / "log" / ("controlplane" if os.geteuid() == 0 else "") / "davit-controlplane.log"

    def close(self):
        for b in reversed(self.background):
            if b.running():
                b.stop()
        if not self.home.exists():
            return
        # Stopped first, so that the logs hold what the sanitizers say at exit; --purge removes them.
        stopped = self.run("down", timeout=90, check=False)
        logs = {p: self.log(p) for p in ("davitd", "davit-agent")}
        purged = self.run("down", "--purge", "--force", timeout=90, check=False)
        for program in ("davit-agent", "davitd"):
            if pid := self.pid(program):
                with contextlib.suppress(ProcessLookupError):  # it may end in this moment
                    self._end(pid, program)
        assert stopped.rc == 0 and purged.rc == 0, f"{stopped}{purged}"
        for program, text in logs.items():
            assert "Sanitizer" not in text and "runtime error" not in text, f"{program}:\n{text[-8000:]}"
