/* SPDX-License-Identifier: Apache-2.0 */
/* service_deeds: going back to an earlier deployment, more or fewer containers, and calling off what is under way. */
import { useSignal } from "@preact/signals";

import { workloads as api } from "../api/client";
import { now } from "../api/clock";
import { ago, count, short } from "../api/format";
import { serviceKey } from "../api/topics";
import { deploymentState, earlier } from "../api/words";
import { DeploymentState } from "../gen/davit/common/v1/service_pb";
import type { Deployment, Service } from "../gen/davit/control/v1/workloads_pb";
import { Button, Choices, Confirm, Dialog, Form, inert, NumberField, toast } from "../parts";
import { href, navigate } from "../shell/router";
import { useCall } from "./common";

const REPLICAS_MAX = 32;

export function RollbackDialog({ service, list, onClose }: { service: Service; list: Deployment[]; onClose: () => void }) {
    const targets = earlier(list, service.activeDeploymentId);
    const to = useSignal(targets[0]?.id ?? "");
    const call = useCall();
    const go = () =>
        void call.run("rollback", async () => {
            const r = await api.rollback({ project: service.project, service: service.name, deploymentId: to.value });
            navigate(href("deployments", r.deploymentId));
        });
    return (
        <Dialog title={`Roll back ${inert(serviceKey(service))}`} open onClose={onClose} locked={call.busy !== ""}>
            <Form
                label="Roll back"
                onSubmit={go}
                error={call.problem}
                actions={
                    <>
                        <Button onClick={onClose} disabled={call.busy !== ""}>
                            Cancel
                        </Button>
                        <Button kind="primary" type="submit" icon="history" busy={call.busy !== ""} disabled={to.value === ""}>
                            Roll back
                        </Button>
                    </>
                }
            >
                <p>A new deployment with the image, variables, health check, limits and hostnames of then. Volumes stay as they are now.</p>
                {targets.length === 0 && <p class="quiet">No other deployment of it was ever active.</p>}
                {targets.length > 0 && (
                    <Choices
                        label="To which"
                        value={to.value}
                        onChange={(id) => (to.value = id)}
                        options={targets.map((d) => ({
                            value: d.id,
                            label: `${short(d.id)}, ${inert(d.spec?.image ?? "")}`,
                            note: `${deploymentState(d.state).word}, begun ${ago(d.createdUs, now.value)} by ${inert(d.triggeredBy || "-")}`,
                        }))}
                    />
                )}
            </Form>
        </Dialog>
    );
}

export function ScaleDialog({ service, onClose }: { service: Service; onClose: () => void }) {
    const has = Math.max(1, service.replicas);
    const wanted = useSignal<number | undefined>(has);
    const call = useCall();
    const n = wanted.value;
    const fault = n !== undefined && Number.isInteger(n) && n >= 1 && n <= REPLICAS_MAX ? undefined : `From 1 to ${REPLICAS_MAX}.`;
    const go = () => {
        if (fault) return;
        void call
            .run("scale", () =>
                api.scaleService({ project: service.project, service: service.name, replicas: n! }, { timeoutMs: 330_000 }),
            )
            .then((ok) => {
                if (!ok) return;
                toast({ tone: "ok", title: `${serviceKey(service)} has ${count(n!, "container")}` });
                onClose();
            });
    };
    return (
        <Dialog title={`Scale ${inert(serviceKey(service))}`} open onClose={onClose} locked={call.busy !== ""}>
            <Form
                label="Scale"
                onSubmit={go}
                error={call.problem}
                actions={
                    <>
                        <Button onClick={onClose} disabled={call.busy !== ""}>
                            Cancel
                        </Button>
                        <Button kind="primary" type="submit" busy={call.busy !== ""} disabled={n === has}>
                            Scale
                        </Button>
                    </>
                }
            >
                <NumberField
                    label="Containers"
                    required
                    value={n}
                    onInput={(v) => (wanted.value = v)}
                    min={1}
                    max={REPLICAS_MAX}
                    step={1}
                    error={fault}
                    hint={`Now ${has}. A new one gets requests when it is healthy; one that goes finishes those that it has.`}
                />
            </Form>
        </Dialog>
    );
}

/** On the page of a deployment that is not over. */
export function CancelDeployment({ d }: { d: Deployment }) {
    const open = useSignal(false);
    const call = useCall();
    const close = () => (open.value = false);
    return (
        <>
            <Button icon="close" onClick={() => (open.value = true)}>
                Call off
            </Button>
            <Confirm
                title="Call off this deployment"
                open={open.value}
                onClose={close}
                action="Call it off"
                busy={call.busy !== ""}
                error={call.problem}
                onConfirm={() =>
                    void call
                        .run("cancel", async () => {
                            const r = await api.cancelDeployment({ deploymentId: d.id }, { timeoutMs: 90_000 });
                            const done = r.state === DeploymentState.CANCELLED;
                            toast({
                                tone: done ? "ok" : "info",
                                title: done ? "It was called off" : `It is ${deploymentState(r.state).word}`,
                            });
                        })
                        .then((ok) => ok && close())
                }
            >
                <p>What it made so far is removed. What ran before goes on.</p>
            </Confirm>
        </>
    );
}
