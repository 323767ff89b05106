/* SPDX-License-Identifier: Apache-2.0 */
/* deploy: the form that says what shall run. Checked as it is sent with the rules of the control plane, whose own word comes back to the field
 * that it names. What is sent is a deployment, and its page is where it goes on. ?server= and ?from= (a deployment) fill it in. */
import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";

import { environments, toProblem, workloads as api, type Problem } from "../api/client";
import { checkForm, cliOf, emptyForm, fieldOf, formOf, nameOfImage, registryOf, specOf, type Problems, type SpecForm } from "../api/spec";
import { deploymentTopic, serversTopic } from "../api/topics";
import { useWatch } from "../api/watch";
import { healthKinds } from "../api/words";
import { HealthKind, type ServiceSpec } from "../gen/davit/common/v1/service_pb";
import { ServerState, type Server } from "../gen/davit/control/v1/servers_pb";
import {
    Button,
    Card,
    Checkbox,
    Choices,
    CopyField,
    ErrorBox,
    inert,
    Notice,
    Page,
    SelectField,
    TextField,
    toast,
} from "../parts";
import { navigate, query } from "../shell/router";
import { Away } from "./common";
import { EnvRows, PortRows, RouteRows, VolumeRows } from "./deploy_rows";

function randomId(): string {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
}

/* Who gets requests is checked first: with the first hostname the check that the control plane would choose stands in the form. */
function checkedIfFirst(form: SpecForm, routes: SpecForm["routes"]): Partial<SpecForm> {
    const first = form.routes.length === 0 && routes.length > 0 && form.healthKind === HealthKind.NONE;
    return first ? { healthKind: HealthKind.HTTP, healthPath: "/health" } : {};
}

interface PartProps {
    form: SpecForm;
    change: (part: Partial<SpecForm>) => void;
    problems: Problems;
}

function What({ form, change, problems, named }: PartProps & { named: { value: boolean } }) {
    const image = (value: string) => change({ image: value, ...(named.value ? {} : { name: nameOfImage(value.trim()) }) });
    return (
        <Card title="What">
            <div class="fields">
                <TextField
                    label="Image"
                    value={form.image}
                    onInput={image}
                    error={problems.get("image")}
                    required
                    autoFocus
                    mono
                    placeholder="nginx:1.27"
                    hint="With a tag or a digest; without one it is latest."
                />
                <TextField
                    label="Name"
                    value={form.name}
                    error={problems.get("name")}
                    required
                    mono
                    placeholder="web"
                    hint="One name is one service: deploying it again replaces what runs."
                    onInput={(name) => {
                        named.value = name !== "";
                        change({ name });
                    }}
                />
                <TextField
                    label="Project"
                    value={form.project}
                    onInput={(project) => change({ project })}
                    error={problems.get("project")}
                    required
                    mono
                    hint="Services of a project share a network."
                />
                <TextField
                    label="Command"
                    value={form.command}
                    onInput={(command) => change({ command })}
                    error={problems.get("command")}
                    mono
                    placeholder="as the image says"
                    hint="Words as in a shell, with quotes; nothing is expanded."
                />
            </div>
        </Card>
    );
}

function Where({
    servers,
    value,
    onChange,
    error,
}: {
    servers: Map<string, Server> | undefined;
    value: string;
    onChange: (v: string) => void;
    error: string | undefined;
}) {
    const list = [...(servers?.values() ?? [])]
        .filter((s) => s.state !== ServerState.PENDING)
        .sort((a, b) => a.name.localeCompare(b.name));
    const chosen = list.find((s) => s.name === value);
    const options = [
        ...(list.length === 1 ? [] : [{ value: "", label: list.length ? "Choose a server" : "No server yet" }]),
        ...list.map((s) => ({ value: s.name, label: s.name + (s.state === ServerState.OFFLINE ? " (offline)" : "") })),
    ];
    return (
        <Card title="Where">
            <SelectField label="Server" value={value} onChange={onChange} options={options} error={error} required />
            {chosen?.state === ServerState.OFFLINE && (
                <Notice tone="warn" title={`${chosen.name} is offline`}>
                    The deployment waits until it is back.
                </Notice>
            )}
            {servers && list.length === 0 && (
                <Notice
                    tone="warn"
                    title="There is no server yet"
                    actions={
                        <Button size="small" href="/servers?add=1">
                            Add a server
                        </Button>
                    }
                />
            )}
        </Card>
    );
}

function Limits({ form, change, problems }: PartProps) {
    return (
        <Card title="Limits">
            <div class="fields">
                <TextField
                    label="CPU"
                    value={form.cpus}
                    onInput={(cpus) => change({ cpus })}
                    error={problems.get("cpu")}
                    placeholder="no limit"
                    suffix="cores"
                />
                <TextField
                    label="Memory"
                    value={form.memory}
                    onInput={(memory) => change({ memory })}
                    error={problems.get("memory")}
                    placeholder="no limit"
                    hint="For example 128m or 2g."
                />
                <TextField
                    label="Containers"
                    value={form.replicas}
                    onInput={(replicas) => change({ replicas })}
                    error={problems.get("replicas")}
                    placeholder="as many as it has"
                />
                <TextField
                    label="Processes"
                    value={form.pids}
                    onInput={(pids) => change({ pids })}
                    error={problems.get("pids_limit")}
                    placeholder="512"
                />
                <SelectField
                    label="When it ends by itself"
                    value={form.restart}
                    onChange={(restart) => change({ restart })}
                    error={problems.get("restart")}
                    required
                    options={[
                        { value: "unless-stopped", label: "start it again, unless stopped" },
                        { value: "always", label: "start it again, always" },
                        { value: "on-failure", label: "start it again after a failure" },
                        { value: "no", label: "leave it" },
                    ]}
                />
                <SelectField
                    label="Pull the image"
                    value={form.pull}
                    onChange={(pull) => change({ pull })}
                    error={problems.get("pull")}
                    required
                    options={[
                        { value: "missing", label: "if the server lacks it" },
                        { value: "always", label: "always" },
                        { value: "never", label: "never" },
                    ]}
                />
                <Checkbox
                    label="Read-only root file system"
                    checked={form.readOnly}
                    onChange={(readOnly) => change({ readOnly })}
                />
            </div>
        </Card>
    );
}

function Health({ form, change, problems }: PartProps) {
    const kind = form.healthKind;
    return (
        <Card title="Health check">
            <Choices
                label="It is healthy when"
                value={String(kind)}
                onChange={(v) => change({ healthKind: Number(v) as HealthKind })}
                options={healthKinds.map((k) => ({ value: String(k.value), label: k.word, note: k.meaning }))}
            />
            {kind !== HealthKind.NONE && (
                <div class="fields">
                    {kind === HealthKind.HTTP && (
                        <TextField
                            label="Path"
                            value={form.healthPath}
                            onInput={(healthPath) => change({ healthPath })}
                            error={problems.get("health.path")}
                            mono
                            required
                        />
                    )}
                    {kind !== HealthKind.DOCKER && (
                        <TextField
                            label="Port in the container"
                            value={form.healthPort}
                            onInput={(healthPort) => change({ healthPort })}
                            error={problems.get("health.port")}
                            mono
                            placeholder="the first exposed"
                        />
                    )}
                    <TextField
                        label="Every"
                        value={form.healthInterval}
                        onInput={(healthInterval) => change({ healthInterval })}
                        error={problems.get("health.interval")}
                        placeholder="10s"
                    />
                    <TextField
                        label="Give up after"
                        value={form.healthTimeout}
                        onInput={(healthTimeout) => change({ healthTimeout })}
                        error={problems.get("health.timeout")}
                        placeholder="5s"
                    />
                    <TextField
                        label="Failures in a row"
                        value={form.healthRetries}
                        onInput={(healthRetries) => change({ healthRetries })}
                        error={problems.get("health.retries")}
                        placeholder="3"
                    />
                    <TextField
                        label="Time to come up"
                        value={form.healthGrace}
                        onInput={(healthGrace) => change({ healthGrace })}
                        error={problems.get("health.grace")}
                        placeholder="30s"
                        hint="Failures do not count before."
                    />
                </div>
            )}
        </Card>
    );
}

interface Login {
    user: string;
    password: string;
}

function Registry({ image, login, onChange }: { image: string; login: Login; onChange: (login: Login) => void }) {
    return (
        <details class="card more" open={login.user !== ""}>
            <summary>The image is behind a login</summary>
            <div class="fields">
                <TextField
                    label="Registry user"
                    value={login.user}
                    onInput={(user) => onChange({ ...login, user })}
                    autocomplete="off"
                    hint={`For ${registryOf(image) || "the engine's own registry"}, for this one pull. To keep one: Settings, Registries.`}
                />
                <TextField
                    label="Registry password"
                    type="password"
                    value={login.password}
                    onInput={(password) => onChange({ ...login, password })}
                    autocomplete="new-password"
                />
            </div>
        </details>
    );
}

/* Names of the variables that each deployment of the service gets by itself. */
async function storedNames(spec: ServiceSpec): Promise<ReadonlySet<string>> {
    const list = await environments.listVariables({ project: spec.project, service: spec.name });
    return new Set(list.variables.map((v) => v.name));
}

/* Fills the form from a deployment, once; which variables had a value that is not told. Those that are kept beside it come by themselves. */
function useFrom(id: string, fill: (form: SpecForm, server: string, missing: Set<string>, stored: string[]) => void) {
    const use = useWatch(id ? deploymentTopic(id) : undefined);
    const filled = useRef(false);
    const d = use.model?.deployment;
    useEffect(() => {
        if (filled.current || !d?.spec) return;
        filled.current = true;
        const spec = d.spec;
        void storedNames(spec)
            .catch(() => new Set<string>())
            .then((stored) => {
                const form = formOf(spec);
                const env = form.env.filter((e) => !stored.has(e.name));
                const ofService = form.env.map((e) => e.name).filter((name) => stored.has(name));
                fill({ ...form, env }, d.serverName, new Set(env.map((e) => e.name)), ofService);
            });
    }, [d]);
    return { problem: use.problem, loading: id !== "" && use.state === "loading" };
}

const FIRST_ERROR = "[aria-invalid=true], .rows-error";

export function DeployPage() {
    const form = useSignal<SpecForm>(emptyForm());
    const server = useSignal(query.value.get("server") ?? "");
    const login = useSignal<Login>({ user: "", password: "" });
    const missing = useSignal<ReadonlySet<string>>(new Set());
    const stored = useSignal<string[]>([]);
    const emptied = useSignal(false);
    const named = useRef({ value: false });
    const problems = useSignal<Problems>(new Map());
    const failure = useSignal<Problem | undefined>(undefined);
    const busy = useSignal(false);
    const page = useRef<HTMLFormElement>(null);
    const servers = useWatch(serversTopic());
    const from = useFrom(query.value.get("from") ?? "", (f, s, names, ofService) => {
        stored.value = ofService;
        form.value = f;
        server.value = s;
        missing.value = names;
        named.current.value = true;
    });
    /* The same form sent twice is the same deployment; a changed one is another. */
    const requestId = useMemo(randomId, [form.value, server.value, login.value]);
    const places = [...(servers.model?.values() ?? [])].filter((s) => s.state !== ServerState.PENDING);
    const only = places.length === 1 ? places[0]!.name : "";
    const chosen = server.value || only;

    const empty = [...missing.value].filter((name) => form.value.env.some((e) => e.name === name && e.value === ""));

    const change = (part: Partial<SpecForm>) => {
        form.value = { ...form.value, ...part };
        if (problems.value.size) problems.value = checkForm(form.value);
    };
    const show = (found: Problems) => {
        problems.value = found;
        requestAnimationFrame(() => page.current?.querySelector<HTMLElement>(FIRST_ERROR)?.focus());
    };
    const refused = (problem: Problem) => {
        const at = problem.code === "invalid_argument" ? fieldOf(problem.message) : undefined;
        failure.value = problem;
        if (at) show(new Map([[at.field, at.text]]));
    };
    const send = async () => {
        const found = checkForm(form.value);
        if (!chosen) found.set("server", places.length ? "choose where it runs" : "there is none yet");
        if (empty.length && !emptied.value)
            found.set("env", "type the values again that are not shown, or say that they shall be empty");
        failure.value = undefined;
        show(found);
        if (found.size || busy.value) return;
        busy.value = true;
        try {
            const auth = login.value.user
                ? { server: registryOf(form.value.image.trim()), username: login.value.user, password: login.value.password }
                : undefined;
            const r = await api.deploy({
                spec: specOf(form.value),
                server: chosen,
                requestId,
                ...(auth ? { registryAuth: auth } : {}),
            });
            toast({ tone: "info", title: `Deployment of ${form.value.project}/${form.value.name} began` });
            navigate(`/deployments/${encodeURIComponent(r.deploymentId)}`);
        } catch (e) {
            refused(toProblem(e));
        } finally {
            busy.value = false;
        }
    };
    const parts = { form: form.value, change, problems: problems.value };

    return (
        <Page title="Deploy a service" crumbs={[{ title: "Services", href: "/services" }]} narrow>
            {servers.away && <Away />}
            {from.problem && <ErrorBox problem={from.problem} title="The deployment to start from is not known" />}
            <form
                class="form"
                noValidate
                aria-label="Deploy a service"
                ref={page}
                aria-busy={from.loading}
                onSubmit={(event) => {
                    event.preventDefault();
                    void send();
                }}
            >
                <What {...parts} named={named.current} />
                <Where
                    servers={servers.model}
                    value={chosen}
                    onChange={(v) => (server.value = v)}
                    error={problems.value.get("server")}
                />
                <Card title="Ports">
                    <p class="field-hint rows-hint">Address and port on the server, then the port in the container.</p>
                    <PortRows rows={form.value.ports} onChange={(ports) => change({ ports })} problems={problems.value} />
                </Card>
                <Card title="Hostnames" note="through the ingress of its server">
                    <RouteRows
                        rows={form.value.routes}
                        onChange={(routes) => change({ routes, ...checkedIfFirst(form.value, routes) })}
                        problems={problems.value}
                    />
                </Card>
                <Card title="Environment">
                    {empty.length > 0 && (
                        <Notice tone="warn" title="Values are not shown once they are sent">
                            <p>Type these again: {inert(empty.join(", "))}.</p>
                            <Checkbox label="They shall be empty" checked={emptied.value} onChange={(v) => (emptied.value = v)} />
                        </Notice>
                    )}
                    {stored.value.length > 0 && (
                        <p class="field-hint rows-hint">
                            From the variables of the service: {inert(stored.value.join(", "))}. What is typed here goes before.
                        </p>
                    )}
                    <EnvRows
                        rows={form.value.env}
                        onChange={(env) => change({ env })}
                        problems={problems.value}
                        missing={missing.value}
                    />
                </Card>
                <Card title="Volumes" note="kept over deployments">
                    <VolumeRows rows={form.value.volumes} onChange={(volumes) => change({ volumes })} problems={problems.value} />
                </Card>
                <Health {...parts} />
                <Limits {...parts} />
                <Registry image={form.value.image.trim()} login={login.value} onChange={(v) => (login.value = v)} />
                {failure.value && <ErrorBox problem={failure.value} title="It was not deployed" />}
                <div class="form-actions">
                    <Button kind="primary" type="submit" icon="deploy" busy={busy.value}>
                        Deploy
                    </Button>
                    <Button href="/services">Cancel</Button>
                </div>
                <CopyField
                    label="The same from a terminal"
                    text={cliOf(form.value, places.length > 1 ? chosen : "")}
                    hint="Values of variables are left out."
                />
            </form>
        </Page>
    );
}
