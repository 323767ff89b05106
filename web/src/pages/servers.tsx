/* SPDX-License-Identifier: Apache-2.0 */
/* servers: the list of them, which changes by itself, and adding one. */
import { useMemo } from "preact/hooks";

import { bytes, cores } from "../api/format";
import { serversTopic, usageTopic, type UsageSeries } from "../api/topics";
import { useWatch } from "../api/watch";
import { profileWord, serverState } from "../api/words";
import type { Server } from "../gen/davit/control/v1/servers_pb";
import { Ago, Button, Card, CopyField, Empty, Page, SkeletonTable, Table, type Column } from "../parts";
import { href, query, setQuery } from "../shell/router";
import { Clip, Loaded, ServerBadge } from "./common";
import { AddServer } from "./server_token";

/* Watching usage has each agent measure every few seconds: that is for who looks at a few, not at thousands. */
const USAGE_SERVERS_MAX = 50;

interface Row {
    server: Server;
    host: UsageSeries | undefined;
}

const use = (r: Row) => r.host?.row.usage;
const address = (s: Server) => s.preferredAddress || s.publicAddress || s.seenAddress;

const columns: Column<Row>[] = [
    {
        id: "name",
        title: "Name",
        render: ({ server }) => <Clip text={server.name} />,
        sort: (r) => r.server.name,
        text: (r) => r.server.name,
        card: "title",
    },
    {
        id: "state",
        title: "State",
        render: ({ server }) => <ServerBadge server={server} />,
        sort: (r) => serverState(r.server).word,
        text: (r) => `${serverState(r.server).word} ${r.server.healthReasons.join(" ")}`,
        width: "7rem",
    },
    {
        id: "address",
        title: "Address",
        render: ({ server }) => <Clip text={address(server) || "-"} mono />,
        sort: (r) => address(r.server),
        text: (r) => address(r.server),
        width: "8.5rem",
    },
    {
        id: "profile",
        title: "Network",
        render: ({ server }) => profileWord(server.profile),
        sort: (r) => r.server.profile,
        text: (r) => profileWord(r.server.profile),
        width: "6rem",
        card: "hide",
    },
    {
        id: "containers",
        title: "Running",
        render: ({ server }) => server.containersRunning,
        sort: (r) => r.server.containersRunning,
        align: "end",
        width: "6rem",
    },
    {
        id: "cpu",
        title: "CPU",
        render: (r) => (use(r) ? cores(use(r)!.cpuMilli / Math.max(1, r.server.system?.cpuCount ?? 1)) : "-"),
        sort: (r) => use(r)?.cpuMilli ?? -1,
        align: "end",
        width: "5rem",
    },
    {
        id: "memory",
        title: "Memory",
        render: (r) => (use(r) ? bytes(use(r)!.memoryBytes) : "-"),
        sort: (r) => use(r)?.memoryBytes ?? -1n,
        align: "end",
        width: "6rem",
    },
    {
        id: "agent",
        title: "Agent",
        render: ({ server }) => <Clip text={server.agentVersion || "-"} />,
        sort: (r) => r.server.agentVersion,
        text: (r) => r.server.agentVersion,
        width: "5rem",
        card: "hide",
    },
    {
        id: "seen",
        title: "Heartbeat",
        render: ({ server }) => <Ago us={server.lastHeartbeatUs} />,
        sort: (r) => r.server.lastHeartbeatUs,
        align: "end",
        width: "7rem",
    },
];

function ServerTable({ servers }: { servers: Map<string, Server> }) {
    const usage = useWatch(servers.size <= USAGE_SERVERS_MAX ? usageTopic({}) : undefined);
    const rows = useMemo(
        () => [...servers.values()].map((server): Row => ({ server, host: usage.model?.get(server.name) })),
        [servers, usage.model],
    );
    return (
        <Table
            label="Servers"
            rows={rows}
            columns={columns}
            rowKey={(r) => r.server.id}
            rowHref={(r) => href("servers", r.server.name)}
            filter
            initialSort={{ id: "name" }}
            empty={
                <Empty
                    icon="server"
                    title="No server yet"
                    actions={
                        <Button kind="primary" icon="plus" onClick={() => setQuery({ add: "1" })}>
                            Add server
                        </Button>
                    }
                >
                    <p>
                        A server is a Linux machine with Docker. Adding one gives you a line to paste there; from a terminal it
                        is:
                    </p>
                    <CopyField label="Command" text="davit server add NAME" />
                </Empty>
            }
        />
    );
}

export function ServersPage() {
    const servers = useWatch(serversTopic());
    return (
        <Page
            title="Servers"
            actions={
                <Button kind="primary" icon="plus" onClick={() => setQuery({ add: "1" })}>
                    Add server
                </Button>
            }
        >
            <Loaded
                use={servers}
                skeleton={
                    <Card flush>
                        <SkeletonTable rows={6} />
                    </Card>
                }
            >
                {(model) => (
                    <Card flush>
                        <ServerTable servers={model} />
                    </Card>
                )}
            </Loaded>
            <AddServer open={query.value.get("add") === "1"} onClose={() => setQuery({ add: undefined })} />
        </Page>
    );
}
