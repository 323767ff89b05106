/* SPDX-License-Identifier: Apache-2.0 */
/* events: what happened on all servers, newest first, by kind, as it happens. The stream begins with what the control plane keeps; after a lost
 * connection it goes on from the number behind the last one. */
import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

import { events, toProblem, type Problem } from "../api/client";
import type { Event, EventGap } from "../gen/davit/control/v1/events_pb";
import { Ago, Badge, Card, Empty, inert, Notice, Page, SkeletonTable, Table, Tabs, type Column, type Tone } from "../parts";
import { Clip } from "./common";

/* So many are held, as the control plane does; a frame of them is drawn at once. */
const EVENTS_MAX = 4096;
const DRAW_MS = 200;
const AGAIN_MS = 2000;

const KINDS = ["server", "container", "deployment", "sandbox", "session", "registry", "exec"];

export interface Feed {
    rows: Event[];
    gap: EventGap | undefined;
    ready: boolean;
    problem: Problem | undefined;
}

/** The events of @kind, "" for all; with @sandbox those of one, by its id. */
export function useEvents(kind: string, sandbox = ""): Feed {
    const feed = useSignal<Feed>({ rows: [], gap: undefined, ready: false, problem: undefined });
    useEffect(() => {
        const ended = new AbortController();
        const signal = ended.signal;
        const now: Feed = { rows: [], gap: undefined, ready: false, problem: undefined };
        let drawing = 0;
        const draw = () => {
            drawing ||= window.setTimeout(() => {
                drawing = 0;
                feed.value = { ...now, rows: [...now.rows] };
            }, DRAW_MS);
        };
        const read = async () => {
            const last = now.rows[0]?.sequence;
            const asked = { follow: true, kinds: kind ? [kind] : [], sandbox, fromSequence: last ? last + 1n : 0n };
            for await (const { what } of events.watchEvents(asked, { signal, timeoutMs: 0 })) {
                now.problem = undefined;
                if (what.case === "event") now.rows = [what.value, ...now.rows].slice(0, EVENTS_MAX);
                else if (what.case === "gap") now.gap = what.value;
                else now.ready = true;
                draw();
            }
        };
        const follow = async () => {
            while (!signal.aborted) {
                try {
                    await read();
                } catch (e) {
                    now.problem = toProblem(e);
                    if (!signal.aborted) draw();
                }
                await new Promise((done) => window.setTimeout(done, AGAIN_MS));
            }
        };
        feed.value = { ...now };
        void follow();
        return () => {
            ended.abort();
            window.clearTimeout(drawing);
        };
    }, [kind, sandbox]);
    return feed.value;
}

const BAD = new Set(["failed", "step_failed", "untrusted", "broken", "offline"]);
const GOOD = new Set(["online", "active", "running", "connected", "registered", "completed", "step_completed", "start"]);

const tone = (e: Event): Tone => (BAD.has(e.action) || (e.exited && e.exitCode !== 0n) ? "bad" : GOOD.has(e.action) ? "ok" : "neutral");

function subject(e: Event): string {
    const name = e.service || e.sandbox || e.container || e.server;
    return e.project ? `${e.project}/${name}` : name;
}

function told(e: Event): string {
    const parts = [];
    if (e.stepName) parts.push(`step ${e.stepIndex} of ${e.stepCount}: ${e.stepName}`);
    if (e.attempts > 1) parts.push(`attempt ${e.attempts}`);
    if (e.exited) parts.push(`exit code ${e.exitCode}`);
    if (e.reason) parts.push(e.reason);
    if (e.detail) parts.push(e.detail);
    return parts.join(", ");
}

const columns: Column<Event>[] = [
    { id: "time", title: "When", render: (e) => <Ago us={e.timeNs / 1000n} />, sort: (e) => e.sequence, width: "8rem" },
    { id: "kind", title: "Kind", render: (e) => e.kind, sort: (e) => e.kind, text: (e) => e.kind, width: "7rem", card: "hide" },
    {
        id: "action",
        title: "What",
        render: (e) => <Badge tone={tone(e)}>{inert(e.action.replace("_", " "))}</Badge>,
        sort: (e) => e.action,
        text: (e) => e.action,
        width: "10rem",
    },
    { id: "subject", title: "Of", render: (e) => <Clip text={subject(e)} />, sort: subject, text: subject, card: "title" },
    {
        id: "server",
        title: "Server",
        render: (e) => <Clip text={e.server} />,
        sort: (e) => e.server,
        text: (e) => e.server,
        width: "9rem",
        card: "hide",
    },
    { id: "detail", title: "Detail", render: (e) => <Clip text={told(e) || "-"} />, text: told },
];

function Gap({ gap }: { gap: EventGap }) {
    const why: Record<string, string> = {
        restarted: "The control plane was started anew; it keeps no events of before.",
        forgotten: "Older events are kept no longer.",
        slow: "Events came faster than this page took them.",
    };
    return (
        <Notice tone="info" title="Events are missing here">
            {why[gap.reason] ?? ""}
        </Notice>
    );
}

/** What @feed has, newest first; @of: without the columns that say of what and where. */
export function EventFeed({ feed, of }: { feed: Feed; of?: boolean }) {
    const { rows, gap, ready, problem } = feed;
    return (
        <>
            {problem && (
                <Notice tone="warn" title={inert(problem.message)}>
                    {inert(problem.hint)}
                </Notice>
            )}
            {gap && <Gap gap={gap} />}
            <Card flush>
                {!ready && rows.length === 0 ? (
                    <SkeletonTable rows={6} />
                ) : (
                    <Table
                        label="Events"
                        rows={rows}
                        columns={of ? columns.filter((c) => c.id !== "subject" && c.id !== "server") : columns}
                        rowKey={(e) => String(e.sequence)}
                        filter
                        initialSort={{ id: "time", down: true }}
                        empty={<Empty icon="history" title="Nothing happened yet" />}
                    />
                )}
            </Card>
        </>
    );
}

export function EventsPage() {
    const kind = useSignal("");
    const feed = useEvents(kind.value);
    const tabs = useMemo(() => [{ id: "", title: "All" }, ...KINDS.map((id) => ({ id, title: id[0]!.toUpperCase() + id.slice(1) }))], []);
    return (
        <Page title="Events">
            <Tabs label="Kinds of events" tabs={tabs} current={kind.value} onChange={(id) => (kind.value = id)}>
                <EventFeed feed={feed} />
            </Tabs>
        </Page>
    );
}
