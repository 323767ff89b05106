/* SPDX-License-Identifier: Apache-2.0 */
/* server: all that is known of one server, live, and what can be done with it. */
import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";

import { bytes, hostPort, percent, rate, short } from "../api/format";
import { serverTopic, usageTopic, type ServerModel } from "../api/topics";
import { fixOf } from "../api/verdict";
import { useWatch } from "../api/watch";
import { containerState, profileWord } from "../api/words";
import type { Container } from "../gen/davit/common/v1/service_pb";
import type { SystemInfo } from "../gen/davit/common/v1/system_pb";
import { ServerState, type Server } from "../gen/davit/control/v1/servers_pb";
import {
    Ago,
    Button,
    Card,
    CopyButton,
    Empty,
    Gauge,
    inert,
    KeyValues,
    Menu,
    Notice,
    Page,
    Skeleton,
    SkeletonTable,
    Table,
    Time,
    Until,
    type Column,
} from "../parts";
import { href } from "../shell/router";
import { Away, Clip, ContainerBadge, Loaded, ServerBadge } from "./common";
import { AgentCard, DoctorCard, EditServer, Fix, RemoveServer, RotateServer } from "./server_deeds";
import { ForeignContainers, PruneServer, ServerImages, ServerVolumes } from "./server_things";
import { NewToken } from "./server_token";
import { UsagePlots } from "./usage";

const portText = (c: Container) =>
    c.ports
        .map((p) => `${hostPort(p.hostIp || "0.0.0.0", p.hostPort)}→${p.containerPort}${p.protocol === "udp" ? "/udp" : ""}`)
        .join(", ");
const serviceOf = (c: Container) => (c.service ? `${c.project}/${c.service}` : "");

const columns: Column<Container>[] = [
    {
        id: "name",
        title: "Name",
        render: (c) => <Clip text={c.name || short(c.id)} />,
        sort: (c) => c.name,
        text: (c) => c.name,
        card: "title",
    },
    {
        id: "state",
        title: "State",
        render: (c) => <ContainerBadge container={c} />,
        sort: (c) => c.state,
        text: (c) => containerState(c).word,
        width: "8rem",
    },
    {
        id: "service",
        title: "Service",
        render: (c) => <Clip text={serviceOf(c) || "not of Davit"} />,
        sort: serviceOf,
        text: serviceOf,
        width: "11rem",
    },
    { id: "image", title: "Image", render: (c) => <Clip text={c.image} mono />, sort: (c) => c.image, text: (c) => c.image },
    {
        id: "ports",
        title: "Ports",
        render: (c) => <Clip text={portText(c) || "-"} mono />,
        text: portText,
        width: "11rem",
        card: "hide",
    },
    {
        id: "since",
        title: "Since",
        render: (c) => <Ago us={c.state === "running" ? c.startedAtUs : c.finishedAtUs} />,
        sort: (c) => c.startedAtUs,
        align: "end",
        width: "7.5rem",
    },
];

function Reasons({ server, onToken }: { server: Server; onToken: () => void }) {
    const token = (
        <Button size="small" icon="key" onClick={onToken}>
            Generate new token
        </Button>
    );
    if (server.state === ServerState.PENDING) {
        const open = server.tokenExpiresUs > 0n;
        return (
            <Notice
                tone={open ? "pending" : "warn"}
                title={open ? "It has not connected yet" : "It never connected, and its token is void"}
                actions={token}
            >
                {open ? (
                    <p>
                        The token that was shown works until <Time us={server.tokenExpiresUs} />. If the command failed or was
                        lost, make a new one.
                    </p>
                ) : (
                    <p>A new token takes its place.</p>
                )}
            </Notice>
        );
    }
    return (
        <>
            {server.healthReasons.map((reason) => (
                <Notice
                    key={reason}
                    tone={server.state === ServerState.OFFLINE ? "bad" : "warn"}
                    title={inert(reason)}
                    actions={/revoked/.test(reason) ? token : undefined}
                >
                    <Fix {...fixOf(reason, server.name)} />
                </Notice>
            ))}
        </>
    );
}

function UsageCards({ server }: { server: Server }) {
    const { model } = useWatch(server.state === ServerState.ONLINE ? usageTopic({ server: server.name }) : undefined);
    const host = model?.get(server.name);
    const u = host?.row.usage;
    const cpus = Math.max(1, server.system?.cpuCount ?? 1);
    const series = useMemo(() => (host ? [host] : []), [host]);
    if (server.state !== ServerState.ONLINE) return null;
    const memory = u && u.memoryLimitBytes > 0n ? u.memoryLimitBytes : (server.system?.memoryBytes ?? 0n);
    const part = (a: bigint, b: bigint) => (b > 0n ? Number(a) / Number(b) : undefined);
    const used = u ? u.diskTotalBytes - u.diskFreeBytes : 0n;
    return (
        <>
            <Card title="Now">
                <div class="gauges">
                    <Gauge
                        label="CPU"
                        value={u ? u.cpuMilli / 1000 / cpus : undefined}
                        text={
                            u ? `${percent(u.cpuMilli / 1000 / cpus)} of ${cpus} ${cpus === 1 ? "core" : "cores"}` : "measuring…"
                        }
                    />
                    <Gauge
                        label="Memory"
                        value={u && part(u.memoryBytes, memory)}
                        text={u ? `${bytes(u.memoryBytes)} of ${bytes(memory)}` : "measuring…"}
                    />
                    <Gauge
                        label="Disk of Docker"
                        value={u && part(used, u.diskTotalBytes)}
                        text={
                            u ? (u.diskTotalBytes ? `${bytes(used)} of ${bytes(u.diskTotalBytes)}` : "not known") : "measuring…"
                        }
                    />
                    <div class="gauge">
                        <div class="gauge-head">
                            <span class="gauge-label">Network</span>
                        </div>
                        <span class="net-rates number">
                            {host ? `${rate(host.row.netRxRate)} in, ${rate(host.row.netTxRate)} out` : "measuring…"}
                        </span>
                    </div>
                </div>
            </Card>
            <Card title="Last minutes">
                <UsagePlots series={series} cpus={cpus} />
            </Card>
        </>
    );
}

function tailscale(s: SystemInfo): string {
    const t = s.tailscale;
    return t?.installed ? [t.address, t.hostname, t.state && `(${t.state})`].filter(Boolean).join(" ") : "not installed";
}

function SystemCard({ server }: { server: Server }) {
    const s = server.system;
    const text = (label: string, value: string) => ({ label, value: value ? <span class="wrap">{inert(value)}</span> : "-" });
    return (
        <Card title="System">
            {!s && <p class="quiet">It is told when the server connects for the first time.</p>}
            {s && (
                <KeyValues
                    items={[
                        text("Hostname", s.hostname),
                        text("System", s.os),
                        text("Kernel", s.kernel),
                        text("Architecture", s.arch),
                        text("CPUs", String(s.cpuCount)),
                        text("Memory", bytes(s.memoryBytes)),
                        text("Docker", s.dockerVersion ? `${s.dockerVersion} (API ${s.dockerApi})` : s.dockerError),
                        text("cgroup", s.cgroup),
                        text("LAN addresses", s.lanAddresses.join(", ")),
                        text("Default route", s.defaultRouteAddress),
                        s.lookedUpAddress !== "" && text("Looked-up address", s.lookedUpAddress),
                        text("Tailscale", tailscale(s)),
                        s.policyForbids.length > 0 && text("Its owner forbids", s.policyForbids.join(", ")),
                        text("Updates by", s.updateMethod),
                        text("Boot", s.bootId),
                    ]}
                />
            )}
        </Card>
    );
}

function LinkCard({ server }: { server: Server }) {
    const skew = Number(server.clockSkewUs) / 1000;
    const address = (label: string, value: string, note = "") =>
        value !== "" && {
            label,
            value: (
                <span class="line">
                    <span class="mono wrap">{inert(value)}</span>
                    {note}
                    <CopyButton text={value} label={`Copy ${label.toLowerCase()}`} />
                </span>
            ),
        };
    const d = server.duplicate;
    return (
        <Card title="Identity and addresses">
            <KeyValues
                items={[
                    { label: "Last heartbeat", value: <Ago us={server.lastHeartbeatUs} /> },
                    address(
                        "Preferred address",
                        server.preferredAddress,
                        server.preferredSource ? ` (${server.preferredSource})` : "",
                    ),
                    address("Public address", server.publicAddress),
                    address("Seen from", server.seenAddress),
                    { label: "Network", value: profileWord(server.profile) },
                    server.lastHeartbeatUs > 0n && {
                        label: "Clock",
                        value: server.clockUnsure
                            ? "not set"
                            : `${Math.abs(skew).toFixed(0)} ms ${skew < 0 ? "behind" : "ahead"}`,
                    },
                    { label: "Credentials", value: credentialText(server) },
                    server.certificateExpiresUs > 0n && {
                        label: "Certificate ends",
                        value: <Until us={server.certificateExpiresUs} />,
                    },
                    server.credentialError !== "" && {
                        label: "Renewal failed",
                        value: <span class="wrap">{inert(server.credentialError)}</span>,
                    },
                    d && {
                        label: "Duplicate",
                        value: (
                            <span class="wrap">
                                {inert(`${d.address || "this machine"} (${d.hostname}), generation ${d.generation}`)}, turned away{" "}
                                <Ago us={d.seenUs} />
                            </span>
                        ),
                    },
                    server.tokenExpiresUs > 0n && { label: "Open token", value: <Until us={server.tokenExpiresUs} /> },
                    { label: "Added", value: <Time us={server.createdUs} /> },
                    server.enrolledUs > 0n && { label: "Enrolled", value: <Time us={server.enrolledUs} /> },
                    {
                        label: "Id",
                        value: (
                            <span class="line">
                                <Clip text={server.id} mono />
                                <CopyButton text={server.id} label="Copy id" />
                            </span>
                        ),
                    },
                ]}
            />
        </Card>
    );
}

function credentialText(s: Server): string {
    if (s.revoked) return "revoked";
    if (s.generation === 0) return s.local ? "not needed: it is this machine" : "none yet";
    return `generation ${s.generationConnected}${s.generation > s.generationConnected ? ` (${s.generation} issued)` : ""}`;
}

/* Asked for when somebody wants to see it: the engine has to look through all that it has. */
function Things({ server }: { server: string }) {
    const shown = useSignal(false);
    if (!shown.value)
        return (
            <Card title="Images, volumes, containers of others">
                <Button icon="layers" onClick={() => (shown.value = true)}>
                    Look them up
                </Button>
            </Card>
        );
    return (
        <>
            <ForeignContainers server={server} online />
            <ServerImages server={server} online />
            <ServerVolumes server={server} />
        </>
    );
}

type Deed = "" | "edit" | "remove" | "rotate" | "token" | "prune";

function Detail({ server, model, away }: { server: Server; model: ServerModel; away: boolean }) {
    const deed = useSignal<Deed>("");
    const close = () => (deed.value = "");
    const of = (d: Deed) => ({ server, open: deed.value === d, onClose: close });
    return (
        <Page
            title={server.name}
            crumbs={[{ title: "Servers", href: "/servers" }]}
            state={<ServerBadge server={server} />}
            subtitle={inert(
                [server.local ? "this machine" : "", server.system?.os ?? "", server.preferredAddress]
                    .filter(Boolean)
                    .join(" · "),
            )}
            actions={
                <>
                    <Button icon="settings" onClick={() => (deed.value = "edit")}>
                        Settings
                    </Button>
                    <Menu
                        label="More"
                        items={[
                            !server.local && { label: "Generate new token", icon: "key", onSelect: () => (deed.value = "token") },
                            !server.local &&
                                server.state === ServerState.ONLINE && {
                                    label: "Renew credentials",
                                    icon: "shield",
                                    onSelect: () => (deed.value = "rotate"),
                                },
                            server.state === ServerState.ONLINE && {
                                label: "Clean up",
                                icon: "filter",
                                onSelect: () => (deed.value = "prune"),
                            },
                            { label: "Remove server", icon: "trash", danger: true, onSelect: () => (deed.value = "remove") },
                        ]}
                    />
                </>
            }
        >
            {away && <Away />}
            {model.removed && (
                <Notice tone="warn" title="This server was removed">
                    What is shown is the last that was known.
                </Notice>
            )}
            <Reasons server={server} onToken={() => (deed.value = "token")} />
            <UsageCards server={server} />
            {server.state !== ServerState.PENDING && (
                <Card title="Containers" note={String(model.containers.length)} flush>
                    <Table
                        label="Containers"
                        rows={model.containers}
                        columns={columns}
                        rowKey={(c) => c.id}
                        filter={model.containers.length > 8}
                        initialSort={{ id: "name" }}
                        rowHref={(c) => (c.service ? href("services", c.project, c.service) : undefined)}
                        empty={
                            <Empty
                                icon="service"
                                title="No containers"
                                actions={
                                    server.state === ServerState.ONLINE ? (
                                        <Button icon="deploy" href={`/deploy?server=${encodeURIComponent(server.name)}`}>
                                            Deploy a service here
                                        </Button>
                                    ) : undefined
                                }
                            />
                        }
                    />
                </Card>
            )}
            {server.state === ServerState.ONLINE && <Things server={server.name} />}
            {deed.value === "prune" && <PruneServer server={server.name} onClose={close} />}
            <div class="two-columns">
                <div class="column">
                    <SystemCard server={server} />
                    {server.state !== ServerState.PENDING && <DoctorCard server={server} />}
                </div>
                <div class="column">
                    <LinkCard server={server} />
                    <AgentCard server={server} />
                </div>
            </div>
            <EditServer {...of("edit")} />
            <RemoveServer {...of("remove")} />
            <RotateServer {...of("rotate")} />
            <NewToken server={server.name} enrolledUs={server.enrolledUs} open={deed.value === "token"} onClose={close} />
        </Page>
    );
}

export function ServerPage({ name }: { name: string }) {
    const use = useWatch(serverTopic(name));
    const server = use.model?.server;
    if (server && use.state !== "failed") return <Detail server={server} model={use.model!} away={use.away} />;
    return (
        <Page title={name} crumbs={[{ title: "Servers", href: "/servers" }]}>
            <Loaded
                back={{ title: "All servers", href: "/servers" }}
                use={use}
                skeleton={
                    <>
                        <Skeleton height="9rem" />
                        <Card flush>
                            <SkeletonTable rows={4} />
                        </Card>
                    </>
                }
            >
                {() => (
                    <Empty
                        icon="server"
                        title={`There is no server ${inert(name)}`}
                        actions={<Button href="/servers">All servers</Button>}
                    />
                )}
            </Loaded>
        </Page>
    );
}
