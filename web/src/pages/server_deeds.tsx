/* SPDX-License-Identifier: Apache-2.0 */
/* server_deeds: what is done with a server from its page: change it, update its agent, ask its doctor, renew its credentials, forget it. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { credentials, doctors, servers as api, updates, type Problem } from "../api/client";
import { doctorVerdict, profiles, rolloutStep } from "../api/words";
import type { RunDoctorResponse } from "../gen/davit/control/v1/doctor_pb";
import { RotateState } from "../gen/davit/control/v1/credentials_pb";
import { ServerProfile, ServerState, type Server } from "../gen/davit/control/v1/servers_pb";
import { RolloutStepState, type Release } from "../gen/davit/control/v1/updates_pb";
import {
    Ago,
    Button,
    Card,
    Choices,
    Confirm,
    CopyField,
    Dialog,
    ErrorBox,
    Form,
    inert,
    KeyValues,
    Notice,
    Skeleton,
    TextField,
    toast,
} from "../parts";
import { navigate } from "../shell/router";
import { Clip, StateBadge, useCall } from "./common";

interface DialogProps {
    server: Server;
    open: boolean;
    onClose: () => void;
}

export function EditServer(props: DialogProps) {
    return props.open ? <EditServerOpen {...props} /> : null;
}

function EditServerOpen({ server, onClose }: DialogProps) {
    const call = useCall();
    const profile = useSignal(String(server.profile || ServerProfile.UNKNOWN));
    const chosen = server.preferredSource === "user";
    const address = useSignal(chosen ? server.preferredAddress : "");
    const wrong = call.problem?.message.startsWith("preferred_address:")
        ? call.problem.message.slice("preferred_address: ".length)
        : undefined;
    const save = () =>
        void call
            .run("save", () =>
                api.updateServer({
                    server: server.name,
                    profile: Number(profile.value) as ServerProfile,
                    preferredAddress: address.value.trim() || "auto",
                }),
            )
            .then((ok) => {
                if (!ok) return;
                toast({ tone: "ok", title: `Server ${server.name} is changed` });
                onClose();
            });
    return (
        <Dialog title={`Settings of ${server.name}`} open onClose={onClose} locked={call.busy !== ""}>
            <Form
                label="Settings of the server"
                onSubmit={save}
                error={wrong ? undefined : call.problem}
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
                <Choices
                    label="Network"
                    value={profile.value}
                    onChange={(v) => (profile.value = v)}
                    options={profiles.map((p) => ({ value: String(p.value), label: p.word, note: p.meaning }))}
                />
                <TextField
                    label="Preferred address"
                    value={address.value}
                    onInput={(v) => (address.value = v)}
                    error={wrong}
                    mono
                    placeholder={chosen ? "" : server.preferredAddress}
                    hint="An IP address at which others reach it. Empty: public, else tailnet, else LAN."
                />
            </Form>
        </Dialog>
    );
}

export function RemoveServer({ server, open, onClose }: DialogProps) {
    const call = useCall();
    const remove = () =>
        void call
            .run("remove", () => api.removeServer({ server: server.id }))
            .then((ok) => {
                if (!ok) return;
                toast({ tone: "ok", title: `Server ${server.name} is forgotten` });
                navigate("/servers");
            });
    return (
        <Confirm
            title={`Remove server ${server.name}`}
            open={open}
            onClose={onClose}
            onConfirm={remove}
            action="Remove server"
            name={server.name}
            busy={call.busy !== ""}
            error={call.problem}
        >
            <p>
                The control plane forgets this server, its services' records and what it knew of them, and cuts its link: the
                agent's credentials open nothing any more.
            </p>
            <p>
                {server.containersRunning
                    ? `The ${server.containersRunning} containers that run there go on.`
                    : "Nothing on the machine is changed."}{" "}
                To come back it is added anew.
            </p>
        </Confirm>
    );
}

export function RotateServer({ server, open, onClose }: DialogProps) {
    const call = useCall();
    const rotate = () =>
        void call
            .run("rotate", async () => {
                for await (const r of credentials.rotate({ server: server.name, timeoutS: 30 }, { timeoutMs: 45_000 })) {
                    if (r.state === RotateState.FAILED) throw new Error(r.failure?.message || "It was not renewed.");
                }
            })
            .then((ok) => {
                if (!ok) return;
                toast({ tone: "ok", title: `${server.name} has new credentials` });
                onClose();
            });
    return (
        <Confirm
            title={`Renew the credentials of ${server.name}`}
            open={open}
            onClose={onClose}
            onConfirm={rotate}
            action="Renew now"
            danger={false}
            busy={call.busy !== ""}
            error={call.problem}
        >
            <p>
                The server makes a new key and connects with it. What it had before opens nothing from then on. Containers do not
                notice.
            </p>
        </Confirm>
    );
}

/** Its last update, the version it has, and the newest release where there is a newer one. */
export function AgentCard({ server }: { server: Server }) {
    const releases = useSignal<Release[] | undefined>(undefined);
    const load = useCall();
    const call = useCall();
    useEffect(() => {
        void load.run("load", async () => {
            releases.value = (await updates.listReleases({})).releases.filter((r) => !r.problem);
        });
    }, []);
    const step = server.update;
    const newest = releases.value?.[0];
    const at = step && step.state >= RolloutStepState.WAITING && step.state <= RolloutStepState.CONFIRMING;
    const newer = newest && newest.version !== server.agentVersion;
    const can = newer && !at && server.state === ServerState.ONLINE && server.system?.updateMethod !== "package";
    const start = () =>
        void call
            .run("update", () => updates.startRollout({ servers: [server.name], version: newest!.version }))
            .then((ok) => ok && toast({ tone: "info", title: `Update of ${server.name} to ${newest!.version} began` }));
    const why = step
        ? [
              step.phase && step.state !== RolloutStepState.DONE && `at ${step.phase}`,
              step.reason && `(${step.reason})`,
              step.message,
          ]
              .filter(Boolean)
              .join(" ")
        : "";
    return (
        <Card
            title="Agent"
            actions={
                can && (
                    <Button size="small" icon="up" busy={call.busy !== ""} onClick={start}>
                        Update to {inert(newest.version)}
                    </Button>
                )
            }
        >
            <KeyValues
                items={[
                    { label: "Version", value: server.agentVersion ? <Clip text={server.agentVersion} /> : "-" },
                    { label: "Update status", value: updateStatus(server, newest, releases.value, load.problem) },
                    step && {
                        label: "Last update",
                        value: (
                            <span class="line line-wraps">
                                <StateBadge word={rolloutStep(step.state)} /> to {inert(step.toVersion)},{" "}
                                <Ago us={step.changedUs} />
                            </span>
                        ),
                    },
                    why !== "" && { label: "It said", value: <span class="wrap">{inert(why)}</span> },
                    { label: "Connection", value: server.connectionMode || "-" },
                ]}
            />
            {call.problem && <ErrorBox problem={call.problem} title="The update was not begun" />}
        </Card>
    );
}

function updateStatus(
    server: Server,
    newest: Release | undefined,
    releases: Release[] | undefined,
    problem: Problem | undefined,
) {
    if (server.system?.updateMethod === "package") return "comes with the packages of its system";
    if (problem)
        return (
            <span class="wrap">{inert(problem.code === "failed_precondition" ? "no release is at hand" : problem.message)}</span>
        );
    if (releases === undefined) return <Skeleton width="9rem" />;
    if (!newest) return "no release is at hand";
    return newest.version === server.agentVersion ? "up to date" : `${inert(newest.version)} is at hand`;
}

export function DoctorCard({ server }: { server: Server }) {
    const call = useCall();
    const report = useSignal<RunDoctorResponse | undefined>(undefined);
    const run = () =>
        void call.run(
            "doctor",
            async () => void (report.value = await doctors.runDoctor({ server: server.name }, { timeoutMs: 40_000 })),
        );
    const online = server.state === ServerState.ONLINE;
    const checks = [...(report.value?.checks ?? [])].sort((a, b) => b.verdict - a.verdict);
    return (
        <Card
            title="Doctor"
            actions={
                <Button size="small" icon="shield" busy={call.busy !== ""} disabled={!online} onClick={run}>
                    {report.value ? "Check again" : "Check this server"}
                </Button>
            }
        >
            {call.problem && <ErrorBox problem={call.problem} retry={run} />}
            {!report.value && !call.problem && (
                <p class="quiet">
                    {online
                        ? "Looks at Docker, the clock, the network, the disk and the kernel of that machine, and says what to do."
                        : "It answers while the server is online. On the machine itself: sudo davit-agent doctor"}
                </p>
            )}
            {report.value && (
                <>
                    {report.value.ok && <Notice tone="ok" title="No check failed" />}
                    <ul class="checks">
                        {checks.map((c) => (
                            <li class="check" key={c.name}>
                                <StateBadge word={doctorVerdict(c.verdict)} />
                                <div class="check-text">
                                    <p class="wrap">
                                        <strong>{inert(c.name)}</strong> {inert(c.message)}
                                    </p>
                                    {c.fix && <p class="check-fix wrap">{inert(c.fix)}</p>}
                                </div>
                            </li>
                        ))}
                    </ul>
                </>
            )}
        </Card>
    );
}

/** One reason why a server needs somebody: with what to do, and the command where there is one. */
export function Fix({ text, command }: { text: string; command: string }) {
    return (
        <>
            {text && <p class="wrap">{text}</p>}
            {command && <CopyField label="Command" text={command} />}
        </>
    );
}
