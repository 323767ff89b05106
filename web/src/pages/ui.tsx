// SPDX-License-Identifier: Apache-2.0
// Every part in every state, on one page: what doc/design-language.md speaks of, and what the tests look at.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";

import {
    Badge,
    Button,
    Card,
    Checkbox,
    Choices,
    Code,
    Confirm,
    CopyField,
    Dialog,
    Empty,
    ErrorBox,
    Form,
    Gauge,
    Icon,
    IconButton,
    ICONS,
    KeyHint,
    KeyValues,
    Menu,
    Notice,
    NumberField,
    Page,
    Progress,
    Ring,
    SelectField,
    Skeleton,
    SkeletonTable,
    Sparkline,
    Spinner,
    Stat,
    StateDot,
    Steps,
    Tabs,
    Tag,
    TextArea,
    TextField,
    toast,
    Toggle,
    TONES,
    Wordmark,
    type Tone,
} from "../parts";
import { UiLive } from "./ui_live";

const MEANINGS: Record<Tone, string> = {
    ok: "as it should be",
    warn: "works, but look at it",
    bad: "broken, or refused",
    info: "to know, nothing to do",
    pending: "on its way",
    neutral: "off, or nobody knows",
};
const INKS = [
    "ground",
    "surface",
    "raised",
    "sunken",
    "hover",
    "selected",
    "line",
    "line-strong",
    "control-line",
    "ink",
    "ink-2",
    "ink-3",
    "accent",
    "accent-soft",
    "focus",
];
const HOSTILE = "\u202eevil\u0007<img src=x onerror=alert(1)>\u202c ".repeat(3);
const PROBLEM = {
    code: "failed_precondition",
    message: "the server web-1 is offline",
    hint: "Start davit-agent there: systemctl start davit-agent. The work waits for it.",
};
const NOW = () => BigInt(Date.now()) * 1000n;

function Section({ title, children }: { title: string; children: ComponentChildren }) {
    return (
        <Card title={title}>
            <div class="stack">{children}</div>
        </Card>
    );
}

function Row({ children }: { children: ComponentChildren }) {
    return <div class="ui-row">{children}</div>;
}

function Colours() {
    return (
        <Section title="Colours with meaning">
            <Row>
                {TONES.map((tone) => (
                    <span class="ui-tone" key={tone}>
                        <Badge tone={tone}>{tone}</Badge>
                        <span class="faint">{MEANINGS[tone]}</span>
                    </span>
                ))}
            </Row>
            <Row>
                {TONES.map((tone) => (
                    <StateDot key={tone} tone={tone} label={tone} />
                ))}
                <Badge tone="bad" title={HOSTILE}>
                    {HOSTILE}
                </Badge>
                <Tag>read</Tag>
                <Tag>v0.1.0</Tag>
            </Row>
            <div class="ui-inks">
                {INKS.map((name) => (
                    <span class="ui-ink" key={name}>
                        <span style={{ background: `var(--${name})` }} />
                        <span class="mono">{name}</span>
                    </span>
                ))}
            </div>
            <div class="ui-inks">
                {[0, 1, 2, 3, 4, 5].map((hue) => (
                    <span class="ui-ink" key={hue}>
                        <span style={{ background: `var(--hue-${hue})` }} />
                        <span class="mono">hue-{hue}</span>
                    </span>
                ))}
            </div>
        </Section>
    );
}

function Text() {
    return (
        <Section title="Text">
            <Row>
                {["xs", "s", "m", "l", "xl", "2xl"].map((size) => (
                    <span key={size} style={{ fontSize: `var(--text-${size})` }}>
                        {size} 0123456789
                    </span>
                ))}
            </Row>
            <p>
                Plain, <b>strong</b>, <span class="quiet">quiet</span>, <span class="faint">faint</span>, <a href="/ui">a link</a>
                , <Code>code</Code>, <KeyHint keys="Mod+K" />
            </p>
            <Code block>
                {"davit deploy --name web nginx:1.27\n# what is longer than the line is broken, not hidden: " + "x".repeat(160)}
            </Code>
            <Row>
                <Wordmark />
                <Wordmark size={32} />
            </Row>
            <div class="ui-icons">
                {ICONS.map((name) => (
                    <span class="ui-icon" key={name} title={name}>
                        <Icon name={name} />
                        <span>{name}</span>
                    </span>
                ))}
            </div>
        </Section>
    );
}

function Buttons() {
    const busy = useSignal(false);
    return (
        <Section title="Buttons and menus">
            <Row>
                <Button kind="primary" icon="deploy">
                    Primary
                </Button>
                <Button>Plain</Button>
                <Button kind="quiet">Quiet</Button>
                <Button kind="danger" icon="trash">
                    Danger
                </Button>
                <Button disabled>Disabled</Button>
                <Button kind="primary" busy>
                    Busy
                </Button>
                <Button
                    busy={busy.value}
                    onClick={() => {
                        busy.value = true;
                        setTimeout(() => (busy.value = false), 1500);
                    }}
                >
                    Busy when pressed
                </Button>
                <Button href="/ui" icon="right">
                    A link
                </Button>
            </Row>
            <Row>
                <Button size="small">Small</Button>
                <Button size="small" kind="primary">
                    Small
                </Button>
                <IconButton icon="restart" label="Restart" />
                <IconButton icon="trash" label="Remove" kind="plain" />
                <IconButton icon="filter" label="Filter" aria-pressed />
                <Menu
                    label="More"
                    items={[
                        { label: "Restart", icon: "restart" },
                        { label: "Not now", icon: "pause", disabled: true },
                        { label: "Remove", icon: "trash", danger: true },
                    ]}
                />
                <Spinner label="Loading" />
            </Row>
        </Section>
    );
}

function Forms() {
    const text = useSignal("web-1");
    const on = useSignal(true);
    const choice = useSignal("read");
    const count = useSignal<number | undefined>(3);
    return (
        <Section title="Forms">
            <Form
                label="All fields"
                onSubmit={() => toast({ tone: "ok", title: "Sent" })}
                error={PROBLEM}
                actions={
                    <>
                        <Button>Cancel</Button>
                        <Button kind="primary" type="submit">
                            Send
                        </Button>
                    </>
                }
            >
                <div class="grid">
                    <TextField
                        label="Name"
                        required
                        value={text.value}
                        onInput={(value) => (text.value = value)}
                        hint="Small letters, digits and hyphens."
                    />
                    <TextField
                        label="With an error"
                        required
                        value="Web 1"
                        onInput={() => undefined}
                        error="Small letters, digits and hyphens only."
                    />
                    <TextField label="Disabled" value="as it is" onInput={() => undefined} disabled />
                    <NumberField
                        label="Replicas"
                        value={count.value}
                        onInput={(value) => (count.value = value)}
                        min={1}
                        max={9}
                        suffix="containers"
                    />
                    <SelectField
                        label="Server"
                        value="a"
                        onChange={() => undefined}
                        options={[
                            { value: "a", label: "web-1" },
                            { value: "b", label: "web-2" },
                        ]}
                    />
                    <TextField label="Empty" value="" onInput={() => undefined} placeholder="ghcr.io/you/app:1.2" mono />
                </div>
                <TextArea label="Environment" value={"A=1\nB=2"} onInput={() => undefined} mono hint="One NAME=value per line." />
                <div class="grid">
                    <Choices
                        label="Scope"
                        value={choice.value}
                        onChange={(value) => (choice.value = value)}
                        options={[
                            { value: "read", label: "Read", note: "Sees everything, changes nothing" },
                            { value: "write", label: "Write", note: "Also deploys" },
                        ]}
                    />
                    <div class="stack">
                        <Toggle
                            label="Follow"
                            checked={on.value}
                            onChange={(value) => (on.value = value)}
                            hint="Takes effect at once."
                        />
                        <Checkbox
                            label="Also its volumes"
                            checked={!on.value}
                            onChange={(value) => (on.value = !value)}
                            hint="What is in them is lost."
                        />
                    </div>
                </div>
            </Form>
            <CopyField
                label="Install command"
                text="curl -fsSk https://cp.example:7440/install | sudo sh -s -- --token 8f2c…"
                hint="Paste it on the server. It works once."
            />
            <CopyField label="Secret" text="davit_5c1f_not-a-secret" secret />
        </Section>
    );
}

function Over() {
    const open = useSignal<"" | "dialog" | "confirm" | "name">("");
    const close = () => (open.value = "");
    return (
        <Section title="Over the page">
            <Row>
                <Button onClick={() => (open.value = "dialog")}>Dialog</Button>
                <Button onClick={() => (open.value = "confirm")}>Confirm</Button>
                <Button kind="danger" onClick={() => (open.value = "name")}>
                    Confirm by name
                </Button>
                <Button onClick={() => toast({ tone: "ok", title: "web was stopped" })}>Toast</Button>
                <Button
                    onClick={() =>
                        toast({ tone: "bad", title: "web was not stopped", text: `${PROBLEM.message}. ${PROBLEM.hint}` })
                    }
                >
                    Toast that stays
                </Button>
            </Row>
            <Dialog
                title="A dialog"
                open={open.value === "dialog"}
                onClose={close}
                footer={
                    <Button kind="primary" onClick={close}>
                        Done
                    </Button>
                }
            >
                <TextField label="Name" value="" onInput={() => undefined} required autoFocus />
            </Dialog>
            <Confirm
                title="Stop web?"
                open={open.value === "confirm"}
                action="Stop"
                onConfirm={close}
                onClose={close}
                error={PROBLEM}
            >
                It answers nobody until it is started.
            </Confirm>
            <Confirm
                title="Remove web?"
                open={open.value === "name"}
                action="Remove"
                name="shop/web"
                onConfirm={close}
                onClose={close}
            >
                Its container and its records go. Volumes stay.
            </Confirm>
        </Section>
    );
}

function States() {
    return (
        <div class="grid-wide">
            <Section title="Nothing yet">
                <Empty
                    icon="server"
                    title="No server yet"
                    actions={
                        <Button kind="primary" icon="plus">
                            Add a server
                        </Button>
                    }
                >
                    A server is any machine with Docker. It dials out: nothing needs to be opened.
                </Empty>
            </Section>
            <Section title="Failures and notices">
                <ErrorBox
                    problem={PROBLEM}
                    title="The service was not started"
                    retry={() => toast({ tone: "info", title: "Tried again" })}
                />
                <ErrorBox problem={{ code: "internal", message: HOSTILE, hint: "" }} />
                <Notice tone="warn" title="Shown this once">
                    Davit keeps only its hash.
                </Notice>
                <Notice>To know, nothing to do.</Notice>
                <Notice tone="ok" title="Connected">
                    The server answers.
                </Notice>
            </Section>
            <Card flush title="Not yet known">
                <SkeletonTable rows={3} />
            </Card>
            <Section title="Skeletons">
                <Skeleton width="40%" height="1.75rem" />
                <Skeleton width="70%" />
                <Skeleton height="6rem" />
            </Section>
        </div>
    );
}

function Work() {
    return (
        <div class="grid-wide">
            <Section title="Steps">
                <Steps
                    steps={[
                        {
                            id: "pull",
                            title: "Pull the image",
                            state: "done",
                            message: "nginx:1.27, 62.1 MB",
                            atUs: NOW() - 42_000_000n,
                        },
                        { id: "create", title: "Create the container", state: "done", atUs: NOW() - 12_000_000n },
                        {
                            id: "health",
                            title: "Wait until it is healthy",
                            state: "running",
                            percent: 60,
                            message: "GET /health answered 503, try 3 of 5",
                        },
                        { id: "retire", title: "Retire the old one", state: "waiting" },
                    ]}
                />
            </Section>
            <Section title="Steps that failed">
                <Steps
                    steps={[
                        { id: "pull", title: "Pull the image", state: "done" },
                        {
                            id: "health",
                            title: "Wait until it is healthy",
                            state: "failed",
                            message: "connection refused on port 8080",
                        },
                        {
                            id: "back",
                            title: "Create the container",
                            state: "undone",
                            message: "removed again; the old one goes on serving",
                        },
                    ]}
                />
                <Progress label="Known" value={0.4} />
                <Progress label="Unknown" />
            </Section>
        </div>
    );
}

function Measures() {
    const wave = Array.from({ length: 40 }, (_, i) => 40 + 30 * Math.sin(i / 4) + ((i * 7) % 9));
    return (
        <Section title="Numbers">
            <div class="grid-stats">
                <Stat label="Servers" value="12" unit="online" note="1 offline, 2 pending" tone="ok" href="/servers" />
                <Stat label="Services" value="84" note="3 want a look" tone="warn" />
                <Stat label="Deployments" value="2" unit="failed" note="in the last hour" tone="bad" />
                <Stat label="Loading" value={<Skeleton width="3rem" height="1.5rem" />} />
            </div>
            <div class="grid-stats">
                <Gauge label="Memory" value={0.42} text="1.7 GB of 4 GB" />
                <Gauge label="Disk" value={0.81} text="81 of 100 GB" />
                <Gauge label="CPU" value={0.97} text="3.9 of 4 cores" />
                <Gauge label="Unknown" value={undefined} text="–" />
            </div>
            <Row>
                <Ring label="CPU" value={0.23} text="0.9 of 4 cores" />
                <Ring label="Memory" value={0.78} text="6.2 of 8 GB" />
                <Ring label="Disk" value={0.95} text="475 of 500 GB" />
                <Ring label="Unknown" value={undefined} text="no answer" />
                <Sparkline values={wave} label="CPU of the last minutes" />
                <Sparkline values={wave.map((one) => 100 - one)} label="Errors" tone="bad" />
                <Sparkline values={[]} label="Nothing yet" />
            </Row>
            <KeyValues
                items={[
                    { label: "Operating system", value: "Debian GNU/Linux 12 (bookworm)" },
                    { label: "Kernel", value: "6.1.0-28-amd64" },
                    { label: "Address", value: <span class="mono">192.0.2.17</span> },
                    { label: "Hostile", value: HOSTILE },
                ]}
            />
        </Section>
    );
}

export function UiPage() {
    const tab = useSignal("still");
    return (
        <Page
            title="Parts"
            crumbs={[{ title: "Davit", href: "/" }]}
            state={<Badge tone="info">all states</Badge>}
            subtitle="What every page is put together from."
            actions={<Button icon="copy">An action</Button>}
        >
            <Tabs
                label="Parts"
                current={tab.value}
                onChange={(id) => (tab.value = id)}
                tabs={[
                    { id: "still", title: "Still" },
                    { id: "live", title: "Live" },
                    { id: "table", title: "Table", count: 10000 },
                ]}
            >
                {tab.value === "still" && (
                    <div class="stack">
                        <Colours />
                        <Text />
                        <Buttons />
                        <Forms />
                        <Over />
                        <States />
                        <Work />
                        <Measures />
                    </div>
                )}
                {tab.value !== "still" && <UiLive table={tab.value === "table"} />}
            </Tabs>
        </Page>
    );
}
