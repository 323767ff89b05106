# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration and end-to-end tests, and the plugin that tells ./check which requirement each test proves.

Environment: DAVIT_BIN (folder of the programs; default build/asan/src/main), DAVIT_BUILD (the build tree), DAVIT_TREE (its
name), DAVIT_RESULTS (file to append STATUS<TAB>TEST<TAB>IDS to), DOCKER_HOST (engine; found or started when absent), DAVIT_SHARE (folder of runs
that share the tests, see lib/shards.py), DAVIT_DURATIONS (what the files of tests took: read, and added to)."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

from lib import davit as davit_lib  # noqa: E402
from lib import engine as engine_lib  # noqa: E402
from lib import images, proc  # noqa: E402
from lib import registry as registry_lib  # noqa: E402
from lib import shards  # noqa: E402

MAX_IDS = 3
TREE = os.environ.get("DAVIT_TREE", "asan")


# --- Requirement ids and results ---------------------------------------------------------------------------------------------
def pytest_configure(config):
    config.addinivalue_line("markers", "req(*ids): requirement lines that this test proves, at most three")
    config.addinivalue_line("markers", "smoke: also run against the release build")
    config.addinivalue_line("markers", "all_tier: long test, run by ./check --all only")
    config.addinivalue_line("markers", "soak: very long test, run by ./check --all only")


def ids_of(item):
    ids = [i for m in item.iter_markers("req") for i in m.args]
    if len(ids) > MAX_IDS:
        raise pytest.UsageError(f"{item.nodeid} names {len(ids)} requirement lines, at most {MAX_IDS} are allowed")
    return ids


def pytest_collection_modifyitems(items):
    for item in items:
        item.user_properties.append(("req", " ".join(ids_of(item))))


def pytest_runtest_logreport(report):
    path = os.environ.get("DAVIT_RESULTS")
    if not path:
        return
    if report.when == "call" or report.outcome != "passed":
        status = {"passed": "pass", "failed": "fail", "skipped": "skip"}[report.outcome]
        ids = dict(report.user_properties).get("req", "")
        with open(path, "a", encoding="utf-8") as f:
            f.write(f"{status}\t{report.nodeid}[{TREE}]\t{ids}\n")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    folder, durations = os.environ.get("DAVIT_SHARE"), os.environ.get("DAVIT_DURATIONS")
    if not folder or session.testsfailed or session.config.option.collectonly:
        return None  # pytest's own loop

    def took(name, seconds):
        if durations:
            with open(durations, "a", encoding="utf-8") as f:
                f.write(f"{seconds:.1f}\t{name}\n")

    shards.run(session, shards.Share(folder, shards.read_durations([ROOT / "test/durations.tsv", durations or "/dev/null"])), took)
    return True


# --- Fixtures -----------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def bin_dir():
    """The folder with davit, davitd and davit-agent of the tree under test."""
    path = pathlib.Path(os.environ.get("DAVIT_BIN", ROOT / "build/asan/src/main")).resolve()
    for name in ("davit", "davitd", "davit-agent"):
        if not (path / name).exists():
            pytest.fail(f"{path / name} is not built")
    return path


@pytest.fixture(scope="session")
def docker():
    """A Docker Engine that answers: lib.engine.Engine, with .sock (path) and .host (unix://...)."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    e = engine_lib.Engine(host.removeprefix("unix://"))
    if e.answers():
        yield e
        return
    folder = tempfile.mkdtemp(prefix="davit-docker.")
    try:
        p = subprocess.run([ROOT / "tools/dockerd-start", folder], capture_output=True, text=True, timeout=60, check=False)
        if p.returncode != 0:
            pytest.fail("no Docker Engine: " + p.stderr)
        yield engine_lib.Engine(p.stdout.strip())
    finally:
        subprocess.run([ROOT / "tools/dockerd-stop", folder], check=False, timeout=60)


@pytest.fixture(scope="session")
def busybox_image(docker):
    """davit-test/busybox:1, all of busybox on an empty file system, runs a shell that waits."""
    return images.busybox(docker)


@pytest.fixture(scope="session")
def web_image(docker):
    """davit-test/web:1: busybox httpd on port 8080; GET /health answers "ok", / answers "hello"."""
    return images.web(docker)


@pytest.fixture(scope="session")
def registry(docker):
    """A docker-registry on loopback that asks for no credentials: lib.registry.Registry."""
    with registry_lib.Registry(docker) as r:
        yield r


@pytest.fixture(scope="session")
def private_registry(docker):
    """The same with basic authentication: .user and .password open it."""
    with registry_lib.Registry(docker, user="u1", password="pw1") as r:
        yield r


@pytest.fixture
def free_port():
    """A function that returns a TCP port nobody listens on now."""
    return proc.free_port


@pytest.fixture
def run():
    """lib.proc.run: a program to its end, with a deadline."""
    return proc.run


@contextlib.contextmanager
def home_directory():
    path = pathlib.Path(tempfile.mkdtemp(prefix="dv."))
    path.chmod(0o755)  # davitd runs under another account than the tests
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tmp_home():
    """An empty home directory with a short path (unix sockets live below it), removed afterwards."""
    with home_directory() as path:
        yield path


@pytest.fixture
def davit(bin_dir, docker, tmp_home):
    """A control plane with its state in a temporary home, not yet started: lib.davit.Davit. Everything it began ends with it."""
    d = davit_lib.Davit(bin_dir, docker, tmp_home)
    yield d
    d.close()


@pytest.fixture(scope="module")
def davit_of_file(bin_dir, docker):
    """A control plane that is up for a whole file of tests, for tests that clear away what they made (d.clear()): up and down take longer than most
    of them. One that stops it starts it again; a dead one is started for the next test by d.revive()."""
    with home_directory() as home:
        d = davit_lib.Davit(bin_dir, docker, home)
        yield d
        d.close()
