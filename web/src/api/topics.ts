/* SPDX-License-Identifier: Apache-2.0 */
/* topics: what can be watched, and how its events become what a page shows. A model is folded from events of one connection; after a
 * reconnect a new one is folded from the beginning and takes the place of the old one when it is complete. Pure: no socket, no signals. */
import { create } from "@bufbuild/protobuf";
import type { Sandbox } from "../gen/davit/common/v1/sandbox_pb";
import type { Container } from "../gen/davit/common/v1/service_pb";
import type { Server } from "../gen/davit/control/v1/servers_pb";
import type { GetStatusResponse } from "../gen/davit/control/v1/status_pb";
import { WatchRequestSchema, type WatchRequest, type WatchResponse } from "../gen/davit/control/v1/watch_pb";
import type { Deployment, LogsResponse, Service, UsageRow, WatchDeploymentResponse } from "../gen/davit/control/v1/workloads_pb";

type Event = WatchResponse["event"];
type Target = Exclude<WatchRequest["what"], { case: "unsubscribe" } | { case: undefined }>;

/** One thing to watch. @key tells topics apart; two of one key are the same subscription. */
export interface Topic<M> {
    key: string;
    target: Target;
    /** What is asked for after a lost connection, where that is not all of it again. */
    resume?(last: M | undefined): Target;
    /** The model before any event. @last is what was shown before the connection was lost: only what cannot be told again is taken over. */
    begin(last: M | undefined): M;
    /** The model after @event; a new object, since signals compare by identity. An event that is none of the topic's changes nothing. */
    fold(model: M, events: Event[]): M;
}

export interface OverviewModel {
    status?: GetStatusResponse;
}
export interface ServerModel {
    server?: Server;
    containers: Container[];
    removed: boolean;
}
export interface DeploymentModel {
    deployment?: Deployment;
    last?: WatchDeploymentResponse;
    steps: WatchDeploymentResponse[];
}
/** Samples of one row (a host or a container), oldest first, at most SAMPLES_MAX. */
export interface UsageSeries {
    row: UsageRow;
    samples: UsageRow[];
}

export const SAMPLES_MAX = 300;
/** What lies further back than this is not drawn, so it is not kept. */
export const SAMPLES_AGE_US = 15n * 60n * 1_000_000n;

const topic = (target: Target): { key: string; target: Target } => {
    const parts = Object.entries(target.value as object).filter(([name]) => !name.startsWith("$"));
    return { key: JSON.stringify([target.case, ...parts], (_, v: unknown) => (typeof v === "bigint" ? String(v) : v)), target };
};

function request(what: WatchRequest["what"], id: number): WatchRequest {
    return create(WatchRequestSchema, { id, what });
}

export function subscribeRequest(t: Topic<unknown>, id: number, last: unknown): WatchRequest {
    return request(t.resume?.(last) ?? t.target, id);
}

export function unsubscribeRequest(id: number): WatchRequest {
    return request({ case: "unsubscribe", value: true }, id);
}

function part<C extends Target["case"]>(which: C, init: object): Target {
    return create(WatchRequestSchema, { what: { case: which, value: init } as WatchRequest["what"] }).what as Target;
}

export function overviewTopic(): Topic<OverviewModel> {
    return {
        ...topic(part("overview", {})),
        begin: () => ({}),
        fold: (m, events) => events.reduce((last, e) => (e.case === "overview" ? { status: e.value } : last), m),
    };
}

/* A list is kept as a map that is copied once for all events of a frame. */
function mapFold<T>(put: (map: Map<string, T>, e: Event) => void) {
    return (m: Map<string, T>, events: Event[]): Map<string, T> => {
        const copy = new Map(m);
        for (const e of events) put(copy, e);
        return copy;
    };
}

export function serversTopic(): Topic<Map<string, Server>> {
    return {
        ...topic(part("servers", {})),
        begin: () => new Map(),
        fold: mapFold((map, e) => {
            if (e.case === "server") map.set(e.value.id, e.value);
            else if (e.case === "serverRemoved") map.delete(e.value);
        }),
    };
}

export function serverTopic(server: string): Topic<ServerModel> {
    return {
        ...topic(part("server", { server })),
        begin: () => ({ containers: [], removed: false }),
        fold: (m, events) =>
            events.reduce((last, e) => {
                if (e.case === "server") return { ...last, server: e.value, removed: false };
                if (e.case === "containers") return { ...last, containers: e.value.containers };
                return e.case === "serverRemoved" ? { ...last, removed: true } : last;
            }, m),
    };
}

export function serviceKey(s: { project: string; name: string }): string {
    return `${s.project}/${s.name}`;
}

export function servicesTopic(filter: { project?: string; service?: string; server?: string } = {}): Topic<Map<string, Service>> {
    return {
        ...topic(part("services", filter)),
        begin: () => new Map(),
        fold: mapFold((map, e) => {
            if (e.case === "service") map.set(serviceKey(e.value), e.value);
            else if (e.case === "serviceRemoved") map.delete(serviceKey(e.value));
        }),
    };
}

/** All of them, by id. */
export function sandboxesTopic(): Topic<Map<string, Sandbox>> {
    return {
        ...topic(part("sandboxes", {})),
        begin: () => new Map(),
        fold: mapFold((map, e) => {
            if (e.case === "sandbox") map.set(e.value.id, e.value);
            else if (e.case === "sandboxRemoved") map.delete(e.value);
        }),
    };
}

export function deploymentsTopic(
    filter: { project?: string; service?: string; limit?: number } = {},
): Topic<Map<string, Deployment>> {
    return {
        ...topic(part("deployments", filter)),
        begin: () => new Map(),
        fold: mapFold((map, e) => {
            if (e.case === "deployment") map.set(e.value.id, e.value);
        }),
    };
}

/* A step reports many times; the last report of each is what is shown. State changes without a step are kept as the last word only. */
function foldStep(m: DeploymentModel, r: WatchDeploymentResponse): DeploymentModel {
    const steps = m.steps.slice();
    if (r.progress) {
        const at = steps.findIndex((s) => s.progress?.step === r.progress?.step);
        if (at < 0) steps.push(r);
        else steps[at] = r;
    }
    return {
        ...m,
        last: { ...r, failure: r.failure ?? m.last?.failure, containerId: r.containerId || m.last?.containerId || "" },
        steps,
    };
}

export function deploymentTopic(deploymentId: string): Topic<DeploymentModel> {
    return {
        ...topic(part("deployment", { deploymentId })),
        begin: () => ({ steps: [] }),
        fold: (m, events) =>
            events.reduce((last, e) => {
                if (e.case === "deployment") return { ...last, deployment: e.value };
                return e.case === "step" ? foldStep(last, e.value) : last;
            }, m),
    };
}

export function usageKey(r: UsageRow): string {
    return r.containerName ? `${r.serverName}/${r.containerName}` : r.serverName;
}

function addSample(old: UsageSeries | undefined, row: UsageRow): UsageSeries {
    const last = old?.samples.at(-1)?.usage?.atUs ?? 0n;
    const at = row.usage?.atUs ?? 0n;
    if (old && at <= last) return { row, samples: old.samples };
    const kept = (old?.samples ?? []).filter((s) => (s.usage?.atUs ?? 0n) + SAMPLES_AGE_US > at).slice(-(SAMPLES_MAX - 1));
    return { row, samples: [...kept, row] };
}

export function usageTopic(filter: { project?: string; service?: string; server?: string }): Topic<Map<string, UsageSeries>> {
    return {
        ...topic(part("usage", filter)),
        /* Samples are not told twice, so those seen stay. */
        begin: (last) => last ?? new Map(),
        fold: mapFold((map, e) => {
            if (e.case !== "usage") return;
            for (const row of e.value.rows) map.set(usageKey(row), addSample(map.get(usageKey(row)), row));
        }),
    };
}

export interface LogsModel {
    /** The engine's time of the newest entry that was handed on; after a lost connection it goes on behind it. */
    lastNs: bigint;
}
let logs = 0;

/** The log of a service or a sandbox, its last @tail lines and all that follow. What comes goes to @take, in its order, and is kept nowhere here. */
export function logsTopic(
    of: { project: string; service: string } | { sandboxId: string },
    tail: number,
    take: (r: LogsResponse) => void,
): Topic<LogsModel> {
    const first = { ...of, follow: true, tail: BigInt(tail) };
    return {
        ...topic(part("logs", first)),
        /* Each reader has a log of its own. */
        key: `logs ${++logs}`,
        resume: (last) => (last?.lastNs ? part("logs", { ...first, tail: -1n, sinceNs: last.lastNs + 1n }) : part("logs", first)),
        begin: (last) => last ?? { lastNs: 0n },
        fold: (m, events) => {
            let lastNs = m.lastNs;
            for (const e of events) {
                if (e.case !== "logs") continue;
                take(e.value);
                for (const entry of e.value.entries) if (entry.atNs > lastNs) lastNs = entry.atNs;
            }
            return { lastNs };
        },
    };
}
