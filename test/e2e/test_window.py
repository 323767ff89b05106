# SPDX-License-Identifier: Apache-2.0
"""The dashboard, in a real browser against a real control plane, agent and engine."""
import contextlib
import pathlib
import re
import shutil
import tempfile

import pytest

from lib import davit as davit_lib
from lib import images, proc
from lib.remote import Remote
from lib.window import OWNER, PASSWORD, Window

INERT = "<img src=x onerror=alert(1)>"
# A terminal's orders, text that runs backwards, a script, and a line that is no text at all.
LOUD = images.WAITING + r"""
i=0
while :; do
    i=$((i + 1))
    echo '<script>alert(1)</script>'
    printf '%s\n' '<img src=x onerror=alert(2)>'
    printf '\033]0;title\007\033[31mred\033[0m \342\200\256gnikcab \377\376\n'
    echo "line $i of many"
    echo "complaint $i" >&2
    sleep 0.5
done & wait $!
"""


@contextlib.contextmanager
def a_davit(bin_dir, docker):
    """One control plane for all tests here: what they look at is what others did before as well."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="dv."))
    home.chmod(0o755)
    d = davit_lib.Davit(bin_dir, docker, home)
    try:
        d.first = d.up()
        d.davitd_again("--heartbeat-interval", "1s", "--offline-after", "4s")
        yield d
    finally:
        d.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def window(bin_dir, docker):
    with a_davit(bin_dir, docker) as davit, Window(davit) as w:
        w.first_start(next(word for word in davit.first.out.split() if "/setup#" in word))
        yield w


def fill_deploy(window, image, name):
    """The form of a deployment on this machine, sent."""
    local, = (s["name"] for s in window.davit.json("server", "ls")["servers"] if s.get("local"))
    window.goto("/deploy")
    window.fill("Image", image)
    window.fill("Name", name)
    window.run("await page.getByLabel('Server', {exact: true}).selectOption(arg)", local)
    window.run("await page.getByLabel('Pull the image').selectOption('never')")
    window.run("await page.getByRole('main').getByRole('button', {name: 'Deploy', exact: true}).click()")


@pytest.fixture(scope="module")
def service(window, docker):
    """Service default/loud on this machine, deployed from the page."""
    image = images.script(docker, "davit-test/loud:1", LOUD)
    window.fresh()
    fill_deploy(window, image, "loud")
    window.wait_for("return page.url().includes('/deployments/')")
    window.sees("It runs", 40)
    window.clean()
    return "loud"


# --- Coming in -----------------------------------------------------------------------------------------------------------------
@pytest.mark.req("PE-1")
def test_the_first_link_works_once_and_nothing_else_does(window):
    assert OWNER in window.run("return await page.locator('body').innerText()").lower() or window.url().endswith("/")
    used = next(word for word in window.davit.first.out.split() if "/setup#" in word)
    window.fresh(logged_in=False)
    window.run("await page.goto(arg)", used)
    assert "#" not in window.url(), "the secret is still in the address"
    window.fill("Password", "another long pass phrase")
    window.fill("Password again", "another long pass phrase")
    window.click("button", "Set the password")
    window.run("await page.getByRole('alert').first().waitFor()")
    window.goto("/setup")
    window.sees("Log in")
    assert window.run("return await page.getByLabel('Password again').count()") == 0
    for path in ("/", "/servers", "/settings"):
        window.goto(path)
        window.sees("Log in")
    window.goto("/login?next=%2Fservers")
    window.fill("Name", OWNER)
    window.fill("Password", "a wrong pass phrase")
    window.click("button", "Log in")
    window.run("await page.getByRole('alert').first().waitFor()")
    window.log_in(PASSWORD)
    window.wait_for("return page.url().endsWith('/servers')")
    assert window.run("return await page.locator('.boot').count()") == 0, "what stood there before the page did"
    cookie, = window.run("return await context.cookies()")
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert window.run("return await page.evaluate(() => document.cookie)") == ""


@pytest.mark.all_tier
def test_a_new_password_renames_nobody(window):
    link = window.setup_link("--reset")
    window.fresh(logged_in=False)
    window.run("await page.goto(arg)", link)
    assert window.run("await page.getByLabel('Password again').waitFor(); return await page.getByLabel('Name', {exact: true}).count()") == 0
    window.fill("Password", PASSWORD)
    window.fill("Password again", PASSWORD)
    window.click("button", "Set the password")
    window.run("await page.getByRole('navigation').first().waitFor()")
    window.fresh()
    window.clean()


@pytest.mark.req("PE-6")
def test_an_api_token_is_shown_once_and_works_until_it_is_revoked(window):
    window.fresh()
    window.goto("/settings?tab=tokens")
    window.run("await page.getByRole('button', {name: 'New token'}).first().click()")
    window.fill("Name", "backup-job")
    window.click("button", "Create the token")
    secret = window.wait_for("const t = await page.evaluate(() => [...document.querySelectorAll('input,code,output')]"
                             ".map((e) => e.value ?? e.textContent).find((t) => /^davit_/.test(t))); return t || ''")
    window.click("button", "I have it")
    window.sees("backup-job")
    window.goto("/settings?tab=tokens")
    window.sees("backup-job")
    window.sees_not(secret)

    def ask():
        return proc.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"authorization: Bearer {secret}", "-H", "content-type: application/json",
                         "-d", "{}", f"{window.base}/davit.control.v1.ServerService/ListServers"]).out

    assert ask() == "200"
    window.click("button", "Revoke backup-job")
    window.run("await page.getByRole('dialog').getByRole('button', {name: /Revoke/}).click()")
    proc.wait_for(lambda: ask() == "401", text="the token is revoked")
    window.clean()


# --- Servers -------------------------------------------------------------------------------------------------------------------
def add_server(window, name):
    """Through the dialog; the install command."""
    window.goto("/servers")
    window.run("await page.getByRole('button', {name: 'Add server'}).first().click()")
    window.fill("Name", name)
    window.run("await page.getByRole('dialog').getByRole('button', {name: 'Add server'}).click()")
    window.sees("Waiting for the server")
    return command(window)


def command(window):
    return window.wait_for("const t = await page.evaluate(() => [...document.querySelectorAll('input,code,output,pre')]"
                           ".map((e) => e.value ?? e.textContent).find((t) => t.includes('davit1.'))); return t || ''")


CLOSE = "await page.locator('dialog footer').getByRole('button', {name: 'Close'}).click()"


def token_in(text):
    return next(word for word in text.replace("'", " ").replace('"', " ").replace("=", " ").split() if word.startswith("davit1."))


@pytest.mark.req("PE-12", "PE-20", "PE-19")
def test_a_server_is_added_and_turns_to_connected_by_itself(window):
    window.fresh()
    line = add_server(window, "web-1")
    assert "install.sh" in line or "davit-agent" in line, line
    remote = Remote(window.davit, "web-1")
    remote.token = token_in(line)
    pending = window.davit.json("server", "show", "web-1")["server"]
    assert pending["state"] == "SERVER_STATE_PENDING"
    # What a stranger's try with a bad token leaves: the server waits on, and a new token voids the one that was shown.
    assert remote.enroll(token=remote.token[:-3] + "aaa", check=False).rc != 0
    window.run(CLOSE)
    window.wait_for("return page.url().endsWith('/servers')")
    assert "pending" in window.row("web-1").lower()
    window.goto("/servers/web-1")
    window.run("await page.getByRole('button', {name: 'Generate new token'}).first().click()")
    window.run("await page.getByRole('dialog').getByRole('button', {name: 'Generate new token'}).click()")
    fresh = token_in(command(window))
    assert fresh != remote.token
    assert remote.enroll(check=False).rc != 0, "the old token is void"
    window.sees("Waiting for the server")
    remote.enroll(token=fresh)
    remote.start()
    window.sees("Connected", 30)
    window.run(CLOSE)
    window.sees_not(fresh)
    window.goto("/servers/web-1")
    window.sees_not(fresh)
    info = window.davit.json("server", "show", "web-1")["server"]
    for text in ("Online", info["system"]["hostname"], info["system"]["kernel"], info["agentVersion"]):
        window.run("await page.getByText(arg).first().waitFor()", text)
    window.goto("/servers")
    proc.wait_for(lambda: "online" in window.row("web-1").lower(), text="online in the list")
    # Nobody touches the pages from here on: they change by themselves.
    remote.p.stop()
    proc.wait_for(lambda: "offline" in window.row("web-1").lower(), 30, text="offline in the list")
    assert "ago" in window.row("web-1"), "its last heartbeat"
    window.goto("/servers/web-1")
    for text in ("Last heartbeat", "Update status"):
        window.sees(text)
    says = "await page.getByRole('main').getByText(new RegExp('^' + arg + '$', 'i')).first().waitFor({timeout: 30000})"
    window.run(says, "offline", timeout=40)
    remote.start()
    window.run(says, "online", timeout=40)
    window.goto("/servers")
    proc.wait_for(lambda: "online" in window.row("web-1").lower(), text="online in the list again")
    window.clean()


# --- Services ------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("PE-12")
def test_a_failed_deployment_shows_its_steps_and_the_reason(window):
    window.fresh()
    fill_deploy(window, "davit-test/there-is-none:1", "none")
    window.sees("Failed", 30)
    steps = window.run("return await page.getByRole('list', {name: 'Steps of the deployment'}).innerText()")
    assert "image" in steps.lower() or "pull" in steps.lower(), steps
    window.clean()


def test_a_service_is_watched_stopped_and_started(window, service):
    window.fresh()
    window.goto("/services")
    proc.wait_for(lambda: "loud" in window.row(service), text="the service in the list")
    window.goto(f"/services/default/{service}")
    window.sees("line ")
    window.click("button", "Stop")
    window.run("await page.getByRole('dialog').getByRole('button', {name: /Stop/}).click()")
    window.run("await page.getByRole('button', {name: 'Start', exact: true}).waitFor({timeout: 30000})", timeout=40)
    window.click("button", "Start")
    window.run("await page.getByRole('button', {name: 'Restart', exact: true}).waitFor({timeout: 30000})", timeout=40)
    window.clean()


@pytest.mark.req("PE-13")
def test_hostile_text_stays_text(window, service):
    window.davit.run("server", "add", "odd-1")
    odd = Remote(window.davit, "odd-1", prefix=("unshare", "-u", "sh", "-c", f'printf "%s" "{INERT[:60]}" >/proc/sys/kernel/hostname; exec "$@"', "_"))
    odd.token = window.davit.json("server", "token", "odd-1")["token"]
    odd.enroll()
    odd.start()
    odd.wait()
    assert odd.show()["system"]["hostname"] == INERT
    window.davit.json("token", "add", "odd", "--scope", "read")
    window.fresh()
    for path in ("/servers/odd-1", "/servers", "/", f"/services/default/{service}", "/services", "/settings"):
        window.goto(path)
        window.run("await page.getByRole('main').waitFor()")
    window.goto("/servers/odd-1")
    window.sees(INERT)
    window.goto(f"/services/default/{service}")
    window.sees("<script>alert(1)</script>")
    window.sees("<img src=x onerror=alert(2)>")
    window.goto("/services/default/" + "%3Cimg%20src%3Dx%20onerror%3Dalert(3)%3E")
    window.run("await page.getByRole('main').waitFor()")
    assert window.run("return await page.evaluate(() => document.images.length + document.querySelectorAll('script:not([src])').length)") == 0
    odd.p.stop()
    window.clean()


def test_what_others_pages_may_not_do(window):
    """The page in a frame stays empty, and a form of another origin changes nothing."""
    window.fresh()
    window.run("""await page.route('http://other.test/', (route) => route.fulfill({contentType: 'text/html', body: `<iframe src="${arg}/"></iframe>`}));
        await page.goto('http://other.test/'); await page.waitForTimeout(500)""", window.base)
    assert window.run("return page.frames().slice(1).map((f) => f.url())") == ["chrome-error://chromewebdata/"]
    window.seen()


# --- Budgets and looks ---------------------------------------------------------------------------------------------------------
@pytest.mark.req("PE-17")
def test_the_page_is_small_and_quick(window):
    window.fresh()
    paint = 1e9
    for _ in range(12):  # the best of them: other tests run beside this one
        window.run("await page.goto('about:blank'); await page.goto('/')")
        window.run("await page.getByRole('main').waitFor()")
        paint = min(paint, window.run("return await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 1e9)"))
        if paint <= 1000:
            break

    def fetch(path, *how):
        return proc.run(["curl", "-s", *how, f"{window.base}{path}"]).out

    # All that there is, also what is fetched later.
    named = re.compile(r"[\w.-]+-[\w-]{8}\.(?:js|css)")
    paths = {f"/assets/{name}" for name in named.findall(fetch("/"))}
    for path in list(paths):
        paths |= {f"/assets/{name}" for name in named.findall(fetch(path))}
    everything = sum(int(fetch(path, "-o", "/dev/null", "-w", "%{size_download}", "-H", "accept-encoding: gzip")) for path in paths)
    print(f"first paint {paint:.0f} ms, {everything / 1024:.1f} KiB gzipped in {len(paths)} files")
    assert len(paths) >= 3 and everything <= 250 * 1024
    assert paint <= 1000


PAGES = ["/", "/servers", "/services", "/services/default/loud", *(f"/services/default/loud?tab={tab}" for tab in ("variables", "files", "terminal")),
         "/servers/web-1", "/deploy", "/sandboxes", "/sandboxes/new", "/identities", "/events", "/settings",
         *(f"/settings?tab={tab}" for tab in ("tokens", "registries", "password")), "/ui"]


@pytest.mark.all_tier
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_shuts_anybody_out(window, service, scheme):
    assert service
    window.fresh(logged_in=False, scheme=scheme)
    window.goto("/login")
    window.harmless()
    window.log_in(PASSWORD)
    for path in PAGES:
        window.goto(path)
        window.run("await page.getByRole('main').waitFor(); await page.waitForTimeout(300)")
        window.harmless()


@pytest.mark.all_tier
def test_a_phone_is_wide_enough(window, service):
    assert service
    window.fresh(width=390, height=844)
    for path in PAGES:
        window.goto(path)
        window.run("await page.getByRole('main').waitFor(); await page.waitForTimeout(200)")
        wide = window.run("return await page.evaluate(() => document.documentElement.scrollWidth)")
        assert wide <= 390, f"{path} is {wide} wide"


# --- What is in a service ------------------------------------------------------------------------------------------------------
def test_variables_are_set_masked_and_revealed(window, service):
    window.fresh()
    window.goto(f"/services/default/{service}?tab=variables")
    window.sees("No variables")
    window.click("button", "Add")
    window.fill("Name", "API_KEY")
    window.run("await page.getByRole('dialog').getByLabel('Value').fill(arg)", "canary-4711")
    window.click("button", "Save")
    window.sees("API_KEY")
    window.sees_not("canary-4711")
    window.click("button", "Paste")
    window.run("await page.getByRole('dialog').getByLabel('Lines').fill(arg)", "LEVEL=info\nno line\n")
    window.click("button", "Set them")
    window.sees("Nothing was set")
    window.run("await page.getByRole('dialog').getByLabel('Lines').fill(arg)", "# comment\nLEVEL=info\n")
    window.run("await page.getByLabel('They are secrets').uncheck()")
    window.click("button", "Set them")
    window.wait_for("return (await page.getByRole('row').filter({hasText: 'LEVEL'}).innerText()).includes('info')")
    window.click("button", "Reveal")
    window.wait_for("return await page.getByRole('dialog').getByLabel('API_KEY').inputValue() === 'canary-4711'")
    window.run("await page.getByRole('dialog').getByRole('button', {name: 'Close'}).click()")
    window.harmless()
    window.clean()
    assert any(e["action"].endswith("RevealVariable") for e in window.davit.json("audit", "ls")["entries"])


def test_a_terminal_in_the_browser(window, service):
    """What is typed arrives, what is written shows, and the policy of the page is kept."""
    window.fresh()
    window.goto(f"/services/default/{service}?tab=terminal")
    window.click("button", "Open")
    window.wait_for("return (await page.locator('.xterm-rows').innerText()).includes('#')")
    window.run("await page.locator('.xterm-helper-textarea').focus(); await page.keyboard.type('echo $((6*7))-$TERM\\n')")
    window.wait_for("return (await page.locator('.xterm-rows').innerText()).includes('42-xterm-256color')")
    window.run("await page.keyboard.type('exit 3\\n')")
    window.sees("exit code 3")
    window.clean()


def test_files_are_walked_put_in_and_taken_out(window, service):
    window.fresh()
    window.goto(f"/services/default/{service}?tab=files")
    window.click("button", "tmp")
    window.wait_for("return await page.getByRole('textbox', {name: 'Folder'}).inputValue() === '/tmp'")
    window.run("await page.getByLabel('Files to upload').setInputFiles({name: arg, mimeType: 'text/html', buffer: Buffer.from('<script>alert(3)</script>')})", INERT[:4] + ".html")
    window.sees(INERT[:4] + ".html")
    got = window.run("const wait = page.waitForEvent('download'); await page.getByRole('button', {name: /^Download/}).first().click();"
                     "const d = await wait; const s = await d.createReadStream(); let t = ''; for await (const c of s) t += c; return t")
    assert got == "<script>alert(3)</script>"
    window.run("await page.getByRole('button', {name: /^Remove/}).first().click()")
    window.run("await page.getByRole('dialog').getByRole('button', {name: 'Remove', exact: true}).click()")
    window.sees("Nothing in this folder")
    window.harmless()
    window.clean()


@pytest.mark.all_tier
def test_scaled_and_rolled_back(window, service):
    window.fresh()
    window.goto(f"/services/default/{service}")
    window.click("button", "More")
    window.click("menuitem", "Scale")
    window.run("await page.getByRole('dialog').getByLabel('Containers').fill('2')")
    window.run("await page.getByRole('dialog').getByRole('button', {name: 'Scale', exact: true}).click()")
    window.sees("2 containers", 60)
    window.davit.run("deploy", "--name", service, "--pull", "never", "--replicas", "1", "--env", "ROUND=2", "davit-test/loud:1", timeout=90)
    window.goto(f"/services/default/{service}")
    window.click("button", "More")
    window.click("menuitem", "Roll back")
    window.run("await page.getByRole('dialog').getByRole('button', {name: 'Roll back', exact: true}).click()")
    window.wait_for("return page.url().includes('/deployments/')")
    window.sees("It runs", 60)
    window.sees("Repeats")
    window.clean()


@pytest.mark.all_tier
def test_what_a_server_has_and_cleaning_up(window, service):
    assert service
    window.fresh()
    local, = (s["name"] for s in window.davit.json("server", "ls")["servers"] if s.get("local"))
    window.goto(f"/servers/{local}")
    window.click("button", "Look them up")
    window.sees("davit-test/loud:1")
    window.run("await page.getByRole('button', {name: /^What to do with davit-test.loud:1/}).first().click()")
    window.run("await page.getByRole('menuitem', {name: /^Ask the registry/}).click({trial: true}); await page.keyboard.press('Escape')")
    window.harmless()
    window.click("button", "More")
    window.click("menuitem", "Clean up")
    window.click("button", "Make a plan")
    window.wait_for("return await page.getByText(/Nothing to clean up|What would go/).count() + await page.getByRole('list', {name: 'What would go'}).count() > 0")
    window.click("button", "Cancel")
    window.goto("/settings?tab=registries")
    window.click("button", "Add")
    for label, text in (("Registry", "registry.example:5000"), ("User", "robot"), ("Password or token", "canary-4712")):
        window.run("await page.getByRole('dialog').locator('.field').filter({hasText: arg[0]}).locator('input').first().fill(arg[1])", [label, text])
    window.click("button", "Save")
    window.sees("registry.example:5000")
    window.harmless()
    window.clean()


def test_events_come_as_they_happen(window):
    window.fresh()
    window.goto("/events")
    window.davit.run("server", "add", "elder")
    window.sees("elder")
    window.run("await page.getByRole('tab', {name: 'Deployment', exact: true}).click()")
    window.run("await page.getByText('elder').first().waitFor({state: 'detached'})")
    window.harmless()
