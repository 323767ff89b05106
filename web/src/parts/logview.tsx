// SPDX-License-Identifier: Apache-2.0
// A log: follows, stops when one scrolls up, finds. Only the lines in sight are in the document; each has the same height.
import { useComputed, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { Button, IconButton } from "./button";
import type { KeptLine, LogBuffer } from "./logbuffer";
import { CopyField } from "./text";

const LINE = 20;
const MARGIN = 20;

export interface LogViewProps {
    label: string;
    buffer: LogBuffer;
    /** A CSS length; the height is the same with and without lines. */
    height?: string;
    /** What stands where lines will be. */
    empty?: ComponentChildren;
    /** Beside the search: a state, a choice of what is shown. */
    toolbar?: ComponentChildren;
    onFollow?: (following: boolean) => void;
    /** For the file that "Download" makes. */
    fileName?: string;
}

const pad = (n: number, size = 2) => String(n).padStart(size, "0");

function clock(ns: bigint | undefined): string {
    if (!ns) return "";
    const at = new Date(Number(ns / 1_000_000n));
    return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
}

function Marked({ text, want }: { text: string; want: string }) {
    if (want === "") return <>{text}</>;
    const parts: ComponentChildren[] = [];
    const low = text.toLowerCase();
    // Lower case may be longer than the text it was made of; then nothing is marked rather than the wrong letters.
    if (low.length !== text.length) return <>{text}</>;
    let from = 0;
    for (let at = low.indexOf(want); at >= 0 && parts.length < 200; at = low.indexOf(want, from)) {
        parts.push(text.slice(from, at), <mark>{text.slice(at, at + want.length)}</mark>);
        from = at + want.length;
    }
    parts.push(text.slice(from));
    return <>{parts}</>;
}

function download(buffer: LogBuffer, name: string): void {
    const url = URL.createObjectURL(new Blob([buffer.text()], { type: "text/plain" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    URL.revokeObjectURL(url);
}

export function LogView({ label, buffer, height = "28rem", empty, toolbar, onFollow, fileName = "log.txt" }: LogViewProps) {
    const box = useRef<HTMLDivElement>(null);
    const following = useSignal(true);
    const seen = useSignal({ top: 0, height: 560 });
    const want = useSignal("");
    const only = useSignal(false);
    const current = useSignal(0);
    const opened = useSignal<KeptLine | undefined>(undefined);
    const dropped = useRef(buffer.dropped);
    const pausedAt = useSignal(0);

    const found = useComputed(() => (buffer.version.value, buffer.find(want.value)));
    const filtered = only.value && want.value !== "";
    buffer.version.value; // shown anew when it changes
    const total = filtered ? found.value.length : buffer.length;

    const follow = (on: boolean) => {
        if (following.value === on) return;
        following.value = on;
        pausedAt.value = buffer.dropped + buffer.length;
        onFollow?.(on);
    };

    // Lines that were forgotten above must not move those that are being read.
    useLayoutEffect(() => {
        const element = box.current;
        const gone = buffer.dropped - dropped.current;
        dropped.current = buffer.dropped;
        if (!element) return;
        if (following.value) element.scrollTop = element.scrollHeight;
        else if (gone > 0 && !filtered) element.scrollTop = Math.max(0, element.scrollTop - gone * LINE);
    });

    useEffect(() => {
        const element = box.current!;
        const measure = () => (seen.value = { top: element.scrollTop, height: element.clientHeight });
        const observer = new ResizeObserver(measure);
        observer.observe(element);
        let last = element.scrollTop;
        const scrolled = () => {
            const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < LINE;
            if (element.scrollTop < last && !atEnd) follow(false);
            else if (atEnd && element.scrollTop > last) follow(true);
            last = element.scrollTop;
            measure();
        };
        element.addEventListener("scroll", scrolled, { passive: true });
        return () => {
            observer.disconnect();
            element.removeEventListener("scroll", scrolled);
        };
    }, []);

    const jump = (to: number) => {
        const hits = found.value;
        if (hits.length === 0) return;
        follow(false);
        current.value = (to + hits.length) % hits.length;
        const row = filtered ? current.value : hits[current.value]!;
        box.current!.scrollTop = Math.max(0, row * LINE - box.current!.clientHeight / 2);
    };

    const first = Math.max(0, Math.floor(seen.value.top / LINE) - MARGIN);
    const last = Math.min(total, Math.ceil((seen.value.top + seen.value.height) / LINE) + MARGIN);
    const low = want.value.toLowerCase();
    const hit = found.value[current.value];
    const lines = [];
    for (let i = first; i < last; i++) {
        const at = filtered ? found.value[i]! : i;
        const line = buffer.at(at);
        if (!line) continue;
        const name = `log-line log-${line.stream}${low && at === hit ? " log-hit" : ""}${opened.value?.seq === line.seq ? " log-open" : ""}`;
        lines.push(
            <div
                class={name}
                key={line.seq}
                onClick={() =>
                    getSelection()?.isCollapsed !== false && (opened.value = opened.value?.seq === line.seq ? undefined : line)
                }
            >
                <span class="log-time">{clock(line.atNs)}</span>
                <span class="log-text">
                    {line.stream === "err" && <span class="unseen">stderr: </span>}
                    <Marked text={line.text.slice(0, 4000)} want={low} />
                </span>
            </div>,
        );
    }
    const behind = following.value ? 0 : buffer.dropped + buffer.length - pausedAt.value;

    return (
        <section class="log" aria-label={label}>
            <div class="log-tools">
                <Button
                    size="small"
                    icon={following.value ? "pause" : "play"}
                    aria-pressed={following.value}
                    onClick={() => follow(!following.value)}
                >
                    {following.value ? "Pause" : "Follow"}
                </Button>
                {toolbar}
                <div class="log-search" role="search">
                    <input
                        class="input input-small"
                        type="search"
                        aria-label={`Search in ${label}`}
                        placeholder="Search"
                        value={want.value}
                        spellcheck={false}
                        data-filter=""
                        onInput={(event) => {
                            want.value = event.currentTarget.value;
                            current.value = 0;
                            if (!only.value) jump(0);
                        }}
                        onKeyDown={(event) => {
                            if (event.key === "Enter") {
                                event.preventDefault();
                                jump(current.value + (event.shiftKey ? -1 : 1));
                            } else if (event.key === "Escape") want.value = "";
                        }}
                    />
                    <span class="log-count" role="status">
                        {low &&
                            (found.value.length
                                ? `${Math.min(current.value + 1, found.value.length)} of ${found.value.length}`
                                : "none")}
                    </span>
                    <IconButton
                        size="small"
                        icon="up"
                        label="Previous match"
                        disabled={!low}
                        onClick={() => jump(current.value - 1)}
                    />
                    <IconButton
                        size="small"
                        icon="down"
                        label="Next match"
                        disabled={!low}
                        onClick={() => jump(current.value + 1)}
                    />
                    <IconButton
                        size="small"
                        icon="filter"
                        label="Only lines that match"
                        aria-pressed={only.value}
                        onClick={() => (only.value = !only.value)}
                    />
                </div>
                <IconButton
                    size="small"
                    icon="download"
                    label="Download these lines"
                    onClick={() => download(buffer, fileName)}
                />
            </div>
            <div class="log-box" ref={box} style={{ height }} tabIndex={0} role="log" aria-label={label} aria-live="off">
                <div class="log-space" style={{ height: `${total * LINE}px` }}>
                    <div class="log-lines" style={{ transform: `translateY(${first * LINE}px)` }}>
                        {lines}
                    </div>
                </div>
                {total === 0 && (
                    <div class="log-empty">{low && filtered ? "No line holds this text." : (empty ?? "No lines yet.")}</div>
                )}
            </div>
            {behind > 0 && (
                <button type="button" class="log-behind" onClick={() => follow(true)}>
                    {behind.toLocaleString("en-US")} new {behind === 1 ? "line" : "lines"}: to the end
                </button>
            )}
            {opened.value && (
                <div class="log-detail">
                    <CopyField label={`Line of ${clock(opened.value.atNs) || "unknown time"}`} text={opened.value.text} />
                    <p class="mono wrap">{opened.value.text}</p>
                </div>
            )}
            <div class="log-foot">
                {buffer.length.toLocaleString("en-US")} {buffer.length === 1 ? "line" : "lines"}
                {buffer.dropped > 0 && <>, {buffer.dropped.toLocaleString("en-US")} older ones no longer held here</>}
            </div>
        </section>
    );
}
