# SPDX-License-Identifier: Apache-2.0
"""runtime: the programs that go into sandboxes. They run in images that have no C library, so they must be static, which programs with sanitizers
cannot be: tests of a sanitizer tree put those of the release tree beside it into their containers. Under sanitizers davit-session is tested by itself,
in test/integration/session."""
import functools
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan")).resolve()


def is_static(program):
    """No interpreter is asked for: there is no PT_INTERP in its program headers."""
    data = program.read_bytes()
    at, size, n = int.from_bytes(data[32:40], "little"), int.from_bytes(data[54:56], "little"), int.from_bytes(data[56:58], "little")
    return all(int.from_bytes(data[at + i * size:at + i * size + 4], "little") != 3 for i in range(n))


@functools.cache
def find():
    places = [p for p in (BUILD / "src/main", BUILD.parent / "release/src/main") if (p / "davit-session").exists() and is_static(p / "davit-session")]
    return str(places[0]) if places else None


def directory():
    """The one for --runtime-dir."""
    assert find(), "no static davit-session: build the release tree beside the sanitizer tree"
    return find()


def env():
    """For an agent that is started by others."""
    return {"DAVIT_RUNTIME_DIR": find()} if find() else {}
