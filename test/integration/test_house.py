# SPDX-License-Identifier: Apache-2.0
"""The house itself: the checks of the source find what they are for, and the fixtures other tests stand on work."""
import http.client
import pathlib
import shutil
import subprocess

import pytest

from lib import images, proc
from lib.engine import EngineError

ROOT = pathlib.Path(__file__).resolve().parents[2]

OFFENCES = [
    ("src/base/x.c", '#include "net/http.h"', "floor 0"),
    ("src/host/link/x.c", '#include "control/y.h"', "one floor"),
    ("src/control/x.c", '#include "host/work/y.h"', "one floor"),
    ("src/net/x.c", "#include <uv.h>", "belongs to loop"),
    ("src/docker/x.c", "#include <nghttp2/nghttp2.h>", "belongs to net"),
    ("src/net/x.c", '#include "davit/link/v1/link.pb-c.h"', "does not speak the schema"),
    ("src/net/x.c", '#include "../loop/loop.h"', "relative to src/"),
    ("src/strange/x.c", "", "no floor"),
]


@pytest.mark.parametrize("path,text,complaint", OFFENCES)
def test_floor_check_finds(tmp_path, path, text, complaint):
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/check-floors", tmp_path / "tools")
    for name in ("net/http.h", "control/y.h", "host/work/y.h", path.removeprefix("src/")):
        file = tmp_path / "src" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    assert proc.run([tmp_path / "tools/check-floors"], check=False).out.count("\n") == ("strange" in path)
    (tmp_path / path).write_text(text + "\n")
    r = proc.run([tmp_path / "tools/check-floors"], check=False)
    assert r.rc == 1 and complaint in r.out, str(r)


def test_schema_without_scope_is_refused(tmp_path):
    plugin = next((p for p in (ROOT / "build").glob("*/proto/protoc-gen-davit") if p.exists()), None)
    assert plugin, "protoc-gen-davit is not built"
    (tmp_path / "x.proto").write_text('syntax = "proto3"; package x;\nmessage M {}\nservice S { rpc Do(M) returns (M); }\n')
    r = subprocess.run(["protoc", f"--plugin=protoc-gen-davit={plugin}", f"-I{tmp_path}", f"--davit_out={tmp_path}", "x.proto"],
                       capture_output=True, text=True, timeout=30, check=False)
    assert r.returncode != 0 and "scope" in r.stderr, r.stderr


def test_web_image_serves(docker, web_image):
    made = docker.json("POST", "/containers/create", {"Image": web_image}, {"name": "davit-test-house"})
    try:
        docker.call("POST", f"/containers/{made['Id']}/start")
        address = docker.inspect(made["Id"])["NetworkSettings"]["IPAddress"]
        proc.wait_for(lambda: proc.listens(8080, address), text="httpd")
        c = http.client.HTTPConnection(address, 8080, timeout=5)
        c.request("GET", "/health")
        assert c.getresponse().read() == b"ok\n"
    finally:
        docker.remove("davit-test-house")


def test_registries_serve_and_refuse(docker, busybox_image, registry, private_registry):
    full = registry.push(busybox_image, "house/open:1")
    docker.call("POST", "/images/create", b"", query={"fromImage": full.rpartition(":")[0], "tag": "1"})
    assert docker.has_image(full)
    docker.remove_image(full)
    full = private_registry.push(busybox_image, "house/shut:1")
    with pytest.raises(EngineError):
        docker.call("POST", "/images/create", b"", query={"fromImage": full.rpartition(":")[0], "tag": "1"})
    assert not docker.has_image(full)


def test_an_image_is_what_its_test_says(docker):
    name = "davit-test/house-image:1"
    try:
        images.script(docker, name, "exit 1\n")
        first = docker.json("GET", f"/images/{name}/json")["Id"]
        images.script(docker, name, "exit 1\n")
        assert docker.json("GET", f"/images/{name}/json")["Id"] == first, "made twice"
        with pytest.raises(AssertionError, match="two images are to be called"):
            images.script(docker, name, "exit 2\n")
        images._made.clear()  # another run, whose test was changed meanwhile
        images.script(docker, name, "exit 2\n")
        assert docker.json("GET", f"/images/{name}/json")["Id"] != first
    finally:
        docker.remove_image(name)
