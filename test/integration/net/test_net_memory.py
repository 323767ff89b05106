# SPDX-License-Identifier: Apache-2.0
"""What an idle agent costs its control plane: private memory per connection with mTLS, HTTP/2 and one open stream."""
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))
LIMIT = 36 * 1024


@pytest.mark.req("MA-3")
@pytest.mark.smoke
def test_idle_connections_are_small():
    release = os.environ.get("DAVIT_TREE") == "release"
    many = 300 if release else 50
    p = subprocess.run([BUILD / "test/unit/net/net-idle-conns", str(many)], capture_output=True, text=True, check=True, timeout=100)
    n, size = map(int, p.stdout.split())
    assert n == many
    if release:  # the sanitizers keep what is freed
        assert size <= LIMIT
