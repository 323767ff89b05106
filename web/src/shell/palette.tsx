// SPDX-License-Identifier: Apache-2.0
// The command palette: everything there is by a few letters of its name. Pages, deeds, servers, services, sandboxes.
import { signal, useSignal } from "@preact/signals";
import { useEffect, useId, useMemo, useRef } from "preact/hooks";

import { sandboxesTopic, serversTopic, servicesTopic } from "../api/topics";
import { useWatch } from "../api/watch";
import { sandboxTitle } from "../api/words";
import { Icon, type IconName, inert, KeyHint } from "../parts";
import { stepTo } from "../parts/choose";
import { NAV } from "./nav";
import { openHelp } from "./help";
import { href, navigate } from "./router";
import { choose, theme } from "./theme";

interface Entry {
    group: string;
    title: string;
    note?: string | undefined;
    icon: IconName;
    keys?: string;
    run: () => void;
}

const SHOWN_MAX = 50;
const open = signal(false);
export const openPalette = () => (open.value = true);

/** How well a text answers to what was typed; 0: not at all. The beginning of the text, then of a word, then anywhere, then letters in order. */
export function score(text: string, want: string): number {
    const low = text.toLowerCase();
    const at = low.indexOf(want);
    if (at === 0) return 4;
    if (at > 0) return /[\s/.:_-]/.test(low[at - 1]!) ? 3 : 2;
    let from = 0;
    for (const letter of want) {
        const found = low.indexOf(letter, from);
        if (found < 0) return 0;
        from = found + 1;
    }
    return 1;
}

export function Palette() {
    return open.value ? <OpenPalette /> : null;
}

function OpenPalette() {
    const servers = useWatch(serversTopic());
    const services = useWatch(servicesTopic());
    const sandboxes = useWatch(sandboxesTopic());
    const want = useSignal("");
    const at = useSignal(0);
    const dialog = useRef<HTMLDialogElement>(null);
    const id = useId();

    const entries = useMemo<Entry[]>(() => {
        const dark = theme.value === "dark";
        return [
            ...NAV.map(({ href: to, title, icon, keys }) => ({ group: "Pages", title, icon, keys, run: () => navigate(to) })),
            { group: "Pages", title: "Identities", icon: "key", run: () => navigate("/identities") },
            { group: "Actions", title: "Deploy a service", icon: "deploy", keys: "D", run: () => navigate("/deploy") },
            { group: "Actions", title: "Run a sandbox", icon: "sandbox", run: () => navigate("/sandboxes/new") },
            { group: "Actions", title: "Add a server", icon: "plus", run: () => navigate("/servers?add=1") },
            { group: "Actions", title: "Create an API token", icon: "key", run: () => navigate("/settings?tab=tokens") },
            {
                group: "Actions",
                title: dark ? "Light theme" : "Dark theme",
                icon: dark ? "sun" : "moon",
                run: () => choose(dark ? "light" : "dark"),
            },
            { group: "Actions", title: "Keyboard shortcuts", icon: "info", keys: "?", run: openHelp },
            ...[...(servers.model?.values() ?? [])].map((server) => ({
                group: "Servers",
                title: server.name,
                icon: "server" as const,
                note: server.system && inert(server.system.hostname),
                run: () => navigate(href("servers", server.name)),
            })),
            ...[...(services.model?.values() ?? [])].map((service) => ({
                group: "Services",
                title: `${service.project}/${service.name}`,
                icon: "service" as const,
                note: service.serverName,
                run: () => navigate(href("services", service.project, service.name)),
            })),
            ...[...(sandboxes.model?.values() ?? [])].map((sandbox) => ({
                group: "Sandboxes",
                title: sandboxTitle(sandbox),
                icon: "sandbox" as const,
                note: inert(sandbox.image),
                run: () => navigate(href("sandboxes", sandbox.id)),
            })),
        ] as Entry[];
    }, [servers.model, services.model, sandboxes.model, theme.value]);

    const text = want.value.trim().toLowerCase();
    const shown = useMemo(() => {
        if (text === "") return entries.slice(0, SHOWN_MAX);
        return entries
            .map((entry) => ({
                entry,
                points: Math.max(score(entry.title, text), entry.note && score(entry.note, text) > 1 ? 1 : 0),
            }))
            .filter(({ points }) => points > 0)
            .sort((a, b) => b.points - a.points)
            .slice(0, SHOWN_MAX)
            .map(({ entry }) => entry);
    }, [entries, text]);
    const chosen = Math.min(at.value, Math.max(0, shown.length - 1));

    const close = () => (open.value = false);
    useEffect(() => {
        const before = document.activeElement;
        const element = dialog.current;
        element?.showModal();
        return () => {
            element?.close();
            if (before instanceof HTMLElement && before.isConnected) before.focus();
        };
    }, []);
    useEffect(() => {
        dialog.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    }, [chosen]);

    const run = (entry: Entry | undefined) => {
        if (!entry) return;
        close();
        // After the dialog is gone, so that what it opens gets the focus.
        setTimeout(entry.run);
    };
    return (
        <dialog
            ref={dialog}
            class="palette"
            aria-label="Command palette"
            onCancel={(event) => {
                event.preventDefault();
                close();
            }}
            onClick={(event) => event.target === dialog.current && close()}
        >
            <div class="palette-box">
                <div class="palette-line">
                    <Icon name="search" />
                    <input
                        class="palette-input"
                        type="text"
                        role="combobox"
                        aria-label="Go to or do"
                        aria-expanded="true"
                        aria-controls={id}
                        autofocus
                        aria-autocomplete="list"
                        aria-activedescendant={shown.length ? `${id}-${chosen}` : undefined}
                        placeholder="Page, server, service or action"
                        spellcheck={false}
                        autocomplete="off"
                        value={want.value}
                        onInput={(event) => {
                            want.value = event.currentTarget.value;
                            at.value = 0;
                        }}
                        onKeyDown={(event) => {
                            const to = stepTo(event.key, chosen, shown.length, "ArrowUp", "ArrowDown");
                            if (event.key === "Enter") {
                                event.preventDefault();
                                run(shown[chosen]);
                            } else if (to !== undefined && event.key.startsWith("Arrow")) {
                                event.preventDefault();
                                at.value = to;
                            }
                        }}
                    />
                    <KeyHint keys="Esc" />
                </div>
                <ul class="palette-list" role="listbox" id={id} aria-label="Results">
                    {shown.map((entry, i) => (
                        <li
                            key={`${entry.group} ${entry.title} ${i}`}
                            id={`${id}-${i}`}
                            role="option"
                            aria-selected={i === chosen}
                            class="palette-entry"
                            onMouseMove={() => (at.value = i)}
                            onClick={() => run(entry)}
                        >
                            <Icon name={entry.icon} />
                            <span class="palette-title clip">{entry.title}</span>
                            {entry.note && <span class="palette-note clip">{entry.note}</span>}
                            <span class="palette-group">{entry.keys ? <KeyHint keys={entry.keys} /> : entry.group}</span>
                        </li>
                    ))}
                </ul>
                {shown.length === 0 && <p class="palette-none">Nothing is called "{want.value}".</p>}
            </div>
        </dialog>
    );
}
