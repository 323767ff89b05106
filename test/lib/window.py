# SPDX-License-Identifier: Apache-2.0
"""window: the dashboard of a running Davit in a real browser, with an owner who can log in."""
import re

from lib.browser import Browser

OWNER, PASSWORD = "owner", "a long enough pass phrase"


class Window(Browser):
    """with Window(davit) as w: w.first_start(); w.fresh(); w.goto("/servers"). A Browser whose base is the plain port of @davit."""

    def __init__(self, davit):
        super().__init__()
        self.davit = davit

    def fresh(self, logged_in=True, **size):
        """A window of its own, without cookies; by default somebody is logged in, as the page's own form does it."""
        self.open(f"http://127.0.0.1:{self.davit.local_web}", **size)
        if logged_in:
            self.goto("/login")
            self.log_in(PASSWORD)

    def log_in(self, password):
        """Fills the form of the login page."""
        self.fill("Name", OWNER)
        self.fill("Password", password)
        self.click("button", "Log in")
        self.run("await page.getByRole('navigation').first().waitFor()")

    def setup_link(self, *args):
        """A one-time link, from the CLI."""
        return self.davit.json("dashboard", *args)["setup"]

    def first_start(self, link=None):
        """Follows the one-time link and sets the owner's password."""
        self.fresh(logged_in=False)
        self.run("await page.goto(arg)", link or self.setup_link())
        self.fill("Password", PASSWORD)
        self.fill("Password again", PASSWORD)
        self.click("button", "Set the password")
        self.run("await page.getByRole('navigation').first().waitFor()")

    def url(self):
        """Where the page is."""
        return self.run("return page.url()")

    def clean(self):
        """Nothing was seen that should not be."""
        told = [t for t in self.seen() if not re.search(r"the server responded with a status of 40[013]|net::ERR_|WebSocket connection", t)]
        assert not told, "\n".join(told)

    def row(self, text):
        """What stands in the row of a table that has @text; "" if there is none."""
        return self.run("const row = page.getByRole('row').filter({hasText: arg}).first(); return await row.count() ? await row.innerText() : ''", text)

    def harmless(self):
        """Accessibility rules of weight on this page."""
        bad = [v for v in self.axe() if v["impact"] in ("serious", "critical")]
        assert not bad, f"{self.url()}: {bad}"
