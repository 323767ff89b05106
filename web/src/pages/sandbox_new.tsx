/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_new: the form that makes a sandbox. Making one goes on at its server, whoever leaves the page. */
import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";

import type { Problem } from "../api/client";
import {
    checkSandbox,
    emptySandbox,
    makeSandbox,
    nameOfSandbox,
    sandboxCli,
    sandboxField,
    sandboxSpec,
    type SandboxForm,
} from "../api/sandbox";
import type { Problems } from "../api/spec";
import { sandboxesTopic, serversTopic } from "../api/topics";
import { useWatch } from "../api/watch";
import { sandboxTitle, stepTitle } from "../api/words";
import { StepState, type StepProgress } from "../gen/davit/common/v1/service_pb";
import { ServerState } from "../gen/davit/control/v1/servers_pb";
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
    Steps,
    TextField,
    toast,
    type StepMark,
} from "../parts";
import { href, navigate } from "../shell/router";
import { Away } from "./common";
import { EnvRows } from "./deploy_rows";

interface PartProps {
    form: SandboxForm;
    change: (part: Partial<SandboxForm>) => void;
    problems: Problems;
}

const NONE: ReadonlySet<string> = new Set();

const randomName = () => [...crypto.getRandomValues(new Uint8Array(2))].map((b) => b.toString(16).padStart(2, "0")).join("");

function What({ form, change, problems, named }: PartProps & { named: { value: boolean; random: string } }) {
    return (
        <Card title="What">
            <div class="fields">
                <TextField
                    label="Image"
                    value={form.image}
                    onInput={(image) => change({ image, ...(named.value ? {} : { name: nameOfSandbox(image.trim(), named.random) }) })}
                    error={problems.get("image")}
                    required
                    autoFocus
                    mono
                    placeholder="alpine"
                    hint="Any image, as it is."
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
                <TextField
                    label="Name"
                    value={form.name}
                    error={problems.get("name")}
                    required
                    mono
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
                    mono
                    placeholder="none"
                />
                <TextField
                    label="User"
                    value={form.user}
                    onInput={(user) => change({ user })}
                    error={problems.get("user")}
                    mono
                    placeholder="as the image says"
                />
                <Checkbox
                    label="With a terminal"
                    hint="For a shell or an agent that is talked to: its terminal is on its page."
                    checked={form.tty}
                    onChange={(tty) => change({ tty })}
                />
            </div>
        </Card>
    );
}

function Network({ form, change }: PartProps) {
    return (
        <Card title="Network">
            <Choices
                label="What its program reaches"
                value={form.open ? "open" : "none"}
                onChange={(v) => change({ open: v === "open" })}
                options={[
                    { value: "none", label: "nothing", note: "and only its server's agent reaches it" },
                    { value: "open", label: "everything", note: "all that its server reaches, unfiltered" },
                ]}
            />
            {form.open && (
                <Notice tone="warn" title="Its program will reach the whole network of that server">
                    Nothing is filtered: the internet, other machines there, and services that listen on the server's addresses. What
                    it can read, it can send away.
                </Notice>
            )}
        </Card>
    );
}

function Workspace({ form, change, problems }: PartProps) {
    const folder = form.folder.trim() !== "";
    return (
        <Card title="Workspace" note="a folder of the server to work in">
            <div class="fields">
                <TextField
                    label="Folder on the server"
                    value={form.folder}
                    onInput={(v) => change({ folder: v })}
                    error={problems.get("workspace.source")}
                    mono
                    placeholder="none"
                    hint="The folder itself: what the program changes there is changed."
                />
                {folder && (
                    <TextField
                        label="Path in the sandbox"
                        value={form.folderPath}
                        onInput={(folderPath) => change({ folderPath })}
                        error={problems.get("workspace.path")}
                        mono
                        required
                    />
                )}
                {folder && (
                    <Checkbox label="Read only" checked={form.folderReadOnly} onChange={(v) => change({ folderReadOnly: v })} />
                )}
            </div>
            <p class="field-hint">
                A copy of a folder of your own machine goes in from a terminal: <code class="code">davit run --workspace . --snapshot</code>
            </p>
        </Card>
    );
}

function Limits({ form, change, problems }: PartProps) {
    return (
        <details class="card more">
            <summary>Limits, restarts, pulling</summary>
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
                        { value: "no", label: "leave it" },
                        { value: "on-failure", label: "start it again after a failure" },
                        { value: "unless-stopped", label: "start it again, unless stopped" },
                        { value: "always", label: "start it again, always" },
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
                <Checkbox label="Read-only root file system" checked={form.readOnly} onChange={(v) => change({ readOnly: v })} />
            </div>
        </details>
    );
}

const MARKS: Record<number, StepMark> = {
    [StepState.RUNNING]: "running",
    [StepState.DONE]: "done",
    [StepState.FAILED]: "failed",
    [StepState.UNDONE]: "undone",
};

/* A step reports many times; its last report counts. */
function put(steps: StepProgress[], p: StepProgress): StepProgress[] {
    const at = steps.findIndex((s) => s.step === p.step);
    return at < 0 ? [...steps, p] : steps.map((s, i) => (i === at ? p : s));
}

const FIRST_ERROR = "[aria-invalid=true], .rows-error";

export function NewSandboxPage() {
    const form = useSignal<SandboxForm>(emptySandbox());
    const server = useSignal("");
    const named = useRef({ value: false, random: randomName() });
    const problems = useSignal<Problems>(new Map());
    const failure = useSignal<Problem | undefined>(undefined);
    const busy = useSignal(false);
    const steps = useSignal<StepProgress[]>([]);
    const page = useRef<HTMLFormElement>(null);
    const call = useRef<{ close(): void }>();
    useEffect(() => () => call.current?.close(), []);
    const servers = useWatch(serversTopic());
    const there = useWatch(sandboxesTopic()).model;
    const list = useMemo(
        () =>
            [...(servers.model?.values() ?? [])]
                .filter((s) => s.state !== ServerState.PENDING)
                .sort((a, b) => a.name.localeCompare(b.name)),
        [servers.model],
    );
    const chosen = server.value || (list.length === 1 ? list[0]!.name : "");
    const made = [...(there?.values() ?? [])].find((s) => s.name === form.value.name && s.project === form.value.project);

    const change = (part: Partial<SandboxForm>) => {
        form.value = { ...form.value, ...part };
        if (problems.value.size) problems.value = checkSandbox(form.value);
    };
    const show = (found: Problems) => {
        problems.value = found;
        requestAnimationFrame(() => page.current?.querySelector<HTMLElement>(FIRST_ERROR)?.focus());
    };
    const ended = (problem: Problem | undefined) => {
        busy.value = false;
        if (!problem) return;
        const at = problem.code === "invalid_argument" ? sandboxField(problem.message) : undefined;
        failure.value = problem;
        if (at) show(new Map([[at.field, at.text]]));
    };
    const send = () => {
        const found = checkSandbox(form.value);
        if (!chosen) found.set("server", list.length ? "choose where it runs" : "there is none yet");
        failure.value = undefined;
        show(found);
        if (found.size || busy.value) return;
        busy.value = true;
        steps.value = [];
        call.current = makeSandbox(sandboxSpec(form.value), chosen, {
            step: (p) => (steps.value = put(steps.value, p)),
            made: (s) => {
                toast({ tone: "ok", title: `Sandbox ${sandboxTitle(s)} was made` });
                navigate(href("sandboxes", s.id));
            },
            ended,
        });
    };
    const parts = { form: form.value, change, problems: problems.value };

    return (
        <Page title="Run a sandbox" crumbs={[{ title: "Sandboxes", href: "/sandboxes" }]} narrow>
            {servers.away && <Away />}
            <form
                class="form"
                noValidate
                aria-label="Run a sandbox"
                ref={page}
                onSubmit={(event) => {
                    event.preventDefault();
                    send();
                }}
            >
                <What {...parts} named={named.current} />
                <Card title="Where">
                    <SelectField
                        label="Server"
                        value={chosen}
                        onChange={(v) => (server.value = v)}
                        options={[
                            ...(list.length === 1 ? [] : [{ value: "", label: list.length ? "Choose a server" : "No server yet" }]),
                            ...list.map((s) => ({
                                value: s.name,
                                label: s.name + (s.state === ServerState.OFFLINE ? " (offline)" : ""),
                            })),
                        ]}
                        error={problems.value.get("server")}
                        required
                    />
                </Card>
                <Network {...parts} />
                <Workspace {...parts} />
                <Card title="Environment">
                    <EnvRows rows={form.value.env} onChange={(env) => change({ env })} problems={problems.value} missing={NONE} />
                </Card>
                <Limits {...parts} />
                {steps.value.length > 0 && (
                    <Card title="Progress" note={busy.value ? "it goes on when you leave this page" : ""}>
                        <Steps
                            label="Progress"
                            steps={steps.value.map((p) => ({
                                id: p.step,
                                title: stepTitle(p.step),
                                state: MARKS[p.state] ?? "waiting",
                                message: inert(p.message),
                                percent: p.percent || undefined,
                            }))}
                        />
                    </Card>
                )}
                {failure.value && <ErrorBox problem={failure.value} title="It does not run" />}
                {failure.value && made && (
                    <Notice
                        title={`There is a sandbox ${inert(sandboxTitle(made))}`}
                        actions={
                            <Button size="small" href={href("sandboxes", made.id)}>
                                Open it
                            </Button>
                        }
                    >
                        Its page says what became of it.
                    </Notice>
                )}
                <div class="form-actions">
                    <Button kind="primary" type="submit" icon="play" busy={busy.value}>
                        Run
                    </Button>
                    <Button href="/sandboxes">Cancel</Button>
                </div>
                <CopyField
                    label="The same from a terminal"
                    text={sandboxCli(form.value, list.length > 1 ? chosen : "")}
                    hint="Values of variables are left out."
                />
            </form>
        </Page>
    );
}
