/* SPDX-License-Identifier: Apache-2.0 */
/* service_files: the files in a container of a service: walked, taken out, put in, removed. Bytes go by one-time tickets, so that a browser streams
 * them by itself; what a container holds is never shown as a page of ours. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { files as api, toProblem, type Problem } from "../api/client";
import { bytes, count } from "../api/format";
import { cleanPath, joinPath, modeText, parentPath } from "../api/paths";
import type { FileEntry } from "../gen/davit/common/v1/objects_pb";
import type { Container } from "../gen/davit/common/v1/service_pb";
import {
    Ago,
    Button,
    Card,
    Confirm,
    Empty,
    ErrorBox,
    Icon,
    IconButton,
    inert,
    Notice,
    SelectField,
    SkeletonTable,
    Table,
    TextField,
    toast,
    type Column,
} from "../parts";
import { Clip, useCall, useLoad } from "./common";

function take(path: string): void {
    const link = document.createElement("a");
    link.href = path;
    link.download = "";
    link.click();
}

interface Send {
    name: string;
    part: number | undefined;
    problem?: Problem;
}

function sendText(s: Send): string {
    if (s.problem) return inert(s.problem.message);
    return s.part === undefined ? "waits" : `${Math.floor(s.part * 100)} %`;
}

/* fetch tells no progress of what it sends. */
function put(path: string, file: File, told: (part: number) => void): Promise<void> {
    return new Promise((resolve, reject) => {
        const x = new XMLHttpRequest();
        x.open("PUT", path);
        x.upload.onprogress = (e) => e.lengthComputable && told(e.loaded / e.total);
        x.onload = () =>
            x.status < 300 ? resolve() : reject(new Error(x.responseText.slice(0, 500).trim() || `It was refused (${x.status}).`));
        x.onerror = () => reject(new TypeError("failed to fetch"));
        x.setRequestHeader("content-type", "application/octet-stream");
        x.send(file);
    });
}

function Path({ path, go }: { path: string; go: (path: string) => void }) {
    const typed = useSignal(path);
    useEffect(() => void (typed.value = path), [path]);
    return (
        <form
            class="path"
            onSubmit={(event) => {
                event.preventDefault();
                go(cleanPath(typed.value));
            }}
        >
            <IconButton icon="up" label="One folder up" size="small" disabled={path === "/"} onClick={() => go(parentPath(path))} />
            <TextField label="Folder" bare value={typed.value} onInput={(text) => (typed.value = text)} mono />
        </form>
    );
}

function columnsOf(open: (e: FileEntry) => void, deed: (what: "get" | "remove", e: FileEntry) => void): Column<FileEntry>[] {
    return [
        {
            id: "name",
            title: "Name",
            sort: (e) => `${e.kind === "dir" ? 0 : 1}${e.name}`,
            text: (e) => e.name,
            card: "title",
            render: (e) =>
                e.kind === "dir" ? (
                    <button type="button" class="file-name" onClick={() => open(e)}>
                        <Icon name="folder" />
                        <Clip text={e.name} mono />
                    </button>
                ) : (
                    <span class="file-name">
                        <Icon name={e.kind === "symlink" ? "link" : "file"} />
                        <Clip text={e.target ? `${e.name} → ${e.target}` : e.name} mono />
                    </span>
                ),
        },
        {
            id: "size",
            title: "Size",
            render: (e) => (e.kind === "file" ? bytes(e.size) : "-"),
            sort: (e) => e.size,
            align: "end",
            width: "6.5rem",
        },
        {
            id: "mode",
            title: "Rights",
            render: (e) => <span class="mono">{modeText(e.mode)}</span>,
            width: "7rem",
            card: "hide",
        },
        { id: "owner", title: "Owner", render: (e) => `${e.uid}:${e.gid}`, width: "6rem", card: "hide" },
        {
            id: "modified",
            title: "Changed",
            render: (e) => <Ago us={e.modifiedUs} />,
            sort: (e) => e.modifiedUs,
            align: "end",
            width: "8rem",
        },
        {
            id: "deeds",
            title: "",
            align: "end",
            width: "5.5rem",
            render: (e) => (
                <span class="line">
                    {e.kind !== "other" && (
                        <IconButton
                            icon="download"
                            size="small"
                            label={`Download ${inert(e.name)}`}
                            onClick={() => deed("get", e)}
                        />
                    )}
                    <IconButton icon="trash" size="small" label={`Remove ${inert(e.name)}`} onClick={() => deed("remove", e)} />
                </span>
            ),
        },
    ];
}

export function ServiceFiles({ project, service, containers }: { project: string; service: string; containers: Container[] }) {
    const sorted = [...containers].sort((a, b) => a.name.localeCompare(b.name));
    const which = useSignal("");
    const chosen = sorted.find((c) => c.id === which.value) ?? sorted.find((c) => c.state === "running") ?? sorted[0];
    const target = chosen
        ? { project: "", service: "", server: chosen.serverId, container: chosen.id }
        : { project, service, server: "", container: "" };
    const path = useSignal("/");
    const removing = useSignal<FileEntry | undefined>(undefined);
    const sending = useSignal<Send[]>([]);
    const under = useSignal(false);
    const picker = useRef<HTMLInputElement>(null);
    const call = useCall();
    const list = useLoad(
        async () => (chosen ? await api.listFiles({ target, path: path.value }) : undefined),
        `${chosen?.id ?? ""}:${path.value}`,
    );
    const load = () => void list.again();
    const get = (e: FileEntry) =>
        void call.run("get", async () => {
            const made = await api.makeTicket({ target, path: joinPath(path.value, e.name), archive: e.kind !== "file" });
            take(made.path);
        });
    const send = async (picked: File[]) => {
        /* Where it was begun, whatever is looked at meanwhile. */
        const folder = path.value;
        under.value = true;
        sending.value = picked.map((f) => ({ name: f.name, part: undefined }));
        for (const [i, file] of picked.entries()) {
            const told = (more: Partial<Send>) =>
                (sending.value = sending.value.map((s, k) => (k === i ? { ...s, ...more } : s)));
            try {
                const made = await api.makeTicket({ target, path: joinPath(folder, file.name), write: true });
                await put(made.path, file, (part) => told({ part }));
                told({ part: 1 });
            } catch (e) {
                told({ problem: toProblem(e) });
            }
        }
        under.value = false;
        sending.value = sending.value.filter((s) => s.problem);
        if (sending.value.length === 0)
            toast({ tone: "ok", title: picked.length === 1 ? `${inert(picked[0]!.name)} is there` : `${count(picked.length, "file")} are there` });
        load();
    };
    if (!chosen) return <Empty icon="folder" title="No container, no files" />;
    const shown = list.value;
    const columns = columnsOf(
        (e) => (path.value = joinPath(path.value, e.name)),
        (what, e) => (what === "get" ? get(e) : (removing.value = e)),
    );
    return (
        <>
            <Card
                title="Files"
                actions={
                    <>
                        {sorted.length > 1 && (
                            <SelectField
                                label="Container"
                                bare
                                value={chosen.id}
                                onChange={(id) => (which.value = id)}
                                options={sorted.map((c) => ({ value: c.id, label: inert(c.name) }))}
                            />
                        )}
                        <Button size="small" icon="restart" busy={list.busy} onClick={load}>
                            Look again
                        </Button>
                        <Button size="small" icon="upload" busy={under.value} onClick={() => picker.current?.click()}>
                            Upload
                        </Button>
                    </>
                }
                flush
            >
                <Path path={path.value} go={(to) => (path.value = to)} />
                {list.problem && <ErrorBox problem={list.problem} retry={load} />}
                {call.problem && !removing.value && <ErrorBox problem={call.problem} />}
                {!shown && !list.problem && <SkeletonTable />}
                {shown && (
                    <Table
                        label={`Files in ${inert(path.value)}`}
                        rows={shown.entries}
                        columns={columns}
                        rowKey={(e) => e.name}
                        filter={shown.entries.length > 12}
                        initialSort={{ id: "name" }}
                        empty={<Empty icon="folder" title="Nothing in this folder" />}
                    />
                )}
            </Card>
            {shown?.truncated && <p class="quiet">There is more in this folder than is shown.</p>}
            {sending.value.map((s) => (
                <Notice
                    key={s.name}
                    tone={s.problem ? "bad" : "pending"}
                    title={`${inert(s.name)}: ${sendText(s)}`}
                    actions={
                        s.problem && (
                            <IconButton
                                icon="close"
                                size="small"
                                label="Close"
                                onClick={() => (sending.value = sending.value.filter((one) => one !== s))}
                            />
                        )
                    }
                >
                    {s.problem?.hint && <p class="notice-fix wrap">{inert(s.problem.hint)}</p>}
                </Notice>
            ))}
            <input
                ref={picker}
                class="unseen"
                type="file"
                multiple
                tabIndex={-1}
                aria-label="Files to upload"
                onChange={(event) => {
                    const picked = [...(event.currentTarget.files ?? [])];
                    event.currentTarget.value = "";
                    if (picked.length) void send(picked);
                }}
            />
            <Confirm
                title={`Remove ${inert(removing.value?.name ?? "")}`}
                open={removing.value !== undefined}
                onClose={() => (removing.value = undefined)}
                action="Remove"
                {...(removing.value?.kind === "dir" ? { name: removing.value.name } : {})}
                busy={call.busy !== ""}
                error={call.problem}
                onConfirm={() =>
                    void call
                        .run("remove", () =>
                            api.removeFile({
                                target,
                                path: joinPath(path.value, removing.value!.name),
                                recursive: removing.value!.kind === "dir",
                            }),
                        )
                        .then((ok) => {
                            if (!ok) return;
                            removing.value = undefined;
                            load();
                        })
                }
            >
                <p>
                    {removing.value?.kind === "dir" ? "The folder and all that is in it goes. " : "The file goes. "}
                    There is no way back.
                </p>
            </Confirm>
        </>
    );
}
