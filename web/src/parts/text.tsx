// SPDX-License-Identifier: Apache-2.0
// Small things that stand in text: times that tick, code, keys, and what is copied.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId } from "preact/hooks";

import { now } from "../api/clock";
import { ago, time, until } from "../api/format";
import { Button, IconButton } from "./button";

const iso = (us: bigint) => (us > 0n ? new Date(Number(us / 1000n)).toISOString() : undefined);

/** "3 min ago", told by the control plane's clock, going on by itself; the full time is its title. */
export function Ago({ us }: { us: bigint }) {
    return (
        <time dateTime={iso(us)} title={time(us)}>
            {ago(us, now.value)}
        </time>
    );
}

/** "in 3 d", or how long ago it ended. */
export function Until({ us }: { us: bigint }) {
    return (
        <time dateTime={iso(us)} title={time(us)}>
            {until(us, now.value)}
        </time>
    );
}

export function Time({ us }: { us: bigint }) {
    return <time dateTime={iso(us)}>{time(us)}</time>;
}

export function Code({ children, block }: { children: ComponentChildren; block?: boolean }) {
    if (block)
        return (
            <pre class="code-block" tabIndex={0}>
                {children}
            </pre>
        );
    return <code class="code">{children}</code>;
}

const isMac = /Mac|iPhone|iPad/.test(navigator.userAgent);

/** keys: "Mod+K", "?", "G S" (one after the other). Mod is Ctrl, on a Mac the command key. */
export function KeyHint({ keys }: { keys: string }) {
    const name = (key: string) => (key === "Mod" ? (isMac ? "⌘" : "Ctrl") : key);
    return (
        <span class="keys">
            {keys.split(" ").map((chord) => chord.split("+").map((key) => <kbd key={key}>{name(key)}</kbd>))}
        </span>
    );
}

/** Copies, also where the page is plain HTTP and browsers give no clipboard. */
export async function copyText(text: string): Promise<boolean> {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        const field = document.createElement("textarea");
        field.value = text;
        field.className = "unseen";
        document.body.append(field);
        field.select();
        try {
            return document.execCommand("copy");
        } catch {
            return false;
        } finally {
            field.remove();
        }
    }
}

function useCopied(text: string) {
    const state = useSignal<"idle" | "done" | "failed">("idle");
    useEffect(() => {
        if (state.value === "idle") return undefined;
        const timer = setTimeout(() => (state.value = "idle"), 2500);
        return () => clearTimeout(timer);
    }, [state.value]);
    return { state: state.value, copy: async () => (state.value = (await copyText(text)) ? "done" : "failed") };
}

export function CopyButton({ text, label }: { text: string; label: string }) {
    const { state, copy } = useCopied(text);
    const said = state === "done" ? "Copied" : state === "failed" ? "Copying failed" : label;
    return <IconButton icon={state === "done" ? "check" : "copy"} size="small" label={said} onClick={copy} />;
}

export interface CopyFieldProps {
    label: string;
    text: string;
    hint?: ComponentChildren;
    /** Shown as dots until asked for; copying works either way. */
    secret?: boolean;
}

/** One line to take away: an install command, a token. A click into it selects all of it. */
export function CopyField({ label, text, hint, secret }: CopyFieldProps) {
    const id = useId();
    const shown = useSignal(!secret);
    const { state, copy } = useCopied(text);
    return (
        <div class="copy">
            <div class="copy-head">
                <label for={id} class="field-label">
                    {label}
                </label>
                {secret && (
                    <Button
                        size="small"
                        kind="quiet"
                        icon="eye"
                        aria-pressed={shown.value}
                        onClick={() => (shown.value = !shown.value)}
                    >
                        {shown.value ? "Hide" : "Show"}
                    </Button>
                )}
            </div>
            <div class="copy-line">
                <input
                    id={id}
                    class="copy-text mono"
                    readOnly
                    value={text}
                    type={shown.value ? "text" : "password"}
                    spellcheck={false}
                    autocomplete="off"
                    onFocus={(event) => event.currentTarget.select()}
                />
                <Button icon={state === "done" ? "check" : "copy"} onClick={copy}>
                    {state === "done" ? "Copied" : "Copy"}
                </Button>
            </div>
            {hint && <p class="field-hint">{hint}</p>}
            <span class="unseen" role="status">
                {state === "done"
                    ? `${label}: copied`
                    : state === "failed"
                      ? "Copying failed: select the text and copy it by hand"
                      : ""}
            </span>
            {state === "failed" && <p class="field-error">This browser lets no page copy: select the text and press Ctrl+C.</p>}
        </div>
    );
}
