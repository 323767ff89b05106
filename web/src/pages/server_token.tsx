/* SPDX-License-Identifier: Apache-2.0 */
/* server_token: adding a server, and a new token for one: the line to paste, shown once, and the wait until the server is there. */
import { useSignal } from "@preact/signals";

import { servers as api } from "../api/client";
import { now } from "../api/clock";
import { countdown, ms } from "../api/format";
import { isLabel } from "../api/spec";
import { serverTopic } from "../api/topics";
import { useWatch } from "../api/watch";
import { profiles } from "../api/words";
import { ServerProfile, ServerState } from "../gen/davit/control/v1/servers_pb";
import {
    Button,
    Choices,
    CopyField,
    Dialog,
    ErrorBox,
    Form,
    Icon,
    inert,
    Notice,
    SelectField,
    Spinner,
    TextField,
    toast,
} from "../parts";
import { href } from "../shell/router";
import { useCall } from "./common";

interface Token {
    server: string;
    command: string;
    token: string;
    expiresUs: bigint;
    /** When the server was enrolled before this token, so that a new enrolment is told from the old one. */
    before: bigint;
}

const LIVES = [
    { value: "3600", label: "1 hour" },
    { value: "86400", label: "1 day" },
    { value: "604800", label: "7 days" },
];

function Wait({ token }: { token: Token }) {
    const { model } = useWatch(serverTopic(token.server));
    const server = model?.server;
    const left = (ms(token.expiresUs) - now.value) / 1000;
    const connected = server?.state === ServerState.ONLINE && server.enrolledUs > token.before;
    if (connected)
        return (
            <div class="wait wait-done" role="status">
                <span class="wait-mark">
                    <Icon name="check" size={18} />
                </span>
                <div>
                    <p class="wait-title">Connected</p>
                    <p class="wrap">
                        {inert(token.server)} is online
                        {server.system?.hostname ? `: ${inert(server.system.hostname)}, ${inert(server.system.os)}` : ""}.
                    </p>
                </div>
            </div>
        );
    if (left <= 0)
        return (
            <Notice tone="warn" title="The token is void: its time is over">
                Close this and make a new one on the page of the server.
            </Notice>
        );
    return (
        <div class="wait" role="status">
            <Spinner label="Waiting" />
            <div>
                <p class="wait-title">Waiting for the server…</p>
                <p>
                    This turns to connected by itself. The token works once, for{" "}
                    <span class="number" aria-hidden="true">
                        {countdown(left)}
                    </span>{" "}
                    more
                    <span class="unseen"> minutes and seconds</span>.
                </p>
            </div>
        </div>
    );
}

function TokenView({ token }: { token: Token }) {
    return (
        <div class="form">
            {/* The line fetches the agent where the control plane has a release of it; else it begins with what is there. */}
            {!token.command.includes("/install.sh") && (
                <Notice title="That machine needs the program davit-agent first">
                    Copy it from where Davit was built to /usr/local/bin there.
                </Notice>
            )}
            <p>Run this on that machine, as a user who may use sudo (as root, leave that word out):</p>
            <CopyField
                label="Install command"
                text={token.command}
                hint="It holds the token: it is shown now and never again. Whoever runs it first becomes this server."
            />
            <details class="more">
                <summary>Only the token</summary>
                <CopyField
                    label="Token"
                    text={token.token}
                    secret
                    hint="For `davit-agent enroll --token-file`, where you install the agent your own way."
                />
            </details>
            <Wait token={token} />
        </div>
    );
}

function useToken() {
    const token = useSignal<Token | undefined>(undefined);
    return { token, call: useCall() };
}

export function AddServer({ open, onClose }: { open: boolean; onClose: () => void }) {
    return open ? <AddServerOpen onClose={onClose} /> : null;
}

function AddServerOpen({ onClose }: { onClose: () => void }) {
    const { token, call } = useToken();
    const name = useSignal("");
    const wrong = useSignal("");
    const profile = useSignal(String(ServerProfile.UNKNOWN));
    const life = useSignal("3600");
    const add = () => {
        if (!isLabel(name.value)) {
            wrong.value = '1 to 63 of a-z, 0-9 and "-", not at the ends';
            return;
        }
        wrong.value = "";
        void call.run("add", async () => {
            const r = await api.createServer({
                name: name.value,
                profile: Number(profile.value) as ServerProfile,
                tokenTtlS: BigInt(life.value),
            });
            token.value = {
                server: name.value,
                command: r.installCommand,
                token: r.token,
                expiresUs: r.tokenExpiresUs,
                before: 0n,
            };
        });
    };
    if (token.value)
        return <TokenDialog title={`Install the agent on ${token.value.server}`} token={token.value} onClose={onClose} />;
    return (
        <Dialog title="Add a server" open onClose={onClose} locked={call.busy !== ""}>
            <Form
                label="Add a server"
                onSubmit={add}
                error={call.problem}
                actions={
                    <>
                        <Button onClick={onClose} disabled={call.busy !== ""}>
                            Cancel
                        </Button>
                        <Button kind="primary" type="submit" busy={call.busy !== ""}>
                            Add server
                        </Button>
                    </>
                }
            >
                <TextField
                    label="Name"
                    value={name.value}
                    onInput={(v) => (name.value = v.trim())}
                    error={wrong.value || undefined}
                    required
                    autoFocus
                    mono
                    placeholder="web-1"
                    maxLength={63}
                    hint="How it is called here. It cannot be changed later."
                />
                <Choices
                    label="Network"
                    value={profile.value}
                    onChange={(v) => (profile.value = v)}
                    options={profiles.map((p) => ({ value: String(p.value), label: p.word, note: p.meaning }))}
                />
                <SelectField
                    label="The token works for"
                    value={life.value}
                    onChange={(v) => (life.value = v)}
                    options={LIVES}
                    required
                />
            </Form>
        </Dialog>
    );
}

function TokenDialog({ title, token, onClose }: { title: string; token: Token; onClose: () => void }) {
    return (
        <Dialog
            title={title}
            open
            wide
            // Shown once: it takes a button.
            locked
            onClose={onClose}
            footer={
                <>
                    <Button href={href("servers", token.server)} onClick={onClose}>
                        Open the server's page
                    </Button>
                    <Button kind="primary" onClick={onClose}>
                        Close
                    </Button>
                </>
            }
        >
            <TokenView token={token} />
        </Dialog>
    );
}

/** A new token for a server that is there: after a failed enrolment, a revocation, or to enroll the machine again. */
export function NewToken({
    server,
    enrolledUs,
    open,
    onClose,
}: {
    server: string;
    enrolledUs: bigint;
    open: boolean;
    onClose: () => void;
}) {
    return open ? <NewTokenOpen server={server} enrolledUs={enrolledUs} onClose={onClose} /> : null;
}

function NewTokenOpen({ server, enrolledUs, onClose }: { server: string; enrolledUs: bigint; onClose: () => void }) {
    const { token, call } = useToken();
    const life = useSignal("3600");
    const make = () =>
        void call.run("token", async () => {
            const r = await api.createToken({ server, tokenTtlS: BigInt(life.value) });
            token.value = { server, command: r.installCommand, token: r.token, expiresUs: r.tokenExpiresUs, before: enrolledUs };
            toast({ tone: "ok", title: "New token made", text: `The one before for ${server} is void.` });
        });
    if (token.value) return <TokenDialog title={`New token for ${server}`} token={token.value} onClose={onClose} />;
    return (
        <Dialog
            title={`Generate a new token for ${server}`}
            open
            onClose={onClose}
            locked={call.busy !== ""}
            footer={
                <>
                    <Button onClick={onClose} disabled={call.busy !== ""}>
                        Cancel
                    </Button>
                    <Button kind="primary" busy={call.busy !== ""} onClick={make}>
                        Generate new token
                    </Button>
                </>
            }
        >
            <div class="form">
                <p>The token before it is void from then on. A server that is connected stays so until the new one is used.</p>
                <SelectField
                    label="The token works for"
                    value={life.value}
                    onChange={(v) => (life.value = v)}
                    options={LIVES}
                    required
                />
                {call.problem && <ErrorBox problem={call.problem} />}
            </div>
        </Dialog>
    );
}
