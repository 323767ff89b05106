# SPDX-License-Identifier: Apache-2.0
"""The benches run: figures are for people, that they can be had is for this test."""
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/release"))


@pytest.mark.all_tier
def test_fleet_tells_its_figures():
    out = subprocess.run([sys.executable, ROOT / "test/bench/fleet.py", BUILD, "20"], capture_output=True, text=True, timeout=300, check=True).stdout
    assert "20 agents connect at once" in out and "until 20 agents are back" in out


@pytest.mark.all_tier
def test_parse_tells_its_figures():
    out = subprocess.run([BUILD / "test/bench/bench_parse"], capture_output=True, text=True, timeout=300, check=True).stdout
    assert out.count("MB/s") == 8
