# SPDX-License-Identifier: Apache-2.0
"""Watching: logs in real time, usage, states; and what the loss of the connection does not do."""
import json
import subprocess
import time

import pytest

from lib import images, proc
from lib.remote import Remote


@pytest.fixture
def up(davit):
    davit.up()
    return davit


def ticker(docker):
    """Writes the time (seconds since the epoch, hundredths) to stdout and stderr in turn, each 0.2 s."""
    return images.script(docker, "davit-test/ticker:2", images.WAITING + """
i=0
while :; do
    i=$((i + 1))
    echo "out $i"
    echo "err $i" >&2
    sleep 0.2 & wait $!
done
""")


def follow(d, *args):
    return subprocess.Popen([d.bin / "davit", "logs", "-f", *args], env=d.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.req("CL-15")
def test_logs_arrive_in_real_time_told_apart_by_stream(up, docker):
    up.run("deploy", "--name", "tick", ticker(docker))
    p = subprocess.Popen([up.bin / "davit", "logs", "-f", "-o", "json", "--tail", "0", "tick"], env=up.env, stdout=subprocess.PIPE, text=True)
    delays, streams = [], set()
    try:
        for _ in range(100):
            e = json.loads(p.stdout.readline())
            sec, _, frac = e["time"].rstrip("Z").partition(".")
            written = time.mktime(time.strptime(sec + " UTC", "%Y-%m-%dT%H:%M:%S %Z")) - time.timezone + float("0." + frac)
            delays.append(time.time() - written)
            streams.add((e["stream"], e["line"].split()[0]))
    finally:
        p.terminate()
        p.wait(10)
    assert streams == {("stdout", "out"), ("stderr", "err")}
    assert sorted(delays)[98] <= 1.0, sorted(delays)[-5:]


def test_every_line_comes_once_through_a_restart_of_the_control_plane(up, docker):
    up.run("deploy", "--name", "tick", ticker(docker))
    proc.wait_for(lambda: "out 5" in up.run("logs", "tick").out, 20)
    up.kill("davit-agent")
    up.up()
    text = proc.wait_for(lambda: (lambda t: t if "out 40\n" in t else None)(up.run("logs", "tick").out), 30, text="line 40")
    numbers = [int(line.split()[1]) for line in text.splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.all_tier
def test_follow_goes_on_after_the_agent_was_killed_and_loses_nothing(up, docker):
    up.run("deploy", "--name", "tick", ticker(docker))
    p = follow(up, "tick")
    try:
        seen = [p.stdout.readline() for _ in range(5)]
        up.kill("davit-agent")
        up.up()
        while len(seen) < 60:
            seen.append(p.stdout.readline())
    finally:
        p.terminate()
        p.wait(10)
    assert [int(line.split()[1]) for line in seen] == list(range(1, 61))


def test_hostile_output_cannot_drive_a_terminal(up, docker):
    image = images.script(docker, "davit-test/hostile:2", images.WAITING + "printf '\\033]0;owned\\007\\033[2J\\n'\nsleep 600 & wait $!\n")
    up.run("deploy", "--name", "bad", image)
    raw = subprocess.run([up.bin / "davit", "logs", "bad"], env=up.env, capture_output=True, timeout=20, check=True).stdout
    assert raw == b"\x1b]0;owned\x07\x1b[2J\n", "a file gets the bytes as they are"
    out = subprocess.run(["script", "-qec", f"{up.bin}/davit logs bad", "/dev/null"], env=up.env, capture_output=True, timeout=20, check=True).stdout
    assert b"owned" in out and b"\x1b]" not in out and b"\x1b[2J" not in out


@pytest.mark.req("CL-16")
def test_usage_is_reported_per_container_and_host(up, docker):
    image = images.script(docker, "davit-test/busy-cpu:1", images.WAITING + "(while :; do dd if=/dev/zero of=/tmp/x bs=64k count=16 2>/dev/null; done) &\nwait $!\n")
    up.run("deploy", "--name", "busy", "--cpus", "0.5", "--memory", "64m", image)

    def rows():
        found = up.json("stats").get("rows", [])
        busy = [r["usage"] for r in found if r.get("service") == "busy"]
        host = [r["usage"] for r in found if not r.get("containerName")]
        return (busy[0], host[0]) if busy and host and busy[0].get("cpuMilli", 0) > 0 else None

    busy, host = proc.wait_for(rows, 60, every=1, text="two samples")
    assert 100 < busy["cpuMilli"] < 900
    assert 0 < int(busy["memoryBytes"]) <= 64 << 20
    assert int(busy["memoryLimitBytes"]) == 64 << 20
    assert busy["pids"] >= 2
    assert "netRxBytes" in busy or "netTxBytes" in busy or int(busy.get("netRxBytes", 0)) >= 0
    assert int(host["diskTotalBytes"]) > int(host["diskFreeBytes"]) > 0
    assert int(host["memoryBytes"]) > 0


@pytest.mark.req("CL-29", "CL-74")
def test_containers_go_on_unchanged_while_the_connection_is_lost(up, web_image):
    r = Remote(up, "far")
    r.add()
    r.enroll()
    r.start()
    r.wait()
    up.run("deploy", "--server", "far", "--name", "web", "--health", "/health", "--health-interval", "300ms", web_image)
    ident = up.json("ps", "--server", "far")["services"][0]["containers"][0]["id"]
    before = up.engine.inspect(ident)["State"]
    up.kill("davitd")
    time.sleep(3)
    assert up.engine.inspect(ident)["State"] == before
    up.up()
    up.davitd_again("--heartbeat-interval", "1s", "--offline-after", "4s")
    r.wait(timeout=40)
    assert up.engine.inspect(ident)["State"] == before
    r.p.stop()
    r.wait("SERVER_STATE_OFFLINE", timeout=30)
    assert up.engine.inspect(ident)["State"] == before


def test_state_of_a_container_that_died_is_seen_at_once(up, docker):
    image = images.script(docker, "davit-test/dies:1", images.WAITING + "sleep 4 & wait $!\nexit 7\n")
    up.run("deploy", "--name", "dies", "--restart", "no", image)

    def state():
        c = up.json("ps")["services"][0].get("containers", [{}])[0]
        return c if c.get("state") == "exited" else None

    c = proc.wait_for(state, 15, text="exited")
    assert int(c["exitCode"]) == 7


@pytest.mark.req("CL-47")
def test_commands_run_as_soon_as_the_first_heartbeat_was_heard(up, web_image):
    r = Remote(up, "web-1")
    r.add()
    r.enroll()
    r.start()
    r.wait()
    up.run("deploy", "--server", "web-1", "--name", "web", "--health", "/health", "--health-interval", "300ms", web_image)
