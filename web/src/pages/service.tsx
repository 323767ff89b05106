/* SPDX-License-Identifier: Apache-2.0 */
/* service: one service, live: what it does, its log, what it uses, its deployments, and what can be done with it. */
import { useSignal } from "@preact/signals";
import { useMemo, useRef } from "preact/hooks";

import { workloads as api } from "../api/client";
import { count, hostPort, short } from "../api/format";
import { deploymentsTopic, serverTopic, serviceKey, servicesTopic, usageTopic } from "../api/topics";
import { useWatch } from "../api/watch";
import { deploymentEnded, deploymentState, earlier, servicePorts } from "../api/words";
import { DeploymentState, type Container, type PortPublish } from "../gen/davit/common/v1/service_pb";
import type { Deployment, Service } from "../gen/davit/control/v1/workloads_pb";
import type { Server } from "../gen/davit/control/v1/servers_pb";
import {
    Ago,
    Button,
    Card,
    Checkbox,
    Confirm,
    CopyButton,
    Empty,
    ErrorBox,
    Icon,
    inert,
    KeyValues,
    Menu,
    Notice,
    Page,
    Skeleton,
    Table,
    Tabs,
    toast,
    type Column,
} from "../parts";
import { later } from "../shell/later";
import { href, Link, navigate, query, setQuery } from "../shell/router";
import { Away, Clip, ContainerBadge, Loaded, ServiceBadge, useCall, type Call } from "./common";
import { DeploymentTable } from "./deployments";
import { RollbackDialog, ScaleDialog } from "./service_deeds";
import { ServiceVariables } from "./service_env";
import { ServiceFiles } from "./service_files";
import { ServiceLogs } from "./service_logs";
import { UsagePlots } from "./usage";

const DEPLOYMENTS_SHOWN = 100;
const TerminalView = later(() => import("./terminal").then((module) => module.TerminalView));

const isLoopback = (host: string) => host === "" || host === "::1" || host === "localhost" || host.startsWith("127.");

/* It is what a server says: nothing else becomes part of a link. */
const isAddress = (text: string) => /^[0-9A-Fa-f.:]+$/.test(text);

/* Where a viewer reaches a port; undefined: only on the machine itself, which the viewer may not be on. */
function portUrl(p: PortPublish, server: Server | undefined): string | undefined {
    const viewer = location.hostname.replace(/^\[|\]$/g, "");
    if (p.protocol === "udp" || !p.hostPort) return undefined;
    if (isLoopback(p.hostIp))
        return server?.local && isLoopback(viewer) ? `http://${hostPort(p.hostIp || "127.0.0.1", p.hostPort)}/` : undefined;
    if (p.hostIp !== "0.0.0.0" && p.hostIp !== "::" && isAddress(p.hostIp)) return `http://${hostPort(p.hostIp, p.hostPort)}/`;
    const host = server?.local ? viewer : server?.preferredAddress;
    return host && (server?.local || isAddress(host)) ? `http://${hostPort(host, p.hostPort)}/` : undefined;
}

function Port({ port, server }: { port: PortPublish; server: Server | undefined }) {
    const text = `${hostPort(port.hostIp || "127.0.0.1", port.hostPort)}→${port.containerPort}${port.protocol === "udp" ? "/udp" : ""}`;
    const url = portUrl(port, server);
    if (url)
        return (
            <a class="port mono" href={url} target="_blank" rel="noopener noreferrer">
                {inert(text)}
                <Icon name="out" size={12} label="opens in a new tab" />
            </a>
        );
    return (
        <span
            class="port mono"
            title={isLoopback(port.hostIp) ? `On the loopback of server ${server?.name ?? ""} only` : undefined}
        >
            {inert(text)}
        </span>
    );
}

/* A port that the engine chose stands with the container only. */
function portsOf(s: Service): PortPublish[] {
    const running = s.containers.find((c) => c.state === "running");
    const wanted = servicePorts(s);
    return running && wanted.some((p) => !p.hostPort) ? running.ports : wanted;
}

function Facts({ service, server }: { service: Service; server: Server | undefined }) {
    const ports = portsOf(service);
    const ids = [
        ["Deployment", service.activeDeploymentId],
        ["Newest try", service.deploymentId !== service.activeDeploymentId ? service.deploymentId : ""],
    ] as const;
    return (
        <Card title="Service">
            <KeyValues
                items={[
                    {
                        label: "Image",
                        value: (
                            <span class="line">
                                <span class="mono wrap">{inert(service.image)}</span>
                                <CopyButton text={service.image} label="Copy image" />
                            </span>
                        ),
                    },
                    {
                        label: "Server",
                        value: (
                            <Link href={href("servers", service.serverName)} class="wrap">
                                {inert(service.serverName)}
                            </Link>
                        ),
                    },
                    service.routes.length > 0 && {
                        label: "Hostnames",
                        value: (
                            <span class="port-list">
                                {service.routes.map((r) => (
                                    <a
                                        key={r.hostname}
                                        class="port mono"
                                        href={`http://${r.hostname}/`}
                                        target="_blank"
                                        rel="noopener noreferrer"
                                    >
                                        {inert(r.hostname)}
                                        <Icon name="out" size={12} label="opens in a new tab" />
                                    </a>
                                ))}
                            </span>
                        ),
                    },
                    service.replicas > 1 && { label: "Containers", value: count(service.replicas, "container") },
                    {
                        label: "Ports",
                        value: ports.length ? (
                            <span class="port-list">
                                {ports.map((p, i) => (
                                    <Port key={i} port={p} server={server} />
                                ))}
                            </span>
                        ) : (
                            "none published"
                        ),
                    },
                    ...ids.map(
                        ([label, id]) =>
                            id !== "" && {
                                label,
                                value: (
                                    <Link href={href("deployments", id)} class="mono">
                                        {short(id)}
                                    </Link>
                                ),
                            },
                    ),
                    { label: "Changed", value: <Ago us={service.updatedUs} /> },
                    {
                        label: "From a terminal",
                        value: (
                            <span class="line">
                                <code class="code wrap">davit logs -f {serviceKey(service)}</code>
                                <CopyButton text={`davit logs -f ${serviceKey(service)}`} label="Copy command" />
                            </span>
                        ),
                    },
                ]}
            />
        </Card>
    );
}

const containers: Column<Container>[] = [
    {
        id: "name",
        title: "Name",
        render: (c) => <Clip text={c.name || short(c.id)} />,
        sort: (c) => c.name,
        text: (c) => c.name,
        card: "title",
    },
    { id: "state", title: "State", render: (c) => <ContainerBadge container={c} />, sort: (c) => c.state, width: "8rem" },
    { id: "image", title: "Image", render: (c) => <Clip text={c.image} mono /> },
    { id: "deployment", title: "Deployment", render: (c) => <Clip text={short(c.deploymentId)} mono />, width: "8.5rem" },
    {
        id: "since",
        title: "Since",
        render: (c) => <Ago us={c.state === "running" ? c.startedAtUs : c.finishedAtUs} />,
        align: "end",
        width: "7.5rem",
    },
];

function Troubles({ service, newest }: { service: Service; newest: Deployment | undefined }) {
    const failed = service.state === DeploymentState.FAILED;
    const serves = service.containers.some((c) => c.state === "running");
    const f = newest?.id === service.deploymentId ? newest.failure : undefined;
    return (
        <>
            {!service.serverOnline && (
                <Notice
                    tone="warn"
                    title={`Server ${inert(service.serverName)} is offline`}
                    actions={
                        <Button size="small" href={href("servers", service.serverName)}>
                            See what to do
                        </Button>
                    }
                >
                    What is shown is the last that was known. The service itself goes on there.
                </Notice>
            )}
            {failed && (
                <Notice
                    tone={serves ? "warn" : "bad"}
                    title={serves ? "The newest deployment failed; the one before serves" : "The newest deployment failed"}
                    actions={
                        <Button size="small" href={href("deployments", service.deploymentId)}>
                            See its steps
                        </Button>
                    }
                >
                    <p class="wrap">{inert(f?.message || service.failure)}</p>
                    {f?.hint && <p class="notice-fix wrap">{inert(f.hint)}</p>}
                </Notice>
            )}
            {!deploymentEnded(service.state) && (
                <Notice
                    tone="pending"
                    title={`A deployment is under way: ${deploymentState(service.state).word}`}
                    actions={
                        <Button size="small" href={href("deployments", service.deploymentId)}>
                            Follow it
                        </Button>
                    }
                />
            )}
        </>
    );
}

function Metrics({ service }: { service: Service }) {
    const { model, state } = useWatch(usageTopic({ project: service.project, service: service.name }));
    const series = useMemo(
        () => [...(model?.values() ?? [])].filter((s) => s.row.containerName !== "" && s.row.service === service.name),
        [model],
    );
    if (series.length === 0)
        return (
            <Empty icon="chart" title={state === "loading" ? "Measuring…" : "Nothing is measured"}>
                {state === "loading"
                    ? "The first sample comes within seconds."
                    : "A container that runs on a server that is online is measured every few seconds."}
            </Empty>
        );
    return (
        <Card>
            <UsagePlots series={series} />
        </Card>
    );
}

function RemoveDialog({ service, open, onClose }: { service: Service; open: boolean; onClose: () => void }) {
    const call = useCall();
    const volumes = useSignal(false);
    const forget = useSignal(false);
    const remove = () =>
        void call
            .run("remove", () =>
                api.removeService(
                    { project: service.project, service: service.name, volumes: volumes.value, forget: forget.value },
                    { timeoutMs: 90_000 },
                ),
            )
            .then((ok) => {
                if (!ok) return;
                toast({ tone: "ok", title: `Service ${serviceKey(service)} is removed` });
                navigate("/services");
            });
    return (
        <Confirm
            title={`Remove service ${serviceKey(service)}`}
            open={open}
            onClose={onClose}
            onConfirm={remove}
            action="Remove service"
            name={service.name}
            busy={call.busy !== ""}
            error={call.problem}
        >
            <p>Its containers on {inert(service.serverName)} are stopped and removed, and its network if nobody else uses it.</p>
            <Checkbox
                label="Its volumes too: all data in them is gone"
                checked={volumes.value}
                onChange={(v) => (volumes.value = v)}
            />
            {!service.serverOnline && (
                <Checkbox
                    label="Forget it although its server is offline: what runs there goes on"
                    checked={forget.value}
                    onChange={(v) => (forget.value = v)}
                />
            )}
        </Confirm>
    );
}

type DialogName = "" | "stop" | "remove" | "rollback" | "scale";

function Actions({
    service,
    call,
    back,
    onDialog,
}: {
    service: Service;
    call: Call;
    /** Is there a deployment to go back to? */
    back: boolean;
    onDialog: (which: DialogName) => void;
}) {
    const running = service.containers.some((c) => c.state === "running" || c.state === "restarting");
    const any = service.containers.length > 0;
    const act = (action: "start" | "restart", said: string) =>
        void call
            .run(action, () =>
                api.controlService({ project: service.project, service: service.name, action }, { timeoutMs: 90_000 }),
            )
            .then((ok) => ok && toast({ tone: "ok", title: `${serviceKey(service)} ${said}` }));
    const disabled = !service.serverOnline || call.busy !== "";
    return (
        <>
            {any && running && (
                <Button
                    icon="restart"
                    busy={call.busy === "restart"}
                    disabled={disabled && call.busy !== "restart"}
                    onClick={() => act("restart", "was restarted")}
                >
                    Restart
                </Button>
            )}
            {any && running && (
                <Button icon="stop" busy={call.busy === "stop"} disabled={disabled && call.busy !== "stop"} onClick={() => onDialog("stop")}>
                    Stop
                </Button>
            )}
            {any && !running && (
                <Button
                    kind="primary"
                    icon="play"
                    busy={call.busy === "start"}
                    disabled={disabled && call.busy !== "start"}
                    onClick={() => act("start", "was started")}
                >
                    Start
                </Button>
            )}
            <Button icon="deploy" href={`/deploy?from=${encodeURIComponent(service.deploymentId)}`}>
                Redeploy
            </Button>
            <Menu
                label="More"
                items={[
                    { label: "Roll back", icon: "history", disabled: !back, onSelect: () => onDialog("rollback") },
                    { label: "Scale", icon: "layers", disabled: disabled || !any, onSelect: () => onDialog("scale") },
                    { label: "Remove service", icon: "trash", danger: true, onSelect: () => onDialog("remove") },
                ]}
            />
        </>
    );
}

const TABS = ["logs", "metrics", "deployments", "containers", "variables", "files", "terminal"];

function Detail({ service, away }: { service: Service; away: boolean }) {
    const call = useCall();
    const dialog = useSignal<DialogName>("");
    const server = useWatch(serverTopic(service.serverId)).model?.server;
    const deployments = useWatch(deploymentsTopic({ project: service.project, service: service.name, limit: DEPLOYMENTS_SHOWN }));
    const list = useMemo(
        () => [...(deployments.model?.values() ?? [])].filter((d) => d.spec?.name === service.name),
        [deployments.model],
    );
    const newest = deployments.model?.get(service.deploymentId);
    const asked = query.value.get("tab") ?? "";
    const tab = TABS.includes(asked) ? asked : "logs";
    /* A shell goes on while another tab is looked at. */
    const shell = useRef(false);
    shell.current ||= tab === "terminal";
    const stop = () =>
        void call
            .run("stop", () =>
                api.controlService({ project: service.project, service: service.name, action: "stop" }, { timeoutMs: 90_000 }),
            )
            .then((ok) => {
                if (ok) toast({ tone: "ok", title: `${serviceKey(service)} was stopped` });
                dialog.value = "";
            });
    return (
        <Page
            title={service.name}
            crumbs={[{ title: "Services", href: "/services" }]}
            state={<ServiceBadge service={service} />}
            subtitle={`${inert(service.project)} on ${inert(service.serverName)}`}
            actions={
                <Actions
                    service={service}
                    call={call}
                    back={earlier(list, service.activeDeploymentId).length > 0}
                    onDialog={(which) => (dialog.value = which)}
                />
            }
        >
            {away && <Away />}
            {call.problem && <ErrorBox problem={call.problem} title="It was not done" />}
            <Troubles service={service} newest={newest} />
            <Facts service={service} server={server} />
            <Tabs
                label="What is shown of the service"
                current={tab}
                onChange={(id) => setQuery({ tab: id === "logs" ? undefined : id })}
                tabs={[
                    { id: "logs", title: "Logs" },
                    { id: "metrics", title: "Metrics" },
                    { id: "deployments", title: "Deployments", count: deployments.model ? list.length : undefined },
                    { id: "containers", title: "Containers", count: service.containers.length },
                    { id: "variables", title: "Variables" },
                    { id: "files", title: "Files" },
                    { id: "terminal", title: "Terminal" },
                ]}
            >
                {tab === "logs" && <ServiceLogs project={service.project} name={service.name} />}
                {tab === "metrics" && <Metrics service={service} />}
                {tab === "deployments" && (
                    <Card flush>
                        <DeploymentTable label="Deployments" rows={list} loading={deployments.state === "loading"} />
                    </Card>
                )}
                {tab === "containers" && (
                    <Card flush>
                        <Table
                            label="Containers"
                            rows={service.containers}
                            columns={containers}
                            rowKey={(c) => c.id}
                            empty={<Empty icon="service" title="No container" />}
                        />
                    </Card>
                )}
                {tab === "variables" && <ServiceVariables project={service.project} service={service.name} />}
                {tab === "files" && (
                    <ServiceFiles project={service.project} service={service.name} containers={service.containers} />
                )}
                {shell.current && (
                    <div hidden={tab !== "terminal"}>
                        <TerminalView containers={service.containers} />
                    </div>
                )}
            </Tabs>
            {dialog.value === "rollback" && <RollbackDialog service={service} list={list} onClose={() => (dialog.value = "")} />}
            {dialog.value === "scale" && <ScaleDialog service={service} onClose={() => (dialog.value = "")} />}
            <Confirm
                title={`Stop service ${serviceKey(service)}`}
                open={dialog.value === "stop"}
                onClose={() => (dialog.value = "")}
                onConfirm={stop}
                action="Stop service"
                busy={call.busy !== ""}
            >
                <p>
                    {count(service.containers.length, "container")} on {inert(service.serverName)} will be stopped and stay so,
                    also after a restart of that machine, until you start the service again.
                </p>
            </Confirm>
            <RemoveDialog service={service} open={dialog.value === "remove"} onClose={() => (dialog.value = "")} />
        </Page>
    );
}

export function ServicePage({ project, name }: { project: string; name: string }) {
    const use = useWatch(servicesTopic({ project, service: name }));
    const service = use.model?.get(serviceKey({ project, name }));
    if (service && use.state !== "failed") return <Detail service={service} away={use.away} />;
    return (
        <Page title={name} crumbs={[{ title: "Services", href: "/services" }]}>
            <Loaded
                use={use}
                skeleton={
                    <>
                        <Skeleton height="8rem" />
                        <Skeleton height="28rem" />
                    </>
                }
            >
                {() => (
                    <Empty
                        icon="service"
                        title={`There is no service ${inert(name)} in ${inert(project)}`}
                        actions={
                            <>
                                <Button href="/services">All services</Button>
                                <Button kind="primary" icon="deploy" href="/deploy">
                                    Deploy one
                                </Button>
                            </>
                        }
                    />
                )}
            </Loaded>
        </Page>
    );
}
