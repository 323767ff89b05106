// SPDX-License-Identifier: Apache-2.0
// Who looks through the window: asked once when the page begins, and again after every login, logout and refusal.
import { signal } from "@preact/signals";

import { onUnauthenticated, type Problem, sessions, toProblem } from "./api/client";
import type { GetSessionResponse } from "./gen/davit/control/v1/people_pb";
import { isOurs, navigate, path } from "./shell/router";

export const session = signal<GetSessionResponse | undefined>(undefined);
export const sessionProblem = signal<Problem | undefined>(undefined);

export async function loadSession(): Promise<void> {
    try {
        session.value = await sessions.getSession({});
        sessionProblem.value = undefined;
    } catch (error) {
        sessionProblem.value = toProblem(error);
    }
}

/** A call found that nobody is logged in: the login page, and the way back. */
export function sessionLost(): void {
    if (path.value === "/login" || path.value === "/setup") return;
    const next = location.pathname + location.search;
    if (session.value) session.value = { ...session.value, person: undefined } as GetSessionResponse;
    navigate(next === "/" ? "/login" : `/login?next=${encodeURIComponent(next)}`, { replace: true });
}

/** After a login: where the viewer wanted to go, if that is a page of ours. */
export function afterLogin(next: string | null): void {
    navigate(next && isOurs(next) && !next.startsWith("/login") && !next.startsWith("/setup") ? next : "/", { replace: true });
}

export async function logout(): Promise<void> {
    await sessions.logout({});
    await loadSession();
    navigate("/login", { replace: true });
}

onUnauthenticated(sessionLost);
