# SPDX-License-Identifier: Apache-2.0
"""doc/adding-an-rpc.md does what it says: its changes applied to a copy of the tree build, and the test in it passes; and the job step of
doc/host.md is one that fits the code."""
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def changes(page="adding-an-rpc.md"):
    text = (ROOT / "doc" / page).read_text(encoding="utf-8")
    return re.findall(r"^```diff\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.parametrize("page", ["adding-an-rpc.md", "host.md"])
def test_the_changes_of_the_page_apply(tmp_path, page):
    """Cheap, so that the page follows the code; that they build is for the long run."""
    patch = tmp_path / "patch"
    patch.write_text("".join(changes(page)), encoding="utf-8")
    assert patch.stat().st_size > 0
    subprocess.run(["git", "apply", "--check", "--unsafe-paths", patch], cwd=ROOT, check=True, timeout=30)


@pytest.mark.all_tier
def test_the_example_builds_and_its_test_passes(tmp_path):
    tree, build = tmp_path / "tree", tmp_path / "build"
    subprocess.run(["git", "clone", "-q", ROOT, tree], check=True, timeout=60)
    patch = tmp_path / "patch"
    patch.write_text("".join(changes()), encoding="utf-8")
    subprocess.run(["git", "apply", patch], cwd=tree, check=True, timeout=30)
    subprocess.run(["meson", "setup", build, "-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dstatic=false"], cwd=tree, check=True,
                   timeout=300, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", build, "test_control_count"], check=True, timeout=900, stdout=subprocess.DEVNULL)
    subprocess.run([build / "test_control_count"], cwd=tree, check=True, timeout=120)
