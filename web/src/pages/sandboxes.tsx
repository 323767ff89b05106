/* SPDX-License-Identifier: Apache-2.0 */
/* sandboxes: all of them, what each does, and whether it is who it should be, changing by themselves. */
import { useMemo } from "preact/hooks";

import { sandboxesTopic, serversTopic } from "../api/topics";
import { useWatch } from "../api/watch";
import { sandboxReason, sandboxState, sandboxTitle, sandboxTrust } from "../api/words";
import { SandboxState, type Sandbox } from "../gen/davit/common/v1/sandbox_pb";
import type { Server } from "../gen/davit/control/v1/servers_pb";
import { Ago, Button, Card, CopyField, Empty, Page, SkeletonTable, Table, Tag, type Column } from "../parts";
import { href } from "../shell/router";
import { Clip, Loaded, StateBadge } from "./common";

interface Row {
    sandbox: Sandbox;
    server: string;
}

export const serverName = (servers: Map<string, Server> | undefined, id: string) => servers?.get(id)?.name ?? "";

/** What it is at, or why it is at nothing: the step, the exit code, the reason. */
export function doing(s: Sandbox): string {
    const ended = s.state === SandboxState.STOPPED;
    if (ended && !s.reason) return `exit code ${s.exitCode}${s.message ? `: ${s.message}` : ""}`;
    const step = s.step && s.state !== SandboxState.RUNNING ? `step ${s.stepIndex}/${s.stepTotal} ${s.step}` : "";
    const why = s.reason ? s.message || sandboxReason(s.reason) : s.message;
    return [step, why].filter(Boolean).join(": ");
}

const columns: Column<Row>[] = [
    {
        id: "name",
        title: "Sandbox",
        render: (r) => <Clip text={sandboxTitle(r.sandbox)} />,
        sort: (r) => sandboxTitle(r.sandbox),
        text: (r) => `${sandboxTitle(r.sandbox)} ${r.sandbox.id}`,
        width: "20%",
        card: "title",
    },
    {
        id: "state",
        title: "State",
        render: (r) => <StateBadge word={sandboxState(r.sandbox)} />,
        sort: (r) => sandboxState(r.sandbox).word,
        text: (r) => sandboxState(r.sandbox).word,
        width: "8rem",
    },
    {
        id: "trust",
        title: "Trust",
        render: (r) => <StateBadge word={sandboxTrust(r.sandbox)} />,
        sort: (r) => sandboxTrust(r.sandbox).word,
        text: (r) => sandboxTrust(r.sandbox).word,
        width: "8.5rem",
    },
    {
        id: "doing",
        title: "Step or reason",
        render: (r) => <Clip text={doing(r.sandbox) || "-"} />,
        sort: (r) => doing(r.sandbox),
        text: (r) => `${doing(r.sandbox)} ${r.sandbox.reason}`,
    },
    {
        id: "server",
        title: "Server",
        render: (r) => <Clip text={r.server || "-"} />,
        sort: (r) => r.server,
        text: (r) => r.server,
        width: "7rem",
    },
    {
        id: "image",
        title: "Image",
        render: (r) => <Clip text={r.sandbox.image} mono />,
        sort: (r) => r.sandbox.image,
        text: (r) => r.sandbox.image,
        width: "15%",
        wide: true,
    },
    {
        id: "network",
        title: "Network",
        render: (r) => (r.sandbox.openNetwork ? <Tag title="It reaches all that its server reaches, unfiltered">open</Tag> : "none"),
        sort: (r) => (r.sandbox.openNetwork ? 1 : 0),
        text: (r) => (r.sandbox.openNetwork ? "open" : "none"),
        width: "5.5rem",
        wide: true,
        card: "hide",
    },
    {
        id: "started",
        title: "Started",
        render: (r) => <Ago us={r.sandbox.startedAtUs} />,
        sort: (r) => r.sandbox.startedAtUs,
        align: "end",
        width: "6.5rem",
    },
];

const Run = () => (
    <Button kind="primary" icon="plus" href="/sandboxes/new">
        Run a sandbox
    </Button>
);

function NoSandbox() {
    return (
        <Empty icon="sandbox" title="No sandbox yet" actions={<Run />}>
            <p>
                A sandbox is a program in a container that is supervised from within, has no way out, and is known by a certificate
                of its own: a coding agent, or anything else that you do not trust. From a terminal it is:
            </p>
            <CopyField label="Command" text="davit run -it --rm --workspace . alpine" />
        </Empty>
    );
}

export function SandboxesPage() {
    const use = useWatch(sandboxesTopic());
    const servers = useWatch(serversTopic()).model;
    const rows = useMemo(
        () => [...(use.model?.values() ?? [])].map((sandbox): Row => ({ sandbox, server: serverName(servers, sandbox.serverId) })),
        [use.model, servers],
    );
    return (
        <Page
            title="Sandboxes"
            actions={
                <>
                    <Button icon="key" href="/identities">
                        Identities
                    </Button>
                    <Run />
                </>
            }
        >
            <Loaded
                use={use}
                skeleton={
                    <Card flush>
                        <SkeletonTable rows={6} />
                    </Card>
                }
            >
                {() => (
                    <Card flush>
                        <Table
                            label="Sandboxes"
                            rows={rows}
                            columns={columns}
                            rowKey={(r) => r.sandbox.id}
                            rowHref={(r) => href("sandboxes", r.sandbox.id)}
                            filter
                            initialSort={{ id: "name" }}
                            empty={<NoSandbox />}
                        />
                    </Card>
                )}
            </Loaded>
        </Page>
    );
}
