/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox: what somebody typed into the form of a sandbox -> a SandboxSpec, with the rules of the control plane (which has the last word); and the
 * call that makes one. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Sandbox, SandboxSpecSchema } from "../gen/davit/common/v1/sandbox_pb";
import type { StepProgress } from "../gen/davit/common/v1/service_pb";
import { RunSandboxRequestSchema, RunSandboxResponseSchema } from "../gen/davit/control/v1/sandboxes_pb";
import type { Problem } from "./client";
import { openStream } from "./socket";
import {
    checkEnv,
    checkImage,
    checkLimits,
    checkWords,
    isForbiddenTarget,
    isLabel,
    isMountPath,
    LABEL,
    nameOfImage,
    parseCommand,
    parseCpus,
    parseMemory,
    quote,
    type EnvRow,
    type Problems,
} from "./spec";

export const WORKSPACE = "/workspace";

export interface SandboxForm {
    image: string;
    name: string;
    project: string;
    command: string;
    user: string;
    tty: boolean;
    env: EnvRow[];
    /** A folder of the server; "": none. */
    folder: string;
    folderPath: string;
    folderReadOnly: boolean;
    open: boolean;
    cpus: string;
    memory: string;
    pids: string;
    restart: string;
    pull: string;
    readOnly: boolean;
}

export function emptySandbox(): SandboxForm {
    return {
        image: "",
        name: "",
        project: "",
        command: "",
        user: "",
        tty: true,
        env: [],
        folder: "",
        folderPath: WORKSPACE,
        folderReadOnly: false,
        open: false,
        cpus: "",
        memory: "",
        pids: "",
        restart: "no",
        pull: "missing",
        readOnly: false,
    };
}

/** A name that nobody has: "alpine-3f2a", as the CLI gives it. */
export function nameOfSandbox(image: string, random: string): string {
    const base = nameOfImage(image).slice(0, 50);
    return base && `${base}-${random}`;
}

/** All that is wrong with @form; empty: nothing that is known here. */
export function checkSandbox(form: SandboxForm): Problems {
    const problems: Problems = new Map();
    checkImage(form.image, problems);
    if (!isLabel(form.name)) problems.set("name", LABEL);
    if (form.project && !isLabel(form.project)) problems.set("project", `${LABEL}; or nothing`);
    checkWords(form.command, problems);
    checkEnv(form.env, problems);
    checkLimits(form, problems);
    if (!form.folder.trim()) return problems;
    if (!isMountPath(form.folder.trim())) problems.set("workspace.source", 'an absolute path below / without ":", "." and ".."');
    if (!isMountPath(form.folderPath)) problems.set("workspace.path", 'an absolute path below / without ":", "." and ".."');
    else if (isForbiddenTarget(form.folderPath)) problems.set("workspace.path", `nothing may be mounted on ${form.folderPath}`);
    return problems;
}

/** @form passed checkSandbox. */
export function sandboxSpec(form: SandboxForm): MessageInitShape<typeof SandboxSpecSchema> {
    const folder = form.folder.trim();
    return {
        project: form.project,
        name: form.name,
        image: form.image.trim(),
        command: parseCommand(form.command) ?? [],
        env: form.env.map((e) => ({ name: e.name, value: e.value })),
        user: form.user.trim(),
        tty: form.tty,
        stdin: form.tty,
        ...(folder ? { workspace: { source: folder, path: form.folderPath, readOnly: form.folderReadOnly } } : {}),
        cpuMilli: BigInt(parseCpus(form.cpus) ?? 0),
        memoryBytes: parseMemory(form.memory) ?? 0n,
        pidsLimit: Number(form.pids.trim() || 0),
        restart: form.restart,
        pull: form.pull,
        readOnly: form.readOnly,
        openNetwork: form.open,
    };
}

/** The command that does the same. Values of variables are left out: they may be secret. */
export function sandboxCli(form: SandboxForm, server: string): string {
    const out = ["davit", "run", form.tty ? "-itd" : "-d"];
    const put = (flag: string, value: string) => value && out.push(flag, quote(value));
    put("--name", form.name);
    put("--project", form.project);
    put("--server", server);
    for (const e of form.env) if (e.name) out.push("--env", quote(e.name) + "=…");
    put("--user", form.user.trim());
    if (form.folder.trim()) put("--workspace", form.folder.trim() + (form.folderPath === WORKSPACE ? "" : `:${form.folderPath}`));
    put("--cpus", form.cpus.trim());
    put("--memory", form.memory.trim());
    put("--pids", form.pids.trim());
    if (form.restart !== "no") put("--restart", form.restart);
    if (form.pull !== "missing") put("--pull", form.pull);
    if (form.readOnly) out.push("--read-only");
    if (form.open) out.push("--network", "open");
    out.push(quote(form.image.trim() || "IMAGE"), ...(parseCommand(form.command) ?? []).map(quote));
    return out.join(" ");
}

const FIELDS = new Map([
    ["workspace.source", "workspace.source"],
    ["workspace.path", "workspace.path"],
    ...["image", "name", "project", "command", "env", "user", "cpu", "memory", "pids_limit", "restart", "pull", "server"].map(
        (f) => [f, f] as [string, string],
    ),
]);

/** Which field of the form a refusal speaks of, and what it says there; undefined: of none. */
export function sandboxField(message: string): { field: string; text: string } | undefined {
    const m = /^([a-z_]+(?:\.[a-z_]+)?): (.+)$/s.exec(message);
    const field = m && FIELDS.get(m[1]!);
    return field ? { field, text: m[2]! } : undefined;
}

export interface MakeHandler {
    step(p: StepProgress): void;
    made(sandbox: Sandbox): void;
    ended(problem: Problem | undefined): void;
}

/** Makes and starts it. Whoever closes the call ends the watching, not the making. */
export function makeSandbox(spec: MessageInitShape<typeof SandboxSpecSchema>, server: string, handler: MakeHandler): { close(): void } {
    return openStream(
        "davit.control.v1.SandboxService/RunSandbox",
        { request: RunSandboxRequestSchema, response: RunSandboxResponseSchema },
        { spec, server },
        {
            message: (m) => {
                if (m.progress) handler.step(m.progress);
                if (m.sandbox) handler.made(m.sandbox);
            },
            ended: handler.ended,
        },
    );
}
