/* SPDX-License-Identifier: Apache-2.0 */
/* deploy_rows: the parts of the deploy form that are lists: variables, ports, volumes. Rows are added, removed, and each says what is wrong
 * with it. */
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";

import { parseEnvText, type EnvRow, type PortRow, type Problems, type RouteRow, type VolumeRow } from "../api/spec";
import { Button, Checkbox, IconButton, SelectField, TextArea, TextField } from "../parts";

interface RowsProps<T> {
    rows: T[];
    onChange: (rows: T[]) => void;
    problems: Problems;
}

function Rows<T>({
    rows,
    onChange,
    render,
    add,
    what,
    fresh,
    more,
    error,
}: {
    rows: T[];
    onChange: (rows: T[]) => void;
    render: (row: T, i: number, change: (part: Partial<T>) => void) => ComponentChildren;
    add: string;
    what: string;
    fresh: T;
    more?: ComponentChildren;
    error: string | undefined;
}) {
    return (
        <div class="rows">
            {rows.map((row, i) => (
                <div class="rows-row" key={i} role="group" aria-label={`${what} ${i + 1}`}>
                    {render(row, i, (part) => onChange(rows.map((r, k) => (k === i ? { ...r, ...part } : r))))}
                    <IconButton
                        icon="close"
                        label={`Remove ${what.toLowerCase()} ${i + 1}`}
                        onClick={() => onChange(rows.filter((_, k) => k !== i))}
                    />
                </div>
            ))}
            {error && (
                <p class="field-error rows-error" role="alert" tabIndex={-1}>
                    {error}
                </p>
            )}
            <div class="rows-add">
                <Button size="small" icon="plus" onClick={() => onChange([...rows, fresh])}>
                    {add}
                </Button>
                {more}
            </div>
        </div>
    );
}

export function EnvRows({ rows, onChange, problems, missing }: RowsProps<EnvRow> & { missing: ReadonlySet<string> }) {
    const pasting = useSignal(false);
    const text = useSignal("");
    const bad = useSignal<string[]>([]);
    const take = () => {
        const read = parseEnvText(text.value);
        const names = new Set(read.rows.map((r) => r.name));
        const before = new Map(rows.map((r) => [r.name, r]));
        onChange([...rows.filter((r) => r.name && !names.has(r.name)), ...read.rows.map((r) => ({ ...before.get(r.name), ...r }))]);
        bad.value = read.bad;
        text.value = read.bad.join("\n");
        pasting.value = read.bad.length > 0;
    };
    return (
        <>
            <Rows
                rows={rows}
                onChange={onChange}
                what="Variable"
                add="Add variable"
                fresh={{ name: "", value: "" }}
                error={problems.get("env")}
                more={
                    <Button
                        size="small"
                        kind="quiet"
                        aria-expanded={pasting.value}
                        onClick={() => (pasting.value = !pasting.value)}
                    >
                        Paste a .env file
                    </Button>
                }
                render={(row, i, change) => (
                    <>
                        <TextField
                            bare
                            label={`Name of variable ${i + 1}`}
                            placeholder="NAME"
                            mono
                            value={row.name}
                            onInput={(name) => change({ name })}
                            error={problems.get(`env.${i}.name`)}
                        />
                        <TextField
                            bare
                            label={`Value of variable ${i + 1}`}
                            placeholder={missing.has(row.name) ? "as before? type it again" : "value"}
                            mono
                            type={row.secret ? "password" : "text"}
                            {...(row.secret ? { autocomplete: "new-password" } : {})}
                            value={row.value}
                            onInput={(value) => change({ value })}
                            error={problems.get(`env.${i}.value`)}
                            {...(row.file ? { hint: `as /run/secrets/${row.file}` } : {})}
                        />
                    </>
                )}
            />
            {pasting.value && (
                <div class="paste">
                    <TextArea
                        label="Lines of a .env file"
                        mono
                        rows={6}
                        value={text.value}
                        onInput={(v) => (text.value = v)}
                        placeholder={"# comments do not count\nNAME=value"}
                        error={bad.value.length ? `${bad.value.length} of the lines hold no NAME=value` : undefined}
                    />
                    <Button size="small" onClick={take}>
                        Take these
                    </Button>
                </div>
            )}
        </>
    );
}

export function PortRows({ rows, onChange, problems }: RowsProps<PortRow>) {
    return (
        <Rows
            rows={rows}
            onChange={onChange}
            what="Port"
            add="Publish a port"
            fresh={{ host: "", hostPort: "", containerPort: "", protocol: "tcp" }}
            error={problems.get("ports")}
            render={(row, i, change) => (
                <>
                    <TextField
                        bare
                        label={`Address of port ${i + 1}`}
                        placeholder="127.0.0.1"
                        mono
                        value={row.host}
                        onInput={(host) => change({ host })}
                        error={problems.get(`ports.${i}.host`)}
                    />
                    <TextField
                        bare
                        label={`Port ${i + 1} on the server`}
                        placeholder="any free"
                        mono
                        value={row.hostPort}
                        onInput={(hostPort) => change({ hostPort })}
                        error={problems.get(`ports.${i}.hostPort`)}
                    />
                    <TextField
                        bare
                        label={`Port ${i + 1} in the container`}
                        placeholder="80"
                        mono
                        value={row.containerPort}
                        onInput={(containerPort) => change({ containerPort })}
                        error={problems.get(`ports.${i}.containerPort`)}
                    />
                    <SelectField
                        bare
                        label={`Protocol of port ${i + 1}`}
                        value={row.protocol}
                        onChange={(protocol) => change({ protocol })}
                        options={[
                            { value: "tcp", label: "TCP" },
                            { value: "udp", label: "UDP" },
                        ]}
                    />
                </>
            )}
        />
    );
}

export function VolumeRows({ rows, onChange, problems }: RowsProps<VolumeRow>) {
    return (
        <Rows
            rows={rows}
            onChange={onChange}
            what="Volume"
            add="Add volume"
            fresh={{ name: "", path: "", readOnly: false }}
            error={problems.get("volumes")}
            render={(row, i, change) => (
                <>
                    <TextField
                        bare
                        label={`Name of volume ${i + 1}`}
                        placeholder="data"
                        mono
                        value={row.name}
                        onInput={(name) => change({ name })}
                        error={problems.get(`volumes.${i}.name`)}
                    />
                    <TextField
                        bare
                        label={`Path of volume ${i + 1}`}
                        placeholder="/var/lib/data"
                        mono
                        value={row.path}
                        onInput={(path) => change({ path })}
                        error={problems.get(`volumes.${i}.path`)}
                    />
                    <Checkbox label="Read only" checked={row.readOnly} onChange={(readOnly) => change({ readOnly })} />
                </>
            )}
        />
    );
}

export function RouteRows({ rows, onChange, problems }: RowsProps<RouteRow>) {
    return (
        <Rows
            rows={rows}
            onChange={onChange}
            what="Hostname"
            add="Add hostname"
            fresh={{ hostname: "", port: "" }}
            error={problems.get("routes")}
            render={(row, i, change) => (
                <>
                    <TextField
                        bare
                        label={`Hostname ${i + 1}`}
                        placeholder="shop.example.com"
                        mono
                        value={row.hostname}
                        onInput={(hostname) => change({ hostname })}
                        error={problems.get(`routes.${i}.hostname`)}
                    />
                    <TextField
                        bare
                        label={`Port in the container of hostname ${i + 1}`}
                        placeholder="the first exposed"
                        mono
                        value={row.port}
                        onInput={(port) => change({ port })}
                        error={problems.get(`routes.${i}.port`)}
                    />
                </>
            )}
        />
    );
}
