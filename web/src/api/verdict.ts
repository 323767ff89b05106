/* SPDX-License-Identifier: Apache-2.0 */
/* verdict: is everything all right? What needs somebody, worst first, each with the place where it is mended. Pure. */
import type { Sandbox } from "../gen/davit/common/v1/sandbox_pb";
import { DeploymentState } from "../gen/davit/common/v1/service_pb";
import { ServerState, type Server } from "../gen/davit/control/v1/servers_pb";
import type { Service } from "../gen/davit/control/v1/workloads_pb";
import { ago, ms } from "./format";
import { isWithheld, sandboxState, sandboxTitle, sandboxTrust, serviceState } from "./words";

export interface Finding {
    id: string;
    tone: "bad" | "warn";
    title: string;
    text: string;
    href: string;
    action: string;
}

const path = (...parts: string[]) => "/" + parts.map(encodeURIComponent).join("/");

function serverFinding(s: Server, nowMs: number): Finding | undefined {
    const href = path("servers", s.name);
    const id = `server ${s.id}`;
    const revoked = s.revoked ? "Its credentials were revoked; it needs a new token. " : "";
    if (s.state === ServerState.OFFLINE) {
        const why = s.stateReason ? `${s.stateReason}; ` : "";
        return {
            id,
            tone: "bad",
            title: `Server ${s.name} is offline`,
            text: `${revoked}${why}last heartbeat ${ago(s.lastHeartbeatUs, nowMs)}`,
            href,
            action: "See what to do",
        };
    }
    if (s.state === ServerState.PENDING) {
        if (ms(s.tokenExpiresUs) > nowMs) return undefined;
        return {
            id,
            tone: "warn",
            title: `Server ${s.name} never connected`,
            text: "Its token is void. A new one takes its place.",
            href,
            action: "Make a new token",
        };
    }
    if (s.health !== "warning") return undefined;
    return {
        id,
        tone: "warn",
        title: `Server ${s.name} needs you`,
        text: s.healthReasons.join("; "),
        href,
        action: "See what to do",
    };
}

function serviceFinding(s: Service): Finding | undefined {
    const state = serviceState(s);
    /* What a server that is away means for its services is told once, of the server. */
    if (!s.serverOnline || (state.tone !== "bad" && state.tone !== "warn")) return undefined;
    const name = `${s.project}/${s.name}`;
    const text = s.state === DeploymentState.FAILED && s.failure ? s.failure : state.meaning;
    return {
        id: `service ${name}`,
        tone: state.tone,
        title: `Service ${name}: ${state.word}`,
        text,
        href: path("services", s.project, s.name),
        action: "Open it",
    };
}

function sandboxFinding(s: Sandbox): Finding | undefined {
    if (!isWithheld(s)) return undefined;
    const trust = sandboxTrust(s);
    const worst = trust.tone === "bad" ? trust : sandboxState(s);
    return {
        id: `sandbox ${s.id}`,
        tone: "bad",
        title: `Sandbox ${sandboxTitle(s)}: ${worst.word}`,
        text: worst.meaning,
        href: path("sandboxes", s.id),
        action: "Open it",
    };
}

export function findings(
    servers: Iterable<Server>,
    services: Iterable<Service>,
    nowMs: number,
    sandboxes: Iterable<Sandbox> = [],
): Finding[] {
    const all = [
        ...[...servers].map((s) => serverFinding(s, nowMs)),
        ...[...services].map(serviceFinding),
        ...[...sandboxes].map(sandboxFinding),
    ];
    const found = all.filter((f) => f !== undefined) as Finding[];
    return found.sort((a, b) => (a.tone === b.tone ? a.title.localeCompare(b.title) : a.tone === "bad" ? -1 : 1));
}

export interface Tally {
    running: number;
    failed: number;
    begun: number;
    stopped: number;
    unseen: number;
}

/** Each service counted once: what cannot be seen, else what is broken, what serves, what is on its way, and what was stopped. */
export function tally(services: Iterable<Service>): Tally {
    const n: Tally = { running: 0, failed: 0, begun: 0, stopped: 0, unseen: 0 };
    for (const s of services) {
        const tone = serviceState(s).tone;
        if (!s.serverOnline) n.unseen++;
        else if (tone === "bad") n.failed++;
        else if (s.containers.some((c) => c.state === "running")) n.running++;
        else if (tone === "pending" || tone === "warn") n.begun++;
        else n.stopped++;
    }
    return n;
}

/** What to do about one of a server's health reasons (src/control/servers/servers.c makes them): a command for its machine or ours, or empty. */
export function fixOf(reason: string, server: string): { text: string; command: string } {
    const fixes: [RegExp, string, string][] = [
        [
            /^offline/,
            "On that machine, look at its agent and why it does not reach this control plane:",
            "sudo systemctl status davit-agent && sudo davit-agent doctor",
        ],
        [/^Docker does not answer/, "On that machine, see whether Docker runs:", "sudo systemctl status docker"],
        [/^its clock/, "On that machine, let the clock follow the network:", "sudo timedatectl set-ntp true"],
        [
            /^disk low/,
            "On that machine, see what takes the space, then let go what nobody uses:",
            "docker system df && docker image prune",
        ],
        [/credentials were revoked/, "Make a new token here and run its command on that machine.", ""],
        [/certificate|renewal/, "Have it renew its credentials now:", `davit server rotate ${server}`],
        [
            /^duplicate/,
            "Two machines have one identity, as after a copy of a disk. On the copy, end its agent;" +
                " add it here as a server of its own and run that command with --force:",
            "sudo systemctl disable --now davit-agent",
        ],
    ];
    const fix = fixes.find(([when]) => when.test(reason));
    return fix ? { text: fix[1], command: fix[2] } : { text: "", command: "" };
}
