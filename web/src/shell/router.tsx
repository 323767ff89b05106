// SPDX-License-Identifier: Apache-2.0
// Where the viewer is: the address as signals, and links that move without loading. One History, no hashes.
import { computed, signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";

const here = signal({ path: location.pathname, search: location.search });

export const path = computed(() => here.value.path);
export const query = computed(() => new URLSearchParams(here.value.search));

const read = () => {
    if (location.pathname !== here.value.path || location.search !== here.value.search) {
        here.value = { path: location.pathname, search: location.search };
    }
};
addEventListener("popstate", read);

/** Only paths of ours: what a `?next=` or a message says may not lead elsewhere. */
export function isOurs(to: string): boolean {
    return /^\/(?![/\\])/.test(to) && new URL(to, location.origin).origin === location.origin;
}

export function navigate(to: string, options: { replace?: boolean } = {}): void {
    if (!isOurs(to)) return;
    history[options.replace ? "replaceState" : "pushState"](null, "", to);
    const before = here.value.path;
    read();
    if (here.value.path !== before) {
        scrollTo(0, 0);
        // What a screen reader says first on a new page is its heading.
        requestAnimationFrame(() => document.getElementById("main")?.focus({ preventScroll: true }));
    }
}

/** Changes what stands behind the question mark without a new entry in the history. */
export function setQuery(changes: Record<string, string | undefined>): void {
    const next = new URLSearchParams(location.search);
    for (const [key, value] of Object.entries(changes)) {
        if (value) next.set(key, value);
        else next.delete(key);
    }
    const text = next.toString();
    navigate(location.pathname + (text ? `?${text}` : ""), { replace: true });
}

/** href("servers", name): a path of parts that may hold anything. */
export function href(...parts: string[]): string {
    return "/" + parts.map(encodeURIComponent).join("/");
}

/** Does a click mean "go there, here"? Not with a modifier, another button, or when it was handled. */
export function isPlainClick(event: MouseEvent): boolean {
    return !event.defaultPrevented && event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
}

type LinkProps = Omit<JSX.HTMLAttributes<HTMLAnchorElement>, "href"> & { href: string; children?: ComponentChildren };

export function Link({ href: to, onClick, ...rest }: LinkProps) {
    const click: JSX.MouseEventHandler<HTMLAnchorElement> = (event) => {
        onClick?.(event);
        if (!isPlainClick(event) || !isOurs(to)) return;
        event.preventDefault();
        navigate(to);
    };
    return <a href={to} onClick={click} {...rest} />;
}

/** The parameters of a pattern such as "/servers/:name", or nothing when the path is another. */
export function match(pattern: string, at: string): Record<string, string> | undefined {
    const want = pattern.split("/");
    const have = at.replace(/(.)\/+$/, "$1").split("/");
    if (want.length !== have.length) return undefined;
    const found: Record<string, string> = {};
    for (const [i, part] of want.entries()) {
        const value = have[i]!;
        if (part.startsWith(":")) {
            if (value === "") return undefined;
            try {
                found[part.slice(1)] = decodeURIComponent(value);
            } catch {
                return undefined;
            }
        } else if (part !== value) return undefined;
    }
    return found;
}
