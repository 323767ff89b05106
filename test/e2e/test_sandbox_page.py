# SPDX-License-Identifier: Apache-2.0
"""The page doc/sandboxes.md: its commands as they stand, typed by somebody who has just typed `davit up`."""
import json
import pathlib
import re
import subprocess

import pytest

from lib import images, proc

ROOT = pathlib.Path(__file__).resolve().parents[2]
NPM = ("#!/bin/sh\n" + images.WAITING + 'echo "npm $1"\nsleep 6 & wait $!\n', 0o755)

# What a line's output must hold, and its exit code where that is not 0, by a piece of the line. Each must occur on the page.
EXPECTED = {
    "echo hello": (["hello"], 0),
    "--name box": (["box"], 0),
    "davit sandbox ls": (["SANDBOX", "box", "running", "registered", "stopped", "exit code 0"], 0),
    "wget": ([], None),
    "davit sandbox logs box": ([], 0),
    "davit sandbox stop box": (["box: stopped"], 0),
    "davit sandbox start box": (["box: running"], 0),
    "davit events": (["registered", "running", "stop"], 0),
    "rm --force": (["box: removed"], 0),
    "-it": (["made-inside"], 4),
    "npm test": (["agent"], 0),
    "attach agent": ([], 0),
}


def lines():
    text = (ROOT / "doc/sandboxes.md").read_text()
    block = re.search(r"^## Try it$.*?^```sh$\n(.*?)^```$", text, re.M | re.S).group(1)
    return [re.sub(r"\s+# .*", "", line) for line in block.splitlines() if line.strip()]


@pytest.fixture
def ready(davit, docker):
    """Up, with images under the names of the page; those that were there before stay."""
    made = {"busybox:latest": (["/bin/sh"], {}), "alpine:latest": (["/bin/sh"], {}), "node:22": (["/bin/sh"], {"bin/npm": NPM})}
    made = {name: what for name, what in made.items() if not docker.has_image(name)}
    for name, (cmd, files) in made.items():
        images.make(docker, name, cmd, files)
    davit.up()
    yield davit
    for s in davit.json("sandbox", "ls").get("sandboxes", []):
        davit.run("sandbox", "rm", "--force", "--volumes", s["id"], check=False)
    for name in made:
        docker.remove_image(name)


def test_its_commands(ready, tmp_path):
    env = ready.env | {"PATH": f"{ready.bin}:{ready.env['PATH']}"}
    tmp_path.chmod(0o755)
    met = set()
    for line in lines():
        if "-it" in line:  # on a terminal, where somebody types
            line = f"printf 'touch made-inside; ls; exit 4\\n' | script -qec {json.dumps(line)} /dev/null"
        p = subprocess.run(["bash", "-c", line], env=env, cwd=tmp_path, timeout=60, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        print(f"$ {line}\n{p.stdout}{p.stderr}[{p.returncode}]")
        piece, (words, code) = next((k, v) for k, v in EXPECTED.items() if k in line)
        met.add(piece)
        assert (p.returncode != 0) if code is None else (p.returncode == code), f"{line}: {p}"
        assert not [w for w in words if w not in p.stdout], f"{line}: {p}"
    assert met == set(EXPECTED), f"no line has {set(EXPECTED) - met}"
    assert (tmp_path / "made-inside").exists(), "the folder itself is the workspace"


def test_the_reasons_of_the_page(ready, busybox_image, tmp_path):
    """A step that failed says so as the table does, and starting it again tries it again."""
    (tmp_path / "davit.yaml").write_text("sandbox: {init: [{name: deps, run: 'test -e /tmp/x || { touch /tmp/x; echo lacking >&2; exit 7; }'}]}\n")
    r = ready.run("run", "-d", "--name", "twice", busybox_image, "/bin/busybox", "sleep", "99", cwd=tmp_path, check=False)
    assert r.rc != 0 and 'step "deps" ended with status 7: lacking' in r.err and "\\x0a" not in r.err, r
    row, = ready.json("sandbox", "ls")["sandboxes"]
    assert row["reason"] == "step_failed" and row["reason"] in (ROOT / "doc/sandboxes.md").read_text()
    event = next(json.loads(line) for line in ready.run("events", "--output", "json").out.splitlines() if '"step_failed"' in line)
    assert event["exit_code"] == 7
    assert "lacking" in ready.run("sandbox", "logs", "twice").err
    assert ready.run("sandbox", "start", "twice").out == "twice: running\n"
    proc.wait_for(lambda: ready.json("sandbox", "ls")["sandboxes"][0]["state"] == "SANDBOX_STATE_RUNNING", 10)
