# SPDX-License-Identifier: Apache-2.0
"""The tour of README.md, typed line by line as a new user would after ./quickstart."""
import pathlib
import re

import pytest

from lib import images, proc

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGE = "davit-quickstart/web:1"
PATH_LINE = "export PATH=$PWD/build/release/src/main:$PATH"
PORT = "8081"

# What a line's output must hold, by a piece of the line. Each must occur in the tour.
EXPECTED = {
    "davit status": ["davitd", "running", "1 online"],
    "davit server ls": ["NAME", "online"],
    "--name hello": ["default/hello is active"],
    "curl -s": ["hello"],
    "davit logs hello": ["ready"],
    "davit stats": ["CPU", "MEMORY"],
    "davit stop hello": ["default/hello: stopped"],
    "davit start hello": ["default/hello: started"],
    "davit restart hello": ["default/hello: restarted"],
    "davit ps --project tour": ["tour/web", "tour/peer", "active"],
    "davit deployments": ["default/hello", "tour/web"],
    "davit run --rm": ["hello"],
    "davit run -d": ["box"],
    "davit sandbox ls": ["box", "running", "registered"],
    "davit sandbox rm": ["box: removed"],
    "davit dashboard": ["/setup#"],
    "davit up --advertise": ["Davit is up"],
    "davit server add web-1": ["davit1.", "davit-agent enroll"],
    "davit server show web-1": ["pending", "local"],
    "davit server rm web-1": ["forgotten"],
    "davit rm hello": ["default/hello: removed"],
    "davit rm tour/peer": ["tour/peer: removed"],
    "--output json": ['"default"'],
    "davit down": ["Davit is down"],
}


def tour():
    """The lines of the one code block under "A tour", comments taken off."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"^## A tour$.*?^```sh$\n(.*?)^```$", text, re.M | re.S).group(1)
    return [re.sub(r"\s+# .*", "", line) for line in block.splitlines() if line.strip()]


@pytest.fixture
def web(docker):
    """The image that ./quickstart makes, under its name; an image of that name which was there before stays."""
    there = docker.has_image(IMAGE)
    yield images.web(docker, name=IMAGE)
    if not there:
        docker.remove_image(IMAGE)


@pytest.fixture
def after_quickstart(web, davit):
    """A Davit as ./quickstart leaves it: up, with the service web."""
    davit.up()
    davit.run("deploy", "--name", "web", "--publish", f"{proc.free_port()}:8080", "--health", "8080/health", web)
    return davit


@pytest.mark.req("MA-1")
def test_tour(after_quickstart, free_port):
    d, lines = after_quickstart, tour()
    assert lines[0] == PATH_LINE
    env = d.env | {"PATH": f"{d.bin}:{d.env['PATH']}"}
    port = str(free_port())
    met = set()
    said = ""
    for line in lines[1:]:
        r = proc.run(["bash", "-c", line.replace(PORT, port)], env=env, cwd=ROOT, timeout=120)
        said += str(r)
        for piece in (p for p in EXPECTED if p in line):
            met.add(piece)
            missing = [w for w in EXPECTED[piece] if w not in r.out]
            assert not missing, f"{missing} is missing\n{r}"
    assert met == set(EXPECTED), f"no line of the tour has {set(EXPECTED) - met}"
    assert said.count("is active and unchanged") == 2, said


def test_exit_statuses_of_the_page(bin_dir):
    """doc/cli.md has the table that the program has."""
    man = proc.run([bin_dir / "davit", "man"]).out.partition(".SH EXIT STATUS")[2]
    program = {name: status for status, name in re.findall(r"^\.TP\n(\d+)\n(\w+)$", man, re.M)}
    text = (ROOT / "doc/cli.md").read_text()
    page = {name: status for status, names in re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.M) for name in re.findall(r"`(\w+)`", names)}
    assert program and page == program


def test_everything_that_the_readme_names_is_there():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
    assert len(tour()) <= 30


@pytest.mark.parametrize("page", sorted(p.name for p in (ROOT / "doc").glob("*.md")))
def test_links_of_a_page(page):
    path = ROOT / "doc" / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{page} -> {target}"
