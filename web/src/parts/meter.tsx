// SPDX-License-Identifier: Apache-2.0
// How much of something: a bar, a ring, a line of the last values, a progress.
import type { Tone } from "./tone";

export interface GaugeProps {
    label: string;
    /** 0 to 1; not known: an empty bar. */
    value: number | undefined;
    /** What the bar says in words: "1.2 GB of 4 GB". */
    text: string;
    /** Without it: warn from 75 %, bad from 90 %. */
    tone?: Tone | undefined;
}

export function gaugeTone(value: number | undefined): Tone {
    if (value === undefined || Number.isNaN(value)) return "neutral";
    return value >= 0.9 ? "bad" : value >= 0.75 ? "warn" : "info";
}

function meter({ label, value, text }: GaugeProps) {
    const share = Math.min(1, Math.max(0, value !== undefined && Number.isFinite(value) ? value : 0));
    return {
        share,
        aria: {
            role: "meter" as const,
            "aria-label": label,
            "aria-valuemin": 0,
            "aria-valuemax": 100,
            "aria-valuenow": Math.round(share * 100),
            "aria-valuetext": text,
        },
    };
}

export function Gauge(props: GaugeProps) {
    const { share, aria } = meter(props);
    return (
        <div class={`gauge tone-${props.tone ?? gaugeTone(props.value)}`}>
            <div class="gauge-head">
                <span class="gauge-label clip">{props.label}</span>
                <span class="gauge-text clip">{props.text}</span>
            </div>
            <div class="gauge-bar" {...aria}>
                <div class="gauge-fill" style={{ transform: `scaleX(${share})` }} />
            </div>
        </div>
    );
}

export function Ring(props: GaugeProps) {
    const { share, aria } = meter(props);
    const around = 2 * Math.PI * 26;
    return (
        <div class={`ring tone-${props.tone ?? gaugeTone(props.value)}`}>
            <div class="ring-round" {...aria}>
                <svg width="64" height="64" viewBox="0 0 64 64" fill="none" aria-hidden="true" focusable="false">
                    <circle cx="32" cy="32" r="26" class="ring-track" stroke-width="6" />
                    <circle
                        cx="32"
                        cy="32"
                        r="26"
                        class="ring-fill"
                        stroke-width="6"
                        stroke-linecap="round"
                        transform="rotate(-90 32 32)"
                        stroke-dasharray={`${share * around} ${around}`}
                    />
                </svg>
                <span class="ring-number">{props.value === undefined ? "–" : Math.round(share * 100)}</span>
            </div>
            <span class="ring-label">{props.label}</span>
            <span class="ring-text">{props.text}</span>
        </div>
    );
}

/** The last values as a line of the height of text. Fewer than two are a flat one. */
export function Sparkline({
    values,
    max,
    label,
    tone = "info",
}: {
    values: readonly number[];
    max?: number;
    label: string;
    tone?: Tone;
}) {
    const top = Math.max(max ?? 0, ...values, 1e-9);
    const step = values.length > 1 ? 96 / (values.length - 1) : 96;
    const at = (value: number, i: number) => `${(2 + i * step).toFixed(1)},${(20 - (Math.max(0, value) / top) * 17).toFixed(1)}`;
    const points = values.length > 1 ? values.map(at).join(" ") : "2,20 98,20";
    return (
        <svg
            class={`spark tone-${tone}`}
            viewBox="0 0 100 22"
            width="100"
            height="22"
            preserveAspectRatio="none"
            role="img"
            aria-label={label}
            focusable="false"
        >
            <polyline class="spark-area" points={`2,21 ${points} 98,21`} />
            <polyline
                class="spark-line"
                points={points}
                fill="none"
                stroke-width="1.5"
                stroke-linejoin="round"
                vector-effect="non-scaling-stroke"
            />
        </svg>
    );
}

/** value 0 to 1, or unknown: then it only moves. */
export function Progress({ value, label }: { value?: number | undefined; label: string }) {
    const known = value !== undefined && Number.isFinite(value);
    return (
        <div
            class={known ? "progress" : "progress progress-unknown"}
            role="progressbar"
            aria-label={label}
            aria-valuemin={0}
            aria-valuemax={100}
            aria-valuenow={known ? Math.round(value * 100) : undefined}
        >
            <div class="progress-fill" style={known ? { transform: `scaleX(${Math.min(1, Math.max(0, value))})` } : {}} />
        </div>
    );
}
