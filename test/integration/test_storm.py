# SPDX-License-Identifier: Apache-2.0
"""A restart of the control plane sends every agent away in one moment."""
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/bench"))
import fleet  # noqa: E402

# The build that ships: what is asked for here is time, and sanitizers take most of it.
RELEASE = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/release")).parent / "release"
AGENTS, BUDGET = 10000, 30


@pytest.mark.all_tier
@pytest.mark.req("CB-7")
def test_ten_thousand_agents_come_back(tmp_path):
    subprocess.run([RELEASE / "test/bench/bench_seed", tmp_path / "user", tmp_path / "state", str(AGENTS), tmp_path / "out"], check=True, timeout=600)
    with open(tmp_path / "davitd.log", "w", encoding="utf-8") as log:
        davitd = fleet.ControlPlane(RELEASE, tmp_path / "state", log)
        agents = fleet.Agents(RELEASE, tmp_path / "out", AGENTS)
        try:
            assert fleet.total(agents.order("connect"), "up") == AGENTS
            took, most = fleet.storm(davitd, agents, AGENTS, healthy=True)
            assert fleet.total(agents.order("wait"), "up") == AGENTS
            assert most <= 3
            assert took <= BUDGET
        finally:
            davitd.kill()
            for p in agents.parts:
                p.kill()
