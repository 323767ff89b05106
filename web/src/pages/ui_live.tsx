// SPDX-License-Identifier: Apache-2.0
// The parts that move, and the table of 10,000 rows, on /ui.
import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

import { bytes } from "../api/format";
import { Badge, Button, Card, LogBuffer, LogView, Plot, Table, TONES, type Column, type LogLine, type PlotData } from "../parts";

interface Thing {
    id: string;
    name: string;
    tone: (typeof TONES)[number];
    address: string;
    memory: number;
}

const THINGS: Thing[] = Array.from({ length: 10_000 }, (_, i) => ({
    id: String(i),
    name: i % 997 === 5 ? `<b onclick="alert(1)">thing-${i}</b>` : `thing-${i}`,
    tone: TONES[(i * 7) % 6]!,
    address: `10.0.${i >> 8}.${i & 255}`,
    memory: ((i * 7919) % 1009) * 1_048_576,
}));
const COLUMNS: Column<Thing>[] = [
    {
        id: "name",
        title: "Name",
        text: (row) => row.name,
        sort: (row) => row.name,
        render: (row) => <span class="clip">{row.name}</span>,
    },
    {
        id: "state",
        title: "State",
        width: "9rem",
        text: (row) => row.tone,
        sort: (row) => row.tone,
        render: (row) => <Badge tone={row.tone}>{row.tone}</Badge>,
    },
    {
        id: "address",
        title: "Address",
        width: "11rem",
        text: (row) => row.address,
        sort: (row) => row.address,
        render: (row) => <span class="mono">{row.address}</span>,
    },
    { id: "memory", title: "Memory", width: "8rem", align: "end", sort: (row) => row.memory, render: (row) => bytes(row.memory) },
];

const HOSTILE = [
    "\u001b[31mred\u001b[0m and \u001b]0;title\u0007 nothing more",
    "<script>alert(1)</script> <img src=x onerror=alert(1)>",
    "turned \u202e around \u202c, bell \u0007, nothing \u0000, escape \u001b",
];

function line(i: number): LogLine {
    const text =
        i % 17 === 3
            ? HOSTILE[(i / 17) % 3 | 0]!
            : `${i % 5 === 0 ? "POST" : "GET"} /things/${(i * 7919) % 1000} ${i % 23 === 0 ? 500 : 200} ${(i * 31) % 90} ms`;
    return { text, stream: i % 23 === 0 ? "err" : i % 97 === 0 ? "notice" : "out", atNs: BigInt(Date.now()) * 1_000_000n };
}

function sample(count: number, from: number): PlotData {
    const xs = Array.from({ length: count }, (_, i) => from + i * 2);
    return [xs, xs.map((x) => 40 + 25 * Math.sin(x / 17) + (x % 7)), xs.map((x) => 20 + 15 * Math.cos(x / 29))];
}

function Moving() {
    const buffer = useMemo(() => new LogBuffer(5000), []);
    const data = useSignal(sample(120, Math.floor(Date.now() / 1000) - 240));
    const fast = useSignal(false);
    useEffect(() => {
        let i = 0;
        const more = (n: number) => buffer.push(Array.from({ length: n }, () => line(i++)));
        more(400);
        const timer = setInterval(() => {
            more(fast.value ? 500 : 1);
            data.value = sample(120, Math.floor(Date.now() / 1000) - 240);
        }, 1000);
        return () => clearInterval(timer);
    }, []);
    const [xs, one, two] = data.value as [number[], number[], number[]];
    return (
        <div class="stack">
            <Card title="Plots">
                <div class="grid-wide">
                    <Plot label="CPU" unit="percent" max={100} series={[{ label: "CPU" }]} data={[xs, one]} />
                    <Plot
                        label="Network"
                        unit="rate"
                        series={[
                            { label: "received", hue: 0 },
                            { label: "sent", hue: 1 },
                        ]}
                        data={[xs, one.map((y) => y * 40_000), two.map((y) => y * 30_000)]}
                    />
                </div>
            </Card>
            <Card
                flush
                title="A log"
                actions={
                    <Button size="small" aria-pressed={fast.value} onClick={() => (fast.value = !fast.value)}>
                        500 lines a second
                    </Button>
                }
            >
                <LogView label="Log of thing" buffer={buffer} height="24rem" />
            </Card>
        </div>
    );
}

export function UiLive({ table }: { table: boolean }) {
    if (!table) return <Moving />;
    return (
        <Card flush title="10,000 rows">
            <Table
                label="Things"
                rows={THINGS}
                columns={COLUMNS}
                rowKey={(row) => row.id}
                rowHref={(row) => `/ui?thing=${row.id}`}
                filter
                initialSort={{ id: "name" }}
            />
        </Card>
    );
}
