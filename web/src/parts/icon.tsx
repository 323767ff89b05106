// SPDX-License-Identifier: Apache-2.0
// Icons of our own: strokes of 1.5 on a grid of 16, drawn in the colour of the text beside them.

const PATHS = {
    overview: "M2.5 2.5h4.75v6H2.5zM8.75 2.5h4.75v3.5H8.75zM8.75 8h4.75v5.5H8.75zM2.5 10.5h4.75v3H2.5z",
    server: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.01M5 11h.01M8 5h3M8 11h3",
    service: "M8 1.75l5.5 3v6.5L8 14.25l-5.5-3v-6.5zM2.5 4.75L8 7.75l5.5-3M8 7.75v6.5",
    sandbox: "M5.25 5.25h5.5v5.5h-5.5zM2 5V2h3M11 2h3v3M14 11v3h-3M5 14H2v-3",
    deploy: "M3.5 14V6a4 4 0 0 1 8 0v1.25M1.75 14h3.5M9 7.25h5v4H9z",
    history: "M2.5 8a5.5 5.5 0 1 0 1.7-4M2.5 2.5v2.75h2.75M8 5v3l2 1.5",
    settings: "M2 4.5h6M12 4.5h2M2 11.5h2M8 11.5h6M10 2.75v3.5M6 9.75v3.5",
    search: "M7 2.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9zM10.25 10.25l3.25 3.25",
    plus: "M8 3v10M3 8h10",
    minus: "M3 8h10",
    check: "M3 8.5l3.25 3.25L13 4.75",
    close: "M4 4l8 8M12 4l-8 8",
    down: "M4 6l4 4 4-4",
    up: "M4 10l4-4 4 4",
    right: "M6 4l4 4-4 4",
    left: "M10 4l-4 4 4 4",
    alert: "M8 2.25l6.25 11H1.75zM8 6.5v3M8 11.4h.01",
    info: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 7.25v3.5M8 5.1h.01",
    copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
    play: "M4.5 2.75l8 5.25-8 5.25z",
    stop: "M3.75 3.75h8.5v8.5h-8.5z",
    pause: "M5 3v10M11 3v10",
    restart: "M13.5 8a5.5 5.5 0 1 1-1.7-4M13.5 2.5v2.75h-2.75",
    trash: "M2.5 4h11M6 4V2.5h4V4M4 4l.6 9.5h6.8L12 4M6.75 6.75v4M9.25 6.75v4",
    logs: "M2.5 3.5h11M2.5 6.5h7.5M2.5 9.5h9.5M2.5 12.5h5",
    chart: "M2.5 2.5v11h11M5 10.5l2.5-3.25 2.25 1.75L13 4.75",
    key: "M5.25 7.25a3 3 0 1 0 2.6 4.5M7.6 9.4l5.9-5.9M11 6l2 2",
    person: "M8 2.5a2.75 2.75 0 1 0 0 5.5a2.75 2.75 0 0 0 0-5.5zM2.75 13.75c.6-2.6 2.6-4 5.25-4s4.65 1.4 5.25 4",
    leave: "M6.5 2.5h-4v11h4M6 8h8M11 5l3 3-3 3",
    sun:
        "M8 5.25a2.75 2.75 0 1 0 0 5.5a2.75 2.75 0 0 0 0-5.5zM8 1.5v1.25M8 13.25v1.25M1.5 8h1.25" +
        "M13.25 8h1.25M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9",
    moon: "M13.25 9.5A5.75 5.75 0 0 1 6.5 2.75a5.75 5.75 0 1 0 6.75 6.75z",
    system: "M2 3h12v8H2zM6 14h4M8 11v3",
    menu: "M2.5 4.5h11M2.5 8h11M2.5 11.5h11",
    dots: "M3.5 8h.01M8 8h.01M12.5 8h.01",
    link: "M6.5 9.5l3-3M7.25 4.75l1.5-1.5a2.8 2.8 0 0 1 4 4l-1.5 1.5M8.75 11.25l-1.5 1.5a2.8 2.8 0 0 1-4-4l1.5-1.5",
    out: "M6 3.5H3v9.5h9.5v-3M9 2.5h4.5V7M13.5 2.5L7.5 8.5",
    eye: "M1.5 8S4 3.75 8 3.75 14.5 8 14.5 8 12 12.25 8 12.25 1.5 8 1.5 8zM8 6.25a1.75 1.75 0 1 0 0 3.5a1.75 1.75 0 0 0 0-3.5z",
    clock: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 4.75V8l2.25 1.5",
    cpu: "M4.5 4.5h7v7h-7zM6.75 6.75h2.5v2.5h-2.5zM6.5 2v2.5M9.5 2v2.5M6.5 11.5V14M9.5 11.5V14M2 6.5h2.5M2 9.5h2.5M11.5 6.5H14M11.5 9.5H14",
    memory: "M1.75 5h12.5v6H1.75zM4.5 5v2.5M8 5v2.5M11.5 5v2.5M4.5 13v-2M11.5 13v-2",
    disk:
        "M8 2.5c3.3 0 5.5.9 5.5 2s-2.2 2-5.5 2-5.5-.9-5.5-2 2.2-2 5.5-2zM2.5 4.5v7c0 1.1 2.2 2 5.5 2s5.5-.9 5.5-2v-7" +
        "M2.5 8c0 1.1 2.2 2 5.5 2s5.5-.9 5.5-2",
    network: "M5 13V3.5M2.5 6L5 3.5 7.5 6M11 3v9.5M8.5 10l2.5 2.5 2.5-2.5",
    shield: "M8 1.75l5.25 2v4c0 3.1-2.1 5.3-5.25 6.5-3.15-1.2-5.25-3.4-5.25-6.5v-4z",
    download: "M8 2.5v7M5 6.75l3 3 3-3M2.5 13.5h11",
    upload: "M8 9.5v-7M5 5.25l3-3 3 3M2.5 13.5h11",
    edit: "M3 13l.75-3L10.5 3.25l2.25 2.25L6 12.25z",
    file: "M4 1.75h5l3.25 3.25v9.25H4zM9 1.75V5h3.25",
    folder: "M1.75 3.25h4.5l1.5 2h6.5v7.5H1.75z",
    terminal: "M2 2.75h12v10.5H2zM4.5 6l2 2-2 2M8 10.25h3.5",
    layers: "M8 2l6 3.25L8 8.5 2 5.25zM2 8.25l6 3.25 6-3.25M2 11l6 3.25L14 11",
    filter: "M2 3.5h12L9.5 8.75v4.5l-3-1.5v-3z",
    anchor: "M8 1.75a1.6 1.6 0 1 0 0 3.2a1.6 1.6 0 0 0 0-3.2zM8 5v9M5 7.25h6M2.5 9.25C2.75 12 5 14 8 14s5.25-2 5.5-4.75",
} as const;

export type IconName = keyof typeof PATHS;
export const ICONS = Object.keys(PATHS) as IconName[];

export interface IconProps {
    name: IconName;
    size?: number;
    /** What it says where no text stands beside it. */
    label?: string | undefined;
}

export function Icon({ name, size = 16, label }: IconProps) {
    const thick = name === "dots" || name === "server" ? 1.75 : 1.5;
    return (
        <svg
            class="icon"
            width={size}
            height={size}
            viewBox="0 0 16 16"
            fill="none"
            stroke="currentColor"
            stroke-width={thick}
            stroke-linecap="round"
            stroke-linejoin="round"
            focusable="false"
            role={label ? "img" : undefined}
            aria-label={label}
            aria-hidden={label ? undefined : "true"}
        >
            <path d={PATHS[name]} />
        </svg>
    );
}

/** The mark: a davit, the small crane that holds a boat, or a container, over the side. */
export function Mark({ size = 24 }: { size?: number }) {
    return (
        <svg class="mark" width={size} height={size} viewBox="0 0 24 24" fill="none" aria-hidden="true" focusable="false">
            <path
                class="mark-arm"
                d="M6 21V9.5a6 6 0 0 1 12 0v2.25M3 21h6"
                stroke="currentColor"
                stroke-width="2.4"
                stroke-linecap="round"
            />
            <rect class="mark-load" x="14" y="13" width="8" height="7" rx="1.5" />
        </svg>
    );
}

export function Wordmark({ size = 24 }: { size?: number }) {
    return (
        <span class="wordmark">
            <Mark size={size} />
            <span class="wordmark-text">davit</span>
        </span>
    );
}
