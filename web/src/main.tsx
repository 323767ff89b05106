// SPDX-License-Identifier: Apache-2.0
import { effect } from "@preact/signals";
import { render } from "preact";

import { startClock } from "./api/clock";
import { startWatch } from "./api/watch";
import { App } from "./app";
import { loadSession, session } from "./session";
import { openHelp } from "./shell/help";
import { addShortcuts, go, listen } from "./shell/keys";
import { NAV } from "./shell/nav";
import { openPalette } from "./shell/palette";
import "./shell/theme";

const inside = (run: () => void) => () => {
    if (session.value?.person) run();
};

addShortcuts(
    { keys: "Mod+K", about: "Command palette: go to or do", run: inside(openPalette) },
    ...NAV.map(({ keys, title, href }) => go(keys, title, href)).map((one) => ({ ...one, run: inside(one.run) })),
    { ...go("D", "Deploy a service", "/deploy"), run: inside(go("D", "", "/deploy").run) },
    {
        keys: "/",
        about: "Filter or search on this page",
        run: () => document.querySelector<HTMLInputElement>("[data-filter]")?.focus(),
    },
    { keys: "?", about: "This list", run: openHelp },
);
listen();
startWatch();
let ticking = false;
effect(() => {
    // Strangers are not told the time.
    if (ticking || !session.value?.person) return;
    ticking = true;
    void startClock();
});
// What stood there until now would stay beside it.
const app = document.getElementById("app")!;
app.replaceChildren();
render(<App />, app);
void loadSession();
