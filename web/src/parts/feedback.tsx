// SPDX-License-Identifier: Apache-2.0
// What a page says when there is nothing, not yet anything, or a failure; and notes that pass.
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";

import type { Problem } from "../api/client";
import { Button, IconButton } from "./button";
import { Icon, type IconName } from "./icon";
import { inert } from "./inert";
import type { Tone } from "./tone";

/** Nothing here yet: why, and what to do about it. */
export function Empty({
    icon,
    title,
    children,
    actions,
}: {
    icon?: IconName;
    title: string;
    children?: ComponentChildren;
    actions?: ComponentChildren;
}) {
    return (
        <div class="empty">
            {icon && (
                <span class="empty-icon">
                    <Icon name={icon} size={22} />
                </span>
            )}
            <p class="empty-title">{title}</p>
            {children && <div class="empty-text">{children}</div>}
            {actions && <div class="empty-actions">{actions}</div>}
        </div>
    );
}

/* Codes that tell somebody something: the others say again, and worse, what the message says. */
const TOLD_CODES = new Set(["internal", "data_loss"]);

/** A failure: what happened, what to do about it, and once more. */
export function ErrorBox({
    problem,
    title,
    retry,
    busy,
}: {
    problem: Problem;
    title?: string;
    retry?: () => void;
    busy?: boolean;
}) {
    return (
        <div class="notice tone-bad" role="alert">
            <Icon name="alert" />
            <div class="notice-text">
                {title && <p class="notice-title">{title}</p>}
                <p class={title ? "wrap" : "notice-title wrap"}>{inert(problem.message)}</p>
                {problem.hint && <p class="notice-fix wrap">{inert(problem.hint)}</p>}
                {TOLD_CODES.has(problem.code) && <p class="notice-code">Code: {problem.code}</p>}
            </div>
            {retry && (
                <Button size="small" icon="restart" busy={busy} onClick={retry}>
                    Try again
                </Button>
            )}
        </div>
    );
}

/** Something to know before going on; no failure. */
export function Notice({
    tone = "info",
    title,
    children,
    actions,
}: {
    tone?: Tone;
    title?: string;
    children?: ComponentChildren;
    actions?: ComponentChildren;
}) {
    return (
        <div class={`notice tone-${tone}`} role="note">
            <Icon name={tone === "ok" ? "check" : tone === "warn" || tone === "bad" ? "alert" : "info"} />
            <div class="notice-text">
                {title && <p class="notice-title wrap">{title}</p>}
                {children && <div class="wrap">{children}</div>}
            </div>
            {actions}
        </div>
    );
}

/** A place of the size that the thing will have. Widths and heights are CSS lengths. */
export function Skeleton({ width = "100%", height = "1em" }: { width?: string; height?: string }) {
    return <span class="skeleton" style={{ width, height }} aria-hidden="true" />;
}

export function SkeletonTable({ rows = 5 }: { rows?: number }) {
    return (
        <div class="skeleton-table" role="status" aria-label="Loading">
            {Array.from({ length: rows }, (_, i) => (
                <div class="skeleton-row" key={i}>
                    <Skeleton width={`${28 - ((i * 7) % 11)}%`} />
                    <Skeleton width="12%" />
                    <Skeleton width={`${20 + ((i * 5) % 9)}%`} />
                    <Skeleton width="9%" />
                </div>
            ))}
        </div>
    );
}

export function Spinner({ label }: { label: string }) {
    return <span class="spinner" role="status" aria-label={label} />;
}

export interface ToastText {
    tone: Tone;
    title: string;
    text?: string | undefined;
}

const TOASTS_MAX = 4;
const toasts = signal<(ToastText & { id: number })[]>([]);
let next = 1;

const drop = (id: number) => (toasts.value = toasts.value.filter((one) => one.id !== id));

/** A note that passes. Failures stay until they are closed, for nobody reads as fast as they happen. */
export function toast(text: ToastText): void {
    const id = next++;
    toasts.value = [...toasts.value, { ...text, id }].slice(-TOASTS_MAX);
    if (text.tone !== "bad") setTimeout(() => drop(id), 6000);
}

export function toastProblem(title: string, problem: Problem): void {
    const message = problem.message.replace(/\.$/, "");
    toast({ tone: "bad", title, text: problem.hint ? `${message}. ${problem.hint}` : problem.message });
}

export function Toasts() {
    return (
        <div class="toasts" role="region" aria-label="Notifications" aria-live="polite">
            {toasts.value.map(({ id, tone, title, text }) => (
                <div class={`toast tone-${tone}`} key={id}>
                    <Icon name={tone === "bad" || tone === "warn" ? "alert" : tone === "ok" ? "check" : "info"} />
                    <div class="notice-text">
                        <p class="notice-title wrap">{inert(title)}</p>
                        {text && <p class="wrap">{inert(text)}</p>}
                    </div>
                    <IconButton icon="close" size="small" label="Close" onClick={() => drop(id)} />
                </div>
            ))}
        </div>
    );
}
