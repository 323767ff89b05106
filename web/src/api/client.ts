/* SPDX-License-Identifier: Apache-2.0 */
/* client: the calls of the schema, typed, to the control plane that served this page. Every failure that a page shows goes through
 * toProblem, so that code, message and hint look alike everywhere. Who is logged out is told once, whatever call found it out. */
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { ContainerService, FileService } from "../gen/davit/control/v1/containers_pb";
import { CredentialService } from "../gen/davit/control/v1/credentials_pb";
import { DoctorService } from "../gen/davit/control/v1/doctor_pb";
import { EnvironmentService, RegistryService } from "../gen/davit/control/v1/environment_pb";
import { EventService } from "../gen/davit/control/v1/events_pb";
import { ImageService } from "../gen/davit/control/v1/images_pb";
import { ApiTokenService, SessionService } from "../gen/davit/control/v1/people_pb";
import { SandboxService } from "../gen/davit/control/v1/sandboxes_pb";
import { ServerService } from "../gen/davit/control/v1/servers_pb";
import { StatusService } from "../gen/davit/control/v1/status_pb";
import { UpdateService } from "../gen/davit/control/v1/updates_pb";
import { WorkloadService } from "../gen/davit/control/v1/workloads_pb";

/** A failure as people read it: what happened, and what to do about it (empty where nobody knows). */
export interface Problem {
    code: string;
    message: string;
    hint: string;
}

/* "NotFound" -> "not_found", as Connect names codes. */
export function codeName(code: Code): string {
    return (Code[code] ?? "Unknown").replace(/([a-z])([A-Z])/g, "$1_$2").toLowerCase();
}

/* The header carries it percent-encoded; what is not well-formed is shown as it came. */
export function decodeHint(text: string | null): string {
    if (!text) return "";
    try {
        return decodeURIComponent(text);
    } catch {
        return text;
    }
}

export function toProblem(e: unknown): Problem {
    const err = ConnectError.from(e);
    if (err.code === Code.Canceled) return { code: "canceled", message: "It was called off.", hint: "" };
    const hint = decodeHint(err.metadata.get("davit-hint"));
    /* A fetch that reached nobody comes as Unknown or Internal with the browser's words, which say nothing to people. */
    if (
        e instanceof TypeError ||
        err.cause instanceof TypeError ||
        /failed to fetch|networkerror|load failed/i.test(err.rawMessage)
    )
        return {
            code: "unavailable",
            message: "The control plane cannot be reached.",
            hint: "The page goes on by itself when it is back. On its machine `davit status` tells whether it runs.",
        };
    return { code: codeName(err.code), message: err.rawMessage || "It failed without a reason.", hint };
}

let unauthenticated: () => void = () => {
    const here = location.pathname + location.search;
    location.assign("/login?next=" + encodeURIComponent(here));
};

/** What happens when a call or the watch finds that nobody is logged in. The default loads the login page with the way back. */
export function onUnauthenticated(handler: () => void): void {
    unauthenticated = handler;
}

export function loggedOut(): void {
    unauthenticated();
}

const guard: Interceptor = (next) => async (request) => {
    try {
        return await next(request);
    } catch (e) {
        const own = request.service.typeName === SessionService.typeName;
        if (!own && ConnectError.from(e).code === Code.Unauthenticated) unauthenticated();
        throw e;
    }
};

const transport = createConnectTransport({
    baseUrl: typeof location === "undefined" ? "http://localhost" : location.origin,
    useBinaryFormat: true,
    interceptors: [guard],
    defaultTimeoutMs: 60_000,
    /* Nothing of ours is another site's business, and a redirect is never an answer. */
    fetch: (input, init) => fetch(input, { ...init, credentials: "same-origin", redirect: "error" }),
});

export const servers = createClient(ServerService, transport);
export const workloads = createClient(WorkloadService, transport);
export const statuses = createClient(StatusService, transport);
export const updates = createClient(UpdateService, transport);
export const doctors = createClient(DoctorService, transport);
export const credentials = createClient(CredentialService, transport);
export const sessions = createClient(SessionService, transport);
export const apiTokens = createClient(ApiTokenService, transport);
export const environments = createClient(EnvironmentService, transport);
export const registries = createClient(RegistryService, transport);
export const events = createClient(EventService, transport);
export const images = createClient(ImageService, transport);
export const containers = createClient(ContainerService, transport);
export const sandboxes = createClient(SandboxService, transport);
export const files = createClient(FileService, transport);
