# SPDX-License-Identifier: Apache-2.0
"""remote: a second server for a test: an agent with a configuration directory of its own, enrolled by token over TCP, as on another machine."""
import os
import shutil
import stat

from lib import proc


class Remote:
    """r = Remote(davit, "web-1"); r.add(); r.enroll(); r.start(). Everything lies below the davit's temporary home and ends with it."""

    def __init__(self, davit, name, prefix=()):
        self.davit, self.name, self.prefix = davit, name, tuple(prefix)
        self.dir = davit.top / f"agent-{name}"
        self.token = None
        self.p = None

    def add(self, *args):
        """davit server add; keeps the token. Returns the JSON answer."""
        said = self.davit.json("server", "add", self.name, *args)
        self.token = said["token"]
        return said

    def enroll(self, token=None, server=None, check=True, extra=()):
        """davit-agent enroll; the token goes through standard input, never through argv."""
        return proc.run([*self.prefix, self.davit.bin / "davit-agent", "enroll", "--server", server or f"127.0.0.1:{self.davit.link}",
                         "--token-file", "-", "--config-dir", self.dir, *extra],
                        stdin=(token if token is not None else self.token) + "\n", env=self.davit.env, check=check)

    def start(self, env=None, extra=()):
        log = self.davit.top / f"agent-{self.name}.log"
        self.p = proc.Background([*self.prefix, self.davit.bin / "davit-agent", "run", "--config-dir", self.dir, *extra], log,
                                 env=self.davit.env | (env or {}))
        self.davit.background.append(self.p)
        return self.p

    def leave(self):
        """Ends the agent and removes all traces of the server, if the test has not."""
        if self.p and self.p.running():
            self.p.stop()
        self.davit.run("server", "rm", self.name, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def show(self):
        return self.davit.json("server", "show", self.name)["server"]

    def wait(self, state="SERVER_STATE_ONLINE", timeout=20):
        return proc.wait_for(lambda: (lambda s: s if s["state"] == state else None)(self.show()), timeout, text=f"{self.name} {state}")

    def modes(self):
        """{file name: permission bits} of the configuration directory; "." is the directory itself."""
        found = {".": stat.S_IMODE(os.stat(self.dir).st_mode)}
        for name in os.listdir(self.dir):
            st = os.lstat(self.dir / name)
            if stat.S_ISREG(st.st_mode):
                found[name] = stat.S_IMODE(st.st_mode)
        return found


def sockets_of(pid):
    """Inodes of the sockets that a process holds."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


LISTEN, ESTABLISHED = "0A", "01"


def inet_sockets(pid):
    """[(protocol, state, local port, remote port)] of the TCP and UDP sockets of a process, from its own network namespace."""
    mine, found = sockets_of(pid), []
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        with open(f"/proc/{pid}/net/{protocol}", encoding="ascii") as f:
            for line in f.readlines()[1:]:
                word = line.split()
                if word[9] in mine:
                    found.append((protocol, word[3], int(word[1].rpartition(":")[2], 16), int(word[2].rpartition(":")[2], 16)))
    return found
