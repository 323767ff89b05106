/* SPDX-License-Identifier: Apache-2.0 */
/* service_env: the variables that a service gets at its next deployment. Secrets are masked; to see one is a deed that the audit log tells. */
import { useSignal } from "@preact/signals";

import { environments as api } from "../api/client";
import type { Variable } from "../gen/davit/control/v1/environment_pb";
import {
    Ago,
    Button,
    Card,
    Checkbox,
    Code,
    Confirm,
    CopyButton,
    CopyField,
    Dialog,
    Empty,
    ErrorBox,
    Form,
    IconButton,
    inert,
    Notice,
    Skeleton,
    SkeletonTable,
    Table,
    Tag,
    TextArea,
    TextField,
    toast,
    type Column,
} from "../parts";
import { Clip, useCall, useLoad } from "./common";

interface Of {
    project: string;
    service: string;
}

/* As src/spec has them. */
const NAME = /^[A-Za-z_.-][A-Za-z0-9_.-]{0,255}$/;
const FILE = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$/;

function EditVariable({ of, row, onDone, onClose }: { of: Of; row: Variable | "new"; onDone: () => void; onClose: () => void }) {
    const old = row === "new" ? undefined : row;
    const name = useSignal(old?.name ?? "");
    const value = useSignal(old && !old.secret ? old.value : "");
    const secret = useSignal(old ? old.secret : true);
    const file = useSignal(old?.file ?? "");
    const tried = useSignal(false);
    const call = useCall();
    const badName = NAME.test(name.value) ? undefined : "Letters, digits and _.- without a digit in front, at most 256.";
    const fileFault = () => {
        if (file.value === "") return old?.file ? "Remove the variable and set it anew to have it in the environment again." : undefined;
        return FILE.test(file.value) ? undefined : "Letters, digits and _.- without . or - in front, at most 63.";
    };
    const badFile = fileFault();
    /* What is sent takes the place of what there is, and that is not shown here. */
    const badValue = old?.secret && value.value === "" ? "The present value is not shown: type it again, or a new one." : undefined;
    const save = () => {
        tried.value = true;
        if (badName || badFile || badValue) return;
        const one = { name: name.value, value: value.value, secret: secret.value, file: file.value };
        void call
            .run("save", () => api.setVariables({ ...of, variables: [one] }))
            .then((ok) => {
                if (!ok) return;
                toast({ tone: "ok", title: `${name.value} is set`, text: "It counts from the next deployment on." });
                onDone();
            });
    };
    return (
        <Dialog title={old ? `Change ${inert(old.name)}` : "Add a variable"} open onClose={onClose} locked={call.busy !== ""}>
            <Form
                label="A variable"
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
                    label="Name"
                    value={name.value}
                    onInput={(text) => (name.value = text)}
                    required
                    mono
                    autoFocus={!old}
                    disabled={old !== undefined}
                    placeholder="DATABASE_URL"
                    error={tried.value ? badName : undefined}
                />
                <TextArea
                    label="Value"
                    value={value.value}
                    onInput={(text) => (value.value = text)}
                    rows={3}
                    mono
                    autoFocus={old !== undefined}
                    error={tried.value ? badValue : undefined}
                    placeholder={old?.secret ? "a new value; the present one is not shown" : ""}
                />
                <Checkbox
                    label="Secret"
                    checked={secret.value}
                    disabled={old?.secret ?? false}
                    onChange={(on) => (secret.value = on)}
                    hint={
                        old?.secret
                            ? "It stays one until it is removed."
                            : "Masked wherever it is shown. It is kept encrypted either way."
                    }
                />
                <TextField
                    label="As a file"
                    value={file.value}
                    onInput={(text) => (file.value = text)}
                    mono
                    placeholder="database-url"
                    error={badFile}
                    hint="With a name here the container finds it as /run/secrets/NAME, in memory, instead of in its environment."
                />
            </Form>
        </Dialog>
    );
}

function PasteVariables({ of, onDone, onClose }: { of: Of; onDone: () => void; onClose: () => void }) {
    const text = useSignal("");
    const secret = useSignal(true);
    const onlyNew = useSignal(false);
    const faults = useSignal<string[]>([]);
    const call = useCall();
    const save = () =>
        void call
            .run("paste", async () => {
                const r = await api.setVariables({
                    ...of,
                    text: text.value,
                    textSecret: secret.value,
                    onlyNew: onlyNew.value,
                });
                faults.value = r.errors;
                if (r.errors.length) return;
                const parts = [
                    [r.created.length, "added"],
                    [r.changed.length, "changed"],
                    [r.skipped.length, "left as they were"],
                ] as const;
                const told = parts.filter(([n]) => n > 0).map(([n, what]) => `${n} ${what}`);
                toast({ tone: "ok", title: told.join(", ") || "Nothing to set", text: "It counts from the next deployment on." });
            })
            .then((ok) => ok && faults.value.length === 0 && onDone());
    return (
        <Dialog title="Paste variables" open onClose={onClose} locked={call.busy !== ""} wide>
            <Form
                label="Paste variables"
                onSubmit={save}
                error={call.problem}
                actions={
                    <>
                        <Button onClick={onClose} disabled={call.busy !== ""}>
                            Cancel
                        </Button>
                        <Button kind="primary" type="submit" busy={call.busy !== ""} disabled={text.value.trim() === ""}>
                            Set them
                        </Button>
                    </>
                }
            >
                <TextArea
                    label="Lines"
                    value={text.value}
                    onInput={(v) => {
                        text.value = v;
                        faults.value = [];
                    }}
                    rows={10}
                    mono
                    autoFocus
                    required
                    placeholder={"# as in an .env file\nDATABASE_URL=postgres://…\nLOG_LEVEL=info"}
                />
                {faults.value.length > 0 && (
                    <Notice tone="bad" title="Nothing was set">
                        {faults.value.slice(0, 10).map((line) => (
                            <p class="wrap" key={line}>
                                {inert(line)}
                            </p>
                        ))}
                    </Notice>
                )}
                <Checkbox label="They are secrets" checked={secret.value} onChange={(on) => (secret.value = on)} />
                <Checkbox
                    label="Leave those that are there as they are"
                    checked={onlyNew.value}
                    onChange={(on) => (onlyNew.value = on)}
                />
            </Form>
        </Dialog>
    );
}

/* Asked for when it is opened, and forgotten when it is closed. */
function Reveal({ of, row, onClose }: { of: Of; row: Variable; onClose: () => void }) {
    const { value, problem } = useLoad(() => api.revealVariable({ ...of, name: row.name }));
    return (
        <Dialog title={`Value of ${inert(row.name)}`} open onClose={onClose}>
            {problem && <ErrorBox problem={problem} />}
            {!value && !problem && <Skeleton height="2rem" />}
            {value && !value.value.includes("\n") && <CopyField label={inert(row.name)} text={value.value} />}
            {value?.value.includes("\n") && (
                <>
                    <Code block>{value.value.split("\n").map(inert).join("\n")}</Code>
                    <CopyButton text={value.value} label="Copy the value" />
                </>
            )}
            <p class="quiet">That you looked at it stands in the audit log.</p>
        </Dialog>
    );
}

export function ServiceVariables({ project, service }: Of) {
    const of = { project, service };
    const list = useLoad(() => api.listVariables(of));
    const edit = useSignal<Variable | "new" | undefined>(undefined);
    const paste = useSignal(false);
    const reveal = useSignal<Variable | undefined>(undefined);
    const remove = useSignal<Variable | undefined>(undefined);
    const call = useCall();
    const rows = list.value?.variables ?? [];
    const done = () => {
        edit.value = undefined;
        paste.value = false;
        remove.value = undefined;
        void list.again();
    };
    const columns: Column<Variable>[] = [
        {
            id: "name",
            title: "Name",
            render: (v) => <Clip text={v.name} mono />,
            sort: (v) => v.name,
            text: (v) => v.name,
            card: "title",
        },
        {
            id: "value",
            title: "Value",
            render: (v) =>
                v.secret ? (
                    <span class="line">
                        <span aria-label="masked">••••••••</span>
                        <Button size="small" kind="quiet" icon="eye" onClick={() => (reveal.value = v)}>
                            Reveal
                        </Button>
                    </span>
                ) : (
                    <Clip text={v.value} mono />
                ),
        },
        {
            id: "kind",
            title: "Where",
            render: (v) => (v.file ? <Clip text={`/run/secrets/${v.file}`} mono /> : <Tag>environment</Tag>),
            sort: (v) => v.file,
            width: "13rem",
        },
        { id: "by", title: "Set by", render: (v) => <Clip text={v.changedBy || "-"} />, width: "8rem", card: "hide" },
        { id: "changed", title: "Set", render: (v) => <Ago us={v.changedUs} />, sort: (v) => v.changedUs, width: "7.5rem" },
        {
            id: "deeds",
            title: "",
            width: "5.5rem",
            align: "end",
            render: (v) => (
                <span class="line">
                    <IconButton icon="edit" size="small" label={`Change ${inert(v.name)}`} onClick={() => (edit.value = v)} />
                    <IconButton icon="trash" size="small" label={`Remove ${inert(v.name)}`} onClick={() => (remove.value = v)} />
                </span>
            ),
        },
    ];
    const buttons = (
        <>
            <Button size="small" icon="plus" onClick={() => (edit.value = "new")}>
                Add
            </Button>
            <Button size="small" icon="copy" onClick={() => (paste.value = true)}>
                Paste
            </Button>
        </>
    );
    return (
        <>
            <Card title="Variables" note={list.value && String(rows.length)} actions={buttons} flush>
                {list.problem && <ErrorBox problem={list.problem} retry={() => void list.again()} />}
                {!list.value && !list.problem && <SkeletonTable />}
                {list.value && (
                    <Table
                        label="Variables"
                        rows={rows}
                        columns={columns}
                        rowKey={(v) => v.name}
                        filter={rows.length > 8}
                        initialSort={{ id: "name" }}
                        empty={
                            <Empty icon="key" title="No variables">
                                What is set here goes to each deployment from now on, below what its own form or file says.
                            </Empty>
                        }
                    />
                )}
            </Card>
            {rows.length > 0 && <p class="quiet">A change counts from the next deployment on. Each deployment keeps its own copy.</p>}
            {edit.value && <EditVariable of={of} row={edit.value} onDone={done} onClose={() => (edit.value = undefined)} />}
            {paste.value && <PasteVariables of={of} onDone={done} onClose={() => (paste.value = false)} />}
            {reveal.value && <Reveal of={of} row={reveal.value} onClose={() => (reveal.value = undefined)} />}
            <Confirm
                title={`Remove ${inert(remove.value?.name ?? "")}`}
                open={remove.value !== undefined}
                onClose={() => (remove.value = undefined)}
                action="Remove variable"
                busy={call.busy !== ""}
                error={call.problem}
                onConfirm={() =>
                    void call
                        .run("remove", () => api.removeVariables({ ...of, names: [remove.value!.name] }))
                        .then((ok) => ok && done())
                }
            >
                <p>Deployments from now on do not get it. What runs keeps it until then.</p>
            </Confirm>
        </>
    );
}
