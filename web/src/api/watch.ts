/* SPDX-License-Identifier: Apache-2.0 */
/* watch: the watch of this tab, tied to the browser, and the hook with which components take topics of it. */
import { computed, useComputed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { loggedOut, sessions } from "./client";
import type { Topic } from "./topics";
import { Watch, type TopicState } from "./watcher";
import type { Problem } from "./client";

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;

const SLEEP_CHECK_MS = 10_000;
const SLEPT_MS = 45_000;

export const watch = new Watch({
    open: () => {
        const url = new URL("/davit.control.v1.WatchService/Watch?encoding=proto", location.href);
        url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
        return new WebSocket(url, "davit.connect.v1");
    },
    setTimer: (f, ms) => window.setTimeout(f, ms),
    clearTimer: (id) => window.clearTimeout(id),
    /* A hidden tab draws no frames. */
    frame: (f) => (document.hidden ? void window.setTimeout(f, 250) : void requestAnimationFrame(f)),
    random: () => Math.random(),
    now: () => Date.now(),
    /* A machine without any network still reaches itself. */
    online: () => navigator.onLine || LOOPBACK.test(location.hostname),
    hidden: () => document.hidden,
    allowed: async () => (await sessions.getSession({})).person !== undefined,
    loggedOut,
});

/** In one word for the header of the page. "off": nothing is watched, or the tab sleeps. */
export const connection = computed<"connecting" | "live" | "reconnecting" | "off">(() => {
    const link = watch.link.value;
    if (link === "open") return "live";
    if (link === "idle" || link === "asleep") return "off";
    return link === "connecting" && !wasLive ? "connecting" : "reconnecting";
});
let wasLive = false;
watch.link.subscribe((link) => {
    wasLive ||= link === "open";
});

/** Ties the watch to what happens around the tab; the page calls it when it begins. */
export function startWatch(): void {
    window.addEventListener("online", () => watch.networkChanged());
    window.addEventListener("offline", () => watch.networkChanged());
    document.addEventListener("visibilitychange", () => watch.visibilityChanged());
    /* After the machine slept its connections are dead, and nobody said so. */
    let last = Date.now();
    window.setInterval(() => {
        const gap = Date.now() - last;
        last = Date.now();
        if (gap > SLEPT_MS && !document.hidden) watch.networkChanged();
    }, SLEEP_CHECK_MS);
}

export interface Use<M> {
    state: TopicState;
    model: M | undefined;
    problem: Problem | undefined;
    /** What is shown may be old: the connection is away. */
    stale: boolean;
    /** The control plane is not reached at the moment; it is tried again by itself. */
    away: boolean;
    retry: () => void;
}

/** Watches @topic while the component is there; without one it stays at loading. */
export function useWatch<M>(topic: Topic<M> | undefined): Use<M> {
    const held = useSignal<ReturnType<typeof watch.take<M>> | undefined>(undefined);
    useEffect(() => {
        if (!topic) return undefined;
        const taken = watch.take(topic);
        held.value = taken;
        return () => {
            held.value = undefined;
            taken.release();
        };
        // A topic is its key.
    }, [topic?.key]);
    return useComputed<Use<M>>(() => ({
        state: held.value?.state.value ?? "loading",
        model: held.value?.model.value,
        problem: held.value?.problem.value,
        stale: watch.link.value !== "open",
        away: watch.link.value === "waiting" || watch.link.value === "offline",
        retry: () => held.value?.retry(),
    })).value;
}
