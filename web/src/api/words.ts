/* SPDX-License-Identifier: Apache-2.0 */
/* words: each state of the schema as one word, what it means for whoever looks, and its tone. The tone is what colours and icons go by. */
import {
    HealthKind,
    DeploymentState,
    LogStream,
    StepState,
    type Container,
    type PortPublish,
} from "../gen/davit/common/v1/service_pb";
import { SandboxState, SandboxTrust, type Sandbox } from "../gen/davit/common/v1/sandbox_pb";
import { DoctorVerdict } from "../gen/davit/common/v1/system_pb";
import { ServerProfile, ServerState, type Server } from "../gen/davit/control/v1/servers_pb";
import { RolloutStepState } from "../gen/davit/control/v1/updates_pb";
import type { Deployment, Service } from "../gen/davit/control/v1/workloads_pb";
import { until } from "./format";

export type Tone = "ok" | "warn" | "bad" | "pending" | "neutral";

export interface Word {
    word: string;
    tone: Tone;
    meaning: string;
}

const say = (word: string, tone: Tone, meaning: string): Word => ({ word, tone, meaning });
const unknown = say("unknown", "neutral", "This page is older than the control plane and does not know the state.");

const serverStates: Record<number, Word> = {
    [ServerState.PENDING]: say("pending", "pending", "It was added, and its agent has not connected yet."),
    [ServerState.ONLINE]: say("online", "ok", "Its agent is connected."),
    [ServerState.OFFLINE]: say("offline", "bad", "Its agent is not connected. What runs there goes on."),
};

export function serverState(s: Pick<Server, "state" | "health">): Word {
    const word = serverStates[s.state] ?? unknown;
    return s.state === ServerState.ONLINE && s.health === "warning"
        ? { ...word, tone: "warn", meaning: "Connected, and something needs you." }
        : word;
}

export const profiles: { value: ServerProfile; word: string; meaning: string }[] = [
    { value: ServerProfile.UNKNOWN, word: "unknown", meaning: "not yet classified; you can set it later" },
    { value: ServerProfile.PUBLIC, word: "public", meaning: "it has a public IP address that others can reach" },
    { value: ServerProfile.LOCAL, word: "local", meaning: "it stands behind NAT, at home or in an office" },
];

export function profileWord(p: ServerProfile): string {
    return profiles.find((x) => x.value === p)?.word ?? "unknown";
}

const deploymentStates: Record<number, Word> = {
    [DeploymentState.PENDING]: say("pending", "pending", "Recorded; its server has not begun."),
    [DeploymentState.DEPLOYING]: say("deploying", "pending", "The server is at work."),
    [DeploymentState.HEALTH_CHECKING]: say("health-checking", "pending", "The new container runs and is being checked."),
    [DeploymentState.ACTIVE]: say("active", "ok", "This is what runs."),
    [DeploymentState.FAILED]: say("failed", "bad", "It did not come up. What ran before goes on."),
    [DeploymentState.SUPERSEDED]: say("superseded", "neutral", "A later deployment took its place."),
    [DeploymentState.ROLLED_BACK]: say("rolled-back", "neutral", "A rollback to an earlier one took its place."),
    [DeploymentState.CANCELLED]: say("cancelled", "neutral", "It was called off before it was active."),
    [DeploymentState.REMOVED]: say("removed", "neutral", "The service was removed."),
};

export function deploymentState(state: DeploymentState): Word {
    return deploymentStates[state] ?? unknown;
}

export function deploymentEnded(state: DeploymentState): boolean {
    return state >= DeploymentState.ACTIVE;
}

const EARLIER_MAX = 20;

/** What of a service's deployments can be gone back to, the newest first: what was active once and is not now. */
export function earlier(list: Deployment[], active: string): Deployment[] {
    return list
        .filter((d) => d.wasActive && d.id !== active)
        .sort((a, b) => (a.createdUs < b.createdUs ? 1 : -1))
        .slice(0, EARLIER_MAX);
}

const stepStates: Record<number, Word> = {
    [StepState.RUNNING]: say("running", "pending", ""),
    [StepState.DONE]: say("done", "ok", ""),
    [StepState.FAILED]: say("failed", "bad", ""),
    [StepState.UNDONE]: say("undone", "neutral", "Taken back after a later step failed."),
};

export function stepState(state: StepState): Word {
    return stepStates[state] ?? say("waiting", "neutral", "");
}

const steps = new Map([
    ["pull", "Get the image"],
    ["runtime", "Bring the supervisor"],
    ["material", "Make its key and certificate"],
    ["inspect", "Look at the image"],
    ["network", "Make the network"],
    ["volumes", "Make the volumes"],
    ["create", "Make the container"],
    ["admit", "See whether there is room"],
    ["stop_old", "Stop the one before, where it is in the way"],
    ["start", "Start it"],
    ["health", "Check that it is healthy"],
    ["route", "Lead requests to it"],
    ["drain", "Let the one before finish"],
    ["commit", "Make it the active one"],
    ["retire", "Retire the one before"],
    ["ready", "Registration and steps"],
]);

export function stepTitle(step: string): string {
    return steps.get(step) ?? step;
}

const verdicts: Record<number, Word> = {
    [DoctorVerdict.OK]: say("ok", "ok", ""),
    [DoctorVerdict.WARN]: say("warning", "warn", ""),
    [DoctorVerdict.FAIL]: say("fail", "bad", ""),
};

export function doctorVerdict(v: DoctorVerdict): Word {
    return verdicts[v] ?? unknown;
}

const rolloutSteps: Record<number, Word> = {
    [RolloutStepState.WAITING]: say("waiting", "pending", ""),
    [RolloutStepState.RUNNING]: say("running", "pending", ""),
    [RolloutStepState.CONFIRMING]: say("confirming", "pending", "Its agent is done and has still to report the new version."),
    [RolloutStepState.DONE]: say("done", "ok", ""),
    [RolloutStepState.FAILED]: say("failed", "bad", "It runs what it ran before."),
    [RolloutStepState.SKIPPED]: say("skipped", "neutral", ""),
};

export function rolloutStep(s: RolloutStepState): Word {
    return rolloutSteps[s] ?? unknown;
}

const containerStates = new Map<string, Tone>([
    ["running", "ok"],
    ["created", "pending"],
    ["restarting", "warn"],
    ["removing", "pending"],
    ["paused", "neutral"],
    ["exited", "bad"],
    ["dead", "bad"],
]);

/** What a container does, as one word with the health where it has one. Whether an end was meant is known from the exit code only. */
export function containerState(c: Container): Word {
    const health = c.health && c.health !== "none" ? c.health : "";
    if (c.state === "running" && health === "unhealthy") return say("unhealthy", "bad", "It runs, and its health check fails.");
    if (c.state === "running" && health === "starting")
        return say("starting", "pending", "It runs, and its first health check is still to come.");
    if (c.state === "running" && health) return say("running", "ok", "It runs and is healthy.");
    if (c.state === "exited" && c.oomKilled) return say("out of memory", "bad", "The kernel ended it at its memory limit.");
    if (c.state === "exited" && c.exitCode === 0n) return say("exited", "neutral", "It ended by itself, with status 0.");
    if (c.state === "exited" && (c.exitCode === 137n || c.exitCode === 143n))
        return say("stopped", "neutral", `It was told to end (status ${c.exitCode}).`);
    if (c.state === "exited") return say("exited", "bad", `It ended with status ${c.exitCode}.`);
    return say(c.state || "unknown", containerStates.get(c.state) ?? "neutral", "");
}

/** The one word for a service in a list: what its containers do now, before what its newest deployment says. */
export function serviceState(s: Service): Word {
    const running = s.containers.filter((c) => c.state === "running");
    if (!s.serverOnline)
        return say("server offline", "warn", `Server ${s.serverName} is offline. What is shown is the last that was known.`);
    if (s.state === DeploymentState.FAILED && running.length)
        return say("running, deployment failed", "warn", "The newest deployment failed; the one before serves.");
    if (s.state === DeploymentState.FAILED)
        return say("failed", "bad", s.failure || "The newest deployment failed and nothing runs.");
    /* A newest one that was called off changed nothing. */
    if (s.state === DeploymentState.ACTIVE || s.state === DeploymentState.SUPERSEDED || s.state === DeploymentState.CANCELLED) {
        const worst = s.containers.map(containerState).find((w) => w.tone === "bad" || w.tone === "warn");
        if (worst) return worst;
        if (!s.containers.length) return say("no container", "bad", "Its container is gone. Deploy it again.");
        const busy = s.containers.map(containerState).find((w) => w.tone === "pending");
        if (busy) return busy;
        return running.length ? say("running", "ok", "It runs.") : say("stopped", "neutral", "It was stopped.");
    }
    return deploymentState(s.state);
}

/** "shop/dev", or "dev" where it is of no project. */
export function sandboxTitle(s: Pick<Sandbox, "project" | "name">): string {
    return s.project ? `${s.project}/${s.name}` : s.name;
}

/* Why a sandbox is withheld: what it means, and what to do about it. */
const withheld = new Map([
    ["step_failed", "One of its steps failed, so its program was not started. What the step wrote stands in the log."],
    ["session_failed", "Its supervisor cannot be spoken with. Starting it again often helps; the log says more."],
    ["register_failed", "It could not register. Its server tries again by itself."],
    ["cert_expired", "Its certificate has run out. Stop it and start it: it gets another."],
    ["cert_invalid", "Its certificate is not believed. Stop it and start it; where that does not help, remove it and make it anew."],
    ["cert_thumbprint_mismatch", "It shows another certificate than the one that is registered. Remove it and make it anew."],
    ["container_mismatch", "Another container claims to be it. Remove it and make it anew."],
    ["label_mismatch", "Its labels or its own word do not say what it was made as. Remove it and make it anew."],
    ["init_bypassed", "Its program was started past the supervisor. Remove it and make it anew."],
]);

/** What a sandbox's reason means; "" where there is none. */
export function sandboxReason(reason: string): string {
    return reason && (withheld.get(reason) ?? `The reason is ${reason}.`);
}

export function sandboxState(s: Sandbox): Word {
    const reason = sandboxReason(s.reason);
    switch (s.state) {
        case SandboxState.CREATING:
            return say("creating", "pending", "It is being made.");
        case SandboxState.STARTING:
            return say("starting", "pending", reason || "Its container runs; its program waits for its registration and its steps.");
        case SandboxState.RUNNING:
            return say("running", "ok", "Its program runs.");
        case SandboxState.STOPPED:
            return s.oomKilled
                ? say("out of memory", "bad", "The kernel ended processes of it because its memory ran out.")
                : say("stopped", s.exitCode === 0 ? "neutral" : "warn", `Its program ended with exit code ${s.exitCode}.`);
        case SandboxState.FAILED:
            return say("failed", "bad", reason || s.message || "Its program was not started.");
        case SandboxState.REMOVED:
            return say("removed", "neutral", "It is gone.");
        default:
            return unknown;
    }
}

export function sandboxTrust(s: Sandbox): Word {
    switch (s.trust) {
        case SandboxTrust.REGISTERED:
            return say("registered", "ok", "It proved who it is, and is in the register.");
        case SandboxTrust.UNTRUSTED:
            return say("untrusted", "bad", sandboxReason(s.reason) || "It did not prove who it is. Its program and its network are withheld.");
        default:
            return say(
                "unregistered",
                s.state === SandboxState.STARTING ? "pending" : "neutral",
                "It has not registered. It does at its first start.",
            );
    }
}

const CERTIFICATE_LATE_MS = 10 * 86_400_000;

/** Of its certificate at @nowMs, on the control plane. It is renewed 20 days before its end. */
export function certificateState(s: Sandbox, nowMs: number): Word {
    const left = Number(s.certificateEndsUs / 1000n) - nowMs;
    if (s.reason === "cert_invalid" || s.reason === "cert_thumbprint_mismatch") return say("refused", "bad", sandboxReason(s.reason));
    if (s.reason === "cert_expired") return say("expired", "bad", sandboxReason(s.reason));
    if (s.certificateEndsUs === 0n)
        return say("not seen", "neutral", "Its server's agent has not spoken with it since it was started, so when it ends is not known here.");
    if (left <= 0) return say("expired", "bad", "It has run out. Starting the sandbox again makes another one.");
    if (left < CERTIFICATE_LATE_MS) return say("not renewed", "warn", "It should have been renewed by now; that needs its server and a session.");
    return say("valid", "ok", `It ends ${until(s.certificateEndsUs, nowMs)}, and is renewed by itself 20 days before.`);
}

/** A sandbox whose program is withheld, and not because somebody stopped it. */
export function isWithheld(s: Sandbox): boolean {
    return s.state === SandboxState.FAILED || s.trust === SandboxTrust.UNTRUSTED;
}

/* After a failed deployment it is the container of the one before that serves, on its ports. */
export function servicePorts(s: Service): PortPublish[] {
    const old = s.state === DeploymentState.FAILED ? s.containers[0] : undefined;
    return old ? old.ports : s.ports;
}

export const healthKinds: { value: HealthKind; word: string; meaning: string }[] = [
    { value: HealthKind.NONE, word: "none", meaning: "running for a moment is enough" },
    { value: HealthKind.HTTP, word: "HTTP", meaning: "GET of a path must answer 200 to 399" },
    { value: HealthKind.TCP, word: "TCP", meaning: "a connection to a port must open" },
    { value: HealthKind.DOCKER, word: "Docker", meaning: "the HEALTHCHECK of the image itself" },
];

export function isStderr(stream: LogStream): boolean {
    return stream === LogStream.STDERR;
}
