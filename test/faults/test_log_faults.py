# SPDX-License-Identifier: Apache-2.0
"""A followed log while the agent is broken at its system calls: every line once, and in order within each output."""
import pytest

import flows
from lib import faults, images, proc

LINES = 600
# Both outputs, in bursts that share stamps or nearly so; every fiftieth line is longer than what the reader keeps in one piece.
SCRIPT = images.WAITING + f"""big=$(head -c 70000 /dev/zero | tr '\\0' b)
while ! [ -e /tmp/go ]; do sleep 0.05; done
i=0
while [ $i -lt {LINES} ]; do
    i=$((i + 1))
    if [ $((i % 50)) = 0 ]; then echo "out $i $big"; else echo "out $i"; fi
    echo "err $i" >&2
    if [ $((i % 40)) = 0 ]; then sleep 0.1; fi
done
echo "out end"
sleep 1000 & wait $!
"""


def prepare(lane):
    lane.image = images.script(lane.engine, "davit-test/lines:1", SCRIPT)
    lane.start()


def begin(lane):
    """A fresh container and a follower of it."""
    lane.version += 1
    lane.davit.run(*lane.deploy_words(), timeout=90)
    lane.wait_settled()
    # Each output to a file of its own: a long line comes in pieces, between which the other output may speak.
    lane.out = [lane.davit.top / f"{which}-{lane.r.name}.{lane.runs}" for which in ("out", "err")]
    follow = " ".join(map(str, lane.davit_words("logs", "--project", lane.project, "--follow", "svc")))
    cli = proc.Background(["sh", "-c", f"exec {follow} >{lane.out[0]} 2>{lane.out[1]}"], lane.out[0], env=lane.davit.env)
    lane.davit.background.append(cli)
    return cli


def go(lane):
    lane.engine.exec(lane.containers()[0]["Id"], ["touch", "/tmp/go"])


def where(lane, cli):
    """How far the lines came on their way from the engine."""
    def tail(text):
        return [line[:100] for line in text.splitlines()[-5:]]
    container = lane.containers()[0]
    engine = lane.engine.call("GET", f"/containers/{container['Id']}/logs", query={"stdout": 1, "stderr": 1, "tail": 5}).decode(errors="replace")
    parts = {"container": (container["State"], container["Image"]), "engine": tail(engine), "agent": (lane.p.running(), tail(lane.p.text())),
             "davitd": tail(lane.davit.log("davitd")), "davit logs": (cli.running(), *(tail(path.read_text()) for path in lane.out))}
    return "\n".join(f"  {name}: {what}" for name, what in parts.items())


def check(lane, cli, said):
    """@cli has seen all of it."""
    ends = ("out end\n", f"err {LINES}\n")
    try:
        proc.wait_for(lambda: all(end in path.read_text() for end, path in zip(ends, lane.out)), 40, every=0.1, text=f"the last lines, {said}")
    except AssertionError as e:
        raise AssertionError(f"{e}\n{where(lane, cli)}") from None
    cli.stop(2)
    lane.davit.background.remove(cli)
    lines = [line for path in lane.out for line in path.read_text().splitlines()]
    for which in ("out", "err"):
        got = [line.split()[1] for line in lines if line.startswith(which + " ")]
        want = [str(i) for i in range(1, LINES + 1)] + (["end"] if which == "out" else [])
        assert got == want, f"{said}: {which}: missing {sorted(set(want) - set(got), key=str)[:5]}, {len(got)} of {len(want)}"
    big = [line for line in lines if line.startswith("out ") and len(line) > 1000]
    assert len(big) == LINES // 50 and all(line.endswith(" " + 70000 * "b") for line in big), said


def one(lane, fault):
    lane.end()
    lane.start(fault)
    cli = begin(lane)
    lane.arm()
    go(lane)
    lane.wait_broken(cli, 3 if fault.do == "fail" else 8)
    said = str(lane.report.hit())
    lane.end()
    lane.start()
    check(lane, cli, said)
    return said


@pytest.mark.req("MA-5")
def test_a_followed_log_survives_a_fault_at_any_call(davit):
    flows.any_call(davit, 2, prepare, calls_of, one, 2)


@pytest.mark.all_tier
@pytest.mark.req("MA-5")
def test_a_followed_log_survives_every_fault_at_every_call(davit):
    flows.every_call(davit, 2, prepare, calls_of, one)


def calls_of(lane):
    lane.end()
    lane.start(faults.Fault())
    cli = begin(lane)
    lane.arm()
    go(lane)
    check(lane, cli, "without a fault")
    return lane.report.calls()
