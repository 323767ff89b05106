// SPDX-License-Identifier: Apache-2.0
// Values over time, live. uPlot draws; it is fetched when the first plot is shown. Colours follow the theme.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { bytes, rate, spanOf } from "../api/format";
import { theme } from "../shell/theme";

export interface PlotSeries {
    label: string;
    /** 0 to 5: which of the six colours. */
    hue?: number;
}

export type PlotUnit = "percent" | "bytes" | "rate" | "count";
/** Seconds since 1970, then one list for each series; null where nothing is known. */
export type PlotData = [xs: number[], ...ys: (number | null)[][]];

export interface PlotProps {
    label: string;
    series: PlotSeries[];
    data: PlotData;
    unit: PlotUnit;
    height?: number;
    /** The top of the axis at least: 100 for per cent. */
    max?: number | undefined;
}

const SAY: Record<PlotUnit, (value: number) => string> = {
    percent: (value) => `${value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)} %`,
    bytes,
    rate,
    count: (value) => value.toLocaleString("en-US"),
};

const pad = (n: number) => String(n).padStart(2, "0");

function clock(seconds: number, fine: boolean): string {
    const at = new Date(seconds * 1000);
    return `${pad(at.getHours())}:${pad(at.getMinutes())}${fine ? `:${pad(at.getSeconds())}` : ""}`;
}

/** The top of an axis that people find even; bytes are counted in 1024s. */
function top(max: number, unit: PlotUnit): number {
    // Below this all is nothing, and an axis of fractions of a byte says less than none.
    const least = unit === "bytes" || unit === "rate" ? 1024 : 1;
    if (max <= least) return least;
    const base = unit === "bytes" || unit === "rate" ? 1024 ** Math.max(0, Math.floor(Math.log(max) / Math.log(1024))) : 1;
    const scaled = max / base;
    const power = 10 ** Math.floor(Math.log10(scaled));
    const step = [1, 2, 4, 5, 8, 10].find((one) => one * power >= scaled * 1.02) ?? 10;
    return step * power * base;
}

function options(props: PlotProps, width: number): uPlot.Options {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const say = SAY[props.unit];
    const axis = { stroke: colour("--ink-3"), font: `11px ${colour("--font")}`, ticks: { show: false } };
    return {
        width,
        height: props.height ?? 180,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
        scales: {
            x: { time: true, range: (u) => spanOf(u.data[0] as number[]) },
            y: { range: (_, __, max) => [0, props.max !== undefined && (max ?? 0) <= props.max ? props.max : top(max ?? 0, props.unit)] },
        },
        axes: [
            {
                ...axis,
                grid: { show: false },
                space: 72,
                size: 26,
                values: (_, splits, __, ___, step) => splits.map((at) => clock(at, step < 60)),
            },
            {
                ...axis,
                size: 64,
                space: 36,
                grid: { stroke: colour("--line"), width: 1 },
                splits: (_, __, min, max) => [min, max / 4, max / 2, (max * 3) / 4, max],
                values: (_, values) => values.map((value) => say(value)),
            },
        ],
        series: [
            {},
            ...props.series.map((one, i) => {
                const ink = colour(`--hue-${(one.hue ?? i) % 6}`);
                return {
                    label: one.label,
                    stroke: ink,
                    width: 1.5,
                    fill: props.series.length === 1 ? `${ink}1f` : undefined,
                    points: { show: false },
                } as uPlot.Series;
            }),
        ],
    };
}

export function Plot(props: PlotProps) {
    const { label, series, data, unit, height = 180 } = props;
    const box = useRef<HTMLDivElement>(null);
    const plot = useRef<uPlot | undefined>(undefined);
    const cursor = useSignal<number | null>(null);
    const latest = useRef(props);
    latest.current = props;

    useEffect(() => {
        let gone = false;
        let watch: ResizeObserver | undefined;
        const element = box.current!;
        const fetched = import("uplot");
        // Where it cannot be fetched the numbers in words are what there is.
        fetched.catch(() => undefined);
        void fetched.then(({ default: UPlot }) => {
            if (gone) return;
            const hooks = { setCursor: [(u: uPlot) => (cursor.value = u.cursor.idx ?? null)] };
            const made = new UPlot(
                { ...options(latest.current, element.clientWidth || 320), hooks },
                latest.current.data as uPlot.AlignedData,
                element,
            );
            plot.current = made;
            watch = new ResizeObserver(
                () =>
                    element.clientWidth > 0 && made.setSize({ width: element.clientWidth, height: latest.current.height ?? 180 }),
            );
            watch.observe(element);
        });
        return () => {
            gone = true;
            watch?.disconnect();
            plot.current?.destroy();
            plot.current = undefined;
        };
        // Colours are drawn into the canvas: another theme is another plot.
    }, [theme.value, unit, series.map((one) => one.label).join("\n")]);

    useEffect(() => plot.current?.setData(data as uPlot.AlignedData), [data]);

    const at = cursor.value ?? data[0].length - 1;
    const say = SAY[unit];
    const told = series.map((one, i) => {
        const value = data[i + 1]?.[at];
        return { ...one, hue: (one.hue ?? i) % 6, text: value === null || value === undefined ? "–" : say(value) };
    });
    return (
        <figure class="plot">
            <figcaption class="plot-head">
                <span class="plot-title clip">{label}</span>
                <span class="plot-legend">
                    {told.map((one) => (
                        <span class="plot-key" key={one.label}>
                            <span class="plot-hue" style={{ background: `var(--hue-${one.hue})` }} />
                            {series.length > 1 && <span class="plot-name clip">{one.label}</span>}
                            <span class="plot-value">{one.text}</span>
                        </span>
                    ))}
                </span>
            </figcaption>
            <div
                class="plot-box"
                ref={box}
                style={{ height: `${height}px` }}
                role="img"
                aria-label={`${label}: ${told.map((one) => `${one.label} ${one.text}`).join(", ")}`}
            />
        </figure>
    );
}
