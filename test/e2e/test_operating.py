# SPDX-License-Identifier: Apache-2.0
"""doc/operating.md: its commands, typed as they stand there, do what the page says."""
import pathlib
import re

import pytest

from lib import proc
from lib.remote import Remote

ROOT = pathlib.Path(__file__).resolve().parents[2]


def lines(heading, block):
    """The commands of one code block below a heading, without comments."""
    text = (ROOT / "doc/operating.md").read_text()
    section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.M | re.S).group(1)
    found = re.findall(r"^```sh$\n(.*?)^```$", section, re.M | re.S)[block]
    return [c for c in (re.sub(r"\s*#.*", "", line) for line in found.splitlines()) if c]


@pytest.fixture
def server(davit, web_image):
    davit.up()
    r = Remote(davit, "web-1")
    r.add()
    r.enroll()
    r.start()
    r.wait()
    davit.run("deploy", "--server", "web-1", "--name", "web", "--health", "/health", "--health-interval", "300ms", web_image)
    return r


def test_upgrade_then_away_then_gone_for_good(server, tmp_path):
    d = server.davit

    def typed(commands):
        for c in commands:
            words = c.split()
            assert words[0] == "davit", c
            yield c, d.run(*words[1:], cwd=tmp_path, timeout=90).out

    mine = {s["id"] for s in d.json("server", "ls")["servers"]}  # others left theirs on this engine

    def containers():
        return [c for c in d.engine.containers("davit.service=web") if c["Labels"].get("davit.server") in mine]

    def container():
        found = containers()
        assert len(found) == 1
        return d.engine.inspect(found[0]["Id"])["State"]["StartedAt"]

    began = container()
    said = dict(typed(lines("Upgrading", 0)))
    assert (tmp_path / "before-upgrade.backup").stat().st_mode & 0o777 == 0o600
    assert "AGENT" in said["davit server ls"] and "web-1" in said["davit server ls"]
    assert container() == began

    for command, _ in typed(lines("A control plane that is down", 0)):
        assert container() == began, command
    server.wait(timeout=60)

    for command, out in typed(lines("A control plane that is down", 1)):
        if command == "davit rm web":
            proc.wait_for(lambda: not containers(), 20, text="end of the service")
    assert "everything it made here is removed" in out
    server.p.stop()
