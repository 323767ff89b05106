/* SPDX-License-Identifier: Apache-2.0 */
/* deployments: the table of them, on the overview and on the page of a service. */
import { duration, ms, short } from "../api/format";
import { now } from "../api/clock";
import { deploymentEnded, deploymentState } from "../api/words";
import type { Deployment } from "../gen/davit/control/v1/workloads_pb";
import { Ago, Empty, Table, type Column } from "../parts";
import { href } from "../shell/router";
import { Clip, StateBadge } from "./common";

const nameOf = (d: Deployment) => `${d.spec?.project ?? ""}/${d.spec?.name ?? ""}`;

/** How long it took, or takes so far. */
export function took(d: Deployment): string {
    const end = d.finishedUs ? ms(d.finishedUs) : deploymentEnded(d.state) ? 0 : now.value;
    return end ? duration(Math.max(0, end - ms(d.createdUs)) / 1000) : "-";
}

const all: Column<Deployment>[] = [
    { id: "service", title: "Service", render: (d) => <Clip text={nameOf(d)} />, sort: nameOf, text: nameOf, card: "title" },
    {
        id: "state",
        title: "State",
        render: (d) => <StateBadge word={deploymentState(d.state)} />,
        sort: (d) => d.state,
        text: (d) => deploymentState(d.state).word,
        width: "10.5rem",
    },
    {
        id: "image",
        title: "Image",
        render: (d) => <Clip text={d.spec?.image ?? ""} mono />,
        sort: (d) => d.spec?.image ?? "",
        text: (d) => d.spec?.image ?? "",
    },
    {
        id: "server",
        title: "Server",
        render: (d) => <Clip text={d.serverName} />,
        sort: (d) => d.serverName,
        text: (d) => d.serverName,
        width: "9rem",
    },
    {
        id: "by",
        title: "By",
        render: (d) => <Clip text={d.triggeredBy || "-"} />,
        sort: (d) => d.triggeredBy,
        text: (d) => d.triggeredBy,
        width: "8rem",
        card: "hide",
    },
    { id: "took", title: "Took", render: (d) => took(d), align: "end", width: "5.5rem", card: "hide" },
    {
        id: "created",
        title: "Begun",
        render: (d) => <Ago us={d.createdUs} />,
        sort: (d) => d.createdUs,
        align: "end",
        width: "8rem",
    },
];

const idColumn: Column<Deployment> = {
    id: "id",
    title: "Deployment",
    render: (d) => <Clip text={short(d.id)} mono />,
    text: (d) => d.id,
    width: "9rem",
    card: "title",
};

/** With @service the column of its name; without it (on the page of one) the deployment's own id. */
export function DeploymentTable({
    label,
    rows,
    loading,
    service,
}: {
    label: string;
    rows: Deployment[];
    loading: boolean;
    service?: boolean;
}) {
    const columns = service ? all : [idColumn, ...all.slice(1)];
    return (
        <Table
            label={label}
            rows={rows}
            columns={columns}
            rowKey={(d) => d.id}
            rowHref={(d) => href("deployments", d.id)}
            loading={loading}
            initialSort={{ id: "created", down: true }}
            empty={<Empty icon="history" title="Nothing was deployed yet" />}
        />
    );
}
