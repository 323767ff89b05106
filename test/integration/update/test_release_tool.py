# SPDX-License-Identifier: Apache-2.0
"""tools/release: what it packs is the same every time, is what davitd and agents read, and is refused by it when a byte changed; and agents are built for
both machines."""
import hashlib
import json
import os
import pathlib
import subprocess
import tarfile

import pytest

from lib import proc, release
from lib.daemon import BIN, BUILD

ROOT = pathlib.Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools/release"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys") / "k"
    proc.run([TOOL, "keygen", folder])
    return folder


def pack(out, programs, keys, **env):
    return proc.run([TOOL, "pack", out, "--programs", f"linux-amd64={programs}", "--programs", f"linux-arm64={programs}", "--keys",
                     keys / "release-keys", "--counter", "3", "--version", "0.2.0", "--min-from", "0.1.0"],
                    env=os.environ | {"SOURCE_DATE_EPOCH": "1790000000"} | env)


@pytest.fixture
def programs(tmp_path):
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("davit", "davitd", "davit-agent"):
        (folder / name).write_text(name)
    (folder / "unknown").write_text("is left out")
    return folder


def test_keys_are_made_once_and_kept_private(keys):
    assert sorted(p.name for p in keys.iterdir()) == ["release-1.key", "release-2.key", "release-3.key", "release-keys"]
    assert all(p.stat().st_mode & 0o077 == 0 for p in keys.glob("*.key"))
    again = proc.run([TOOL, "keygen", keys], check=False)
    assert again.rc == 1 and "never replaced" in again.err
    assert len(release.tool.read_keys(ROOT / "dist/release-keys")) in (0, 3)


def test_the_same_bytes_every_time(tmp_path, programs, keys):
    for out in ("a", "b"):
        pack(tmp_path / out, programs, keys)
        os.utime(programs / "davit", (1, 1))
    listing = {out: {p.name: p.read_bytes() for p in (tmp_path / out).iterdir()} for out in ("a", "b")}
    assert listing["a"] == listing["b"]
    for line in listing["a"]["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(listing["a"][name]).hexdigest() == digest
    assert {"release.json", "davit-0.2.0-linux-amd64.tar", "davit-0.2.0-linux-arm64.tar", "SHA256SUMS"} <= listing["a"].keys()


def test_an_archive_is_one_directory_with_its_manifest(tmp_path, programs, keys):
    pack(tmp_path / "r", programs, keys)
    with tarfile.open(tmp_path / "r/davit-0.2.0-linux-amd64.tar") as tar:
        top = "davit-0.2.0-linux-amd64"
        assert tar.getnames() == [top, f"{top}/MANIFEST", f"{top}/davit", f"{top}/davit-agent", f"{top}/davitd"]
        assert all((m.uid, m.gid, m.mtime, m.uname) == (0, 0, 1790000000, "") and (m.isreg() or m.isdir()) for m in tar)
        rows = [line.split("  ") for line in tar.extractfile(f"{top}/MANIFEST").read().decode().splitlines()]
        assert rows == [[hashlib.sha256(tar.extractfile(f"{top}/{n}").read()).hexdigest(), "0755", n] for n in ("davit", "davit-agent", "davitd")]


@pytest.mark.req("CL-79")
def test_two_of_three_and_not_a_byte_changed(tmp_path, programs, keys):
    out = tmp_path / "r"
    pack(out, programs, keys)

    def verify(check=True):
        return proc.run([TOOL, "verify", out, "--keys", keys / "release-keys"], check=check)

    def sign(*numbers):
        proc.run([TOOL, "sign", out, *(w for n in numbers for w in ("--key", keys / f"release-{n}.key"))])

    assert "needed" in verify(check=False).err
    sign(3)
    assert "signed by 1" in verify(check=False).err
    sign(3)
    assert "signed by 1" in verify(check=False).err
    sign(1)  # beside the one before
    assert "0.2.0 (stable), counter 3: linux-amd64, linux-arm64" in verify().out
    assert verify(check=False).rc == 0
    for name in ("release.json", "davit-0.2.0-linux-arm64.tar"):
        before = (out / name).read_bytes()
        (out / name).write_bytes(before.replace(b"0.2.0", b"0.3.0", 1))
        assert verify(check=False).rc == 1, name
        (out / name).write_bytes(before)
    assert verify().rc == 0


def test_wrong_keys_are_named(tmp_path, programs):
    for text, said in (("00\n", "64 hex"), ("ab" * 32 + "\n", "1 keys"), (("ab" * 32 + "\n") * 3, "different")):
        (tmp_path / "release-keys").write_text(text)
        got = proc.run([TOOL, "embed", tmp_path / "release-keys", tmp_path / "out.c"], check=False)
        assert got.rc == 1 and said in got.err
    assert not (tmp_path / "out.c").exists()


# --- Both machines -------------------------------------------------------------------------------------------------------------
def machine(path):
    return next(line.split(":")[1].strip() for line in proc.run(["readelf", "-h", path]).out.splitlines() if "Machine:" in line)


@pytest.mark.req("CL-83")
def test_agents_for_amd64_and_arm64(tmp_path):
    """The arm64 one is built from the tree by Debian's cross compiler and runs in QEMU: so its fibers, for which it has code of its own, do too."""
    amd64 = BIN / "davit-agent"
    assert "X86-64" in machine(amd64) and proc.run([amd64, "--version"]).out == f"davit-agent {release.VERSION}\n"
    tree = BUILD / "arm64"
    if not (tree / "build.ninja").exists():
        options = proc.run([ROOT / "tools/cross/setup", "arm64"], timeout=200).out.split()
        proc.run(["meson", "setup", tree, ROOT, "--buildtype=release", "-Doptimization=0", "-Dtests=enabled", "-Dpg=disabled", *options], timeout=200)
    proc.run(["ninja", "-C", tree, "-j2", "src/main/davit-agent", "test_fiber"], timeout=900)
    agent = tree / "src/main/davit-agent"
    assert machine(agent) == "AArch64"
    assert "INTERP" not in proc.run(["readelf", "-lW", agent]).out  # static: it needs nothing of the server
    assert proc.run(["qemu-aarch64-static", agent, "--version"]).out == f"davit-agent {release.VERSION}\n"
    report = proc.run(["qemu-aarch64-static", agent, "doctor", "--json", "--config-dir", tmp_path], check=False,
                      env=os.environ | {"DOCKER_HOST": "unix:///nonexistent"})
    assert len(json.loads(report.out)["checks"]) >= 9
    fibers = subprocess.run(["meson", "test", "-C", tree, "--no-rebuild", "fiber"], capture_output=True, text=True, timeout=120, check=False)
    assert fibers.returncode == 0, fibers.stdout
    release.make(tmp_path / "r", "0.1.1", {"linux-amd64": {"davit-agent": amd64}, "linux-arm64": {"davit-agent": agent}}, scratch=tmp_path)
    assert proc.run([TOOL, "verify", tmp_path / "r", "--keys", release.PUBLIC]).out.endswith("linux-amd64, linux-arm64\n")
