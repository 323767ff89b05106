# SPDX-License-Identifier: Apache-2.0
"""Events: what a deployment comes to is told in order, what is not told any more is told as a gap, and who follows ends when told to."""
import json
import signal
import subprocess

import pytest

from lib import images, proc


def lines(d, *args):
    return [json.loads(line) for line in d.run("events", "--output", "json", *args).out.splitlines()]


def actions(events, kind):
    return [e["action"] for e in events if e["type"] == kind]


@pytest.mark.req("CW-28", "CW-29", "SA-4")
def test_events_of_a_deployment_come_in_order_and_a_gap_is_told(davit, docker):
    davit.up()
    p = subprocess.Popen([davit.bin / "davit", "events", "--follow", "-o", "json"], env=davit.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    davit.run("deploy", "--name", "web", images.script(docker, "davit-test/idle:1", images.WAITING + "sleep 600 & wait $!\n"))
    davit.run("rm", "web")
    proc.wait_for(lambda: {"destroy", "removed"} <= {e["action"] for e in lines(davit, "--project", "default")}, 20, text="the end of the service")
    kept = lines(davit)
    numbers = [e["sequence"] for e in kept]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "without gaps"
    assert "online" in actions(kept, "server")
    assert actions(kept, "deployment") == ["pending", "deploying", "active", "removed"] or \
        actions(kept, "deployment") == ["pending", "deploying", "health_checking", "active", "removed"]
    life = [e for e in kept if e["type"] == "container" and e["service"] == "web"]
    assert [e["action"] for e in life if e["action"] in ("start", "stop", "destroy")] == ["start", "stop", "destroy"], json.dumps(life, indent=1)
    assert life[0]["time"] == life[0]["timeNano"] // 10**9 and life[0]["server"]
    assert {e["type"] for e in lines(davit, "--kind", "container", "--since", str(numbers[1]))} == {"container"}
    assert lines(davit, "--project", "nothing") == []

    # Who follows has been told the same, and ends without a word.
    told = []
    while not told or told[-1]["sequence"] < numbers[-1]:
        told.append(json.loads(p.stdout.readline()))
    assert told[:len(kept)] == kept
    p.send_signal(signal.SIGINT)
    assert p.wait(10) == 130
    assert p.stderr.read() == ""

    # A davitd that was started anew has none of before, and says so; numbers go up.
    davit.davitd_again()
    after = lines(davit, "--since", str(numbers[-1] + 1))
    assert after[0] == {"type": "gap", "reason": "restarted", "from_sequence": numbers[-1] + 1}
    assert all(e["sequence"] > numbers[-1] for e in after[1:])
    assert "started anew" in davit.run("events", "--since", str(numbers[-1] + 1)).err
