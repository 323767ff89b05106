/* SPDX-License-Identifier: Apache-2.0 */
/* overview: is everything all right? One line says so; below it what needs somebody, what there is, and what was done last. */
import { useMemo } from "preact/hooks";

import { now } from "../api/clock";
import { bytes, count, duration, ms } from "../api/format";
import { deploymentsTopic, overviewTopic, sandboxesTopic, serversTopic, servicesTopic } from "../api/topics";
import { findings, tally, type Finding } from "../api/verdict";
import { useWatch } from "../api/watch";
import type { GetStatusResponse } from "../gen/davit/control/v1/status_pb";
import { ServerState, type Server } from "../gen/davit/control/v1/servers_pb";
import type { Service } from "../gen/davit/control/v1/workloads_pb";
import { Button, Card, CopyField, ErrorBox, Icon, inert, Page, Skeleton, SkeletonTable, Stat } from "../parts";
import { Link } from "../shell/router";
import { Away } from "./common";
import { DeploymentTable } from "./deployments";

const FINDINGS_SHOWN = 8;

function FindingLine({ finding }: { finding: Finding }) {
    return (
        <li class={`finding tone-${finding.tone}`}>
            <Icon name="alert" />
            <div class="finding-text">
                <p class="finding-title wrap">{inert(finding.title)}</p>
                {finding.text && <p class="finding-why wrap">{inert(finding.text)}</p>}
            </div>
            <Button size="small" href={finding.href} aria-label={`${finding.action}: ${inert(finding.title)}`}>
                {finding.action}
            </Button>
        </li>
    );
}

function Verdict({
    found,
    servers,
    services,
    sandboxes,
}: {
    found: Finding[];
    servers: Map<string, Server>;
    services: Map<string, Service>;
    sandboxes: number;
}) {
    const worst = found[0]?.tone ?? "ok";
    const line =
        found.length === 0
            ? "Everything is all right"
            : found.length === 1
              ? "1 thing needs you"
              : `${found.length} things need you`;
    const rest = found.length - FINDINGS_SHOWN;
    return (
        <section class={`verdict tone-${worst}`} aria-label="Verdict">
            <div class="verdict-head">
                <span class="verdict-mark">
                    <Icon name={found.length ? "alert" : "check"} size={22} />
                </span>
                <div>
                    <h2 class="verdict-line" role="status">
                        {line}
                    </h2>
                    <p class="verdict-note">
                        {count(servers.size, "server")}, {count(services.size, "service")}
                        {sandboxes > 0 && `, ${count(sandboxes, "sandbox", "sandboxes")}`}, as they are now.
                    </p>
                </div>
            </div>
            {found.length > 0 && (
                <ul class="findings">
                    {found.slice(0, FINDINGS_SHOWN).map((f) => (
                        <FindingLine key={f.id} finding={f} />
                    ))}
                </ul>
            )}
            {rest > 0 && (
                <p class="verdict-rest">
                    And {rest} more: see <Link href="/servers">servers</Link>, <Link href="/services">services</Link> and{" "}
                    <Link href="/sandboxes">sandboxes</Link>.
                </p>
            )}
        </section>
    );
}

function FirstSteps({ servers }: { servers: Map<string, Server> }) {
    const any = [...servers.values()].some((s) => s.state === ServerState.ONLINE);
    return (
        <div class="two-columns">
            <Card title={any ? "Run your first service" : "Run a service"}>
                <p class="lead">
                    Any image, on {any ? "the server that is online" : "a server that is online"}. Davit pulls it, starts it,
                    checks it and keeps it running.
                </p>
                <CopyField label="From a terminal" text="davit deploy nginx --publish 8080:80" />
                <div class="card-foot">
                    <Button kind="primary" icon="deploy" href="/deploy">
                        Deploy a service
                    </Button>
                </div>
            </Card>
            <Card title="Add a server">
                <p class="lead">
                    Any Linux machine with Docker, also behind NAT. You get one line to paste there, and it shows up here by
                    itself.
                </p>
                <CopyField label="From a terminal" text="davit server add web-1" />
                <div class="card-foot">
                    <Button icon="plus" href="/servers?add=1">
                        Add a server
                    </Button>
                </div>
            </Card>
        </div>
    );
}

function Numbers({
    status,
    servers,
    services,
}: {
    status: GetStatusResponse | undefined;
    servers: Map<string, Server>;
    services: Map<string, Service>;
}) {
    const n = tally(services.values());
    const rest = [
        n.failed && `${n.failed} failed`,
        n.begun && `${n.begun} starting`,
        n.stopped && `${n.stopped} stopped`,
        n.unseen && `${n.unseen} out of sight`,
    ].filter(Boolean);
    const of = (state: ServerState) => [...servers.values()].filter((s) => s.state === state).length;
    const offline = of(ServerState.OFFLINE);
    const pending = of(ServerState.PENDING);
    const uptime = status ? duration((now.value - ms(status.startedUs)) / 1000) : "";
    return (
        <div class="stats">
            <Stat
                label="Servers online"
                value={of(ServerState.ONLINE)}
                href="/servers"
                tone={offline ? "bad" : "ok"}
                note={
                    [offline && `${offline} offline`, pending && `${pending} pending`].filter(Boolean).join(", ") ||
                    "none is offline"
                }
            />
            <Stat
                label="Services running"
                value={n.running}
                unit={`of ${services.size}`}
                href="/services"
                tone={n.failed ? "bad" : n.unseen ? "warn" : "ok"}
                note={rest.join(", ") || "none has failed"}
            />
            <Stat
                label="Containers running"
                value={status ? status.containersRunning : <Skeleton width="2ch" />}
                note="on all servers, of others too"
            />
            <Stat
                label="Control plane"
                value={status ? bytes(status.rssBytes) : <Skeleton width="5ch" />}
                note={status ? `version ${inert(status.version)}, up ${uptime}` : <Skeleton width="12ch" />}
            />
        </div>
    );
}

function Waiting() {
    return (
        <>
            <Skeleton height="5.5rem" />
            <Skeleton height="6.5rem" />
            <Card title="Recent deployments" flush>
                <SkeletonTable rows={4} />
            </Card>
        </>
    );
}

export function OverviewPage() {
    const overview = useWatch(overviewTopic());
    const servers = useWatch(serversTopic());
    const services = useWatch(servicesTopic());
    const sandboxes = useWatch(sandboxesTopic());
    const deployments = useWatch(deploymentsTopic({ limit: 10 }));
    const recent = useMemo(() => [...(deployments.model?.values() ?? [])], [deployments.model]);
    const both = servers.model && services.model;
    const failed = [servers, services].find((use) => use.state === "failed");

    return (
        <Page
            title="Overview"
            actions={
                <Button kind="primary" icon="deploy" href="/deploy">
                    Deploy
                </Button>
            }
        >
            {failed?.problem ? <ErrorBox problem={failed.problem} retry={failed.retry} /> : servers.away && <Away />}
            {!both && !failed && <Waiting />}
            {both && (
                <>
                    <Verdict
                        found={findings(servers.model!.values(), services.model!.values(), now.value, sandboxes.model?.values())}
                        servers={servers.model!}
                        services={services.model!}
                        sandboxes={sandboxes.model?.size ?? 0}
                    />
                    {services.model!.size === 0 && <FirstSteps servers={servers.model!} />}
                    <Numbers status={overview.model?.status} servers={servers.model!} services={services.model!} />
                    {(recent.length > 0 || services.model!.size > 0) && (
                        <Card title="Recent deployments" flush>
                            <DeploymentTable
                                label="Recent deployments"
                                rows={recent}
                                loading={deployments.state === "loading"}
                                service
                            />
                        </Card>
                    )}
                </>
            )}
        </Page>
    );
}
