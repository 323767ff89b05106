/* SPDX-License-Identifier: Apache-2.0 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { DeploymentState } from "../../gen/davit/common/v1/service_pb";
import { ServerSchema, ServerState } from "../../gen/davit/control/v1/servers_pb";
import { ServiceSchema } from "../../gen/davit/control/v1/workloads_pb";
import { findings, fixOf, tally } from "../verdict";
import { containerState, serverState, serviceState } from "../words";

const NOW = 1_000_000;
const at = (ms: number) => BigInt(ms) * 1000n;
const server = (init: object) =>
    create(ServerSchema, { id: "1", name: "web-1", state: ServerState.ONLINE, health: "ok", ...init });
const service = (init: object) =>
    create(ServiceSchema, {
        project: "shop",
        name: "web",
        serverName: "web-1",
        serverOnline: true,
        state: DeploymentState.ACTIVE,
        containers: [{ id: "c", state: "running" }],
        ...init,
    });
const titles = (servers: object[], services: object[]) =>
    findings(servers.map(server), services.map(service), NOW).map((f) => f.title);

test("nothing is wrong", () => {
    assert.deepEqual(
        titles(
            [{}, { state: ServerState.PENDING, tokenExpiresUs: at(NOW + 1) }],
            [{}, { state: DeploymentState.DEPLOYING, containers: [] }],
        ),
        [],
    );
});

test("each kind of wrong is told once, the worst first", () => {
    const found = findings(
        [
            server({ health: "warning", healthReasons: ["disk low"] }),
            server({
                id: "2",
                name: "web-2",
                state: ServerState.OFFLINE,
                stateReason: "heartbeat_lost",
                lastHeartbeatUs: at(NOW - 5000),
            }),
            server({ id: "3", name: "web-3", state: ServerState.PENDING, tokenExpiresUs: at(NOW) }),
        ],
        [
            service({ state: DeploymentState.FAILED, failure: "no such image", containers: [] }),
            service({ name: "old", serverOnline: false }),
        ],
        NOW,
    );
    assert.deepEqual(
        found.map((f) => `${f.tone} ${f.title}`),
        [
            "bad Server web-2 is offline",
            "bad Service shop/web: failed",
            "warn Server web-1 needs you",
            "warn Server web-3 never connected",
        ],
    );
    assert.equal(found[0]!.text, "heartbeat_lost; last heartbeat 5 s ago");
    assert.equal(found[1]!.text, "no such image");
    assert.equal(found[1]!.href, "/services/shop/web");
});

test("a name never leads out of the page", () => {
    const [f] = findings([server({ name: "../..//x?y#z", state: ServerState.OFFLINE })], [], NOW);
    assert.equal(f!.href, "/servers/..%2F..%2F%2Fx%3Fy%23z");
});

test("what a service is", () => {
    const word = (init: object) => `${serviceState(service(init)).tone} ${serviceState(service(init)).word}`;
    assert.equal(word({}), "ok running");
    assert.equal(word({ containers: [{ state: "running", health: "unhealthy" }] }), "bad unhealthy");
    assert.equal(word({ containers: [{ state: "running", health: "starting" }] }), "pending starting");
    assert.equal(word({ containers: [{ state: "exited", exitCode: 0n }] }), "neutral stopped");
    assert.equal(word({ containers: [{ state: "exited", exitCode: 3n }] }), "bad exited");
    assert.equal(word({ containers: [{ state: "exited", exitCode: 137n, oomKilled: true }] }), "bad out of memory");
    assert.equal(word({ containers: [] }), "bad no container");
    assert.equal(word({ state: DeploymentState.FAILED }), "warn running, deployment failed");
    assert.equal(word({ state: DeploymentState.FAILED, containers: [] }), "bad failed");
    assert.equal(word({ serverOnline: false }), "warn server offline");
    assert.equal(word({ state: DeploymentState.HEALTH_CHECKING }), "pending health-checking");
    assert.equal(word({ state: 99 }), "neutral unknown");
    assert.equal(containerState({ state: "constructor" } as never).tone, "neutral");
    assert.equal(serverState({ state: ServerState.ONLINE, health: "warning" }).tone, "warn");
    assert.equal(serverState({ state: 99 as ServerState, health: "" }).word, "unknown");
});

test("each reason that the control plane gives has something to do about it", () => {
    for (const reason of [
        "offline: heartbeat_lost",
        "Docker does not answer: no socket",
        "its clock is 90 s ahead",
        "its clock is not set: it is before the build of its agent",
        "disk low: 5 MiB of 100 MiB are free",
        "its credentials were revoked: davit server token x makes a new token",
        "its certificate has expired",
        "the last renewal failed: x",
        "duplicate: another agent at 1.2.3.4 (h) uses this identity",
    ])
        assert.ok(fixOf(reason, "web-1").text, reason);
});

test("each service is counted once, so that the numbers add up", () => {
    const gone = { id: "c", state: "exited", exitCode: 0n };
    const all = [
        service({}),
        service({ state: DeploymentState.FAILED }), // the one before serves
        service({ state: DeploymentState.DEPLOYING }), // the one before serves meanwhile
        service({ state: DeploymentState.FAILED, containers: [] }),
        service({ containers: [{ id: "c", state: "running", health: "unhealthy" }] }),
        service({ state: DeploymentState.DEPLOYING, containers: [] }),
        service({ containers: [gone] }),
        service({ serverOnline: false }),
    ];
    const n = tally(all);
    assert.deepEqual(n, { running: 3, failed: 2, begun: 1, stopped: 1, unseen: 1 });
    assert.equal(Object.values(n).reduce((a, b) => a + b), all.length);
});
