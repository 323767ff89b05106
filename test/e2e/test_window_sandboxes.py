# SPDX-License-Identifier: Apache-2.0
"""Sandboxes in the dashboard, in a real browser: made by the form, watched, typed into, stopped, started and removed."""
import pytest

from lib import images
from lib.window import Window

LOUD = images.WAITING + r"""
echo '<img src=x onerror=alert(1)>'
while :; do
    sleep 1 & wait $!
done
"""
# A shell that a TERM ends, unlike an interactive one.
READS = "/bin/busybox sh -c 'while read line; do eval \"$line\"; done'"
FAILS_ONCE = """sandbox:
  project: blog
  init:
    - {name: deps, run: 'test -e /tmp/tried || { touch /tmp/tried; echo no such package >&2; exit 7; }'}
    - {name: tools, run: 'exit 0'}
"""


@pytest.fixture(scope="module")
def window(davit_of_file):
    davit_of_file.up()
    with Window(davit_of_file) as w:
        w.first_start()
        yield w
    for s in davit_of_file.json("sandbox", "ls").get("sandboxes", []):
        davit_of_file.run("sandbox", "rm", "--force", "--volumes", s["id"], check=False)


def button(window, name):
    window.run("await page.getByRole('main').getByRole('button', {name: arg, exact: true}).first().click()", name)


def in_dialog(window, name):
    window.run("await page.getByRole('dialog').getByRole('button', {name: arg, exact: true}).click()", name)


def optional(window, label, value):
    window.run("await page.getByRole('textbox', {name: new RegExp('^' + arg[0])}).fill(arg[1])", [label, value])


def remove(window, name, typed):
    window.run("await page.getByRole('button', {name: 'More'}).click(); await page.getByRole('menuitem', {name: 'Remove sandbox'}).click()")
    deed = "return await page.getByRole('dialog').getByRole('button', {name: 'Remove sandbox'}).isEnabled()"
    assert window.run(deed) is not typed, "one that runs asks for its name"
    if typed:
        window.fill(f"Type {name} to confirm", name)
    in_dialog(window, "Remove sandbox")
    window.wait_for("return page.url().endsWith('/sandboxes')", timeout=30)


def test_a_sandbox_is_made_watched_and_removed(window, docker, busybox_image):
    window.goto("/sandboxes")
    window.sees("No sandbox yet")
    assert "davit run" in window.run("return await page.getByLabel('Command').inputValue()")
    window.harmless()
    window.goto("/identities")
    window.sees("No agent is registered")
    window.goto("/sandboxes/new")
    window.fill("Image", busybox_image)
    window.fill("Name", "Dev")
    optional(window, "Command", READS)
    optional(window, "Folder on the server", "srv")
    window.run("await page.getByText('Limits, restarts, pulling').click(); await page.getByLabel('Pull the image').selectOption('never')")
    window.run("await page.getByRole('radio', {name: /^everything/}).check()")
    window.sees("Its program will reach the whole network of that server")
    button(window, "Run")
    window.sees("an absolute path below /")
    assert window.run("return await page.evaluate(() => document.activeElement.value)") == "Dev", "the first field with a fault has the focus"
    window.run("await page.getByRole('radio', {name: /^nothing/}).check()")
    window.sees_not("Its program will reach the whole network of that server")
    window.fill("Name", "dev")
    optional(window, "Project", "shop")
    optional(window, "Folder on the server", "")
    assert "--project shop" in window.run("return await page.getByLabel('The same from a terminal').inputValue()")
    button(window, "Run")
    window.wait_for("return /sandboxes.[0-9a-f-]{36}$/.test(page.url())", timeout=60)
    window.sees("running")
    window.sees("connected")
    made, = window.davit.json("sandbox", "ls")["sandboxes"]
    assert made["trust"] == "SANDBOX_TRUST_REGISTERED" and not made.get("openNetwork") and window.url().endswith(made["id"])
    assert int(made["certificateEndsUs"]) > int(made["registeredAtUs"])
    window.sees(made["thumbprint"][:12])
    window.harmless()
    # Its own terminal; what runs there goes on when it is closed.
    window.run("await page.getByRole('tab', {name: 'Terminal'}).click(); await page.getByRole('button', {name: 'Attach', exact: true}).click()")
    screen = "return (await page.locator('.xterm-rows').innerText()).includes(arg)"
    window.run("await page.locator('.xterm-helper-textarea').focus(); await page.keyboard.type('A=4; echo x$((A * 10))y\\n')")
    window.wait_for(screen, "x40y")
    button(window, "Close")
    window.run("await page.getByLabel('Terminal of').selectOption('command'); await page.getByLabel('Command', {exact: true}).fill('/bin/busybox sh')")
    button(window, "Open")
    window.run("await page.locator('.xterm-helper-textarea').focus(); await page.keyboard.type('echo b$$c\\n')")
    window.wait_for("return /b\\d+c/.test(await page.locator('.xterm-rows').innerText())")
    button(window, "Close")
    window.run("await page.getByLabel('Terminal of').selectOption('program')")
    button(window, "Attach")
    window.run("await page.locator('.xterm-helper-textarea').focus(); await page.keyboard.type('echo z$((A + 1))z\\n')")
    window.wait_for(screen, "z5z")
    window.run("await page.getByRole('tab', {name: 'Steps'}).click()")
    for text in ("Its container was started", "Its supervisor answered", "It registered", "Its program runs"):
        window.sees(text)
    window.goto("/identities")
    row = window.wait_for("const r = page.getByRole('row').filter({hasText: 'dev'}).first(); return await r.count() ? await r.innerText() : ''")
    assert all(text in row for text in ("shop", made["containerId"][:12], made["thumbprint"][:12], "valid", "connected")), row
    window.harmless()
    window.goto(f"/sandboxes/{made['id']}")
    button(window, "Stop")
    in_dialog(window, "Stop sandbox")
    window.sees("stopped", 30)
    button(window, "Start")
    window.sees("running", 30)
    remove(window, "dev", typed=True)
    window.sees("No sandbox yet")
    assert window.davit.json("controlplane", "agents") == [] and not docker.containers("davit.purpose=sandbox")
    window.clean()


def test_what_is_withheld_says_why_everywhere_and_starts_anew(window, docker):
    image = images.script(docker, "davit-test/loud-sandbox:1", LOUD)
    steps = window.davit.home / "davit-steps.yaml"
    steps.write_text(FAILS_ONCE)
    r = window.davit.run("run", "-d", "--file", steps, "--name", "review", "--pull", "never", image, check=False)
    assert r.rc == 7 and 'step "deps" ended with status 7: no such package' in r.err
    window.goto("/")
    window.sees("Sandbox blog/review: failed")
    window.goto("/sandboxes")
    row = window.wait_for("const r = page.getByRole('row').filter({hasText: 'blog/review'}).first(); return await r.count() ? await r.innerText() : ''")
    assert "failed" in row and "step 1/2 deps" in row and "no such package" in row, row
    window.run("await page.getByRole('row').filter({hasText: 'blog/review'}).first().click()")
    window.sees("Its program is withheld: step 1 of 2, deps, failed")
    window.sees("It registered")
    window.harmless()
    button(window, "Start")
    window.sees("running", 30)
    window.run("await page.getByRole('tab', {name: 'Steps'}).click()")
    window.sees("Step 2 of 2: tools")
    window.sees_not("Its program is withheld")
    window.run("await page.getByRole('tab', {name: 'Logs'}).click()")
    window.sees("<img src=x onerror=alert(1)>")
    assert window.run("return await page.evaluate(() => document.images.length)") == 0
    # Its end is seen without doing anything.
    window.davit.run("sandbox", "stop", "blog/review")
    window.sees("stopped")
    remove(window, "review", typed=False)
    window.clean()
