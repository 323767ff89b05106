# SPDX-License-Identifier: Apache-2.0
"""src/docker against the real engine, by a program that calls all of it (test/integration/docker_live.c)."""
import os
import pathlib

from lib import proc


def test_engine_client_against_the_real_engine(docker):
    program = pathlib.Path(os.environ["DAVIT_BUILD"]) / "test/unit/docker/docker_live"
    got = proc.run([program], timeout=280, env=os.environ | {"DOCKER_HOST": docker.host})
    assert "skipped" not in got.out.lower(), got
