# SPDX-License-Identifier: Apache-2.0
"""./quickstart as a new user runs it: up, again, down. It uses the release programs whatever tree is under test."""
import json
import os
import pathlib
import urllib.request

import pytest

from lib import proc

ROOT = pathlib.Path(__file__).resolve().parents[2]


def settle(home):
    """What an earlier `davit up` with options leaves behind: free ports, an account that is there."""
    settings = {name: f"127.0.0.1:{proc.free_port()}" for name in ("api", "link", "health")}
    (home / "config").mkdir(parents=True)
    (home / "config").chmod(0o700)
    (home / "config/cli.json").write_text(json.dumps(settings | {"user": "nobody"}))


@pytest.fixture
def quickstart(docker, tmp_home):
    """A function that runs ./quickstart ARGS with all its state below a temporary directory and on free ports."""
    home = tmp_home / "davit"
    settle(home)
    env = os.environ | {"DAVIT_HOME": str(home), "DOCKER_HOST": docker.host}
    yield lambda *args: proc.run([ROOT / "quickstart", *args], timeout=600, env=env)
    proc.run([ROOT / "quickstart", "--down"], timeout=120, env=env, check=False)


def everything(docker, home):
    """What a second run must not touch: containers, networks, volumes, processes, keys."""
    pids = {p.name for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and str(home).encode() in cmdline(p)}
    files = {(str(p), p.stat().st_mtime_ns) for p in (home / "davit/config").rglob("*") if p.is_file() and p.suffix != ".lock"}
    return {
        "containers": {(c["Id"], c["State"], c["Created"]) for c in docker.containers()},
        "networks": {n["Id"] for n in docker.networks()},
        "volumes": {v["Name"] for v in docker.volumes()},
        "processes": pids,
        "files": {f for f in files if not f[0].endswith("cli.json")},
    }


def cmdline(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.req("MA-1")
def test_up_again_down(quickstart, docker, tmp_home):
    before = everything(docker, tmp_home)
    port = proc.free_port()
    quickstart("--port", str(port))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
        assert answer.read() == b"ok\n"
    first = everything(docker, tmp_home)
    assert len(first["processes"]) == 2 and len(first["containers"]) == len(before["containers"]) + 1
    quickstart("--port", str(port))
    assert everything(docker, tmp_home) == first
    quickstart("--down")
    assert everything(docker, tmp_home) == before
    assert not (tmp_home / "davit").exists() or not any((tmp_home / "davit").rglob("*"))


def test_unknown_argument_is_told(run):
    r = run([ROOT / "quickstart", "--dwon"], check=False)
    assert r.rc == 2 and "--dwon" in r.err


@pytest.mark.all_tier
@pytest.mark.req("MA-1")
def test_clone_builds_and_comes_up(tmp_home):
    """From a fresh clone, with the engine that quickstart starts where none answers at the usual place."""
    home, tree = tmp_home / "davit", tmp_home / "clone"
    proc.run(["git", "clone", "-q", ROOT, tree], timeout=120)
    settle(home)
    env = {k: v for k, v in os.environ.items() if k != "DOCKER_HOST"} | {"DAVIT_HOME": str(home)}
    port = str(proc.free_port())
    try:
        proc.run(["./quickstart", "--port", port], timeout=1800, env=env, cwd=tree)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            assert answer.read() == b"ok\n"
        keys = {(p, p.stat().st_mtime_ns) for p in home.rglob("*.key")}
        again = proc.run(["./quickstart", "--port", port], timeout=300, env=env, cwd=tree)
        assert "Davit is up already" in again.out and "active and unchanged" in again.out, str(again)
        assert {(p, p.stat().st_mtime_ns) for p in home.rglob("*.key")} == keys and keys
    finally:
        proc.run(["./quickstart", "--down"], timeout=300, env=env, cwd=tree)
    assert not home.exists() and not pathlib.Path(f"{home}-quickstart").exists()
