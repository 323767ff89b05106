/* SPDX-License-Identifier: Apache-2.0 */
/* terminal: a shell in a container, and the main program of a sandbox. Fetched when it is asked for: the emulator is half of all that the
 * dashboard loads. */
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { attach, execute, type ExecHandler, type Process, type Size } from "../api/exec";
import type { Problem } from "../api/client";
import { parseCommand } from "../api/spec";
import { theme } from "../shell/theme";
import type { Sandbox } from "../gen/davit/common/v1/sandbox_pb";
import type { Container } from "../gen/davit/common/v1/service_pb";
import { Button, Card, Empty, ErrorBox, inert, Notice, SelectField, TextField } from "../parts";

/* Our policy lets no page add a <style> with text in it; a sheet that is made by script is allowed. The emulator makes its own while it opens, so
 * what it takes for a <style> copies its text into such a sheet. */
function openWithSheets(terminal: Terminal, into: HTMLElement): () => void {
    const sheets: CSSStyleSheet[] = [];
    const observers: MutationObserver[] = [];
    const real = document.createElement.bind(document);
    const make = ((name: string, options?: ElementCreationOptions) => {
        if (name !== "style") return real(name, options);
        const stand = real("template");
        const sheet = new CSSStyleSheet();
        sheets.push(sheet);
        document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
        const observer = new MutationObserver(() => sheet.replaceSync(stand.textContent ?? ""));
        observer.observe(stand, { childList: true, characterData: true, subtree: true });
        observers.push(observer);
        return stand;
    }) as typeof document.createElement;
    document.createElement = make;
    try {
        terminal.open(into);
    } finally {
        Reflect.deleteProperty(document, "createElement");
    }
    return () => {
        for (const o of observers) o.disconnect();
        document.adoptedStyleSheets = document.adoptedStyleSheets.filter((s) => !sheets.includes(s));
    };
}

function colours(): { background: string; foreground: string; cursor: string; selectionBackground: string } {
    const style = getComputedStyle(document.documentElement);
    const of = (name: string) => style.getPropertyValue(name).trim();
    return {
        background: of("--sunken"),
        foreground: of("--ink"),
        cursor: of("--ink"),
        selectionBackground: of("--selected"),
    };
}

interface Run {
    id: number;
    name: string;
    begin: (size: Size, handler: ExecHandler) => Process;
}

/* @command in a container, on a terminal. */
const shellIn =
    (target: { server: string; container: string }, command: string[], user: string) => (size: Size, handler: ExecHandler) =>
        execute(
            { target, command, user, tty: true, stdin: true, env: [{ name: "TERM", value: "xterm-256color" }], ...size },
            handler,
        );

function Screen({ run, onEnd }: { run: Run; onEnd: (code: number | undefined, problem: Problem | undefined) => void }) {
    const place = useRef<HTMLDivElement>(null);
    const shown = useRef<Terminal | undefined>(undefined);
    useEffect(() => {
        const terminal = new Terminal({
            fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono") || "monospace",
            fontSize: 13,
            theme: colours(),
            scrollback: 5000,
            allowProposedApi: false,
            /* Links are the text of others: none of them leads anywhere. */
            linkHandler: { activate: () => undefined },
        });
        const fit = new FitAddon();
        terminal.loadAddon(fit);
        const close = openWithSheets(terminal, place.current!);
        shown.current = terminal;
        /* It takes all keys, Tab as well; whoever has no mouse leaves it by this one. */
        terminal.attachCustomKeyEventHandler((event) => {
            if (event.key !== "F6" || !event.shiftKey) return true;
            if (event.type === "keydown") {
                event.preventDefault();
                place.current?.closest("section")?.querySelector<HTMLElement>("header button")?.focus();
            }
            return false;
        });
        fit.fit();
        const process = run.begin(
            { rows: terminal.rows, columns: terminal.cols },
            {
                started: (isTerminal) => {
                    terminal.options.convertEol = !isTerminal;
                    terminal.focus();
                },
                output: (bytes) => terminal.write(bytes),
                ended: onEnd,
            },
        );
        const text = new TextEncoder();
        terminal.onData((data) => process.input(text.encode(data)));
        terminal.onBinary((data) => process.input(Uint8Array.from(data, (c) => c.charCodeAt(0))));
        terminal.onResize(({ rows, cols }) => process.resize(rows, cols));
        const resized = new ResizeObserver(() => place.current?.clientWidth && fit.fit());
        resized.observe(place.current!);
        return () => {
            resized.disconnect();
            process.close();
            shown.current = undefined;
            terminal.dispose();
            close();
        };
    }, []);
    const dark = theme.value;
    useEffect(() => {
        if (shown.current) shown.current.options.theme = colours();
    }, [dark]);
    return <div class="terminal" ref={place} aria-label={`Terminal in ${inert(run.name)}`} role="group" />;
}

interface ViewProps {
    /** What is to be shown, when it is asked for; undefined: the form says what is wrong. */
    make: () => Omit<Run, "id"> | undefined;
    /** Without it nothing can be opened now. */
    can: boolean;
    action: string;
    /** The fields of the form. */
    children: ComponentChildren;
}

/** The form that opens a terminal, then the terminal, then how it ended. */
function View({ make, can, action, children }: ViewProps) {
    const run = useSignal<Run | undefined>(undefined);
    const ended = useSignal<{ code: number | undefined; problem: Problem | undefined } | undefined>(undefined);
    const begin = () => {
        const next = can ? make() : undefined;
        if (!next) return;
        ended.value = undefined;
        run.value = { id: (run.value?.id ?? 0) + 1, ...next };
    };
    const live = run.value !== undefined && ended.value === undefined;
    return (
        <Card
            title="Terminal"
            note={run.value && `${inert(run.value.name)}${live ? ", Shift+F6 leaves it" : ""}`}
            actions={
                live && (
                    <Button size="small" icon="close" onClick={() => (run.value = undefined)}>
                        Close
                    </Button>
                )
            }
        >
            {!live && (
                <form
                    class="terminal-form"
                    onSubmit={(event) => {
                        event.preventDefault();
                        begin();
                    }}
                >
                    {children}
                    <Button kind="primary" type="submit" icon="play" disabled={!can}>
                        {action}
                    </Button>
                </form>
            )}
            {ended.value?.problem && <ErrorBox problem={ended.value.problem} />}
            {ended.value && !ended.value.problem && ended.value.code !== undefined && (
                <Notice
                    tone={ended.value.code === 0 ? "neutral" : "warn"}
                    title={`It ended with exit code ${ended.value.code}`}
                />
            )}
            {run.value && (
                <Screen key={run.value.id} run={run.value} onEnd={(code, problem) => (ended.value = { code, problem })} />
            )}
        </Card>
    );
}

/** The fields of a command and who runs it, and the words of it once they are good. */
function useCommand() {
    const command = useSignal("sh");
    const user = useSignal("");
    const fault = useSignal<string | undefined>(undefined);
    return {
        read: () => {
            const words = parseCommand(command.value);
            fault.value = words === undefined ? "A quote is not closed." : words.length === 0 ? "A command is missing." : undefined;
            return words?.length ? { words, user: user.value.trim() } : undefined;
        },
        fields: (
            <>
                <TextField
                    label="Command"
                    required
                    value={command.value}
                    onInput={(v) => (command.value = v)}
                    error={fault.value}
                    mono
                    list={["sh", "bash", "psql -U postgres", "redis-cli"]}
                />
                <TextField label="User" value={user.value} onInput={(v) => (user.value = v)} mono placeholder="as the image says" />
            </>
        ),
    };
}

export function TerminalView({ containers }: { containers: Container[] }) {
    const running = containers.filter((c) => c.state === "running").sort((a, b) => a.name.localeCompare(b.name));
    const which = useSignal("");
    const opened = useRef(false);
    const command = useCommand();
    const chosen = running.find((c) => c.id === which.value) ?? running[0];
    if (!chosen && !opened.current)
        return (
            <Empty icon="terminal" title="No container runs">
                A shell needs one that does. Start the service first.
            </Empty>
        );
    const make = () => {
        const what = command.read();
        if (!chosen || !what) return undefined;
        opened.current = true;
        const target = { server: chosen.serverId, container: chosen.id };
        return { name: chosen.name, begin: shellIn(target, what.words, what.user) };
    };
    return (
        <View make={make} can={chosen !== undefined} action="Open">
            {running.length > 1 && (
                <SelectField
                    label="Container"
                    required
                    value={chosen?.id ?? ""}
                    onChange={(id) => (which.value = id)}
                    options={running.map((c) => ({ value: c.id, label: inert(c.name) }))}
                />
            )}
            {command.fields}
        </View>
    );
}

/** The main program of a sandbox, or another command beside it. */
export function SandboxTerminal({ sandbox, running }: { sandbox: Sandbox; running: boolean }) {
    const what = useSignal("program");
    const opened = useRef(false);
    const command = useCommand();
    const program = what.value === "program";
    if (!running && !opened.current)
        return (
            <Empty icon="terminal" title="Its program does not run">
                What it wrote stands in the log. Start the sandbox to have its terminal.
            </Empty>
        );
    const make = () => {
        const other = program ? undefined : command.read();
        if (!program && !other) return undefined;
        opened.current = true;
        if (!other) return { name: `${sandbox.name}, its program`, begin: (size: Size, h: ExecHandler) => attach(sandbox.id, size, h) };
        const target = { server: sandbox.serverId, container: sandbox.containerId };
        return { name: sandbox.name, begin: shellIn(target, other.words, other.user) };
    };
    return (
        <View make={make} can={running} action={program ? "Attach" : "Open"}>
            <SelectField
                label="Terminal of"
                required
                value={what.value}
                onChange={(v) => (what.value = v)}
                options={[
                    { value: "program", label: "its program" },
                    { value: "command", label: "another command" },
                ]}
                hint={program ? "Closing it lets go of the program, which goes on." : "It ends when you close it."}
            />
            {!program && command.fields}
        </View>
    );
}
