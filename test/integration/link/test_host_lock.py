# SPDX-License-Identifier: Apache-2.0
"""One agent serves a machine: the lock of the system's place holds beyond the directory."""
import os
import socket
import subprocess

import pytest

from lib import proc


@pytest.mark.skipif(os.geteuid() != 0, reason="the system's place is root's")
def test_a_second_agent_in_the_systems_place_is_refused_by_the_lock_of_the_machine(davit):
    davit.up("--advertise", "127.0.0.1", "--no-agent")
    token = davit.json("server", "add", "one")["token"]
    # It accepts and says nothing: the first one holds its lock meanwhile.
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        words = [davit.bin / "davit-agent", "enroll", "--server", "127.0.0.1:%d" % deaf.getsockname()[1], "--token-file", "-"]
        env = {k: v for k, v in davit.env.items() if k != "DAVIT_HOME"}
        outer = subprocess.Popen(["unshare", "--mount", "sh", "-ec", "mount --make-rprivate /; mount -t tmpfs tmpfs /run; exec sleep 60"])
        try:
            inside = ["nsenter", "--mount", "--target", str(outer.pid)]
            proc.wait_for(lambda: "tmpfs /run " in open(f"/proc/{outer.pid}/mounts", encoding="utf-8").read(), text="a /run of its own")
            script = "mount --make-rprivate /; mount -t tmpfs tmpfs /etc; exec \"$@\""
            start = [*inside, "unshare", "--mount", "sh", "-ec", script, "apart", *map(str, words)]
            first = subprocess.Popen(start, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
            try:
                first.stdin.write(token + "\n")
                first.stdin.close()
                deaf.settimeout(20)
                held, _ = deaf.accept()
                second = proc.run(start, stdin=token + "\n", env=env, check=False)
                assert second.rc == 7, str(second)
                assert "runs on this machine" in second.err and "one agent serves a machine" in second.err
                held.close()
            finally:
                first.kill()
                first.wait(20)
        finally:
            outer.kill()
            outer.wait(20)
