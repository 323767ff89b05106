# SPDX-License-Identifier: Apache-2.0
"""The programs as files: what they are linked to, and that each explains itself."""
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = ROOT / "build/release/src/main"
PROGRAMS = ("davit", "davitd", "davit-agent")


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_is_static(run, name):
    r = run(["ldd", RELEASE / name], check=False)
    assert "not a dynamic executable" in r.out + r.err or "statically linked" in r.out, str(r)
    assert "NEEDED" not in run(["readelf", "-d", RELEASE / name]).out
    assert "INTERP" not in run(["readelf", "-lW", RELEASE / name]).out


@pytest.mark.req("CL-4")
def test_agent_needs_no_file_beside_it(run, tmp_path):
    """Alone in an empty root it runs: no library, no loader, no configuration of the system."""
    agent = tmp_path / "davit-agent"
    agent.write_bytes((RELEASE / "davit-agent").read_bytes())
    agent.chmod(0o755)
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    assert run(["chroot", tmp_path, "/davit-agent", "version"]).out.strip()


@pytest.mark.smoke
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_explains_itself(run, bin_dir, name):
    r = run([bin_dir / name, "--help"])
    assert "usage" in r.out.lower() and name in r.out
    r = run([bin_dir / name, "--no-such-option"], check=False)
    assert r.rc == 2 and "no-such-option" in r.err, str(r)
