/* SPDX-License-Identifier: Apache-2.0 */
/* services: all of them, by project, changing by themselves. */
import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";

import { count, hostPort } from "../api/format";
import { serviceKey, servicesTopic } from "../api/topics";
import { useWatch } from "../api/watch";
import { servicePorts, serviceState } from "../api/words";
import type { Service } from "../gen/davit/control/v1/workloads_pb";
import { Ago, Button, Card, CopyField, Empty, inert, Page, SkeletonTable, Table, TextField, type Column } from "../parts";
import { href } from "../shell/router";
import { Clip, Loaded, ServiceBadge } from "./common";

/* So many projects have a table each; more are one table with a column of the project. */
const GROUPS_MAX = 24;

const ports = (s: Service) =>
    servicePorts(s)
        .map((p) => `${hostPort(p.hostIp || "127.0.0.1", p.hostPort)}→${p.containerPort}${p.protocol === "udp" ? "/udp" : ""}`)
        .join(", ");

const name: Column<Service> = {
    id: "name",
    title: "Service",
    render: (s) => <Clip text={s.name} />,
    sort: (s) => s.name,
    text: (s) => s.name,
    card: "title",
};
const full: Column<Service> = {
    id: "name",
    title: "Service",
    render: (s) => <Clip text={serviceKey(s)} />,
    sort: serviceKey,
    text: serviceKey,
    card: "title",
};
const rest: Column<Service>[] = [
    {
        id: "state",
        title: "State",
        render: (s) => <ServiceBadge service={s} />,
        sort: (s) => serviceState(s).word,
        text: (s) => serviceState(s).word,
        width: "12rem",
    },
    {
        id: "server",
        title: "Server",
        render: (s) => <Clip text={s.serverName} />,
        sort: (s) => s.serverName,
        text: (s) => s.serverName,
        width: "10rem",
    },
    { id: "image", title: "Image", render: (s) => <Clip text={s.image} mono />, sort: (s) => s.image, text: (s) => s.image },
    { id: "ports", title: "Ports", render: (s) => <Clip text={ports(s) || "-"} mono />, text: ports, width: "13rem" },
    {
        id: "changed",
        title: "Changed",
        render: (s) => <Ago us={s.updatedUs} />,
        sort: (s) => s.updatedUs,
        align: "end",
        width: "7.5rem",
    },
];

const matches = (s: Service, words: string[]) => {
    const text = `${serviceKey(s)} ${s.serverName} ${s.image} ${serviceState(s).word}`.toLowerCase();
    return words.every((w) => text.includes(w));
};

function NoService() {
    return (
        <Card flush>
            <Empty
                icon="service"
                title="No service yet"
                actions={
                    <Button kind="primary" icon="deploy" href="/deploy">
                        Deploy a service
                    </Button>
                }
            >
                <p>A service is an image that Davit runs on one of your servers and keeps running. From a terminal it is:</p>
                <CopyField label="Command" text="davit deploy nginx --publish 8080:80" />
            </Empty>
        </Card>
    );
}

function Groups({ services }: { services: Map<string, Service> }) {
    const want = useSignal("");
    const words = want.value.toLowerCase().split(/\s+/).filter(Boolean);
    const groups = useMemo(() => {
        const made = new Map<string, Service[]>();
        for (const s of services.values()) {
            if (!matches(s, words)) continue;
            const group = made.get(s.project);
            if (group) group.push(s);
            else made.set(s.project, [s]);
        }
        return [...made].sort(([a], [b]) => a.localeCompare(b));
    }, [services, want.value]);
    const link = (s: Service) => href("services", s.project, s.name);

    if (services.size === 0) return <NoService />;
    if (new Set([...services.values()].map((s) => s.project)).size > GROUPS_MAX) {
        return (
            <Card flush>
                <Table
                    label="Services"
                    rows={[...services.values()]}
                    columns={[full, ...rest]}
                    rowKey={serviceKey}
                    rowHref={link}
                    filter
                    initialSort={{ id: "name" }}
                />
            </Card>
        );
    }
    return (
        <>
            {services.size > 5 && (
                <div class="page-filter">
                    <TextField
                        label="Filter services"
                        bare
                        type="search"
                        placeholder="Filter by name, server, image or state"
                        value={want.value}
                        onInput={(v) => (want.value = v)}
                    />
                </div>
            )}
            {groups.map(([project, list]) => (
                <Card
                    key={project}
                    title={<span title={project}>{inert(project)}</span>}
                    note={count(list.length, "service")}
                    flush
                >
                    <Table
                        label={`Services of ${inert(project)}`}
                        rows={list}
                        columns={[name, ...rest]}
                        rowKey={serviceKey}
                        rowHref={link}
                        initialSort={{ id: "name" }}
                    />
                </Card>
            ))}
            {groups.length === 0 && (
                <Empty icon="search" title="Nothing matches">
                    No service holds "{want.value}".
                </Empty>
            )}
        </>
    );
}

export function ServicesPage() {
    const services = useWatch(servicesTopic());
    return (
        <Page
            title="Services"
            actions={
                <Button kind="primary" icon="deploy" href="/deploy">
                    Deploy
                </Button>
            }
        >
            <Loaded
                use={services}
                skeleton={
                    <Card flush>
                        <SkeletonTable rows={6} />
                    </Card>
                }
            >
                {(model) => <Groups services={model} />}
            </Loaded>
        </Page>
    );
}
