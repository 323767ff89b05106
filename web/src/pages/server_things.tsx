/* SPDX-License-Identifier: Apache-2.0 */
/* server_things: what a server has besides services: images, volumes, containers that Davit did not make; and cleaning up, by a plan that is shown
 * first. They are asked for when somebody looks. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { containers as containersApi, images as api, toProblem } from "../api/client";
import { bytes, count, short } from "../api/format";
import type { Image, PruneItem, PrunePlan, Volume } from "../gen/davit/common/v1/objects_pb";
import type { Container } from "../gen/davit/common/v1/service_pb";
import {
    Ago,
    Button,
    Card,
    Checkbox,
    Confirm,
    Dialog,
    Empty,
    ErrorBox,
    Form,
    IconButton,
    inert,
    Menu,
    Notice,
    SkeletonTable,
    Table,
    TextField,
    toast,
    toastProblem,
    type Column,
} from "../parts";
import { Clip, ContainerBadge, useCall, useLoad } from "./common";

const users = (names: string[]) => (names.length ? inert(names.join(", ")) : "nothing");

function PullImage({ server, onDone, onClose }: { server: string; onDone: () => void; onClose: () => void }) {
    const image = useSignal("");
    const layers = useSignal<ReadonlyMap<string, { text: string; percent: number }>>(new Map());
    const call = useCall();
    const off = useRef(new AbortController());
    useEffect(() => () => off.current.abort(), []);
    const pull = () =>
        void call
            .run("pull", async () => {
                layers.value = new Map();
                const how = { timeoutMs: 30 * 60_000, signal: off.current.signal };
                for await (const r of api.pullImage({ server, image: image.value.trim() }, how)) {
                    const p = r.progress;
                    if (p) layers.value = new Map(layers.value).set(p.step, { text: p.message, percent: p.percent });
                    if (r.digest) toast({ tone: "ok", title: `${inert(image.value)} is on ${inert(server)}`, text: r.digest });
                }
            })
            .then((ok) => ok && onDone());
    return (
        <Dialog title={`Pull an image to ${inert(server)}`} open onClose={onClose} locked={call.busy !== ""}>
            <Form
                label="Pull an image"
                onSubmit={pull}
                error={call.problem}
                actions={
                    <>
                        {/* A large image takes long: to wait for it here is nobody's duty. */}
                        <Button onClick={onClose}>{call.busy ? "Call off" : "Cancel"}</Button>
                        <Button kind="primary" type="submit" busy={call.busy !== ""} disabled={image.value.trim() === ""}>
                            Pull
                        </Button>
                    </>
                }
            >
                <TextField
                    label="Image"
                    required
                    mono
                    autoFocus
                    value={image.value}
                    onInput={(text) => (image.value = text)}
                    placeholder="docker.io/library/nginx:1.27"
                />
                {[...layers.value].map(([id, l]) => (
                    <p key={id} class="layer">
                        <span class="mono">{inert(id)}</span> <span class="clip">{inert(l.text)}</span>
                        <progress max={100} value={l.percent} aria-label={`Layer ${inert(id)}`} />
                    </p>
                ))}
            </Form>
        </Dialog>
    );
}

export function ServerImages({ server, online }: { server: string; online: boolean }) {
    const list = useLoad(() => api.listImages({ server }));
    const pulling = useSignal(false);
    const removing = useSignal<Image | undefined>(undefined);
    const call = useCall();
    const nameOf = (i: Image) => i.tags[0] ?? i.digests[0] ?? short(i.id.replace("sha256:", ""));
    const check = (i: Image) =>
        void call
            .run("check", async () => {
                const { check: found } = await api.checkImage({ server, image: nameOf(i) });
                const name = inert(nameOf(i));
                if (found?.differs)
                    toast({ tone: "warn", title: `The registry has another ${name}`, text: "Deploy with pull: always to take it." });
                else toast({ tone: "ok", title: `${name} is what the registry has` });
            });
    const rows = list.value?.images ?? [];
    const columns: Column<Image>[] = [
        {
            id: "name",
            title: "Image",
            render: (i) => <Clip text={nameOf(i)} mono />,
            sort: nameOf,
            text: (i) => [...i.tags, ...i.digests].join(" "),
            card: "title",
        },
        {
            id: "id",
            title: "Id",
            render: (i) => <Clip text={short(i.id.replace("sha256:", ""))} mono />,
            width: "8.5rem",
            card: "hide",
        },
        { id: "size", title: "Size", render: (i) => bytes(i.bytes), sort: (i) => i.bytes, align: "end", width: "6.5rem" },
        { id: "used", title: "Used by", render: (i) => <Clip text={users(i.usedBy)} />, text: (i) => i.usedBy.join(" ") },
        {
            id: "made",
            title: "Made",
            render: (i) => <Ago us={i.createdUs} />,
            sort: (i) => i.createdUs,
            align: "end",
            width: "8rem",
        },
        {
            id: "deeds",
            title: "",
            align: "end",
            width: "4rem",
            render: (i) => (
                <Menu
                    label={`What to do with ${inert(nameOf(i))}`}
                    items={[
                        i.tags.length > 0 && { label: "Ask the registry for a newer one", icon: "search", onSelect: () => check(i) },
                        { label: "Remove", icon: "trash", danger: true, disabled: i.usedBy.length > 0, onSelect: () => (removing.value = i) },
                    ]}
                />
            ),
        },
    ];
    return (
        <Card
            title="Images"
            note={list.value && `${rows.length}, ${bytes(rows.reduce((n, i) => n + i.bytes, 0n))}`}
            actions={
                <Button size="small" icon="download" disabled={!online} onClick={() => (pulling.value = true)}>
                    Pull
                </Button>
            }
            flush
        >
            {list.problem && <ErrorBox problem={list.problem} retry={() => void list.again()} />}
            {call.problem && !removing.value && <ErrorBox problem={call.problem} />}
            {!list.value && !list.problem && <SkeletonTable />}
            {list.value && (
                <Table
                    label="Images"
                    rows={rows}
                    columns={columns}
                    rowKey={(i) => i.id}
                    filter={rows.length > 8}
                    initialSort={{ id: "name" }}
                    empty={<Empty icon="layers" title="No images" />}
                />
            )}
            {pulling.value && (
                <PullImage
                    server={server}
                    onClose={() => (pulling.value = false)}
                    onDone={() => {
                        pulling.value = false;
                        void list.again();
                    }}
                />
            )}
            <Confirm
                title={`Remove ${removing.value ? inert(nameOf(removing.value)) : ""}`}
                open={removing.value !== undefined}
                onClose={() => (removing.value = undefined)}
                action="Remove image"
                busy={call.busy !== ""}
                error={call.problem}
                onConfirm={() =>
                    void call
                        .run("remove", () => api.removeImage({ server, image: removing.value!.id }))
                        .then((ok) => {
                            if (!ok) return;
                            removing.value = undefined;
                            void list.again();
                        })
                }
            >
                <p>No container uses it. To have it again it is pulled again.</p>
                {removing.value && removing.value.tags.length > 1 && (
                    <p class="wrap">All its names go: {inert(removing.value.tags.join(", "))}.</p>
                )}
            </Confirm>
        </Card>
    );
}

export function ServerVolumes({ server }: { server: string }) {
    const list = useLoad(() => api.listVolumes({ server }));
    const removing = useSignal<Volume | undefined>(undefined);
    const call = useCall();
    const rows = list.value?.volumes ?? [];
    const columns: Column<Volume>[] = [
        {
            id: "name",
            title: "Volume",
            render: (v) => <Clip text={v.name} mono />,
            sort: (v) => v.name,
            text: (v) => v.name,
            card: "title",
        },
        {
            id: "service",
            title: "Service",
            render: (v) => <Clip text={v.project ? `${v.project}/${v.service}` : "not of Davit"} />,
            text: (v) => v.service,
        },
        { id: "used", title: "Used by", render: (v) => <Clip text={users(v.usedBy)} /> },
        {
            id: "made",
            title: "Made",
            render: (v) => <Ago us={v.createdUs} />,
            sort: (v) => v.createdUs,
            align: "end",
            width: "8rem",
        },
        {
            id: "deeds",
            title: "",
            align: "end",
            width: "4rem",
            render: (v) => (
                <IconButton
                    icon="trash"
                    size="small"
                    label={`Remove ${inert(v.name)}`}
                    disabled={v.usedBy.length > 0 || v.project === ""}
                    onClick={() => (removing.value = v)}
                />
            ),
        },
    ];
    return (
        <Card title="Volumes" note={list.value && String(rows.length)} flush>
            {list.problem && <ErrorBox problem={list.problem} retry={() => void list.again()} />}
            {!list.value && !list.problem && <SkeletonTable />}
            {list.value && (
                <Table
                    label="Volumes"
                    rows={rows}
                    columns={columns}
                    rowKey={(v) => v.name}
                    filter={rows.length > 8}
                    initialSort={{ id: "name" }}
                    empty={<Empty icon="disk" title="No volumes" />}
                />
            )}
            <Confirm
                title={`Remove volume ${inert(removing.value?.name ?? "")}`}
                open={removing.value !== undefined}
                onClose={() => (removing.value = undefined)}
                action="Remove volume"
                name={removing.value?.name ?? ""}
                busy={call.busy !== ""}
                error={call.problem}
                onConfirm={() =>
                    void call
                        .run("remove", () => api.removeVolume({ server, name: removing.value!.name }))
                        .then((ok) => {
                            if (!ok) return;
                            removing.value = undefined;
                            void list.again();
                        })
                }
            >
                <p>All data in it is gone then. There is no way back.</p>
            </Confirm>
        </Card>
    );
}

function Plan({ items, of }: { items: PruneItem[]; of: string }) {
    return (
        <ul class="prune" aria-label={of}>
            {items.map((i) => (
                <li key={`${i.kind} ${i.id}`}>
                    <span class="quiet">{inert(i.kind)}</span> <Clip text={i.name || short(i.id)} mono /> {i.bytes > 0n && bytes(i.bytes)}{" "}
                    <span class="quiet">{inert(i.why)}</span>
                </li>
            ))}
        </ul>
    );
}

/** Cleaning up: the plan is made and shown, and exactly it is carried out. */
export function PruneServer({ server, onClose }: { server: string; onClose: () => void }) {
    const volumes = useSignal(false);
    const plan = useSignal<PrunePlan | undefined>(undefined);
    const typed = useSignal("");
    const call = useCall();
    const make = () =>
        void call.run("plan", async () => {
            plan.value = undefined;
            typed.value = "";
            plan.value = (await api.planPrune({ server, volumes: volumes.value }, { timeoutMs: 120_000 })).plan;
        });
    const apply = () =>
        void call
            .run("apply", async () => {
                const r = await api.applyPrune({ server, planId: plan.value!.planId }, { timeoutMs: 300_000 });
                const freed = r.result?.removed.reduce((n, i) => n + i.bytes, 0n) ?? 0n;
                const kept = r.result?.kept.length ?? 0;
                toast({
                    tone: kept ? "warn" : "ok",
                    title: `${count(r.result?.removed.length ?? 0, "thing")} removed, ${bytes(freed)} freed`,
                    ...(kept ? { text: `${count(kept, "thing")} changed meanwhile and stayed.` } : {}),
                });
            })
            .then((ok) => ok && onClose());
    const items = plan.value?.items ?? [];
    /* What cannot be taken back: their data is gone. */
    const losing = items.some((i) => i.kind === "volume");
    return (
        <Dialog
            title={`Clean up ${inert(server)}`}
            open
            wide
            onClose={onClose}
            locked={call.busy === "apply"}
            footer={
                <>
                    <Button onClick={onClose} disabled={call.busy === "apply"}>
                        Cancel
                    </Button>
                    {plan.value === undefined ? (
                        <Button kind="primary" busy={call.busy === "plan"} onClick={make}>
                            Make a plan
                        </Button>
                    ) : (
                        <Button
                            kind="danger"
                            busy={call.busy === "apply"}
                            disabled={items.length === 0 || !plan.value.complete || (losing && typed.value !== server)}
                            onClick={apply}
                        >
                            Remove {count(items.length, "thing")}
                        </Button>
                    )}
                </>
            }
        >
            <p>
                Leftovers of Davit's own: containers and networks of deployments that are over, and images that none of them needs for
                a rollback. What Davit did not make is never in the plan.
            </p>
            <Checkbox
                label="Also volumes of services that are gone"
                checked={volumes.value}
                disabled={call.busy !== ""}
                onChange={(on) => {
                    volumes.value = on;
                    plan.value = undefined;
                }}
            />
            {call.problem && <ErrorBox problem={call.problem} />}
            {plan.value && !plan.value.complete && (
                <Notice tone="warn" title="The engine did not tell everything">
                    Nothing is removed by half a list. Try again.
                </Notice>
            )}
            {plan.value && items.length === 0 && <Notice tone="ok" title="Nothing to clean up" />}
            {items.length > 0 && <Plan items={items} of="What would go" />}
            {losing && (
                <TextField
                    label={`All data of these volumes is gone then. Type ${server} to confirm`}
                    value={typed.value}
                    onInput={(text) => (typed.value = text)}
                    required
                    mono
                />
            )}
        </Dialog>
    );
}

type Act = "start" | "stop" | "restart" | "remove";
const ACTS = ["start", "stop", "restart", "remove"] as const;
const actWord = (act: Act) => act[0]!.toUpperCase() + act.slice(1);
const isUp = (c: Container) => ["running", "restarting", "paused"].includes(c.state);

/** Containers that Davit did not make: seen, and changed only by whoever names one. */
export function ForeignContainers({ server, online }: { server: string; online: boolean }) {
    const list = useLoad(() => containersApi.listContainers({ server, all: true }));
    const deed = useSignal<{ container: Container; act: Act } | undefined>(undefined);
    const call = useCall();
    const rows = (list.value?.containers ?? []).filter((c) => c.foreign);
    const run = (c: Container, action: Act, force = false) =>
        containersApi
            .controlContainer({ server, container: c.id, action, force }, { timeoutMs: 90_000 })
            .then(() => list.again());
    const ask = (container: Container, act: Act) => {
        if (act === "start") run(container, act).catch((e) => toastProblem("It was not started", toProblem(e)));
        else deed.value = { container, act };
    };
    const columns: Column<Container>[] = [
        {
            id: "name",
            title: "Name",
            render: (c) => <Clip text={c.name || short(c.id)} />,
            sort: (c) => c.name,
            text: (c) => c.name,
            card: "title",
        },
        { id: "state", title: "State", render: (c) => <ContainerBadge container={c} />, sort: (c) => c.state, width: "8rem" },
        { id: "image", title: "Image", render: (c) => <Clip text={c.image} mono />, text: (c) => c.image },
        {
            id: "deeds",
            title: "",
            align: "end",
            width: "4rem",
            render: (c) => (
                <Menu
                    label={`What to do with ${inert(c.name)}`}
                    items={ACTS.map((act) => ({
                        label: actWord(act),
                        icon: act === "remove" ? "trash" : act === "start" ? "play" : act,
                        danger: act === "remove",
                        disabled: !online || (act === "start" ? isUp(c) : act !== "remove" && !isUp(c)),
                        onSelect: () => ask(c, act),
                    }))}
                />
            ),
        },
    ];
    if (list.value && rows.length === 0) return null;
    const { container, act } = deed.value ?? {};
    return (
        <Card title="Containers of others" note={list.value && String(rows.length)} flush>
            {list.problem && <ErrorBox problem={list.problem} retry={() => void list.again()} />}
            {!list.value && !list.problem && <SkeletonTable rows={2} />}
            {list.value && (
                <Table label="Containers that Davit did not make" rows={rows} columns={columns} rowKey={(c) => c.id} initialSort={{ id: "name" }} />
            )}
            <Confirm
                title={`${act ? actWord(act) : ""} ${inert(container?.name ?? "")}`}
                open={deed.value !== undefined}
                onClose={() => (deed.value = undefined)}
                action={`${act ? actWord(act) : ""} it`}
                {...(act === "remove" && container ? { name: container.name } : {})}
                busy={call.busy !== ""}
                error={call.problem}
                onConfirm={() =>
                    void call
                        .run(act!, () => run(container!, act!, act === "remove" && isUp(container!)))
                        .then((ok) => ok && (deed.value = undefined))
                }
            >
                <p>Davit did not make this container. Whoever did may not expect it.</p>
                {act === "remove" && container && isUp(container) && <p>It runs: it is killed first.</p>}
            </Confirm>
        </Card>
    );
}
