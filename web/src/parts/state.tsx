// SPDX-License-Identifier: Apache-2.0
// How something is, in one mark: a shape and a colour for each tone. A mark never stands without words, seen or unseen.
import type { ComponentChildren } from "preact";

import type { Tone } from "./tone";

const SHAPES: Record<Tone, () => preact.JSX.Element> = {
    ok: () => <circle cx="6" cy="6" r="4" />,
    warn: () => <path d="M6 1.5l5 9H1z" />,
    bad: () => <path d="M6 .8L11.2 6 6 11.2.8 6z" />,
    info: () => <path d="M2 2h8v8H2z" />,
    pending: () => <path d="M6 2a4 4 0 1 1-4 4" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" />,
    neutral: () => <circle cx="6" cy="6" r="3.25" fill="none" stroke="currentColor" stroke-width="1.5" />,
};

export function StateDot({ tone, label }: { tone: Tone; label?: string }) {
    const Shape = SHAPES[tone];
    return (
        <svg
            class={`dot tone-${tone}`}
            width="12"
            height="12"
            viewBox="0 0 12 12"
            fill="currentColor"
            focusable="false"
            role={label ? "img" : undefined}
            aria-label={label}
            aria-hidden={label ? undefined : "true"}
        >
            <Shape />
        </svg>
    );
}

/** A state in a word. Text of others is clipped, never wrapped. */
export function Badge({ tone, children, title }: { tone: Tone; children: ComponentChildren; title?: string | undefined }) {
    return (
        <span class={`badge tone-${tone}`} title={title}>
            <StateDot tone={tone} />
            <span class="clip">{children}</span>
        </span>
    );
}

/** A number or a word that belongs to something and is no state. */
export function Tag({ children, title }: { children: ComponentChildren; title?: string | undefined }) {
    return (
        <span class="tag clip" title={title}>
            {children}
        </span>
    );
}
