/* SPDX-License-Identifier: Apache-2.0 */
/* registries: passwords for private registries. They go in, and never come out. */
import { useSignal } from "@preact/signals";

import { registries as api } from "../api/client";
import type { Registry } from "../gen/davit/control/v1/environment_pb";
import {
    Ago,
    Button,
    Card,
    Confirm,
    Dialog,
    Empty,
    ErrorBox,
    Form,
    IconButton,
    inert,
    SkeletonTable,
    Table,
    TextField,
    toast,
    type Column,
} from "../parts";
import { Clip, useCall, useLoad } from "./common";

function EditRegistry({ row, onDone, onClose }: { row: Registry | "new"; onDone: () => void; onClose: () => void }) {
    const old = row === "new" ? undefined : row;
    const server = useSignal(old?.server ?? "");
    const username = useSignal(old?.username ?? "");
    const password = useSignal("");
    const tried = useSignal(false);
    const call = useCall();
    const badUser = username.value === "" ? "The user is missing." : undefined;
    const badPassword = password.value === "" ? "The password is missing: the one that is kept is not told." : undefined;
    const save = () => {
        tried.value = true;
        if (badUser || badPassword) return;
        void call
            .run("save", () => api.setRegistry({ server: server.value.trim(), username: username.value, password: password.value }))
            .then((ok) => {
                if (!ok) return;
                toast({ tone: "ok", title: "The registry is known", text: "Pulls from it use this password from now on." });
                onDone();
            });
    };
    return (
        <Dialog title={old ? `Change ${inert(old.server)}` : "Add a registry"} open onClose={onClose} locked={call.busy !== ""}>
            <Form
                label="A registry"
                onSubmit={save}
                error={call.problem}
                actions={
                    <>
                        <Button onClick={onClose} disabled={call.busy !== ""}>
                            Cancel
                        </Button>
                        <Button kind="primary" type="submit" busy={call.busy !== ""}>
                            Save
                        </Button>
                    </>
                }
            >
                <TextField
                    label="Registry"
                    value={server.value}
                    onInput={(v) => (server.value = v)}
                    mono
                    disabled={old !== undefined}
                    placeholder="registry.example.com:5000"
                    hint="As in the name of an image. Empty: where images without one come from."
                />
                <TextField
                    label="User"
                    required
                    value={username.value}
                    onInput={(v) => (username.value = v)}
                    autocomplete="off"
                    error={tried.value ? badUser : undefined}
                />
                <TextField
                    label="Password or token"
                    required
                    type="password"
                    value={password.value}
                    onInput={(v) => (password.value = v)}
                    autocomplete="new-password"
                    error={tried.value ? badPassword : undefined}
                />
            </Form>
        </Dialog>
    );
}

export function Registries() {
    const list = useLoad(() => api.listRegistries({}));
    const edit = useSignal<Registry | "new" | undefined>(undefined);
    const remove = useSignal<Registry | undefined>(undefined);
    const call = useCall();
    const rows = list.value?.registries ?? [];
    const columns: Column<Registry>[] = [
        {
            id: "server",
            title: "Registry",
            render: (r) => <Clip text={r.server} mono />,
            sort: (r) => r.server,
            text: (r) => r.server,
            card: "title",
        },
        { id: "user", title: "User", render: (r) => <Clip text={r.username} />, text: (r) => r.username },
        { id: "by", title: "Set by", render: (r) => <Clip text={r.changedBy || "-"} />, width: "9rem", card: "hide" },
        { id: "changed", title: "Set", render: (r) => <Ago us={r.changedUs} />, sort: (r) => r.changedUs, width: "8rem" },
        {
            id: "deeds",
            title: "",
            align: "end",
            width: "5.5rem",
            render: (r) => (
                <span class="line">
                    <IconButton icon="edit" size="small" label={`Change ${inert(r.server)}`} onClick={() => (edit.value = r)} />
                    <IconButton icon="trash" size="small" label={`Remove ${inert(r.server)}`} onClick={() => (remove.value = r)} />
                </span>
            ),
        },
    ];
    const done = () => {
        edit.value = undefined;
        remove.value = undefined;
        void list.again();
    };
    return (
        <Card
            title="Registries"
            actions={
                <Button size="small" icon="plus" onClick={() => (edit.value = "new")}>
                    Add
                </Button>
            }
            flush
        >
            {list.problem && <ErrorBox problem={list.problem} retry={() => void list.again()} />}
            {!list.value && !list.problem && <SkeletonTable rows={2} />}
            {list.value && (
                <Table
                    label="Registries"
                    rows={rows}
                    columns={columns}
                    rowKey={(r) => r.server}
                    initialSort={{ id: "server" }}
                    empty={
                        <Empty icon="key" title="No registry with a password">
                            Images of public registries need none. A password is kept encrypted and sent along with a pull.
                        </Empty>
                    }
                />
            )}
            {edit.value && <EditRegistry row={edit.value} onDone={done} onClose={() => (edit.value = undefined)} />}
            <Confirm
                title={`Forget the password of ${inert(remove.value?.server ?? "")}`}
                open={remove.value !== undefined}
                onClose={() => (remove.value = undefined)}
                action="Forget it"
                busy={call.busy !== ""}
                error={call.problem}
                onConfirm={() =>
                    void call.run("remove", () => api.removeRegistry({ server: remove.value!.server })).then((ok) => ok && done())
                }
            >
                <p>Pulls from it go without a password then, and fail where one is needed.</p>
            </Confirm>
        </Card>
    );
}
