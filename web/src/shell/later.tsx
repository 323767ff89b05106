// SPDX-License-Identifier: Apache-2.0
// Parts of the dashboard that are fetched when somebody wants them.
import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";

import type { Problem } from "../api/client";
import { ErrorBox } from "../parts/feedback";

/** A page that few look at is fetched when it is asked for. */
export function later<P extends object = object>(load: () => Promise<ComponentType<P>>) {
    const loaded = signal<ComponentType<P> | undefined>(undefined);
    const problem = signal<Problem | undefined>(undefined);
    const fetch = () => {
        problem.value = undefined;
        load().then(
            (page) => (loaded.value = page),
            // A newer control plane has other files, and browsers keep a failed one failed.
            () =>
                (problem.value = {
                    code: "unavailable",
                    message: "This part of the dashboard could not be fetched.",
                    hint: "Load the page again: the control plane may be away, or be of another version by now.",
                }),
        );
    };
    return function Later(props: P) {
        useEffect(() => {
            if (!loaded.value) fetch();
        }, []);
        if (problem.value) return <ErrorBox problem={problem.value} retry={() => location.reload()} />;
        const Page = loaded.value;
        return Page ? <Page {...props} /> : <span />;
    };
}
