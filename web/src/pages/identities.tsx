/* SPDX-License-Identifier: Apache-2.0 */
/* identities: which sandboxes are registered, by which certificate of which container, and until when that holds. */
import { useMemo } from "preact/hooks";

import { now } from "../api/clock";
import { ms, short } from "../api/format";
import { sandboxesTopic } from "../api/topics";
import { useWatch } from "../api/watch";
import { certificateState } from "../api/words";
import type { Sandbox } from "../gen/davit/common/v1/sandbox_pb";
import { Ago, Card, CopyButton, CopyField, Empty, inert, Page, SkeletonTable, Table, type Column } from "../parts";
import { href } from "../shell/router";
import { Clip, Loaded, StateBadge } from "./common";

/** The beginning of an id; copied whole. */
export function ShortId({ id, what }: { id: string; what: string }) {
    if (!id) return <span>-</span>;
    return (
        <span class="line">
            <span class="mono" title={inert(id)}>
                {short(id)}
            </span>
            <CopyButton text={id} label={`Copy ${what}`} />
        </span>
    );
}

export const LastSeen = ({ sandbox }: { sandbox: Sandbox }) =>
    sandbox.session ? <span title="Its server's agent speaks with it">connected</span> : <Ago us={sandbox.lastSeenUs} />;

const columns: Column<Sandbox>[] = [
    { id: "agent", title: "Agent", render: (s) => <Clip text={s.name} />, sort: (s) => s.name, text: (s) => `${s.name} ${s.id}`, card: "title" },
    {
        id: "project",
        title: "Project",
        render: (s) => <Clip text={s.project || "-"} />,
        sort: (s) => s.project,
        text: (s) => s.project,
        width: "12%",
    },
    {
        id: "container",
        title: "Container",
        render: (s) => <ShortId id={s.containerId} what={`the container's id of ${inert(s.name)}`} />,
        text: (s) => s.containerId,
        width: "9.25rem",
    },
    {
        id: "thumbprint",
        title: "Thumbprint",
        render: (s) => <ShortId id={s.thumbprint} what={`the thumbprint of ${inert(s.name)}`} />,
        text: (s) => s.thumbprint,
        width: "9.25rem",
    },
    {
        id: "certificate",
        title: "Certificate",
        render: (s) => <StateBadge word={certificateState(s, now.value)} />,
        sort: (s) => certificateState(s, ms(s.lastSeenUs)).word,
        text: (s) => certificateState(s, ms(s.lastSeenUs)).word,
        width: "7.5rem",
    },
    {
        id: "registered",
        title: "Registered",
        render: (s) => <Ago us={s.registeredAtUs} />,
        sort: (s) => s.registeredAtUs,
        wide: true,
        align: "end",
        width: "7rem",
    },
    {
        id: "seen",
        title: "Last seen",
        render: (s) => <LastSeen sandbox={s} />,
        sort: (s) => (s.session ? 1n << 63n : s.lastSeenUs),
        align: "end",
        width: "6.5rem",
    },
];

function NoIdentity() {
    return (
        <Empty icon="key" title="No agent is registered">
            <p>A sandbox registers itself at its first start, by a certificate that is bound to its container. To make one:</p>
            <CopyField label="Command" text="davit run -it --rm alpine" />
        </Empty>
    );
}

export function IdentitiesPage() {
    const use = useWatch(sandboxesTopic());
    const rows = useMemo(() => [...(use.model?.values() ?? [])].filter((s) => s.thumbprint !== ""), [use.model]);
    return (
        <Page title="Identities" crumbs={[{ title: "Sandboxes", href: "/sandboxes" }]}>
            <p class="quiet">
                Who is registered: one certificate, one container, one sandbox. A row goes with its container. From a terminal:{" "}
                <code class="code">davit controlplane agents</code>
            </p>
            <Loaded
                use={use}
                skeleton={
                    <Card flush>
                        <SkeletonTable rows={4} />
                    </Card>
                }
            >
                {() => (
                    <Card flush>
                        <Table
                            label="Identities"
                            rows={rows}
                            columns={columns}
                            rowKey={(s) => s.id}
                            rowHref={(s) => href("sandboxes", s.id)}
                            filter
                            initialSort={{ id: "agent" }}
                            empty={<NoIdentity />}
                        />
                    </Card>
                )}
            </Loaded>
        </Page>
    );
}
