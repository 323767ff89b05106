# SPDX-License-Identifier: Apache-2.0
"""Makes flows.py known to the tests beside it, and takes the release programs for what ./check runs each time: a sweep starts programs a
hundred times over."""
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
RELEASE = HERE.parents[1] / "build/release/src/main"


@pytest.fixture
def bin_dir(bin_dir, request):
    release = request.node.get_closest_marker("all_tier") is None and all((RELEASE / p).exists() for p in ("davit", "davitd", "davit-agent"))
    return RELEASE if release else bin_dir
