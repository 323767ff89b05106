/* SPDX-License-Identifier: Apache-2.0 */
/* usage: what a host or containers use, as plots of the last minutes that go on by themselves. */
import { useMemo } from "preact/hooks";

import type { UsageSeries } from "../api/topics";
import type { UsageRow } from "../gen/davit/control/v1/workloads_pb";
import { inert, Plot, type PlotData, type PlotSeries, type PlotUnit } from "../parts";

type Read = (r: UsageRow) => number;
const SERIES_MAX = 6;

/** Nobody watched for longer than this: the line has a gap. */
const GAP_S = 20;

/* Samples of several containers come at times of their own. Each time is a point; where a line has no sample of its own there, its last one
 * counts, until it is too old. */
function dataOf(series: UsageSeries[], reads: Read[]): PlotData {
    const at = (r: UsageRow) => Number(r.usage?.atUs ?? 0n) / 1e6;
    const own = series.flatMap((s) => s.samples.map(at));
    const ends = series.flatMap((s) =>
        s.samples.filter((r, i) => at(s.samples[i + 1] ?? r) - at(r) > GAP_S).map((r) => at(r) + GAP_S + 1),
    );
    const xs = [...new Set([...own, ...ends])].sort((a, b) => a - b);
    const lines = series.flatMap((s) =>
        reads.map((read) => {
            let next = 0;
            return xs.map((x) => {
                while (next < s.samples.length && at(s.samples[next]!) <= x) next++;
                const last = s.samples[next - 1];
                return last && x - at(last) <= GAP_S ? read(last) : null;
            });
        }),
    );
    return [xs, ...lines];
}

interface Chart {
    label: string;
    unit: PlotUnit;
    max?: number | undefined;
    lines: { label: string; read: Read }[];
}

function UsagePlot({ chart, series }: { chart: Chart; series: UsageSeries[] }) {
    const data = useMemo(
        () =>
            dataOf(
                series,
                chart.lines.map((l) => l.read),
            ),
        [series],
    );
    const named = series.length > 1;
    const shown: PlotSeries[] = series.flatMap((s, i) =>
        chart.lines.map((l, k) => ({
            label: [named && inert(s.row.containerName || s.row.serverName), (chart.lines.length > 1 || !named) && l.label]
                .filter(Boolean)
                .join(" "),
            hue: i * chart.lines.length + k,
        })),
    );
    return <Plot label={chart.label} unit={chart.unit} max={chart.max} series={shown} data={data} />;
}

const network: Chart = {
    label: "Network",
    unit: "rate",
    lines: [
        { label: "in", read: (r) => Number(r.netRxRate) },
        { label: "out", read: (r) => Number(r.netTxRate) },
    ],
};
const disk: Chart = {
    label: "Disk",
    unit: "rate",
    lines: [
        { label: "read", read: (r) => Number(r.diskReadRate) },
        { label: "write", read: (r) => Number(r.diskWriteRate) },
    ],
};
const memory: Chart = {
    label: "Memory",
    unit: "bytes",
    lines: [{ label: "used", read: (r) => Number(r.usage?.memoryBytes ?? 0n) }],
};

/** @cpus: 100 % is the whole machine of so many; without it 100 % is one core. */
export function UsagePlots({ series, cpus }: { series: UsageSeries[]; cpus?: number | undefined }) {
    const cpu: Chart = {
        label: cpus ? "CPU (of the machine)" : "CPU (100 % is one core)",
        unit: "percent",
        max: cpus ? 100 : undefined,
        lines: [{ label: "used", read: (r) => (r.usage?.cpuMilli ?? 0) / 10 / (cpus || 1) }],
    };
    const shown = series.slice(0, SERIES_MAX);
    return (
        <div class="plots">
            {[cpu, memory, network, disk].map((chart) => (
                <UsagePlot key={chart.label} chart={chart} series={shown} />
            ))}
            {series.length > shown.length && (
                <p class="quiet">
                    The first {shown.length} of {series.length} are shown.
                </p>
            )}
        </div>
    );
}
