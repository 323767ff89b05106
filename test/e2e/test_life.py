# SPDX-License-Identifier: Apache-2.0
"""The control plane's own life: its log, how it ends when there is nothing to do and comes back when there is, what it waits for."""
import os
import re
import signal
import stat

import pytest

from lib import proc


@pytest.fixture(scope="module")
def up(davit_of_file):
    davit_of_file.up()
    yield davit_of_file


@pytest.mark.req("CW-74")
def test_the_log_is_rotated_and_stderr_has_crashes_and_the_issuer(up):
    stderr = up.home / "log/davitd.log"
    assert 'msg="control plane started"' in up.log_file.read_text() and "control plane started" not in stderr.read_text()
    assert stat.S_IMODE(up.log_file.stat().st_mode) == 0o600
    up.run("token", "add", "--name", "x", check=False)
    assert 'msg="token issued" client=davit-cli' in stderr.read_text()
    with open(up.log_file, "a", encoding="utf-8") as f:
        f.write("x" * 65536 + "\n")
    old = up.log_file.with_name("davit-controlplane.log.1")
    up.davitd_again("--log-max-size", "64k", "--log-max-backups", "1")
    assert old.read_text().endswith("x\n") and "control plane started" in up.log_file.read_text()
    if os.environ.get("DAVIT_TREE", "asan") == "asan":
        up.kill("davitd", signal.SIGSEGV)
        trace = up.background[-1].log.read_text()
        assert "AddressSanitizer: SEGV" in trace and "AddressSanitizer" not in up.log_file.read_text()
    else:
        up.kill("davitd")
    up.up()
