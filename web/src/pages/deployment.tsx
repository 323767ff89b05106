/* SPDX-License-Identifier: Apache-2.0 */
/* deployment: one attempt to run a service, step by step while it goes on, and why it failed where it did. */
import { short } from "../api/format";
import { deploymentTopic, type DeploymentModel } from "../api/topics";
import { useWatch } from "../api/watch";
import { deploymentEnded, deploymentState, stepState, stepTitle } from "../api/words";
import { DeploymentState, StepState } from "../gen/davit/common/v1/service_pb";
import type { Failure } from "../gen/davit/common/v1/system_pb";
import type { Deployment } from "../gen/davit/control/v1/workloads_pb";
import { Ago, Button, Card, CopyButton, Empty, inert, KeyValues, Notice, Page, Skeleton, Steps, Time, type Step } from "../parts";
import { href, Link } from "../shell/router";
import { Clip, Loaded, StateBadge } from "./common";
import { took } from "./deployments";
import { CancelDeployment } from "./service_deeds";

const marks: Record<number, Step["state"]> = {
    [StepState.RUNNING]: "running",
    [StepState.DONE]: "done",
    [StepState.FAILED]: "failed",
    [StepState.UNDONE]: "undone",
};

function stepsOf(m: DeploymentModel): Step[] {
    return [...m.steps]
        .sort((a, b) => (a.progress?.index ?? 0) - (b.progress?.index ?? 0))
        .map(({ progress, atUs }) => {
            const p = progress!;
            const state = marks[p.state] ?? "waiting";
            return {
                id: p.step,
                title: inert(stepTitle(p.step)),
                state,
                message: p.message ? inert(p.message) : stepState(p.state).meaning,
                percent: p.percent || undefined,
                atUs,
            };
        });
}

function FailureBox({ failure, deployment }: { failure: Failure; deployment: Deployment | undefined }) {
    const spec = deployment?.spec;
    return (
        <Notice
            tone="bad"
            title={inert(failure.message) || "It failed"}
            actions={
                spec && (
                    <div class="notice-buttons">
                        <Button size="small" icon="deploy" href={`/deploy?from=${encodeURIComponent(deployment.id)}`}>
                            Change and deploy again
                        </Button>
                        <Button size="small" icon="service" href={href("services", spec.project, spec.name)}>
                            Open the service
                        </Button>
                    </div>
                )
            }
        >
            {failure.hint && <p class="notice-fix wrap">{inert(failure.hint)}</p>}
            {failure.detail && (
                <pre class="code-block detail" tabIndex={0} aria-label="What it said last">
                    {failure.detail.split("\n").map(inert).join("\n")}
                </pre>
            )}
        </Notice>
    );
}

function Facts({ d, containerId }: { d: Deployment; containerId: string }) {
    const spec = d.spec;
    return (
        <Card title="Deployment">
            <KeyValues
                items={[
                    spec && {
                        label: "Service",
                        value: (
                            <Link class="wrap" href={href("services", spec.project, spec.name)}>
                                {inert(`${spec.project}/${spec.name}`)}
                            </Link>
                        ),
                    },
                    spec && {
                        label: "Image",
                        value: (
                            <span class="line">
                                <span class="mono wrap">{inert(spec.image)}</span>
                                <CopyButton text={spec.image} label="Copy image" />
                            </span>
                        ),
                    },
                    d.imageDigest !== "" && { label: "Digest", value: <span class="mono wrap">{inert(d.imageDigest)}</span> },
                    {
                        label: "Server",
                        value: (
                            <Link class="wrap" href={href("servers", d.serverName)}>
                                {inert(d.serverName)}
                            </Link>
                        ),
                    },
                    {
                        label: "Begun",
                        value: (
                            <>
                                <Time us={d.createdUs} /> (<Ago us={d.createdUs} />)
                            </>
                        ),
                    },
                    { label: "Took", value: took(d) },
                    { label: "By", value: d.triggeredBy ? <Clip text={d.triggeredBy} /> : "-" },
                    d.sourceDeploymentId !== "" && {
                        label: "Repeats",
                        value: (
                            <Link class="mono" href={href("deployments", d.sourceDeploymentId)}>
                                {short(d.sourceDeploymentId)}
                            </Link>
                        ),
                    },
                    containerId !== "" && {
                        label: "Container",
                        value: (
                            <span class="line">
                                <span class="mono">{short(containerId)}</span>
                                <CopyButton text={containerId} label="Copy container id" />
                            </span>
                        ),
                    },
                    {
                        label: "Id",
                        value: (
                            <span class="line">
                                <Clip text={d.id} mono />
                                <CopyButton text={d.id} label="Copy id" />
                            </span>
                        ),
                    },
                ]}
            />
        </Card>
    );
}

function Detail({ model }: { model: DeploymentModel }) {
    const d = model.deployment;
    const last = model.last;
    const state = d && deploymentEnded(d.state) ? d.state : (last?.state ?? d?.state ?? DeploymentState.UNSPECIFIED);
    const failure = last?.failure ?? d?.failure;
    const steps = stepsOf(model);
    const over = deploymentEnded(state);
    const spec = d?.spec;
    return (
        <>
            {failure && state === DeploymentState.FAILED && <FailureBox failure={failure} deployment={d} />}
            {!over && last?.waitingFor && (
                <Notice tone="pending" title={`Waiting: ${inert(last.waitingFor)}`}>
                    It begins by itself as soon as that changes.
                </Notice>
            )}
            {state === DeploymentState.ACTIVE && spec && (
                <Notice
                    tone="ok"
                    title="It runs"
                    actions={
                        <Button size="small" href={href("services", spec.project, spec.name)}>
                            Open the service
                        </Button>
                    }
                />
            )}
            <div class="two-columns">
                <Card title="Steps">
                    {steps.length ? (
                        <Steps label="Steps of the deployment" steps={steps} />
                    ) : (
                        <p class="quiet">{over ? "Its steps are no longer known." : "The server has not begun."}</p>
                    )}
                </Card>
                {d ? <Facts d={d} containerId={last?.containerId || d.containerId} /> : <Skeleton height="14rem" />}
            </div>
        </>
    );
}

export function DeploymentPage({ id }: { id: string }) {
    const use = useWatch(deploymentTopic(id));
    const d = use.model?.deployment;
    const name = d?.spec ? `${d.spec.project}/${d.spec.name}` : "";
    const state = d && (deploymentEnded(d.state) ? d.state : (use.model?.last?.state ?? d.state));
    return (
        <Page
            title={name ? `Deployment of ${inert(name)}` : "Deployment"}
            crumbs={[
                { title: "Services", href: "/services" },
                ...(d?.spec ? [{ title: d.spec.name, href: href("services", d.spec.project, d.spec.name) }] : []),
            ]}
            actions={d && state !== undefined && !deploymentEnded(state) && <CancelDeployment d={d} />}
            state={
                state !== undefined && (
                    <span role="status">
                        <StateBadge word={deploymentState(state)} />
                    </span>
                )
            }
        >
            <Loaded back={{ title: "All services", href: "/services" }} use={use} skeleton={<Skeleton height="18rem" />}>
                {(model) =>
                    model.deployment || model.last ? (
                        <Detail model={model} />
                    ) : (
                        <Empty
                            icon="history"
                            title="There is no such deployment"
                            actions={<Button href="/services">All services</Button>}
                        />
                    )
                }
            </Loaded>
        </Page>
    );
}
