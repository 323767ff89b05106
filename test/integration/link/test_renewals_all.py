# SPDX-License-Identifier: Apache-2.0
"""Certificates that live for ten seconds, on twenty servers at once, for as long as five hundred renewals take."""
import concurrent.futures
import sqlite3
import time

import pytest

from lib import proc
from lib.remote import Remote

AGENTS, RENEWALS, LIFE = 20, 500, 10


def generations(davit):
    """Server -> (last generation that was issued, last one that connected)."""
    with sqlite3.connect(f"file:{davit.home}/state/control.db?mode=ro", uri=True) as db:
        return {name: (last, oldest) for name, last, oldest in db.execute("SELECT name, generation, oldest FROM servers")}


def states(davit):
    return {s["name"]: (s["state"], s.get("healthReasons", [])) for s in davit.json("server", "ls")["servers"]}


def up(davit):
    davit.up("--advertise", "127.0.0.1", "--no-agent",
             env=davit.env | {"DAVIT_AGENT_CERTIFICATE_LIFE": f"{LIFE}s", "DAVIT_HEARTBEAT_INTERVAL": "1s", "DAVIT_OFFLINE_AFTER": "10s"})


def begin(davit, n):
    r = Remote(davit, f"web-{n}")
    r.add()
    r.enroll()
    r.start()
    r.wait(timeout=60)
    return r


@pytest.mark.all_tier
@pytest.mark.req("CB-9")
def test_five_hundred_renewals_and_nobody_misses_a_server(davit):
    up(davit)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        agents = list(pool.map(lambda n: begin(davit, n), range(AGENTS)))
    start, before = time.monotonic(), sum(last for last, _ in generations(davit).values())
    while sum(last for last, _ in generations(davit).values()) < before + RENEWALS:
        for name, (state, reasons) in states(davit).items():
            assert state == "SERVER_STATE_ONLINE", (name, state, reasons)
            assert not any("duplicate" in r or "renewal failed" in r for r in reasons), (name, reasons)
        assert time.monotonic() < start + 600, generations(davit)
        time.sleep(1)
    assert all(r.p.running() for r in agents)
    assert all(last >= RENEWALS // AGENTS // 2 and last - oldest <= 1 for last, oldest in generations(davit).values()), generations(davit)
    assert not any("refused" in r.p.text() or "stays idle" in r.p.text() for r in agents)

    # The control plane is away for longer than any certificate lives: all are back without another token.
    davit.kill("davitd")
    time.sleep(LIFE + 2)
    at = generations(davit)
    up(davit)
    proc.wait_for(lambda: all(state == "SERVER_STATE_ONLINE" for state, _ in states(davit).values()), 120, text="all servers")
    proc.wait_for(lambda: all(oldest > at[name][0] for name, (_, oldest) in generations(davit).items()), 60, text="later credentials")
