# SPDX-License-Identifier: Apache-2.0
"""proc: programs with deadlines, and waiting for things to become true."""
import collections
import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import time


@dataclasses.dataclass
class Result:
    """How a program ended."""

    cmd: list
    rc: int
    out: str
    err: str

    def __str__(self):
        return f"$ {' '.join(map(str, self.cmd))}\n-> {self.rc}\n{self.out}{self.err}"


def run(cmd, timeout=60, check=True, stdin="", env=None, cwd=None):
    """Runs @cmd to its end. With @check, another status than 0 is an assertion with all its output.

    It gets its own process group, which is killed at the deadline, and never our terminal."""
    with subprocess.Popen(list(map(str, cmd)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          errors="replace", env=env, cwd=cwd, start_new_session=True) as p:
        try:
            out, err = p.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            out, err = p.communicate()
            raise AssertionError(f"deadline of {timeout} s passed: {Result(cmd, -1, out, err)}") from None
    result = Result(list(cmd), p.returncode, out, err)
    assert not check or p.returncode == 0, str(result)
    return result


def wait_for(what, timeout=20, every=0.1, text="condition"):
    """Calls @what until it returns something true and returns that; an assertion at the deadline.

    What is dear to ask (a program is run for it) is asked less often: others want the processor too."""
    end = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        value = what()
        if value:
            return value
        now = time.monotonic()
        if now > end:
            raise AssertionError(f"{text} did not become true within {timeout} s; last: {value!r}")
        time.sleep(max(every, min(2 * (now - began), 0.5)))


def has_ended(pid):
    """Whether process @pid is gone, or is no more than an exit status that its parent has not asked for: of those whose parent went, when that is is
    up to the machine's init."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return fields[0] in "ZX" and int(fields[17]) <= 1


def state_of(pid):
    """What the kernel says of @pid and its threads, for the message of a test that failed."""
    said = []
    for path in sorted(pathlib.Path(f"/proc/{pid}").glob("task/*")):
        for name in ("status", "stack"):
            with contextlib.suppress(OSError):
                said.append((path / name).read_text())
    return "\n".join(said)


_given = collections.deque(maxlen=1000)


def free_port():
    """A TCP port of loopback that nobody listens on now, and that was not given out just before: it may not be in use yet."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in _given:
            _given.append(port)
            return port


def listens(port, host="127.0.0.1"):
    """Does somebody accept there?"""
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex((host, port)) == 0


class Background:
    """A program that runs until stop(); its output goes to a file."""

    def __init__(self, cmd, log, env=None, cwd=None):
        self.log = log
        with open(log, "ab") as f:
            # The group of its own lets a test kill it as a whole, with what it started.
            self.p = subprocess.Popen(list(map(str, cmd)), stdin=subprocess.DEVNULL, stdout=f, stderr=f, env=env, cwd=cwd,
                                      start_new_session=True)

    @property
    def pid(self):
        return self.p.pid

    def running(self):
        return self.p.poll() is None

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stop(self, sig=signal.SIGTERM, timeout=20):
        """Ends it and returns its status. SIGKILL when it does not obey, which is then an assertion."""
        if self.running():
            self.p.send_signal(sig)
            try:
                self.p.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.p.pid, signal.SIGKILL)
                self.p.wait()
                raise AssertionError(f"{self.p.args[0]} did not end on signal {sig} within {timeout} s") from None
        return self.p.returncode
