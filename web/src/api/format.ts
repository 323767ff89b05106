/* SPDX-License-Identifier: Apache-2.0 */
/* format: numbers, sizes, times and ages as people read them. Pure. */

const UNITS = ["B", "KB", "MB", "GB", "TB", "PB"];

/** 1536 -> "1.5 KB" (1 KB = 1024 B, as the CLI tells it). */
export function bytes(value: bigint | number): string {
    let n = Number(value);
    let unit = 0;
    if (!Number.isFinite(n) || n < 0) return "-";
    while (n >= 1024 && unit < UNITS.length - 1) {
        n /= 1024;
        unit++;
    }
    const digits = unit === 0 || n >= 100 ? 0 : 1;
    return `${n.toFixed(digits)} ${UNITS[unit]}`;
}

export function rate(value: bigint | number): string {
    return bytes(value) + "/s";
}

/** Thousandths of a core -> "12.5 %", where 100 % is one core. */
export function cores(milli: number): string {
    return percent(milli / 1000);
}

/** 0.125 -> "12.5 %" */
export function percent(part: number): string {
    const value = part * 100;
    if (!Number.isFinite(value)) return "-";
    return (value >= 100 ? value.toFixed(0) : value.toFixed(1)) + " %";
}

/** 1234 -> "1,234"; with a word: "1 server", "3 servers". */
export function count(n: number, one?: string, many = one + "s"): string {
    const digits = n.toLocaleString("en-US");
    return one === undefined ? digits : `${digits} ${n === 1 ? one : many}`;
}

/** Seconds -> "5 s", "3 min", "2 h 5 min", "4 d 3 h". */
export function duration(seconds: number): string {
    const s = Math.max(0, Math.floor(seconds));
    if (s < 60) return `${s} s`;
    const min = Math.floor(s / 60);
    if (min < 60) return `${min} min`;
    const h = Math.floor(min / 60);
    if (h < 24) return min % 60 ? `${h} h ${min % 60} min` : `${h} h`;
    const d = Math.floor(h / 24);
    return h % 24 && d < 10 ? `${d} d ${h % 24} h` : `${d} d`;
}

/** Like duration, but with seconds behind minutes: for what is waited for. "59:03". */
export function countdown(seconds: number): string {
    const s = Math.max(0, Math.ceil(seconds));
    const h = Math.floor(s / 3600);
    const two = (n: number) => String(n).padStart(2, "0");
    const rest = `${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
    return h ? `${h}:${rest}` : rest;
}

/** Microseconds of the wire -> milliseconds. */
export function ms(us: bigint): number {
    return Number(us / 1000n);
}

/** "3 s ago"; what lies a little ahead is now. 0 is "never". */
export function ago(us: bigint | number, nowMs: number): string {
    if (Number(us) === 0) return "never";
    const age = nowMs / 1000 - Number(us) / 1e6;
    return age < 1 ? "now" : duration(age) + " ago";
}

/** "in 3 d", "expired 2 h ago". 0 is "-". */
export function until(us: bigint | number, nowMs: number): string {
    if (Number(us) === 0) return "-";
    const left = Number(us) / 1e6 - nowMs / 1000;
    return left >= 0 ? "in " + duration(left) : duration(-left) + " ago";
}

const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** In the viewer's own zone. */
export function time(us: bigint | number): string {
    return Number(us) === 0 ? "-" : full.format(new Date(Number(us) / 1000));
}

/** The part of an id that people can tell apart. */
export function short(id: string): string {
    return id.replace(/^sha256:/, "").slice(0, 12);
}

/** "127.0.0.1:8080", "[::1]:8080". */
export function hostPort(host: string, port: number): string {
    return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** A plot that has just begun has room for what comes. */
export const SPAN_MIN_S = 120;

/** From when to when a plot of @xs (seconds) reaches: never less than SPAN_MIN_S, also where there is one sample or none. */
export function spanOf(xs: readonly number[], now = Date.now() / 1000): [number, number] {
    const last = xs.at(-1) ?? now;
    return [Math.min(xs[0] ?? last, last - SPAN_MIN_S), last];
}
