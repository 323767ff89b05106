# SPDX-License-Identifier: Apache-2.0
"""The unit tests of the store against a real PostgreSQL: the same source files that `meson test` runs on SQLite."""
import os
import pathlib

import pytest

from lib import proc

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))


@pytest.mark.req("PR-1")
@pytest.mark.parametrize("name", ["test_store_pg", "test_store_lanes_pg", "test_store_copy_pg", "test_pg"])
def test_suite(name, pg):
    program = BUILD / "test/unit/store" / name
    assert program.exists(), f"{program} is not built: libpq-dev was missing"
    keep = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
    said = proc.run([program], env=keep | {"DAVIT_TEST_PG": pg.url, "PATH": "/usr/bin:/bin"}, timeout=100)
    assert "[  PASSED  ]" in said.out + said.err


@pytest.mark.all_tier
@pytest.mark.req("PR-1", "PR-14")
def test_schema_upgrades(pg):
    program = BUILD / "test/unit/control/test_control_schema_pg"
    keep = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
    proc.run([program], env=keep | {"DAVIT_TEST_PG": pg.url, "PATH": "/usr/bin:/bin"}, timeout=100, cwd=ROOT)
