/* SPDX-License-Identifier: Apache-2.0 */
/* spec: what somebody typed into the deploy form -> a ServiceSpec, with the rules of src/spec (which has the last word). Each problem names
 * its field, so that it is shown beside it. Pure. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { HealthKind, type ServiceSpec, type ServiceSpecSchema } from "../gen/davit/common/v1/service_pb";

export const ENV_MAX = 512;
export const ENV_NAME_MAX = 256;
export const ENV_VALUE_MAX = 64 * 1024;
export const COMMAND_MAX = 128;
export const VOLUMES_MAX = 32;
export const PORTS_MAX = 64;
export const PATH_MAX = 1024;
export const IMAGE_MAX = 512;
export const ROUTES_MAX = 8;
export const REPLICAS_MAX = 32;

export interface EnvRow {
    name: string;
    value: string;
    /** Of the deployment that the form began with: it is masked, or comes as a file. */
    secret?: boolean;
    file?: string;
}
export interface PortRow {
    host: string; // address, may be empty
    hostPort: string;
    containerPort: string;
    protocol: string;
}
export interface VolumeRow {
    name: string;
    path: string;
    readOnly: boolean;
}
export interface RouteRow {
    hostname: string;
    port: string;
}
export interface SpecForm {
    project: string;
    name: string;
    image: string;
    command: string;
    env: EnvRow[];
    ports: PortRow[];
    volumes: VolumeRow[];
    routes: RouteRow[];
    replicas: string;
    /** Of the deployment that the form began with; it has no fields for these. */
    kept: Pick<MessageInitShape<typeof ServiceSpecSchema>, "binds" | "allow" | "capAdd">;
    cpus: string;
    memory: string;
    pids: string;
    restart: string;
    pull: string;
    readOnly: boolean;
    healthKind: HealthKind;
    healthPath: string;
    healthPort: string;
    healthInterval: string;
    healthTimeout: string;
    healthRetries: string;
    healthGrace: string;
}

/** Where a problem is ("ports.2.hostPort") -> what is wrong and what is allowed. */
export type Problems = Map<string, string>;

export function emptyForm(): SpecForm {
    return {
        project: "default",
        name: "",
        image: "",
        command: "",
        env: [],
        ports: [],
        volumes: [],
        routes: [],
        replicas: "",
        kept: {},
        cpus: "",
        memory: "",
        pids: "",
        restart: "unless-stopped",
        pull: "missing",
        readOnly: false,
        healthKind: HealthKind.NONE,
        healthPath: "/",
        healthPort: "",
        healthInterval: "",
        healthTimeout: "",
        healthRetries: "",
        healthGrace: "",
    };
}

export function isLabel(s: string): boolean {
    return /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(s);
}

export const LABEL = '1 to 63 of a-z, 0-9 and "-", not at the ends';
const utf8 = new TextEncoder();
const size = (s: string) => utf8.encode(s).length;

/** [host[:port]/]path[:tag][@sha256:hex] */
export function isImage(ref: string): boolean {
    if (!ref || size(ref) > IMAGE_MAX) return false;
    const at = ref.indexOf("@");
    if (at >= 0 && !/^sha256:[0-9a-f]{64}$/.test(ref.slice(at + 1))) return false;
    let rest = at >= 0 ? ref.slice(0, at) : ref;
    const colon = rest.lastIndexOf(":");
    if (colon > rest.lastIndexOf("/")) {
        if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/.test(rest.slice(colon + 1))) return false;
        rest = rest.slice(0, colon);
    }
    const parts = rest.split("/");
    const isPart = (p: string) => /^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/.test(p);
    return parts.every((p, i) => isPart(p) || (i === 0 && parts.length > 1 && isHost(p)));
}

/* The first part is a host if it looks like one: with a dot, a port, or "localhost". */
function isHost(p: string): boolean {
    const m = /^([A-Za-z0-9][A-Za-z0-9.-]*)(?::([0-9]{1,5}))?$/.exec(p);
    if (!m || !(p.includes(".") || p.includes(":") || p === "localhost")) return false;
    return m[2] === undefined || (Number(m[2]) > 0 && Number(m[2]) <= 65535);
}

/** "registry:5000/team/web-app:1.2" -> "web-app": the name that the CLI would give. */
export function nameOfImage(ref: string): string {
    const path = ref.split("@")[0] ?? "";
    const last = path.slice(path.lastIndexOf("/") + 1).split(":")[0] ?? "";
    return last.replace(/[^a-z0-9]/g, "-");
}

/** Host part of a reference, as registries are told apart; "" is the engine's own. */
export function registryOf(ref: string): string {
    const first = ref.split("/")[0] ?? "";
    return ref.includes("/") && (first.includes(".") || first.includes(":") || first === "localhost") ? first : "";
}

/** "0.5" -> 500 thousandths; undefined: no number of cores. "" is 0, no limit. */
export function parseCpus(text: string): number | undefined {
    const s = text.trim();
    if (!s) return 0;
    if (!/^\d{1,4}(\.\d{1,3})?$/.test(s)) return undefined;
    const milli = Math.round(Number(s) * 1000);
    return milli >= 10 && milli <= 1024000 ? milli : undefined;
}

/** "128m" -> bytes (k, m, g, t of 1024; a plain number is bytes). "" is 0, no limit. */
export function parseMemory(text: string): bigint | undefined {
    const m = /^(\d{1,15})\s*([kmgt]?)(i?b)?$/i.exec(text.trim());
    if (!text.trim()) return 0n;
    if (!m) return undefined;
    const shift = { "": 0n, k: 10n, m: 20n, g: 30n, t: 40n }[m[2]!.toLowerCase()] ?? 0n;
    const n = BigInt(m[1]!) << shift;
    return n >= 6n << 20n && n < 1n << 63n ? n : undefined;
}

/** "10s", "500ms", "5m", "1h" -> milliseconds; a plain number is seconds. "" is 0, the default. */
export function parseMs(text: string): number | undefined {
    const s = text.trim();
    if (!s) return 0;
    const m = /^(\d{1,9})\s*(ms|s|m|min|h)?$/.exec(s);
    if (!m) return undefined;
    return Number(m[1]) * { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000 }[m[2] ?? "s"]!;
}

/** Words as a shell would split them, with quotes and backslash; undefined: a quote is not closed. Nothing is expanded. */
export function parseCommand(text: string): string[] | undefined {
    const words: string[] = [];
    let word: string | undefined;
    let quote = "";
    for (let i = 0; i < text.length; i++) {
        const c = text[i]!;
        if (quote) {
            if (c === quote) quote = "";
            else if (c === "\\" && quote === '"' && i + 1 < text.length && '"\\$`'.includes(text[i + 1]!))
                word = (word ?? "") + text[++i]!;
            else word = (word ?? "") + c;
        } else if (c === "'" || c === '"') {
            quote = c;
            word ??= "";
        } else if (/\s/.test(c)) {
            if (word !== undefined) words.push(word);
            word = undefined;
        } else if (c === "\\") {
            if (i + 1 >= text.length) return undefined;
            word = (word ?? "") + text[++i]!;
        } else {
            word = (word ?? "") + c;
        }
    }
    if (quote) return undefined;
    if (word !== undefined) words.push(word);
    return words;
}

/** The text of a .env file -> rows. Lines without "=" are told as not understood. */
export function parseEnvText(text: string): { rows: EnvRow[]; bad: string[] } {
    const rows: EnvRow[] = [];
    const bad: string[] = [];
    for (const raw of text.split(/\r?\n/)) {
        const line = raw.replace(/^\s*(export\s+)?/, "");
        if (!line.trim() || line.startsWith("#")) continue;
        const eq = line.indexOf("=");
        if (eq <= 0) {
            bad.push(raw);
            continue;
        }
        let value = line.slice(eq + 1);
        const quoted = /^\s*(["'])(.*)\1\s*$/.exec(value);
        if (quoted) value = quoted[2]!;
        rows.push({ name: line.slice(0, eq).trim(), value });
    }
    return { rows, bad };
}

function isIp(s: string): boolean {
    const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(s);
    if (v4) return v4.slice(1).every((n) => String(Number(n)) === n && Number(n) <= 255);
    if (!s.includes(":") || !/^[0-9a-fA-F:.]+$/.test(s)) return false;
    try {
        return new URL(`http://[${s}]/`).hostname.length > 2;
    } catch {
        return false;
    }
}

/** Decimal digits only, so that "1e3" and " 8" are told instead of taken. */
function parsePort(s: string): number | undefined {
    return /^\d{1,5}$/.test(s.trim()) && Number(s) <= 65535 ? Number(s) : undefined;
}

export function checkEnv(env: EnvRow[], problems: Problems): void {
    const seen = new Set<string>();
    if (env.length > ENV_MAX) problems.set("env", `${env.length} variables; at most ${ENV_MAX} are allowed`);
    env.forEach((e, i) => {
        if (!/^[A-Za-z_.-][A-Za-z0-9_.-]*$/.test(e.name) || e.name.length > ENV_NAME_MAX)
            problems.set(`env.${i}.name`, `letters, digits and _.- without a digit in front, at most ${ENV_NAME_MAX}`);
        else if (seen.has(e.name)) problems.set(`env.${i}.name`, "it is given twice");
        if (size(e.value) > ENV_VALUE_MAX) problems.set(`env.${i}.value`, `longer than ${ENV_VALUE_MAX} bytes`);
        seen.add(e.name);
    });
}

export function isMountPath(p: string): boolean {
    if (size(p) < 2 || size(p) > PATH_MAX || !p.startsWith("/") || p.endsWith("/")) return false;
    // eslint-disable-next-line no-control-regex
    if (/[\u0000-\u001f:]/.test(p)) return false;
    return p
        .slice(1)
        .split("/")
        .every((part) => part !== "" && part !== "." && part !== "..");
}

/* Paths whose content the engine or the kernel makes. */
export function isForbiddenTarget(p: string): boolean {
    return ["/etc", "/run", "/var/run"].includes(p) || ["/proc", "/sys", "/dev"].some((t) => p === t || p.startsWith(t + "/"));
}

function checkVolumes(form: SpecForm, problems: Problems): void {
    const seen = new Set<string>();
    if (form.volumes.length > VOLUMES_MAX)
        problems.set("volumes", `${form.volumes.length} volumes; at most ${VOLUMES_MAX} are allowed`);
    form.volumes.forEach((v, i) => {
        if (!isLabel(v.name)) problems.set(`volumes.${i}.name`, LABEL);
        if (!isMountPath(v.path)) problems.set(`volumes.${i}.path`, 'an absolute path below / without ":", "." and ".."');
        else if (isForbiddenTarget(v.path)) problems.set(`volumes.${i}.path`, `nothing may be mounted on ${v.path}`);
        else if (seen.has(v.path)) problems.set(`volumes.${i}.path`, "it is given twice");
        seen.add(v.path);
    });
}

function checkPorts(form: SpecForm, problems: Problems): void {
    const seen = new Set<string>();
    if (form.ports.length > PORTS_MAX) problems.set("ports", `${form.ports.length} ports; at most ${PORTS_MAX} are allowed`);
    form.ports.forEach((p, i) => {
        const host = p.hostPort.trim() === "" ? 0 : parsePort(p.hostPort);
        const container = parsePort(p.containerPort);
        if (p.host.trim() && !isIp(p.host.trim())) problems.set(`ports.${i}.host`, "no IP address; leave it out for 127.0.0.1");
        if (!container) problems.set(`ports.${i}.containerPort`, "1 to 65535");
        if (host === undefined) problems.set(`ports.${i}.hostPort`, "1 to 65535, or nothing for any free one");
        const same = `${p.host.trim()} ${host} ${p.protocol}`;
        if (host && seen.has(same)) problems.set(`ports.${i}.hostPort`, "it is given twice");
        seen.add(same);
    });
}

/** RFC 1123, as the ingress takes it. */
export function isHostname(s: string): boolean {
    return s.length <= 253 && s.split(".").every((part) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(part));
}

function checkRoutes(form: SpecForm, problems: Problems): void {
    const seen = new Set<string>();
    if (form.routes.length > ROUTES_MAX)
        problems.set("routes", `${form.routes.length} hostnames; at most ${ROUTES_MAX} are allowed`);
    form.routes.forEach((r, i) => {
        const host = r.hostname.trim().toLowerCase();
        if (!isHostname(host)) problems.set(`routes.${i}.hostname`, "a hostname as shop.example.com, without port and path");
        else if (seen.has(host)) problems.set(`routes.${i}.hostname`, "it is given twice");
        if (r.port.trim() && !parsePort(r.port)) problems.set(`routes.${i}.port`, "1 to 65535, or nothing");
        seen.add(host);
    });
    const n = form.replicas.trim();
    if (n && (!/^\d{1,3}$/.test(n) || Number(n) < 1 || Number(n) > REPLICAS_MAX))
        problems.set("replicas", `1 to ${REPLICAS_MAX}, or nothing for as many as it has`);
}

function checkHealth(form: SpecForm, problems: Problems): void {
    const within = (field: string, text: string, min: number, max: number, allowed: string) => {
        const ms = parseMs(text);
        if (ms === undefined || (ms !== 0 && ms < min) || ms > max) problems.set(field, allowed);
    };
    if (form.healthKind === HealthKind.NONE) return;
    if (form.healthKind === HealthKind.HTTP && (!/^\/[\x21-\x7e]*$/.test(form.healthPath) || form.healthPath.length > PATH_MAX))
        problems.set("health.path", "begins with /, printable ASCII without blanks");
    if (form.healthPort.trim() && !parsePort(form.healthPort))
        problems.set("health.port", "1 to 65535, or nothing for the first that the image exposes");
    within("health.interval", form.healthInterval, 100, 300_000, "100ms to 5m");
    within("health.timeout", form.healthTimeout, 100, 60_000, "100ms to 1m");
    within("health.grace", form.healthGrace, 0, 1_800_000, "at most 30m");
    const retries = form.healthRetries.trim();
    if (retries && (!/^\d{1,3}$/.test(retries) || Number(retries) < 1 || Number(retries) > 100))
        problems.set("health.retries", "1 to 100");
}

export function checkLimits(form: Pick<SpecForm, "cpus" | "memory" | "pids">, problems: Problems): void {
    const pids = form.pids.trim();
    if (parseCpus(form.cpus) === undefined) problems.set("cpu", "0.01 to 1024 cores, or nothing for no limit");
    if (parseMemory(form.memory) === undefined)
        problems.set("memory", "at least 6m, for example 128m or 2g; nothing for no limit");
    if (pids && (!/^\d{1,7}$/.test(pids) || Number(pids) < 1 || Number(pids) > 4194304))
        problems.set("pids_limit", "1 to 4194304, or nothing for 512");
}

export function checkImage(image: string, problems: Problems): void {
    if (!isImage(image.trim())) problems.set("image", "allowed is [host[:port]/]name[:tag][@sha256:digest] in lower case");
}

export function checkWords(command: string, problems: Problems): void {
    const words = parseCommand(command);
    if (!words) problems.set("command", "a quote is not closed");
    else if (words.length > COMMAND_MAX || size(words.join("")) > 64 * 1024)
        problems.set("command", `at most ${COMMAND_MAX} words of together 64 KB`);
}

/** All that is wrong with @form; empty: nothing that is known here. */
export function checkForm(form: SpecForm): Problems {
    const problems: Problems = new Map();
    checkImage(form.image, problems);
    if (!isLabel(form.name)) problems.set("name", LABEL);
    if (!isLabel(form.project)) problems.set("project", LABEL);
    checkWords(form.command, problems);
    checkEnv(form.env, problems);
    checkPorts(form, problems);
    checkVolumes(form, problems);
    checkRoutes(form, problems);
    checkLimits(form, problems);
    checkHealth(form, problems);
    return problems;
}

/** @form passed checkForm. */
export function specOf(form: SpecForm): MessageInitShape<typeof ServiceSpecSchema> {
    return {
        project: form.project,
        name: form.name,
        image: form.image.trim(),
        command: parseCommand(form.command) ?? [],
        env: form.env.map((e) => ({ name: e.name, value: e.value, secret: e.secret ?? false, file: e.file ?? "" })),
        cpuMilli: BigInt(parseCpus(form.cpus) ?? 0),
        memoryBytes: parseMemory(form.memory) ?? 0n,
        pidsLimit: Number(form.pids.trim() || 0),
        ports: form.ports.map((p) => ({
            hostIp: p.host.trim(),
            hostPort: parsePort(p.hostPort) ?? 0,
            containerPort: parsePort(p.containerPort) ?? 0,
            protocol: p.protocol,
        })),
        volumes: form.volumes.map((v) => ({ name: v.name, path: v.path, readOnly: v.readOnly })),
        routes: form.routes.map((r) => ({ hostname: r.hostname.trim().toLowerCase(), port: parsePort(r.port) ?? 0 })),
        replicas: Number(form.replicas.trim() || 0),
        ...form.kept,
        restart: form.restart,
        pull: form.pull,
        readOnly: form.readOnly,
        health: {
            kind: form.healthKind,
            path: form.healthKind === HealthKind.HTTP ? form.healthPath : "",
            port: parsePort(form.healthPort) ?? 0,
            intervalMs: parseMs(form.healthInterval) ?? 0,
            timeoutMs: parseMs(form.healthTimeout) ?? 0,
            retries: Number(form.healthRetries.trim() || 0),
            graceMs: parseMs(form.healthGrace) ?? 0,
        },
    };
}

const number = (n: number | bigint) => (Number(n) ? String(n) : "");
const msText = (n: number) => (n === 0 ? "" : n % 1000 ? `${n}ms` : `${n / 1000}s`);
export const quote = (s: string) => (/^[A-Za-z0-9_./:@=,+-]+$/.test(s) ? s : `'${s.replace(/'/g, "'\\''")}'`);

/** What a deployment ran, as the form has it. Values of variables are not told by the control plane. */
export function formOf(s: ServiceSpec): SpecForm {
    const memory = s.memoryBytes && s.memoryBytes % (1n << 20n) === 0n ? `${s.memoryBytes >> 20n}m` : number(s.memoryBytes);
    return {
        project: s.project,
        name: s.name,
        image: s.image,
        command: s.command.map(quote).join(" "),
        env: s.env.map((e) => ({ name: e.name, value: "", secret: e.secret, file: e.file })),
        ports: s.ports.map((p) => ({
            host: p.hostIp,
            hostPort: number(p.hostPort),
            containerPort: number(p.containerPort),
            protocol: p.protocol || "tcp",
        })),
        volumes: s.volumes.map((v) => ({ name: v.name, path: v.path, readOnly: v.readOnly })),
        routes: s.routes.map((r) => ({ hostname: r.hostname, port: number(r.port) })),
        replicas: "",
        kept: { binds: s.binds, allow: s.allow, capAdd: s.capAdd },
        cpus: s.cpuMilli ? String(Number(s.cpuMilli) / 1000) : "",
        memory,
        pids: number(s.pidsLimit),
        restart: s.restart || "unless-stopped",
        pull: s.pull || "missing",
        readOnly: s.readOnly,
        healthKind: s.health?.kind ?? HealthKind.NONE,
        healthPath: s.health?.path || "/",
        healthPort: number(s.health?.port ?? 0),
        healthInterval: msText(s.health?.intervalMs ?? 0),
        healthTimeout: msText(s.health?.timeoutMs ?? 0),
        healthRetries: number(s.health?.retries ?? 0),
        healthGrace: msText(s.health?.graceMs ?? 0),
    };
}

const serverFields = new Map([
    ["volumes.name", "volumes"],
    ["volumes.path", "volumes"],
    ["ports.host_ip", "ports"],
    ["ports.container_port", "ports"],
    ["ports.host_port", "ports"],
    ["ports.protocol", "ports"],
    ["routes.hostname", "routes"],
    ["routes.port", "routes"],
    ["health.kind", "health.path"],
]);
const formFields = [
    "project",
    "name",
    "image",
    "command",
    "env",
    "volumes",
    "ports",
    "routes",
    "replicas",
    "cpu",
    "memory",
    "pids_limit",
    "restart",
    "pull",
    "server",
];

/** Which field of the form a refusal of the control plane speaks of ("image: ..."), and what it says there; undefined: of none. */
export function fieldOf(message: string): { field: string; text: string } | undefined {
    const m = /^([a-z_]+(?:\.[a-z_]+)?): (.+)$/s.exec(message);
    if (!m) return undefined;
    const field = serverFields.get(m[1]!) ?? m[1]!;
    return formFields.includes(field) || field.startsWith("health.") ? { field, text: m[2]! } : undefined;
}

/** The command that does the same, for whoever wants to do it again from a terminal. Values of variables are left out: they may be secret. */
export function cliOf(form: SpecForm, server: string): string {
    const out = ["davit", "deploy"];
    const put = (flag: string, value: string) => value && out.push(flag, quote(value));
    if (form.project !== "default") put("--project", form.project);
    if (form.name !== nameOfImage(form.image.trim())) put("--name", form.name);
    put("--server", server);
    /* A row that is not filled in yet is not told. */
    for (const e of form.env) if (e.name) out.push("--env", quote(e.name) + "=…");
    for (const p of form.ports) {
        if (!p.containerPort.trim()) continue;
        const host = p.host.trim() ? (p.host.includes(":") ? `[${p.host.trim()}]` : p.host.trim()) + ":" : "";
        put("--publish", `${host}${p.hostPort.trim() || 0}:${p.containerPort.trim()}${p.protocol === "udp" ? "/udp" : ""}`);
    }
    for (const v of form.volumes) if (v.name && v.path) put("--volume", `${v.name}:${v.path}${v.readOnly ? ":ro" : ""}`);
    for (const r of form.routes) if (r.hostname.trim()) put("--route", r.hostname.trim() + (r.port.trim() ? `:${r.port.trim()}` : ""));
    put("--replicas", form.replicas.trim());
    put("--cpus", form.cpus.trim());
    put("--memory", form.memory.trim());
    put("--pids", form.pids.trim());
    if (form.restart !== "unless-stopped") put("--restart", form.restart);
    if (form.pull !== "missing") put("--pull", form.pull);
    if (form.readOnly) out.push("--read-only");
    for (const b of form.kept.binds ?? []) put("--bind", `${b.source}:${b.path}${b.readOnly ? ":ro" : ""}`);
    for (const cap of form.kept.capAdd ?? []) put("--cap-add", cap);
    for (const right of form.kept.allow ?? []) put("--allow", right);
    /* With a hostname the control plane would check /health of itself. */
    if (form.healthKind === HealthKind.NONE && form.routes.some((r) => r.hostname.trim())) out.push("--health", "none");
    if (form.healthKind === HealthKind.HTTP) put("--health", form.healthPort.trim() + form.healthPath);
    if (form.healthKind === HealthKind.TCP) put("--health", form.healthPort.trim() ? "tcp:" + form.healthPort.trim() : "tcp");
    if (form.healthKind === HealthKind.DOCKER) out.push("--health", "docker");
    if (form.healthKind !== HealthKind.NONE) {
        const time = (flag: string, text: string) => put(flag, /^\d+$/.test(text.trim()) ? `${text.trim()}s` : text.trim());
        time("--health-interval", form.healthInterval);
        time("--health-timeout", form.healthTimeout);
        put("--health-retries", form.healthRetries.trim());
        time("--health-grace", form.healthGrace);
    }
    out.push(quote(form.image.trim() || "IMAGE"));
    const words = parseCommand(form.command) ?? [];
    if (words.length) out.push("--", ...words.map(quote));
    return out.join(" ");
}
