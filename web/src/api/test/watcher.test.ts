/* SPDX-License-Identifier: Apache-2.0 */
/* The watch against a socket that the test plays, on a clock that the test turns. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { WatchRequestSchema, WatchResponseSchema, type WatchRequest } from "../../gen/davit/control/v1/watch_pb";
import { deploymentTopic, logsTopic, serversTopic, serverTopic, SAMPLES_MAX, usageTopic } from "../topics";
import {
    backoff,
    BACKOFF_MAX_MS,
    BACKOFF_MIN_MS,
    HIDDEN_MAX_MS,
    LINGER_MS,
    TOPICS_MAX,
    TRIES_MAX,
    Watch,
    type WatchEnv,
} from "../watcher";

class Socket {
    binaryType = "";
    closed = false;
    sent: WatchRequest[] = [];
    onopen?: () => void;
    onmessage?: (m: { data: unknown }) => void;
    onclose?: () => void;
    send(bytes: Uint8Array): void {
        assert.equal(bytes[0], 0);
        assert.equal(new DataView(bytes.buffer, bytes.byteOffset).getUint32(1), bytes.length - 5);
        this.sent.push(fromBinary(WatchRequestSchema, bytes.subarray(5)));
    }
    close(): void {
        this.closed = true;
    }
    tell(init: MessageInitShape<typeof WatchResponseSchema>): void {
        const body = toBinary(WatchResponseSchema, create(WatchResponseSchema, init));
        this.raw(0, body);
    }
    raw(flags: number, body: Uint8Array): void {
        const data = new Uint8Array(5 + body.length);
        data[0] = flags;
        new DataView(data.buffer).setUint32(1, body.length);
        data.set(body, 5);
        this.onmessage?.({ data: data.buffer });
    }
    end(json: unknown): void {
        this.raw(2, new TextEncoder().encode(JSON.stringify(json)));
    }
}

class World {
    sockets: Socket[] = [];
    timers = new Map<number, { f: () => void; at: number }>();
    frames: (() => void)[] = [];
    clock = 1_000_000;
    next = 1;
    isOnline = true;
    isHidden = false;
    isAllowed = true;
    outs = 0;
    env: WatchEnv = {
        open: () => {
            const s = new Socket();
            this.sockets.push(s);
            return s as unknown as WebSocket;
        },
        setTimer: (f, ms) => {
            this.timers.set(this.next, { f, at: this.clock + ms });
            return this.next++;
        },
        clearTimer: (id) => void this.timers.delete(id),
        frame: (f) => void this.frames.push(f),
        random: () => 0.5,
        now: () => this.clock,
        online: () => this.isOnline,
        hidden: () => this.isHidden,
        allowed: () => Promise.resolve(this.isAllowed),
        loggedOut: () => void this.outs++,
    };
    watch = new Watch(this.env);
    get last(): Socket {
        return this.sockets.at(-1)!;
    }
    pass(ms: number): void {
        this.clock += ms;
        for (const [id, t] of [...this.timers]) if (t.at <= this.clock && this.timers.delete(id)) t.f();
    }
    frame(): void {
        for (const f of this.frames.splice(0)) f();
    }
    server(id: string, name = id): MessageInitShape<typeof WatchResponseSchema> {
        return { id: this.last.sent.at(-1)!.id, event: { case: "server", value: { id, name } } };
    }
    ready(id = this.last.sent.at(-1)!.id): void {
        this.last.tell({ id, event: { case: "ready", value: true } });
        this.frame();
    }
}

const names = (m: Map<string, { name: string }> | undefined) => [...(m ?? []).values()].map((s) => s.name);

test("one socket, one subscription for many takers, given back after the last", () => {
    const w = new World();
    const a = w.watch.take(serversTopic());
    const b = w.watch.take(serversTopic());
    assert.equal(w.sockets.length, 1);
    w.last.onopen!();
    assert.equal(w.last.sent.length, 1);
    assert.equal(w.last.sent[0]!.what.case, "servers");
    assert.notEqual(w.last.sent[0]!.id, 0);
    const c = w.watch.take(serverTopic("web-1"));
    assert.equal(w.last.sent[1]!.what.case, "server");
    assert.notEqual(w.last.sent[1]!.id, w.last.sent[0]!.id);
    a.release();
    a.release();
    w.pass(LINGER_MS);
    assert.equal(w.last.sent.length, 2, "b still has it");
    b.release();
    w.pass(LINGER_MS);
    assert.equal(w.last.sent[2]!.what.case, "unsubscribe");
    assert.equal(w.last.sent[2]!.id, w.last.sent[0]!.id);
    assert.equal(w.last.closed, false);
    c.release();
    w.pass(LINGER_MS);
    assert.equal(w.last.closed, true, "nobody watches anything");
    assert.equal(w.watch.link.value, "idle");
});

test("a page that follows takes over without a new subscription", () => {
    const w = new World();
    const a = w.watch.take(serversTopic());
    w.last.onopen!();
    w.last.tell(w.server("1", "web-1"));
    w.ready();
    a.release();
    w.pass(LINGER_MS - 1);
    const b = w.watch.take(serversTopic());
    assert.equal(b.state.value, "ready");
    assert.deepEqual(names(b.model.value), ["web-1"]);
    w.pass(LINGER_MS * 2);
    assert.equal(w.last.sent.length, 1);
});

test("what there is comes at once when it is complete, changes once per frame", () => {
    const w = new World();
    const a = w.watch.take(serversTopic());
    let told = 0;
    a.model.subscribe(() => told++);
    w.last.onopen!();
    w.last.tell(w.server("1", "web-1"));
    w.frame();
    assert.equal(a.state.value, "loading");
    w.last.tell(w.server("2", "web-2"));
    w.ready();
    assert.equal(a.state.value, "ready");
    assert.deepEqual(names(a.model.value), ["web-1", "web-2"]);
    const before = told;
    for (let i = 0; i < 100; i++) w.last.tell(w.server("1", `web-${i}`));
    w.last.tell({ id: w.last.sent[0]!.id, event: { case: "serverRemoved", value: "2" } });
    assert.equal(told, before);
    w.frame();
    assert.equal(told, before + 1);
    assert.deepEqual(names(a.model.value), ["web-99"]);
});

test("after a lost connection the old is shown until the new is complete", () => {
    const w = new World();
    const a = w.watch.take(serversTopic());
    w.last.onopen!();
    w.last.tell(w.server("1", "web-1"));
    w.last.tell(w.server("2", "web-2"));
    w.ready();
    const id = w.last.sent[0]!.id;
    const old = w.last;
    w.last.onclose!();
    assert.equal(w.watch.link.value, "waiting");
    assert.equal(a.state.value, "ready");
    assert.deepEqual(names(a.model.value), ["web-1", "web-2"]);
    w.pass(BACKOFF_MIN_MS);
    assert.equal(w.sockets.length, 2);
    w.last.onopen!();
    assert.equal(w.watch.link.value, "open");
    assert.notEqual(w.last.sent[0]!.id, id);
    old.tell({ id: w.last.sent[0]!.id, event: { case: "server", value: { id: "9", name: "ghost" } } });
    w.last.tell(w.server("2", "web-2b"));
    w.frame();
    assert.deepEqual(names(a.model.value), ["web-1", "web-2"]);
    w.ready();
    assert.deepEqual(names(a.model.value), ["web-2b"], "what went away meanwhile is gone");
});

test("back-off grows to its cap with jitter behind it, and begins again after a steady connection", () => {
    assert.equal(backoff(0, 0.5), BACKOFF_MIN_MS);
    assert.equal(backoff(1, 0.5), 2 * BACKOFF_MIN_MS);
    assert.equal(backoff(30, 0.5), BACKOFF_MAX_MS);
    assert.notEqual(backoff(30, 0), backoff(30, 1));
    const w = new World();
    w.watch.take(serversTopic());
    for (const wait of [500, 1000, 2000, 4000, 8000, 10000, 10000]) {
        w.last.onclose!();
        assert.equal(w.watch.retryAt.value - w.clock, wait);
        w.pass(wait - 1);
        assert.equal(w.watch.link.value, "waiting");
        w.pass(1);
        assert.equal(w.watch.link.value, "connecting");
    }
    w.last.onopen!();
    w.pass(6000);
    w.last.onclose!();
    assert.equal(w.watch.retryAt.value - w.clock, 500);
});

test("hidden for a minute it sleeps, shown it comes back at once", () => {
    const w = new World();
    w.watch.take(serversTopic());
    w.last.onopen!();
    w.isHidden = true;
    w.watch.visibilityChanged();
    w.pass(HIDDEN_MAX_MS - 1);
    assert.equal(w.watch.link.value, "open");
    w.pass(1);
    assert.equal(w.watch.link.value, "asleep");
    assert.equal(w.last.closed, true);
    w.pass(100_000);
    assert.equal(w.sockets.length, 1);
    w.isHidden = false;
    w.watch.visibilityChanged();
    assert.equal(w.sockets.length, 2);
});

test("without network it waits for it, and what was open before is not trusted after it", () => {
    const w = new World();
    w.watch.take(serversTopic());
    w.last.onopen!();
    w.isOnline = false;
    w.watch.networkChanged();
    assert.equal(w.watch.link.value, "offline");
    w.pass(100_000);
    assert.equal(w.sockets.length, 1);
    w.isOnline = true;
    w.watch.networkChanged();
    assert.equal(w.sockets.length, 2);
    assert.equal(w.watch.link.value, "connecting");
});

test("a topic that fails says why, the others go on, and it can be tried again", () => {
    const w = new World();
    const a = w.watch.take(serversTopic());
    const b = w.watch.take(serverTopic("nope"));
    w.last.onopen!();
    const [first, second] = w.last.sent;
    w.last.tell({
        id: second!.id,
        event: { case: "failed", value: { code: "not_found", message: "no server nope", hint: "davit server ls" } },
    });
    w.frame();
    assert.equal(b.state.value, "failed");
    assert.deepEqual(b.problem.value, { code: "not_found", message: "no server nope", hint: "davit server ls" });
    w.ready(first!.id);
    assert.equal(a.state.value, "ready");
    b.retry();
    assert.equal(b.state.value, "loading");
    assert.equal(w.last.sent.length, 3);
    w.ready();
    assert.equal(b.state.value, "ready");
    assert.equal(b.problem.value, undefined);
});

test("what passes by itself is asked for again, a few times, before it is told", () => {
    const w = new World();
    const a = w.watch.take(serversTopic());
    w.last.onopen!();
    for (let i = 1; i < TRIES_MAX; i++) {
        w.last.tell({
            id: w.last.sent.at(-1)!.id,
            event: { case: "failed", value: { code: "unavailable", message: "the store" } },
        });
        w.frame();
        assert.equal(a.state.value, "loading");
        w.pass(2000);
        assert.equal(w.last.sent.filter((m) => m.what.case === "servers").length, i + 1);
    }
    w.last.tell({ id: w.last.sent.at(-1)!.id, event: { case: "failed", value: { code: "unavailable", message: "the store" } } });
    w.frame();
    assert.equal(a.state.value, "failed");
});

test("a topic that ended keeps what it told, and sends nothing when it is given back", () => {
    const w = new World();
    const a = w.watch.take(deploymentTopic("d"));
    const b = w.watch.take(serversTopic());
    w.last.onopen!();
    const id = w.last.sent[0]!.id;
    w.last.tell({ id, event: { case: "deployment", value: { id: "d" } } });
    w.last.tell({ id, event: { case: "step", value: { state: 4, progress: { step: "pull" } } } });
    w.last.tell({ id, event: { case: "ended", value: true } });
    w.frame();
    assert.equal(a.state.value, "ready");
    assert.equal(a.model.value?.deployment?.id, "d");
    assert.equal(a.model.value?.steps.length, 1);
    a.release();
    w.pass(LINGER_MS);
    assert.equal(w.last.sent.filter((m) => m.what.case === "unsubscribe").length, 0);
    b.release();
});

test("a log goes on behind the last entry after a lost connection", () => {
    const w = new World();
    const seen: string[] = [];
    w.watch.take(
        logsTopic({ project: "p", service: "s" }, 100, (r) =>
            seen.push(...r.entries.map((e) => new TextDecoder().decode(e.line))),
        ),
    );
    w.last.onopen!();
    const first = w.last.sent[0]!.what;
    assert.ok(first.case === "logs" && first.value.tail === 100n && first.value.sinceNs === 0n && first.value.follow);
    const line = (atNs: bigint, text: string) => ({
        id: w.last.sent.at(-1)!.id,
        event: { case: "logs" as const, value: { entries: [{ atNs, line: new TextEncoder().encode(text) }] } },
    });
    w.last.tell(line(5n, "one"));
    w.last.tell(line(7n, "two"));
    w.frame();
    w.last.onclose!();
    w.pass(500);
    w.last.onopen!();
    const again = w.last.sent[0]!.what;
    assert.ok(again.case === "logs" && again.value.tail === -1n && again.value.sinceNs === 8n);
    w.last.tell(line(9n, "three"));
    w.ready();
    assert.deepEqual(seen, ["one", "two", "three"]);
});

test("who is not logged in is told so, and nothing is tried again", async () => {
    const w = new World();
    w.watch.take(serversTopic());
    w.isAllowed = false;
    w.last.onclose!();
    await Promise.resolve();
    await Promise.resolve();
    assert.equal(w.outs, 1);
    w.pass(100_000);
    assert.equal(w.sockets.length, 1);
    const v = new World();
    v.watch.take(serversTopic());
    v.last.onopen!();
    v.last.end({ error: { code: "unauthenticated", message: "the session was ended" } });
    assert.equal(v.outs, 1);
    v.pass(100_000);
    assert.equal(v.sockets.length, 1);
});

test("an end, text, and bytes that are no message lose the connection and nothing else", () => {
    for (const spoil of [
        (s: Socket) => s.end({}),
        (s: Socket) => s.end({ error: { code: "unavailable", message: "going away" } }),
        (s: Socket) => s.raw(2, Uint8Array.of(0x7b)),
        (s: Socket) => s.raw(0, Uint8Array.of(0xff, 0xff, 0xff)),
        (s: Socket) => s.onmessage!({ data: "text" }),
        (s: Socket) => s.onmessage!({ data: new ArrayBuffer(4) }),
    ]) {
        const w = new World();
        w.watch.take(serversTopic());
        w.last.onopen!();
        spoil(w.last);
        assert.equal(w.watch.link.value, "waiting");
        w.pass(500);
        assert.equal(w.sockets.length, 2);
    }
});

test("there are never more subscriptions than the server allows, while lingering ones can go", () => {
    const w = new World();
    const taken = Array.from({ length: TOPICS_MAX }, (_, i) => w.watch.take(serverTopic(`s${i}`)));
    w.last.onopen!();
    for (const t of taken) t.release();
    w.watch.take(serverTopic("one-more"));
    const gone = w.last.sent.filter((m) => m.what.case === "unsubscribe").length;
    assert.equal(gone, TOPICS_MAX);
});

test("steps of a deployment: the last report of each, in their order", () => {
    const t = deploymentTopic("d");
    const step = (name: string, message: string) =>
        create(WatchResponseSchema, { event: { case: "step", value: { state: 2, progress: { step: name, message } } } }).event;
    const m = t.fold(t.begin(undefined), [step("pull", "1"), step("pull", "2"), step("create", "x"), step("pull", "3")]);
    assert.deepEqual(
        m.steps.map((s) => `${s.progress!.step} ${s.progress!.message}`),
        ["pull 3", "create x"],
    );
});

test("samples of usage are kept over a reconnect, once each, and not without end", () => {
    const t = usageTopic({ server: "web-1" });
    const at = (us: bigint) =>
        create(WatchResponseSchema, {
            event: { case: "usage", value: { rows: [{ serverName: "web-1", usage: { atUs: us, cpuMilli: 5 } }] } },
        }).event;
    let m = t.fold(t.begin(undefined), [at(1_000_000n), at(2_000_000n), at(2_000_000n)]);
    assert.equal(m.get("web-1")!.samples.length, 2);
    m = t.fold(t.begin(m), [at(3_000_000n)]);
    assert.equal(m.get("web-1")!.samples.length, 3);
    m = t.fold(
        m,
        Array.from({ length: 2 * SAMPLES_MAX }, (_, i) => at(BigInt(4_000_000 + i * 1_000_000))),
    );
    assert.equal(m.get("web-1")!.samples.length, SAMPLES_MAX);
});
