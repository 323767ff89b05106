/* SPDX-License-Identifier: Apache-2.0 */
/* The form of a sandbox: its rules, what it asks for, the command that does the same; and what is said of one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { SandboxSchema, SandboxState, SandboxTrust } from "../../gen/davit/common/v1/sandbox_pb";
import { EventSchema } from "../../gen/davit/control/v1/events_pb";
import { comingUp } from "../comingup";
import * as sandbox from "../sandbox";
import { findings } from "../verdict";
import { certificateState, sandboxState, sandboxTrust } from "../words";

const form = (change: Partial<sandbox.SandboxForm>) => ({ ...sandbox.emptySandbox(), image: "alpine", name: "dev", ...change });
const bad = (change: Partial<sandbox.SandboxForm>) => [...sandbox.checkSandbox(form(change)).keys()];
const box = (change: object) => create(SandboxSchema, { id: "0a", name: "dev", image: "alpine", ...change });

test("a sandbox needs an image and a name, and a project only where one is typed", () => {
    assert.deepEqual(bad({}), []);
    assert.deepEqual(bad({ image: "", name: "-" }), ["image", "name"]);
    assert.deepEqual(bad({ project: "Shop" }), ["project"]);
    assert.deepEqual(bad({ command: "'open", pids: "0" }), ["command", "pids_limit"]);
});

test("a workspace is an absolute folder on an absolute path that nothing else makes", () => {
    assert.deepEqual(bad({ folder: "/srv/shop" }), []);
    assert.deepEqual(bad({ folder: "srv", folderPath: "/proc/x" }), ["workspace.source", "workspace.path"]);
    assert.deepEqual(bad({ folder: "", folderPath: "x" }), [], "without a folder its path does not count");
    assert.equal(sandbox.sandboxSpec(form({})).workspace, undefined);
    assert.deepEqual(sandbox.sandboxSpec(form({ folder: " /srv/shop " })).workspace, { source: "/srv/shop", path: "/workspace", readOnly: false });
});

test("its network is closed unless somebody opened it", () => {
    assert.equal(sandbox.sandboxSpec(sandbox.emptySandbox()).openNetwork, false);
    assert.ok(!sandbox.sandboxCli(form({}), "").includes("--network"));
    assert.ok(sandbox.sandboxCli(form({ open: true }), "").includes("--network open alpine"));
});

test("the command does the same, without values", () => {
    const env = [{ name: "KEY", value: "secret" }];
    const f = form({ project: "shop", env, command: "sh -c 'a b'", folder: "/srv", folderPath: "/src", tty: false });
    assert.equal(
        sandbox.sandboxCli(f, "edge"),
        "davit run -d --name dev --project shop --server edge --env KEY=… --workspace /srv:/src alpine sh -c 'a b'",
    );
    assert.equal(sandbox.nameOfSandbox("registry:5000/team/web_app:1.2", "3f2a"), "web-app-3f2a");
    assert.equal(sandbox.nameOfSandbox("", "3f2a"), "");
});

test("a refusal finds its field", () => {
    assert.deepEqual(sandbox.sandboxField("workspace.source: no"), { field: "workspace.source", text: "no" });
    assert.equal(sandbox.sandboxField("steps.name: no"), undefined);
    assert.equal(sandbox.sandboxField("it went wrong"), undefined);
});

test("what is withheld needs somebody, what ended does not", () => {
    const failed = box({ state: SandboxState.FAILED, reason: "step_failed" });
    const strange = box({ id: "0b", project: "shop", trust: SandboxTrust.UNTRUSTED, reason: "label_mismatch" });
    const ended = box({ id: "0c", state: SandboxState.STOPPED, exitCode: 3 });
    assert.deepEqual(findings([], [], 0, [failed, strange, ended]).map((f) => [f.title, f.href]), [
        ["Sandbox dev: failed", "/sandboxes/0a"],
        ["Sandbox shop/dev: untrusted", "/sandboxes/0b"],
    ]);
    assert.equal(sandboxState(ended).tone, "warn");
    assert.equal(sandboxState(box({ state: SandboxState.STOPPED, oomKilled: true })).tone, "bad");
    assert.equal(sandboxTrust(strange).tone, "bad");
    assert.equal(sandboxState(box({ state: 99 })).word, "unknown");
});

test("a certificate is valid, late, over, refused, or not seen", () => {
    const at = 1_000_000_000_000;
    const of = (days: number, reason = "") => certificateState(box({ certificateEndsUs: BigInt(at + days * 86_400_000) * 1000n, reason }), at).word;
    assert.deepEqual([of(30), of(9), of(0), of(30, "cert_invalid")], ["valid", "not renewed", "expired", "refused"]);
    assert.equal(certificateState(box({}), at).word, "not seen");
    // Not known by its end, for the agent has not spoken with it: and what helps is no new sandbox.
    const over = box({ state: SandboxState.FAILED, trust: SandboxTrust.UNTRUSTED, reason: "cert_expired" });
    assert.equal(certificateState(over, at).word, "expired");
    for (const said of [certificateState(over, at), sandboxState(over), sandboxTrust(over)]) assert.match(said.meaning, /Stop it and start it/);
});

test("a start is told by its own events, in order, each step once", () => {
    const event = (kind: string, action: string, more: object = {}) => create(EventSchema, { kind, action, ...more });
    const step = (action: string, name: string, more: object = {}) => event("exec", action, { stepName: name, stepIndex: 1, stepCount: 1, ...more });
    const told = [
        event("sandbox", "start"),
        event("sandbox", "stop"),
        event("sandbox", "start"),
        event("session", "connecting"),
        event("session", "connected"),
        event("registry", "registered"),
        step("step_started", "deps"),
        step("step_failed", "deps", { exited: true, exitCode: 7n, detail: "npm: not found" }),
        event("sandbox", "failed", { reason: "step_failed" }),
    ].reverse();
    const steps = comingUp({ state: SandboxState.FAILED }, told);
    assert.deepEqual(
        steps.map((s) => [s.id, s.state]),
        [
            ["start", "done"],
            ["session", "done"],
            ["registry", "done"],
            ["step deps", "failed"],
            ["end", "failed"],
        ],
    );
    assert.equal(steps[3]?.message, "exit code 7, npm: not found");
    assert.deepEqual(comingUp({ state: SandboxState.RUNNING }, told.slice(0, 3)), [], "its start is not remembered");
    const cut = comingUp({ state: SandboxState.STOPPED }, [event("session", "connecting"), event("sandbox", "start")]);
    assert.equal(cut[1]?.state, "failed", "what was under way does not go on");
});
