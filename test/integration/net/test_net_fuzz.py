# SPDX-License-Identifier: Apache-2.0
"""Half a minute of libFuzzer each: the HTTP/1.1 parser alone, and beside llhttp (what ours accepts, llhttp must have read the same way); a served
HTTP/2 connection."""
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
SECONDS = 30


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    if not shutil.which("clang"):
        pytest.skip("no clang")
    build = tmp_path_factory.mktemp("fuzz") / "build"
    subprocess.run(["meson", "setup", build, "-Dfuzz=true", "-Dtests=enabled", "-Dstatic=false", "-Db_sanitize=address,undefined", "-Db_lundef=false"],
                   cwd=ROOT, env={**os.environ, "CC": "clang"}, check=True, timeout=300, capture_output=True)
    return build


@pytest.mark.all_tier
@pytest.mark.req("MA-3")
@pytest.mark.parametrize("name", ["http", "http_llhttp", "h2"])
def test_fuzz(tree, tmp_path, name):
    if name == "http_llhttp" and not os.path.exists("/usr/share/llhttp/llhttp.c"):
        pytest.skip("no node-llhttp")
    subprocess.run(["ninja", "-C", tree, f"test/fuzz/fuzz_{name}"], check=True, timeout=900, capture_output=True)
    corpora = [ROOT / "test/fuzz/corpus" / n for n in ({"h2": ["h2"]}.get(name, ["http", "http_llhttp"]))]
    p = subprocess.run([tree / f"test/fuzz/fuzz_{name}", f"-max_total_time={SECONDS}", "-max_len=2000", f"-artifact_prefix={tmp_path}/", tmp_path, *corpora],
                       capture_output=True, text=True, timeout=SECONDS + 120, check=False)
    assert p.returncode == 0, p.stderr[-4000:]
