/* SPDX-License-Identifier: Apache-2.0 */
/* watcher: the one WebSocket of this tab. Pages take topics; each is subscribed to once, however many take it, and given back a little after
 * the last one let go. A lost connection comes back by itself with back-off, and until then pages show what they had, marked as old.
 * What comes is put together once per frame.
 * Limits: TOPICS_MAX subscriptions (the server allows 32); a message of the server is at most 4 MiB.
 * Wire: doc/rpc.md, "From a browser: WebSocket". */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { signal, type ReadonlySignal, type Signal } from "@preact/signals";
import { WatchResponseSchema, type WatchRequest, type WatchResponse, WatchRequestSchema } from "../gen/davit/control/v1/watch_pb";
import type { Problem } from "./client";
import { endOf, FLAG_END, frameOf, PREFIX } from "./envelope";
import { subscribeRequest, unsubscribeRequest, type Topic } from "./topics";

export type TopicState = "loading" | "ready" | "failed";
/** idle: nothing is watched. connecting: the first time, or again. waiting: it failed and is tried again at retryAt. offline: the browser
 * says that there is no network. asleep: the tab has been hidden for a while. */
export type LinkState = "idle" | "connecting" | "open" | "waiting" | "offline" | "asleep";

export interface Watched<M> {
    state: ReadonlySignal<TopicState>;
    /** What there is; while loading undefined. After a lost connection the last that was known. */
    model: ReadonlySignal<M | undefined>;
    problem: ReadonlySignal<Problem | undefined>;
    /** Gives it back; once. */
    release(): void;
    /** Asks again for a topic that failed. */
    retry(): void;
}

/** What the watch needs of the browser; tests give their own. */
export interface WatchEnv {
    open(): WebSocket;
    setTimer(f: () => void, ms: number): number;
    clearTimer(id: number): void;
    /** Calls @f before the next frame is drawn, or soon where none is drawn. */
    frame(f: () => void): void;
    random(): number;
    now(): number;
    online(): boolean;
    hidden(): boolean;
    /** Is somebody logged in? Asked when a connection does not come about, since browsers do not tell why. False ends the watch. */
    allowed(): Promise<boolean>;
    loggedOut(): void;
}

export const BACKOFF_MIN_MS = 500;
export const BACKOFF_MAX_MS = 10_000;
export const HIDDEN_MAX_MS = 60_000;
export const LINGER_MS = 3_000;
export const TOPICS_MAX = 30;
/** A topic that the server cannot tell just now is asked for again so often before that is told. */
export const TRIES_MAX = 5;
const TRY_AGAIN_MS = 1_500;
/** A connection that stood this long was a good one: the next loss begins with the shortest wait. */
const STEADY_MS = 5_000;

interface Entry {
    topic: Topic<unknown>;
    id: number;
    users: number;
    linger?: number;
    again?: number;
    tries: number;
    /** Of this connection, not shown before it is complete. */
    draft: unknown;
    complete: boolean;
    events: WatchResponse["event"][];
    state: Signal<TopicState>;
    model: Signal<unknown>;
    problem: Signal<Problem | undefined>;
}

export function envelope(message: WatchRequest): Uint8Array {
    return frameOf(toBinary(WatchRequestSchema, message));
}

/** Jitter is applied after the cap, so that many tabs do not come back at once. */
export function backoff(attempt: number, random: number): number {
    const base = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(attempt, 16));
    return Math.round(base * (0.75 + random * 0.5));
}

export class Watch {
    readonly link = signal<LinkState>("idle");
    /** When the next try is, in the milliseconds of env.now(); 0: none is due. */
    readonly retryAt = signal(0);
    private entries = new Map<string, Entry>();
    private byId = new Map<number, Entry>();
    private socket?: WebSocket;
    private opened = 0;
    private nextId = 1;
    private attempt = 0;
    private retryTimer?: number;
    private hideTimer?: number;
    private framed = false;
    private dirty = new Set<Entry>();
    private ended = false;

    constructor(private env: WatchEnv) {}

    /** Begins to watch @topic, or joins those who do. */
    take<M>(topic: Topic<M>): Watched<M> {
        let e = this.entries.get(topic.key);
        if (!e) e = this.add(topic as Topic<unknown>);
        /* Who comes to a topic that failed for somebody else wants a try of its own. */
        if (e.users === 0 && e.state.value === "failed") this.subscribe(e);
        e.users++;
        if (e.linger !== undefined) this.env.clearTimer(e.linger);
        e.linger = undefined;
        const entry = e;
        let held = true;
        return {
            state: entry.state,
            model: entry.model as Signal<M | undefined>,
            problem: entry.problem,
            release: () => {
                if (held) this.release(entry);
                held = false;
            },
            retry: () => this.subscribe(entry),
        };
    }

    /** The network is back, the page is seen again, somebody pressed "try now". */
    wake(): void {
        this.attempt = 0;
        if (this.socket && this.link.value === "open") return;
        this.connect();
    }

    /** The browser's word about the network. After "online" an old connection may be dead without knowing it. */
    networkChanged(): void {
        if (!this.env.online()) {
            this.drop();
            if (this.entries.size) this.link.value = "offline";
        } else {
            this.drop();
            this.wake();
        }
    }

    visibilityChanged(): void {
        if (this.hideTimer !== undefined) this.env.clearTimer(this.hideTimer);
        this.hideTimer = undefined;
        if (this.env.hidden()) {
            this.hideTimer = this.env.setTimer(() => {
                this.drop();
                if (this.entries.size) this.link.value = "asleep";
            }, HIDDEN_MAX_MS);
        } else {
            this.wake();
        }
    }

    private add(topic: Topic<unknown>): Entry {
        this.ended = false;
        const e: Entry = {
            topic,
            id: 0,
            users: 0,
            tries: 0,
            draft: undefined,
            complete: false,
            events: [],
            state: signal<TopicState>("loading"),
            model: signal<unknown>(undefined),
            problem: signal<Problem | undefined>(undefined),
        };
        this.entries.set(topic.key, e);
        if (this.entries.size > TOPICS_MAX) this.dropLingering(e);
        if (this.link.value === "open") this.subscribe(e);
        else if (this.link.value === "idle") this.connect();
        return e;
    }

    private release(e: Entry): void {
        if (--e.users > 0) return;
        /* A page that follows often takes the same topic: it is given back a little later. */
        e.linger = this.env.setTimer(() => this.forget(e), LINGER_MS);
    }

    private dropLingering(fresh: Entry): void {
        for (const e of [...this.entries.values()]) if (e.users === 0 && e !== fresh) this.forget(e);
    }

    private forget(e: Entry): void {
        if (e.linger !== undefined) this.env.clearTimer(e.linger);
        if (e.again !== undefined) this.env.clearTimer(e.again);
        this.unsubscribe(e);
        this.entries.delete(e.topic.key);
        this.dirty.delete(e);
        if (this.entries.size) return;
        this.drop();
        this.link.value = "idle";
    }

    private unsubscribe(e: Entry): void {
        /* A topic that failed is over on the server too, which takes an unsubscription of what is not there for nothing. */
        if (e.id && this.link.value === "open") this.send(unsubscribeRequest(e.id));
        this.byId.delete(e.id);
        e.id = 0;
    }

    private subscribe(e: Entry): void {
        if (this.link.value !== "open") return this.wake();
        if (e.again !== undefined) this.env.clearTimer(e.again);
        e.again = undefined;
        this.unsubscribe(e);
        e.id = this.nextId;
        this.nextId = this.nextId >= 0x7fffffff ? 1 : this.nextId + 1;
        this.byId.set(e.id, e);
        const last = e.model.value ?? e.draft;
        e.draft = e.topic.begin(last);
        e.complete = false;
        e.events = [];
        if (e.state.value === "failed") e.state.value = "loading";
        e.problem.value = undefined;
        this.send(subscribeRequest(e.topic, e.id, last));
    }

    private send(m: WatchRequest): void {
        this.socket?.send(envelope(m));
    }

    private connect(): void {
        if (this.retryTimer !== undefined) this.env.clearTimer(this.retryTimer);
        this.retryTimer = undefined;
        this.retryAt.value = 0;
        if (this.ended || !this.entries.size || this.socket) return;
        if (!this.env.online()) {
            this.link.value = "offline";
            return;
        }
        this.link.value = "connecting";
        let socket: WebSocket;
        try {
            socket = this.env.open();
        } catch {
            return this.again();
        }
        this.socket = socket;
        socket.binaryType = "arraybuffer";
        socket.onopen = () => this.onOpen(socket);
        socket.onmessage = (m: MessageEvent<unknown>) => this.onMessage(socket, m.data);
        socket.onclose = () => this.onClose(socket);
        socket.onerror = () => undefined; /* onclose follows */
    }

    private onOpen(socket: WebSocket): void {
        if (socket !== this.socket) return;
        this.opened = this.env.now();
        this.link.value = "open";
        for (const e of this.entries.values()) this.subscribe(e);
    }

    private onMessage(socket: WebSocket, data: unknown): void {
        if (socket !== this.socket) return;
        if (!(data instanceof ArrayBuffer) || data.byteLength < PREFIX) return this.lose();
        const body = new Uint8Array(data, PREFIX);
        if (new Uint8Array(data)[0]! & FLAG_END) return this.onEnd(endOf(body));
        let m: WatchResponse;
        try {
            m = fromBinary(WatchResponseSchema, body);
        } catch {
            return this.lose();
        }
        const e = this.byId.get(m.id);
        if (!e) return; /* it was given back meanwhile */
        e.events.push(m.event);
        this.dirty.add(e);
        if (this.framed) return;
        this.framed = true;
        this.env.frame(() => this.flush());
    }

    private flush(): void {
        this.framed = false;
        const dirty = [...this.dirty];
        this.dirty.clear();
        for (const e of dirty) this.publish(e);
    }

    private publish(e: Entry): void {
        const events = e.events;
        e.events = [];
        e.draft = e.topic.fold(e.draft, events);
        for (const event of events) {
            if (event.case === "ready" || event.case === "ended") e.complete = true;
            if (event.case === "ready") e.tries = 0;
            if (event.case === "ended" || event.case === "failed") {
                this.byId.delete(e.id);
                e.id = 0;
            }
            if (event.case === "failed") return this.fail(e, event.value);
        }
        if (!e.complete) return;
        e.model.value = e.draft;
        e.state.value = "ready";
    }

    /* The topic is over. What passes by itself is asked for again, and told only when it does not pass. */
    private fail(e: Entry, { code, message, hint }: Problem): void {
        if ((code === "unavailable" || code === "aborted") && ++e.tries < TRIES_MAX) {
            e.again = this.env.setTimer(() => this.subscribe(e), TRY_AGAIN_MS);
            return;
        }
        e.tries = 0;
        e.problem.value = { code, message, hint };
        e.state.value = "failed";
    }

    private onEnd(problem: Problem | undefined): void {
        if (problem?.code === "unauthenticated") return this.finish();
        this.lose();
    }

    private finish(): void {
        this.ended = true;
        this.drop();
        this.link.value = "idle";
        this.env.loggedOut();
    }

    private lose(): void {
        this.drop();
        this.again();
    }

    private onClose(socket: WebSocket): void {
        if (socket !== this.socket) return;
        const never = this.opened === 0;
        this.lose();
        if (!never) return;
        void this.env.allowed().then(
            (yes) => {
                if (!yes && !this.ended) this.finish();
            },
            () => undefined,
        );
    }

    /* Lets the connection go, if there is one, without a word about the next. */
    private drop(): void {
        const socket = this.socket;
        if (this.opened && this.env.now() - this.opened > STEADY_MS) this.attempt = 0;
        this.socket = undefined;
        this.opened = 0;
        this.byId.clear();
        for (const e of this.entries.values()) {
            e.id = 0;
            e.events = [];
        }
        this.dirty.clear();
        if (this.retryTimer !== undefined) this.env.clearTimer(this.retryTimer);
        this.retryTimer = undefined;
        this.retryAt.value = 0;
        socket?.close();
    }

    private again(): void {
        if (!this.entries.size) {
            this.link.value = "idle";
            return;
        }
        if (!this.env.online()) {
            this.link.value = "offline";
            return;
        }
        const wait = backoff(this.attempt++, this.env.random());
        this.link.value = "waiting";
        this.retryAt.value = this.env.now() + wait;
        this.retryTimer = this.env.setTimer(() => this.connect(), wait);
    }
}
