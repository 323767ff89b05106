// SPDX-License-Identifier: Apache-2.0
// What belongs to the person and the programs that come in: password, sessions, API tokens, and how it looks.
import { useSignal } from "@preact/signals";

import { apiTokens, sessions } from "../api/client";
import type { ApiToken, Session } from "../gen/davit/control/v1/people_pb";
import {
    Ago,
    Badge,
    Button,
    Card,
    Choices,
    Confirm,
    CopyField,
    Dialog,
    Empty,
    ErrorBox,
    Form,
    Icon,
    inert,
    KeyValues,
    Notice,
    Page,
    SelectField,
    Table,
    Tabs,
    Tag,
    TextField,
    toast,
    Until,
    type Column,
} from "../parts";
import { loadSession, session } from "../session";
import { query, setQuery } from "../shell/router";
import { choice, choose, type Choice } from "../shell/theme";
import { Clip, useCall, useLoad } from "./common";
import { Registries } from "./registries";
import { NewPassword, useNewPassword } from "./setup";
import { deviceName } from "./useragent";

const TABS = [
    { id: "sessions", title: "Sessions" },
    { id: "tokens", title: "API tokens" },
    { id: "registries", title: "Registries" },
    { id: "password", title: "Password" },
    { id: "look", title: "Appearance" },
];

export function SettingsPage() {
    const asked = query.value.get("tab");
    const tab = TABS.find((one) => one.id === asked)?.id ?? TABS[0]!.id;
    return (
        <Page
            title="Settings"
            subtitle={
                <>
                    Logged in as <b class="wrap">{session.value?.person?.name}</b>
                </>
            }
        >
            <Tabs label="Settings" tabs={TABS} current={tab} onChange={(id) => setQuery({ tab: id })}>
                {tab === "sessions" && <Sessions />}
                {tab === "tokens" && <Tokens />}
                {tab === "registries" && <Registries />}
                {tab === "password" && <Password />}
                {tab === "look" && <Look />}
            </Tabs>
        </Page>
    );
}

function Sessions() {
    const { value, problem, again } = useLoad(() => sessions.listSessions({}));
    const ending = useSignal<Session | "others" | undefined>(undefined);
    const { busy, problem: refused, run, clear } = useCall();
    const rows = value?.sessions ?? [];

    const end = () =>
        run("end", async () => {
            const which = ending.value!;
            const { revoked } = await sessions.revokeSession(which === "others" ? { allOthers: true } : { sessionId: which.id });
            ending.value = undefined;
            if (which !== "others" && which.current) await loadSession();
            else {
                toast({ tone: "ok", title: revoked === 1 ? "One session was ended" : `${revoked} sessions were ended` });
                await again();
            }
        });
    const columns: Column<Session>[] = [
        {
            id: "browser",
            title: "Browser",
            text: (row) => row.userAgent,
            sort: (row) => deviceName(row.userAgent),
            card: "title",
            render: (row) => (
                <>
                    <span class="clip" title={inert(row.userAgent)}>
                        {deviceName(row.userAgent)}
                    </span>
                    {row.current && <Badge tone="ok">This one</Badge>}
                </>
            ),
        },
        {
            id: "address",
            title: "Address",
            width: "11rem",
            text: (row) => row.address,
            sort: (row) => row.address,
            render: (row) => <span class="mono clip">{row.address}</span>,
        },
        { id: "used", title: "Last used", width: "9rem", sort: (row) => row.usedUs, render: (row) => <Ago us={row.usedUs} /> },
        {
            id: "expires",
            title: "Ends",
            width: "9rem",
            sort: (row) => row.expiresUs,
            render: (row) => <Until us={row.expiresUs} />,
        },
        {
            id: "end",
            title: "",
            width: "6rem",
            align: "end",
            render: (row) => (
                <Button
                    size="small"
                    aria-label={`End the session of ${deviceName(row.userAgent)}`}
                    onClick={() => (ending.value = row)}
                >
                    End
                </Button>
            ),
        },
    ];
    return (
        <div class="stack">
            {problem && <ErrorBox problem={problem} retry={() => void again()} />}
            <Card
                flush
                title="Where you are logged in"
                actions={
                    rows.length > 1 && (
                        <Button size="small" icon="leave" onClick={() => (ending.value = "others")}>
                            End all others
                        </Button>
                    )
                }
            >
                <Table
                    label="Sessions"
                    rows={rows}
                    columns={columns}
                    rowKey={(row) => row.id}
                    loading={!value && !problem}
                    initialSort={{ id: "used", down: true }}
                />
            </Card>
            <Confirm
                title={ending.value === "others" ? "End all other sessions?" : "End this session?"}
                open={ending.value !== undefined}
                action="End"
                busy={busy !== ""}
                error={refused}
                onConfirm={() => void end()}
                onClose={() => {
                    ending.value = undefined;
                    clear();
                }}
            >
                {ending.value === "others"
                    ? "Every browser but this one must log in again."
                    : ending.value?.current
                      ? "It is the one you use now: you will be logged out."
                      : "That browser must log in again."}
            </Confirm>
        </div>
    );
}

const SCOPES = [
    { value: "read", label: "Read", note: "Sees everything, changes nothing" },
    { value: "write", label: "Write", note: "Also deploys, starts, stops and removes services" },
    { value: "admin", label: "Admin", note: "Also adds and removes servers, tokens and sessions" },
];
const DAY = 86400n;
const TTLS = [
    { value: "7", label: "7 days" },
    { value: "30", label: "30 days" },
    { value: "90", label: "90 days" },
    { value: "365", label: "1 year" },
];

function tokenState(token: ApiToken): preact.JSX.Element {
    if (token.revoked) return <Badge tone="neutral">revoked</Badge>;
    if (token.expiresUs < BigInt(Date.now()) * 1000n) return <Badge tone="neutral">expired</Badge>;
    return <Badge tone="ok">valid</Badge>;
}

function Tokens() {
    const { value, problem, again } = useLoad(() => apiTokens.listApiTokens({}));
    const creating = useSignal(false);
    const revoking = useSignal<ApiToken | undefined>(undefined);
    const { busy, problem: refused, run, clear } = useCall();
    const rows = value?.tokens ?? [];

    const revoke = () =>
        run("revoke", async () => {
            const { name, id } = revoking.value!;
            await apiTokens.revokeApiToken({ token: id });
            revoking.value = undefined;
            toast({ tone: "ok", title: `The token ${name} opens nothing any more` });
            await again();
        });
    const columns: Column<ApiToken>[] = [
        {
            id: "name",
            title: "Name",
            text: (row) => row.name,
            sort: (row) => row.name,
            card: "title",
            render: (row) => (
                <Clip text={row.name} />
            ),
        },
        { id: "state", title: "State", width: "8rem", sort: (row) => Number(row.revoked), render: tokenState },
        {
            id: "scope",
            title: "Scope",
            width: "6rem",
            text: (row) => row.scope,
            sort: (row) => row.scope,
            render: (row) => <Tag>{row.scope}</Tag>,
        },
        {
            id: "used",
            title: "Last used",
            width: "15rem",
            sort: (row) => row.usedUs,
            render: (row) => (
                <span class="clip">
                    {row.usedUs ? (
                        <>
                            <Ago us={row.usedUs} /> from {row.usedFrom}
                        </>
                    ) : (
                        "never"
                    )}
                </span>
            ),
        },
        {
            id: "expires",
            title: "Expires",
            width: "9rem",
            sort: (row) => row.expiresUs,
            render: (row) => <Until us={row.expiresUs} />,
        },
        {
            id: "revoke",
            title: "",
            width: "6.5rem",
            align: "end",
            render: (row) =>
                !row.revoked && (
                    <Button size="small" aria-label={`Revoke ${row.name}`} onClick={() => (revoking.value = row)}>
                        Revoke
                    </Button>
                ),
        },
    ];
    return (
        <div class="stack">
            {problem && <ErrorBox problem={problem} retry={() => void again()} />}
            <Card
                flush
                title="Tokens for programs"
                actions={
                    <Button size="small" kind="primary" icon="plus" onClick={() => (creating.value = true)}>
                        New token
                    </Button>
                }
            >
                <Table
                    label="API tokens"
                    rows={rows}
                    columns={columns}
                    rowKey={(row) => row.id}
                    loading={!value && !problem}
                    empty={
                        <Empty
                            icon="key"
                            title="No token yet"
                            actions={
                                <Button icon="plus" onClick={() => (creating.value = true)}>
                                    New token
                                </Button>
                            }
                        >
                            A token lets a program of yours use the same API as this page, within a scope and for a time.
                        </Empty>
                    }
                />
            </Card>
            {creating.value && <NewToken onClose={() => (creating.value = false)} onMade={() => void again()} />}
            <Confirm
                title="Revoke this token?"
                open={revoking.value !== undefined}
                action="Revoke"
                busy={busy !== ""}
                error={refused}
                onConfirm={() => void revoke()}
                onClose={() => {
                    revoking.value = undefined;
                    clear();
                }}
            >
                Programs that use <b class="wrap">{revoking.value?.name}</b> are refused from then on. It cannot be taken back.
            </Confirm>
        </div>
    );
}

function NewToken({ onClose, onMade }: { onClose: () => void; onMade: () => void }) {
    const name = useSignal("");
    const scope = useSignal("read");
    const days = useSignal("30");
    const tried = useSignal(false);
    const made = useSignal<{ secret: string; token: ApiToken | undefined } | undefined>(undefined);
    const { busy, problem, run } = useCall();
    const lacking = name.value.trim() === "" ? "A token needs a name by which you know it again." : undefined;

    const create = () => {
        tried.value = true;
        if (lacking) return;
        void run("create", async () => {
            const answer = await apiTokens.createApiToken({
                name: name.value.trim(),
                scope: scope.value,
                ttlS: BigInt(days.value) * DAY,
            });
            made.value = { secret: answer.secret, token: answer.token };
            onMade();
        });
    };
    if (made.value) {
        const { secret, token } = made.value;
        return (
            // Not closed by a click beside it: what is shown here is shown once.
            <Dialog
                title="The new token"
                open
                locked
                onClose={() => undefined}
                footer={
                    <Button kind="primary" onClick={onClose}>
                        I have it
                    </Button>
                }
            >
                <div class="stack">
                    <Notice tone="warn" title="Shown this once">
                        Davit keeps only its hash. Put it where your program finds it, now.
                    </Notice>
                    <CopyField label={`Token ${token?.name ?? ""}`} text={secret} secret />
                    <KeyValues
                        items={[
                            { label: "Scope", value: token?.scope },
                            { label: "Expires", value: token && <Until us={token.expiresUs} /> },
                        ]}
                    />
                </div>
            </Dialog>
        );
    }
    return (
        <Dialog title="New API token" open locked={busy !== ""} onClose={onClose}>
            <Form
                label="New API token"
                onSubmit={create}
                error={problem}
                actions={
                    <>
                        <Button onClick={onClose} disabled={busy !== ""}>
                            Cancel
                        </Button>
                        <Button kind="primary" type="submit" busy={busy !== ""}>
                            Create the token
                        </Button>
                    </>
                }
            >
                <TextField
                    label="Name"
                    value={name.value}
                    onInput={(text) => (name.value = text)}
                    required
                    autoFocus
                    maxLength={63}
                    placeholder="backup-job"
                    error={tried.value ? lacking : undefined}
                />
                <Choices label="Scope" value={scope.value} onChange={(value) => (scope.value = value)} options={SCOPES} />
                <SelectField
                    label="Valid for"
                    required
                    value={days.value}
                    onChange={(value) => (days.value = value)}
                    options={TTLS}
                />
            </Form>
        </Dialog>
    );
}

function Password() {
    const old = useSignal("");
    const fresh = useNewPassword();
    const { password, again, tried, fault, differs } = fresh;
    const { busy, problem, run } = useCall();
    const lacking = old.value === "" ? "The password of now is missing." : undefined;

    const change = () => {
        tried.value = true;
        if (fault || differs || lacking) return;
        void run("change", async () => {
            await sessions.changePassword({ oldPassword: old.value, newPassword: password.value });
            old.value = password.value = again.value = "";
            tried.value = false;
            toast({ tone: "ok", title: "The password was changed", text: "All other sessions were ended." });
            await loadSession();
        });
    };
    return (
        <Card title="Change the password">
            <div class="form-width">
                <Form
                    label="Change the password"
                    onSubmit={change}
                    error={problem}
                    actions={
                        <Button kind="primary" type="submit" busy={busy !== ""}>
                            Change the password
                        </Button>
                    }
                >
                    <input
                        class="unseen"
                        type="text"
                        name="username"
                        autocomplete="username"
                        value={session.value?.person?.name}
                        readOnly
                        tabIndex={-1}
                        aria-hidden="true"
                    />
                    <TextField
                        label="Password of now"
                        type="password"
                        value={old.value}
                        onInput={(text) => (old.value = text)}
                        required
                        autocomplete="current-password"
                        error={tried.value ? lacking : undefined}
                    />
                    <NewPassword of={fresh} label="New password" hint="All other sessions end." />
                </Form>
            </div>
        </Card>
    );
}

function Look() {
    return (
        <Card title="Appearance">
            <Choices
                label="Theme"
                value={choice.value}
                onChange={(value) => choose(value as Choice)}
                hint="Kept in this browser."
                options={[
                    { value: "system", label: "As the system", note: "Changes when the system does" },
                    { value: "light", label: "Light" },
                    { value: "dark", label: "Dark" },
                ]}
            />
            <p class="look-more">
                <Icon name="eye" />
                <a href="/ui">All parts this dashboard is made of</a>
            </p>
        </Card>
    );
}
