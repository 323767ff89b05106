# SPDX-License-Identifier: Apache-2.0
"""browser: Debian's Chromium, driven by Playwright through test/e2e/browser/browser.mjs. Steps are Playwright's own calls in JavaScript, short
ones; what they mean is asserted here."""
import json
import os
import pathlib
import select
import shutil
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "test/e2e/browser"


def first():
    """Words before a command that has it run before its neighbours, where that is allowed: what is measured is the page, not the other tests."""
    nice = ["nice", "-n", "-10"]
    return nice if subprocess.run([*nice, "true"], capture_output=True, check=False).stderr == b"" else []


class Failed(AssertionError):
    """A step did not work; the text is Playwright's."""


class Browser:
    """with Browser() as b: b.open("http://127.0.0.1:7441"); b.goto("/servers"); b.click("button", "Add server"); b.sees("Connected")"""

    def __init__(self):
        found = subprocess.run([ROOT / "tools/npm-install", HERE], capture_output=True, text=True, check=False, timeout=400)
        assert found.returncode == 0, f"the packages of node cannot be installed: {found.stderr}"
        program = shutil.which("chromium")
        assert program, "chromium is not installed"
        env = os.environ | {"BROWSER_MODULES": found.stdout.strip(), "BROWSER_PROGRAM": program, "NODE_NO_WARNINGS": "1"}
        # pylint: disable-next=consider-using-with
        self.p = subprocess.Popen([*first(), "node", HERE / "browser.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True,
                                  bufsize=1)
        self.base = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends it with all its processes."""
        self.p.stdin.close()
        try:
            self.p.wait(10)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
        self.p.stdout.close()

    def ask(self, op, timeout=40, **args):
        """One request of the line protocol."""
        self.p.stdin.write(json.dumps({"op": op, **args}) + "\n")
        ready, _, _ = select.select([self.p.stdout], [], [], timeout)
        line = self.p.stdout.readline() if ready else ""
        if not line:
            raise Failed(f"the browser gave no answer to {op} {args} within {timeout} s")
        answer = json.loads(line)
        if "failed" in answer:
            raise Failed(f"{answer['failed']}\n--- the page ---\n{self.text() if op == 'run' else ''}")
        return answer["ok"]

    def open(self, base, width=1280, height=800, scheme="light"):
        """A fresh window without cookies."""
        self.base = base
        self.ask("open", base=base, width=width, height=height, scheme=scheme)

    def run(self, code, arg=None, timeout=40):
        """@code: the body of async (page, context, arg) => value."""
        return self.ask("run", code=code, arg=arg, timeout=timeout)

    def goto(self, path):
        """Loads it anew."""
        self.run("await page.goto(arg)", path)

    def text(self):
        """All that is to be read, for failures."""
        try:
            return self.ask("run", code="return page.url() + '\\n' + await page.locator('body').innerText()", timeout=10)[:4000]
        except (Failed, ValueError):
            return "(no page)"

    def click(self, role, name, exact=True):
        """The one element of that role and name."""
        self.run("await page.getByRole(arg[0], {name: arg[1], exact: arg[2]}).click()", [role, name, exact])

    def fill(self, label, value):
        """The field of that label."""
        self.run("await page.getByLabel(arg[0], {exact: true}).fill(arg[1])", [label, value])

    def sees(self, text, timeout=15):
        """Waits until that text (a part of an element's) is to be seen."""
        self.run("await page.getByText(arg[0]).first().waitFor({state: 'visible', timeout: arg[1]})", [text, timeout * 1000], timeout + 20)

    def sees_not(self, text):
        """It is nowhere on the page now."""
        assert self.run("return await page.getByText(arg).filter({visible: true}).count()", text) == 0, f"{text!r} is on the page\n{self.text()}"

    def wait_for(self, code, arg=None, timeout=15):
        """Until @code, the body of an async function, returns something true: that."""
        end = time.monotonic() + timeout
        while not (value := self.run(code, arg)):
            assert time.monotonic() < end, f"{code} did not become true\n{self.text()}"
            time.sleep(0.1)
        return value

    def shot(self, path, full=False):
        """A screenshot."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.ask("shot", file=str(path), full=full)

    def axe(self):
        """What the accessibility rules find: [{id, impact, help, nodes}]."""
        return self.ask("axe")

    def seen(self):
        """Errors, dialogs, violations of the policy and requests to others since the last time."""
        return self.ask("seen")
