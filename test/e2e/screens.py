# SPDX-License-Identifier: Apache-2.0
"""Screenshots of each page of the dashboard, in light, dark and on a phone, into build/screens/: make screens.
It is no test_*.py: ./check does not look at pictures. It makes the picture at the top of README as well, doc/images/overview.png."""
import os
import pathlib
import shutil

import pytest

from lib import images
from lib.remote import Remote
from lib.window import Window

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "build/screens"
WEB = images.WAITING + r"""
i=0
while :; do
    i=$((i + 1))
    echo "GET /orders/$((4100 + i)) 200 ${i}ms"
    [ $((i % 7)) != 0 ] || echo "cache miss for order $((4100 + i))" >&2
    sleep 0.3
done & wait $!
"""
PAGES = {"overview": "/", "servers": "/servers", "server": "/servers/edge-1", "services": "/services", "service": "/services/shop/web",
         "service-metrics": "/services/shop/web?tab=metrics", "service-variables": "/services/shop/web?tab=variables",
         "service-files": "/services/shop/web?tab=files", "service-terminal": "/services/shop/web?tab=terminal", "registries": "/settings?tab=registries",
         "deploy": "/deploy", "sandboxes": "/sandboxes", "identities": "/identities", "sandbox-new": "/sandboxes/new", "events": "/events", "settings": "/settings", "tokens": "/settings?tab=tokens", "ui": "/ui"}


@pytest.fixture
def lived_in(davit, docker):
    """A Davit as it looks after a while: servers of each state, services that run and one that failed."""
    davit.up()
    image = images.script(docker, "davit-test/orders:1.4", WEB)
    for name, service in (("shop", "web"), ("shop", "worker"), ("blog", "web")):
        davit.run("deploy", "--project", name, "--name", service, "--pull", "never", image, timeout=90)
    davit.run("deploy", "--project", "blog", "--name", "search", "--pull", "never", "davit-test/search:9", check=False, timeout=90)
    edge = Remote(davit, "edge-1")
    edge.add()
    edge.enroll()
    edge.start()
    edge.wait()
    away = Remote(davit, "garage")
    away.add()
    away.enroll()
    away.start()
    away.wait()
    away.p.stop()
    away.wait("SERVER_STATE_OFFLINE", 90)
    davit.json("server", "add", "attic")
    davit.json("token", "add", "backup-job", "--scope", "read")
    davit.run("env", "set", "--project", "shop", "web", "LEVEL=info")
    davit.run("env", "set", "--project", "shop", "web", "--secret", "--file", "stripe-key", "STRIPE_KEY=-", stdin="sk_live_1234")
    yield sandboxes(davit, image)
    for s in davit.json("sandbox", "ls").get("sandboxes", []):
        davit.run("sandbox", "rm", "--force", "--volumes", s["id"], check=False)


def sandboxes(davit, image):
    """One that is at work, one that ended, and one whose step failed."""
    steps = davit.home / "steps.yaml"
    steps.write_text("sandbox:\n  project: shop\n  init:\n    - {name: deps, run: 'echo added 412 packages'}\n    - {name: tools, run: 'exit 0'}\n")
    fails = davit.home / "fails.yaml"
    fails.write_text("sandbox:\n  project: blog\n  init:\n    - {name: deps, run: 'echo npm: no such package >&2; exit 7'}\n")
    davit.run("run", "-d", "--file", steps, "--name", "agent", "--pull", "never", "-it", image, "/bin/busybox", "sh", "-c",
              "PS1='$ ' exec /bin/busybox sh", timeout=90)
    davit.run("run", "-d", "--file", fails, "--name", "review", "--pull", "never", image, check=False, timeout=90)
    davit.run("run", "--name", "once", "--pull", "never", image, "/bin/busybox", "sh", "-c", "echo done; exit 3", check=False, timeout=90)
    davit.run("run", "-d", "--network", "open", "--name", "scraper", "--pull", "never", image, "/bin/busybox", "sleep", "3600", timeout=90)
    return davit


def look(window, name, path, **size):
    window.fresh(**size)
    window.goto(path)
    window.run("await page.getByRole('main').waitFor(); await page.waitForTimeout(arg)", 9000 if "metrics" in path or name == "server" else 1500)
    window.shot(OUT / f"{name}.png")


def with_sandboxes(davit):
    """PAGES, and those of single sandboxes, whose addresses have their ids."""
    ids = {s["name"]: s["id"] for s in davit.json("sandbox", "ls")["sandboxes"]}
    return PAGES | {"sandbox": f"/sandboxes/{ids['agent']}", "sandbox-failed": f"/sandboxes/{ids['review']}",
                    "sandbox-steps": f"/sandboxes/{ids['agent']}?tab=steps", "sandbox-terminal": f"/sandboxes/{ids['agent']}?tab=terminal"}


def test_screens(lived_in):
    pages = with_sandboxes(lived_in)
    shutil.rmtree(OUT, ignore_errors=True)
    with Window(lived_in) as window:
        window.fresh(logged_in=False)
        window.run("await page.goto(arg)", window.setup_link())
        window.shot(OUT / "setup.light.png")
        window.first_start()
        for scheme in ("light", "dark"):
            for name, path in pages.items():
                look(window, f"{name}.{scheme}", path, scheme=scheme)
        for name, path in pages.items():
            look(window, f"{name}.phone", path, width=390, height=844)
        window.fresh(logged_in=False)
        window.goto("/login")
        window.shot(OUT / "login.light.png")
    if os.environ.get("DAVIT_README_PICTURE"):
        target = ROOT / "doc/images/overview.png"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(OUT / "overview.light.png", target)
    print(f"{len(list(OUT.iterdir()))} pictures in {OUT}")

