/* SPDX-License-Identifier: Apache-2.0 */
/* clock: the time of the control plane, ticking once a second while the page is seen. Ages are told against it, not against the clock of
 * the viewer's machine, which may be off. */
import { signal } from "@preact/signals";
import { statuses } from "./client";

let offset = 0;

/** Milliseconds since 1970 on the control plane, as of the last tick. */
export const now = signal(Date.now());

export function serverNow(): number {
    return Date.now() + offset;
}

function tick(): void {
    if (!document.hidden) now.value = serverNow();
}

/** Asks for the clock once and starts the ticking; the page calls it when it begins. A control plane that does not answer leaves our own. */
export async function startClock(): Promise<void> {
    setInterval(tick, 1000);
    document.addEventListener("visibilitychange", tick);
    try {
        const before = Date.now();
        const { clockUs } = await statuses.getVersion({});
        const middle = (before + Date.now()) / 2;
        const off = Number(clockUs / 1000n) - middle;
        /* Below a second it is the way, not the clock. */
        if (clockUs > 0n && Math.abs(off) > 1000) offset = off;
        tick();
    } catch {
        offset = 0;
    }
}
