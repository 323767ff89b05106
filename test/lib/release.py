# SPDX-License-Identifier: Apache-2.0
"""release: releases for tests, signed with keys that everybody knows. The programs in <build>/test/integration/update/ are those of the tree but for
the keys that they believe, which are these; no option of a shipped program makes it believe them."""
import hashlib
import importlib.machinery
import importlib.util
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLIC = ROOT / "test/lib/release-keys"
VERSION = "0.1.0"

_loader = importlib.machinery.SourceFileLoader("davit_release", str(ROOT / "tools/release"))
_spec = importlib.util.spec_from_loader("davit_release", _loader)
tool = importlib.util.module_from_spec(_spec)
_loader.exec_module(tool)


def key_pem(number):
    """PKCS#8 of test key 1, 2 or 3; other numbers are strangers."""
    seed = hashlib.sha256(f"davit test release key {number}".encode()).digest()
    der = bytes.fromhex("302e020100300506032b657004220420") + seed
    return subprocess.run(["openssl", "pkey", "-inform", "DER"], input=der, capture_output=True, check=True).stdout


def key_file(directory, number):
    path = pathlib.Path(directory) / f"test-release-{number}.key"
    if not path.exists():
        path.write_bytes(key_pem(number))
    return str(path)


def make(out, version, programs, *, keys=(1, 2), counter=None, scratch=None, **more):
    """A signed release in @out. programs: {"linux-amd64": {"davit-agent": path, ...}}; more: min_from, created, days, channel. Returns its metadata.
    scratch: where the key files go (default: beside @out)."""
    out = pathlib.Path(out)
    counter = counter if counter is not None else int(time.time())
    metadata = tool.make(str(out), version, programs, tool.read_keys(PUBLIC), counter=counter, **more)
    sign(out, keys, scratch)
    return metadata


def sign(out, keys, scratch=None):
    out = pathlib.Path(out)
    (out / "release.sig").unlink(missing_ok=True)
    lines = []
    for number in keys:
        path = key_file(scratch or out.parent, number)
        signature = tool.run("openssl", "pkeyutl", "-sign", "-rawin", "-inkey", path, "-in", str(out / "release.json"))
        lines.append(f"{tool.key_id(tool.public_of(path))} {signature.hex()}\n")
    (out / "release.sig").write_text("".join(sorted(lines)))


def other_version(program, to, version):
    """A copy of @program that says that it is @version, which is as long as the present one: for tests that need two versions of one build."""
    assert len(version) == len(VERSION)
    body = pathlib.Path(program).read_bytes()
    for before, behind in ((b"\0", b"\0"), (b"davit-agent ", b"\0"), (b"davitd ", b"\n"), (b"davit/", b"\0")):
        body = body.replace(before + VERSION.encode() + behind, before + version.encode() + behind)
    to = pathlib.Path(to)
    to.write_bytes(body)
    to.chmod(0o755)
    return to
