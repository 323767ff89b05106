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
import { DoctorVerdict } from "../gen/davit/common/v1/system_pb";
import { ServerProfile, ServerState, type Server } from "../gen/davit/control/v1/servers_pb";
import { RolloutStepState } from "../gen/davit/control/v1/updates_pb";
import type { Deployment, Service } from "../gen/davit/control/v1/workloads_pb";

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
