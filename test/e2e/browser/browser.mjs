// SPDX-License-Identifier: Apache-2.0
// browser.mjs: Chromium behind a line protocol, for test/lib/browser.py. Standard input: one JSON object a line, {"op": ..., ...}; standard
// output: one line for each, {"ok": value} or {"failed": text}. One window (a context with one page) at a time is current.
//   open    {width, height, scheme, base}  a fresh window: no cookies, no storage
//   run     {code, arg}     async (page, context, arg) => value
//   shot    {file, full}    screenshot
//   axe     {}              violations of the accessibility rules on the page as it is
//   seen    {}              what no test wants: errors, dialogs, violations of the content policy, requests to others; clears them
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.BROWSER_MODULES + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({
    executablePath: process.env.BROWSER_PROGRAM,
    // A test runs as root in a namespace without devices; nothing is to be fetched but what the page asks for.
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--font-render-hinting=none"],
});
let context, page, seen = [];

function watch(base) {
    page.on("dialog", (dialog) => { seen.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
    page.on("pageerror", (error) => seen.push(`error: ${error.message}`));
    page.on("console", (message) => { if (message.type() === "error") seen.push(`console: ${message.text()} (${message.location().url})`); });
    page.on("request", (request) => {
        const url = request.url();
        if (!url.startsWith(base) && !/^(data|blob|about):/.test(url)) seen.push(`foreign request: ${url}`);
    });
}

const ops = {
    async open({ width = 1280, height = 800, scheme = "light", base }) {
        await context?.close();
        seen = [];
        context = await browser.newContext({
            viewport: { width, height }, colorScheme: scheme, reducedMotion: "reduce", ignoreHTTPSErrors: true, baseURL: base, locale: "en-GB",
            permissions: ["clipboard-read", "clipboard-write"],
        });
        context.setDefaultTimeout(15000);
        page = await context.newPage();
        await page.addInitScript(() => {
            document.addEventListener("securitypolicyviolation", (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
        });
        watch(base);
    },
    async run({ code, arg }) {
        const work = new Function("page", "context", "arg", `return (async () => { ${code} })();`);
        return await work(page, context, arg);
    },
    async shot({ file, full }) {
        await page.screenshot({ path: file, fullPage: Boolean(full), animations: "disabled", caret: "hide" });
    },
    async axe() {
        // As the tools of a browser do it: the page's own policy would keep a script element out.
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
        return violations.map((v) => ({ id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map((n) => n.html.slice(0, 200)).slice(0, 5) }));
    },
    async seen() {
        const told = seen;
        seen = [];
        return told;
    },
};

for await (const line of createInterface({ input: process.stdin })) {
    let answer;
    try {
        const { op, ...args } = JSON.parse(line);
        answer = { ok: (await ops[op](args)) ?? null };
    } catch (error) {
        answer = { failed: String(error?.stack ?? error) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
process.exit(0);
