// SPDX-License-Identifier: Apache-2.0
// Keys that work everywhere: never while something is typed, never under a dialog.
import { navigate } from "./router";

export interface Shortcut {
    keys: string;
    about: string;
    run: () => void;
}

const all: Shortcut[] = [];
export const shortcuts: readonly Shortcut[] = all;

export function addShortcuts(...more: Shortcut[]): void {
    all.push(...more);
}

export const go = (keys: string, about: string, to: string): Shortcut => ({ keys, about, run: () => navigate(to) });

function typing(target: EventTarget | null): boolean {
    return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

const CHORD_MS = 1200;
let first = { key: "", at: 0 };

/** Does this key, after the one before, mean the shortcut? */
function means(keys: string, event: KeyboardEvent): boolean {
    const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
    if (keys.startsWith("Mod+")) return (event.ctrlKey || event.metaKey) && !event.altKey && key === keys.slice(4);
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const [one, two] = keys.split(" ");
    if (two === undefined) return key === one;
    return first.key === one && event.timeStamp - first.at < CHORD_MS && key === two;
}

export function listen(): void {
    addEventListener("keydown", (event) => {
        const everywhere = event.ctrlKey || event.metaKey;
        if (event.defaultPrevented || event.isComposing || (!everywhere && typing(event.target))) return;
        if (document.querySelector("dialog[open]")) return;
        const hit = all.find(({ keys }) => means(keys, event));
        first = { key: event.key.toUpperCase(), at: event.timeStamp };
        if (!hit) return;
        first.key = "";
        event.preventDefault();
        hit.run();
    });
}
