/* SPDX-License-Identifier: Apache-2.0 */
/* terminal: a shell in a container. Fetched when it is asked for: the emulator is half of all that the dashboard loads. */
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { execute, type Process } from "../api/exec";
import type { Problem } from "../api/client";
import { parseCommand } from "../api/spec";
import { theme } from "../shell/theme";
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
    container: Container;
    command: string[];
    user: string;
}

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
        const process: Process = execute(
            {
                target: { server: run.container.serverId, container: run.container.id },
                command: run.command,
                user: run.user,
                tty: true,
                stdin: true,
                env: [{ name: "TERM", value: "xterm-256color" }],
                rows: terminal.rows,
                columns: terminal.cols,
            },
            { started: () => terminal.focus(), output: (bytes) => terminal.write(bytes), ended: onEnd },
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
    return <div class="terminal" ref={place} aria-label={`Terminal in ${inert(run.container.name)}`} role="group" />;
}

export function TerminalView({ containers }: { containers: Container[] }) {
    const running = containers.filter((c) => c.state === "running").sort((a, b) => a.name.localeCompare(b.name));
    const which = useSignal("");
    const fault = useSignal<string | undefined>(undefined);
    const command = useSignal("sh");
    const user = useSignal("");
    const run = useSignal<Run | undefined>(undefined);
    const ended = useSignal<{ code: number | undefined; problem: Problem | undefined } | undefined>(undefined);
    const chosen = running.find((c) => c.id === which.value) ?? running[0];
    if (!chosen && !run.value)
        return (
            <Empty icon="terminal" title="No container runs">
                A shell needs one that does. Start the service first.
            </Empty>
        );
    const begin = () => {
        const words = parseCommand(command.value);
        fault.value = words === undefined ? "A quote is not closed." : words.length === 0 ? "A command is missing." : undefined;
        if (!chosen || !words?.length) return;
        ended.value = undefined;
        run.value = { id: (run.value?.id ?? 0) + 1, container: chosen, command: words, user: user.value.trim() };
    };
    const live = run.value !== undefined && ended.value === undefined;
    return (
        <Card
            title="Terminal"
            note={run.value && `${inert(run.value.container.name)}${live ? ", Shift+F6 leaves it" : ""}`}
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
                    {running.length > 1 && (
                        <SelectField
                            label="Container"
                            required
                            value={chosen?.id ?? ""}
                            onChange={(id) => (which.value = id)}
                            options={running.map((c) => ({ value: c.id, label: inert(c.name) }))}
                        />
                    )}
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
                    <Button kind="primary" type="submit" icon="play" disabled={!chosen}>
                        Open
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
