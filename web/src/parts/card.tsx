// SPDX-License-Identifier: Apache-2.0
// Surfaces: a card with a head, a tile with one number, and a list of what is known of something.
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

import { Link } from "../shell/router";
import { StateDot } from "./state";
import type { Tone } from "./tone";

export interface CardProps {
    title?: ComponentChildren;
    note?: ComponentChildren;
    actions?: ComponentChildren;
    /** The content reaches the edges: tables, logs. */
    flush?: boolean;
    children?: ComponentChildren;
}

export function Card({ title, note, actions, flush, children }: CardProps) {
    const id = useId();
    return (
        <section class={flush ? "card card-flush" : "card"} aria-labelledby={title ? id : undefined}>
            {(title || actions) && (
                <header class="card-head">
                    <h2 id={id} class="clip">
                        {title}
                    </h2>
                    {note && <span class="card-note clip">{note}</span>}
                    {actions && <div class="card-actions">{actions}</div>}
                </header>
            )}
            <div class="card-body">{children}</div>
        </section>
    );
}

export interface StatProps {
    label: string;
    value: ComponentChildren;
    unit?: string;
    note?: ComponentChildren;
    tone?: Tone | undefined;
    href?: string;
}

export function Stat({ label, value, unit, note, tone, href }: StatProps) {
    const inside = (
        <>
            <span class="stat-label">
                {tone && <StateDot tone={tone} />}
                <span class="clip">{label}</span>
            </span>
            <span class="stat-value">
                {value}
                {unit && <span class="stat-unit">{unit}</span>}
            </span>
            <span class="stat-note clip">{note ?? "\u00a0"}</span>
        </>
    );
    if (href)
        return (
            <Link class="stat stat-link" href={href}>
                {inside}
            </Link>
        );
    return <div class="stat">{inside}</div>;
}

export interface KeyValue {
    label: string;
    value: ComponentChildren;
}

/** Items whose value is empty are left out. */
export function KeyValues({ items }: { items: (KeyValue | false | undefined)[] }) {
    return (
        <dl class="facts">
            {items.map(
                (item) =>
                    item &&
                    item.value !== "" &&
                    item.value !== undefined &&
                    item.value !== null && (
                        <div class="fact" key={item.label}>
                            <dt>{item.label}</dt>
                            <dd>{item.value}</dd>
                        </div>
                    ),
            )}
        </dl>
    );
}
