/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox: one sandbox, live: what it does, who it is, its log, how it came up, its terminal, and what can be done with it. */
import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";

import { sandboxes as api } from "../api/client";
import { comingUp } from "../api/comingup";
import { now } from "../api/clock";
import { sandboxesTopic, serversTopic } from "../api/topics";
import { useWatch } from "../api/watch";
import { certificateState, isWithheld, sandboxReason, sandboxState, sandboxTitle, sandboxTrust } from "../api/words";
import { SandboxState, type Sandbox } from "../gen/davit/common/v1/sandbox_pb";
import { ServerState, type Server } from "../gen/davit/control/v1/servers_pb";
import {
    Ago,
    Button,
    Card,
    Checkbox,
    Confirm,
    CopyButton,
    Empty,
    ErrorBox,
    inert,
    KeyValues,
    Menu,
    Notice,
    Page,
    Skeleton,
    Steps,
    Tabs,
    Tag,
    toast,
    Until,
} from "../parts";
import { later } from "../shell/later";
import { href, Link, navigate, path, query, setQuery } from "../shell/router";
import { Away, Loaded, StateBadge, useCall, type Call } from "./common";
import { EventFeed, useEvents, type Feed } from "./events";
import { LastSeen, ShortId } from "./identities";
import { doing, serverName } from "./sandboxes";
import { SandboxLogs } from "./service_logs";

const ACTION_MS = 15 * 60_000;
const START_MS = 3600_000;

const SandboxTerminal = later(() => import("./terminal").then((module) => module.SandboxTerminal));

const isUp = (s: Sandbox) => s.state === SandboxState.RUNNING || s.state === SandboxState.STARTING;

function Facts({ sandbox: s, server }: { sandbox: Sandbox; server: string }) {
    const attach = `davit sandbox attach ${sandboxTitle(s)}`;
    return (
        <Card title="Sandbox">
            <KeyValues
                items={[
                    {
                        label: "Image",
                        value: (
                            <span class="line">
                                <span class="mono wrap">{inert(s.image)}</span>
                                <CopyButton text={s.image} label="Copy image" />
                            </span>
                        ),
                    },
                    {
                        label: "Server",
                        value: server ? (
                            <Link href={href("servers", server)} class="wrap">
                                {inert(server)}
                            </Link>
                        ) : (
                            "-"
                        ),
                    },
                    { label: "Project", value: inert(s.project) },
                    {
                        label: "Network",
                        value: s.openNetwork ? (
                            <span class="line">
                                <Tag>open</Tag> all that its server reaches, unfiltered
                            </span>
                        ) : (
                            "none: nothing leaves it, and only its server's agent reaches it"
                        ),
                    },
                    s.startedAtUs > 0n && { label: "Started", value: <Ago us={s.startedAtUs} /> },
                    s.state === SandboxState.STOPPED && { label: "Ended with", value: doing(s) },
                    { label: "Id", value: <ShortId id={s.id} what="the sandbox's id" /> },
                    { label: "Container", value: <ShortId id={s.containerId} what="the container's id" /> },
                    {
                        label: "From a terminal",
                        value: (
                            <span class="line">
                                <code class="code wrap">{inert(attach)}</code>
                                <CopyButton text={attach} label="Copy command" />
                            </span>
                        ),
                    },
                ]}
            />
        </Card>
    );
}

function Identity({ sandbox: s }: { sandbox: Sandbox }) {
    const trust = sandboxTrust(s);
    return (
        <Card title="Who it is" actions={<Button size="small" href="/identities">All identities</Button>}>
            <KeyValues
                items={[
                    { label: "Trust", value: <StateBadge word={trust} /> },
                    s.thumbprint !== "" && { label: "Registered", value: <Ago us={s.registeredAtUs} /> },
                    { label: "Thumbprint", value: <ShortId id={s.thumbprint} what="the thumbprint" /> },
                    s.thumbprint !== "" && {
                        label: "Certificate",
                        value: (
                            <span class="line">
                                <StateBadge word={certificateState(s, now.value)} />
                                {s.certificateEndsUs > 0n && (
                                    <span class="quiet">
                                        ends <Until us={s.certificateEndsUs} />
                                    </span>
                                )}
                            </span>
                        ),
                    },
                    { label: "Last seen", value: <LastSeen sandbox={s} /> },
                ]}
            />
            {!isWithheld(s) && <p class="quiet">{trust.meaning}</p>}
        </Card>
    );
}

function Troubles({ sandbox: s, server }: { sandbox: Sandbox; server: Server | undefined }) {
    const reason = sandboxReason(s.reason);
    const offline = server?.state === ServerState.OFFLINE;
    return (
        <>
            {offline && (
                <Notice
                    tone="warn"
                    title={`Server ${inert(server.name)} is offline`}
                    actions={
                        <Button size="small" href={href("servers", server.name)}>
                            See what to do
                        </Button>
                    }
                >
                    What is shown is the last that was known. The sandbox itself goes on there.
                </Notice>
            )}
            {isWithheld(s) && (
                <Notice
                    tone="bad"
                    title={`Its program is withheld${s.step ? `: step ${s.stepIndex} of ${s.stepTotal}, ${inert(s.step)}, failed` : ""}`}
                >
                    {s.message && <p class="wrap">{inert(s.message)}</p>}
                    {reason && <p class="notice-fix wrap">{reason}</p>}
                </Notice>
            )}
            {!isWithheld(s) && isUp(s) && s.reason !== "" && (
                <Notice tone="warn" title={reason}>
                    {inert(s.message)}
                </Notice>
            )}
            {s.state === SandboxState.STARTING && s.reason === "" && s.step !== "" && (
                <Notice tone="pending" title={`Step ${s.stepIndex} of ${s.stepTotal}: ${inert(s.step)}`} />
            )}
        </>
    );
}

type DialogName = "" | "stop" | "remove";

function RemoveDialog({ sandbox: s, open, onClose }: { sandbox: Sandbox; open: boolean; onClose: () => void }) {
    const call = useCall();
    const volumes = useSignal(false);
    const up = isUp(s);
    /* It may be gone from the page before the call is answered. */
    const remove = () =>
        void call.run("remove", async () => {
            await api.removeSandbox({ target: { name: s.id }, force: up, volumes: volumes.value }, { timeoutMs: ACTION_MS });
            toast({ tone: "ok", title: `Sandbox ${sandboxTitle(s)} is removed` });
            if (path.value === href("sandboxes", s.id)) navigate("/sandboxes");
        });
    return (
        <Confirm
            title={`Remove sandbox ${inert(sandboxTitle(s))}`}
            open={open}
            onClose={onClose}
            onConfirm={remove}
            action="Remove sandbox"
            {...(up ? { name: s.name } : {})}
            busy={call.busy !== ""}
            error={call.problem}
        >
            <p>
                {up ? "It runs: its program is ended first. " : ""}
                Its container, what was written in it, its key and its registration go.
            </p>
            <Checkbox
                label="Its volumes and the snapshot of its workspace too"
                checked={volumes.value}
                onChange={(v) => (volumes.value = v)}
            />
        </Confirm>
    );
}

function Actions({
    sandbox: s,
    call,
    reached,
    onDialog,
}: {
    sandbox: Sandbox;
    call: Call;
    reached: boolean;
    onDialog: (which: DialogName) => void;
}) {
    const start = () =>
        void call
            .run("start", async () => {
                for await (const r of api.startSandbox({ target: { name: s.id } }, { timeoutMs: START_MS })) void r;
            })
            .then((ok) => ok && toast({ tone: "ok", title: `${sandboxTitle(s)} was started` }));
    const idle = reached && call.busy === "";
    return (
        <>
            {isUp(s) ? (
                <Button icon="stop" busy={call.busy === "stop"} disabled={!idle && call.busy !== "stop"} onClick={() => onDialog("stop")}>
                    Stop
                </Button>
            ) : (
                s.state !== SandboxState.CREATING && (
                    <Button
                        kind="primary"
                        icon="play"
                        busy={call.busy === "start"}
                        disabled={!idle && call.busy !== "start"}
                        onClick={start}
                    >
                        Start
                    </Button>
                )
            )}
            <Menu
                label="More"
                items={[
                    { label: "Remove sandbox", icon: "trash", danger: true, disabled: !idle, onSelect: () => onDialog("remove") },
                ]}
            />
        </>
    );
}

function ComingUp({ sandbox, feed }: { sandbox: Sandbox; feed: Feed }) {
    const steps = comingUp(sandbox, feed.rows);
    if (steps.length === 0)
        return (
            <Empty icon="history" title={feed.ready ? "Its last start is not remembered" : "Asking…"}>
                {feed.ready ? "The control plane was started since. The next start is told here, step by step." : ""}
            </Empty>
        );
    return (
        <Card title="How it came up">
            <Steps label="How it came up" steps={steps} />
        </Card>
    );
}

const TABS = ["logs", "terminal", "steps", "events"];

function Detail({ sandbox: s, servers, away }: { sandbox: Sandbox; servers: Map<string, Server> | undefined; away: boolean }) {
    const call = useCall();
    const dialog = useSignal<DialogName>("");
    const server = servers?.get(s.serverId);
    const reached = server?.state !== ServerState.OFFLINE;
    const feed = useEvents("", s.id);
    /* What is looked at first does not change under the viewer. */
    const first = useRef(s.state === SandboxState.STARTING || isWithheld(s) ? "steps" : "logs").current;
    const asked = query.value.get("tab") ?? "";
    const tab = TABS.includes(asked) ? asked : first;
    /* A shell goes on while another tab is looked at. */
    const shell = useRef(false);
    shell.current ||= tab === "terminal";
    const stop = () =>
        void call
            .run("stop", () => api.stopSandbox({ target: { name: s.id } }, { timeoutMs: ACTION_MS }))
            .then((ok) => {
                if (ok) toast({ tone: "ok", title: `${sandboxTitle(s)} was stopped` });
                dialog.value = "";
            });
    const name = serverName(servers, s.serverId);
    return (
        <Page
            title={s.name}
            crumbs={[{ title: "Sandboxes", href: "/sandboxes" }]}
            state={<StateBadge word={sandboxState(s)} />}
            subtitle={[s.project && inert(s.project), name && `on ${inert(name)}`].filter(Boolean).join(" ")}
            actions={<Actions sandbox={s} call={call} reached={reached} onDialog={(which) => (dialog.value = which)} />}
        >
            {away && <Away />}
            {call.problem && <ErrorBox problem={call.problem} title="It was not done" />}
            <Troubles sandbox={s} server={server} />
            <div class="two-columns">
                <Facts sandbox={s} server={name} />
                <Identity sandbox={s} />
            </div>
            <Tabs
                label="What is shown of the sandbox"
                current={tab}
                onChange={(id) => setQuery({ tab: id === first ? undefined : id })}
                tabs={[
                    { id: "logs", title: "Logs" },
                    { id: "terminal", title: "Terminal" },
                    { id: "steps", title: "Steps" },
                    { id: "events", title: "Events" },
                ]}
            >
                {tab === "logs" && <SandboxLogs id={s.id} name={s.name} />}
                {tab === "steps" && <ComingUp sandbox={s} feed={feed} />}
                {tab === "events" && <EventFeed feed={feed} of />}
                {shell.current && (
                    <div hidden={tab !== "terminal"}>
                        <SandboxTerminal sandbox={s} running={s.state === SandboxState.RUNNING} />
                    </div>
                )}
            </Tabs>
            <Confirm
                title={`Stop sandbox ${inert(sandboxTitle(s))}`}
                open={dialog.value === "stop"}
                onClose={() => (dialog.value = "")}
                onConfirm={stop}
                action="Stop sandbox"
                busy={call.busy !== ""}
            >
                <p>Its program is told to end, and killed if it does not within its grace. What was written in the container stays.</p>
            </Confirm>
            <RemoveDialog sandbox={s} open={dialog.value === "remove"} onClose={() => (dialog.value = "")} />
        </Page>
    );
}

export function SandboxPage({ id }: { id: string }) {
    const use = useWatch(sandboxesTopic());
    const servers = useWatch(serversTopic()).model;
    const found = use.model?.get(id);
    if (found && use.state !== "failed") return <Detail sandbox={found} servers={servers} away={use.away} />;
    return (
        <Page title="Sandbox" crumbs={[{ title: "Sandboxes", href: "/sandboxes" }]}>
            <Loaded
                use={use}
                skeleton={
                    <>
                        <Skeleton height="12rem" />
                        <Skeleton height="28rem" />
                    </>
                }
            >
                {() => (
                    <Empty
                        icon="sandbox"
                        title="There is no such sandbox any more"
                        actions={
                            <>
                                <Button href="/sandboxes">All sandboxes</Button>
                                <Button kind="primary" icon="plus" href="/sandboxes/new">
                                    Run one
                                </Button>
                            </>
                        }
                    />
                )}
            </Loaded>
        </Page>
    );
}
