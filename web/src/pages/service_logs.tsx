/* SPDX-License-Identifier: Apache-2.0 */
/* service_logs: the log of a service or a sandbox as it is written, through restarts and redeployments. */
import { useEffect, useMemo, useRef } from "preact/hooks";

import { logsTopic } from "../api/topics";
import { useWatch } from "../api/watch";
import { isStderr } from "../api/words";
import type { LogEntry } from "../gen/davit/common/v1/service_pb";
import type { LogsResponse } from "../gen/davit/control/v1/workloads_pb";
import { Button, ErrorBox, LogBuffer, LogView, type LogLine } from "../parts";

const TAIL = 1000;
/** Pieces of one line are put together up to this; a program that never ends its line gets one of its own then. */
const JOINED_MAX = 16 * 1024;

/* Entries -> lines. A piece whose line goes on waits for the rest; each output has a line of its own. */
class Lines {
    private text = new TextDecoder();
    private open: [string, string] = ["", ""];

    of(e: LogEntry): LogLine | undefined {
        const at = isStderr(e.stream) ? 1 : 0;
        const text = this.open[at] + this.text.decode(e.line);
        if (e.partial && text.length < JOINED_MAX) {
            this.open[at] = text;
            return undefined;
        }
        this.open[at] = "";
        return { text, stream: at ? "err" : "out", atNs: e.atNs };
    }
}

function take(r: LogsResponse, lines: Lines, buffer: LogBuffer): void {
    const list = r.entries.map((e) => lines.of(e)).filter((l) => l !== undefined) as LogLine[];
    if (r.lost) list.push({ text: `${r.lost} lines were lost on the way`, stream: "notice" });
    if (r.notice) list.push({ text: r.notice, stream: "notice" });
    buffer.push(list);
}

interface LogsProps {
    of: { project: string; service: string } | { sandboxId: string };
    name: string;
    /** Of what is downloaded. */
    fileName: string;
    height?: string;
}

function Logs({ of, name, fileName, height }: LogsProps) {
    const buffer = useRef<LogBuffer>();
    buffer.current ??= new LogBuffer();
    const lines = useRef(new Lines());
    const topic = useMemo(
        () => logsTopic(of, TAIL, (r) => take(r, lines.current, buffer.current!)),
        Object.values(of),
    );
    const use = useWatch(topic);
    const wasStale = useRef(false);
    useEffect(() => {
        if (wasStale.current && !use.stale) buffer.current!.push([{ text: "connected again", stream: "notice" }]);
        if (use.stale && use.model) wasStale.current = true;
        else wasStale.current = false;
    }, [use.stale]);
    return (
        <>
            {use.state === "failed" && use.problem && <ErrorBox problem={use.problem} retry={use.retry} />}
            <LogView
                label={`Log of ${name}`}
                buffer={buffer.current}
                fileName={fileName}
                {...(height ? { height } : {})}
                empty={use.state === "loading" ? "Reading the log…" : "Nothing was written yet. Lines show up here as they are."}
                toolbar={
                    <Button size="small" kind="quiet" icon="trash" onClick={() => buffer.current!.clear()}>
                        Clear
                    </Button>
                }
            />
        </>
    );
}

export function ServiceLogs({ project, name, height }: { project: string; name: string; height?: string }) {
    const more = height ? { height } : {};
    return <Logs of={{ project, service: name }} name={name} fileName={`${project}-${name}.log`} {...more} />;
}

export function SandboxLogs({ id, name }: { id: string; name: string }) {
    return <Logs of={{ sandboxId: id }} name={name} fileName={`${name}.log`} />;
}
