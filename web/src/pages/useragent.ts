// SPDX-License-Identifier: Apache-2.0
// What a browser calls itself, in two words. It is what a stranger may have chosen: only names from here are shown, the text itself is a title.
const BROWSERS: [RegExp, string][] = [
    [/Edg\//, "Edge"],
    [/OPR\//, "Opera"],
    [/Firefox\//, "Firefox"],
    [/(HeadlessChrome|Chrome|Chromium)\//, "Chrome"],
    [/Safari\//, "Safari"],
    [/^curl\//, "curl"],
];
const SYSTEMS: [RegExp, string][] = [
    [/iPhone|iPad/, "iOS"],
    [/Android/, "Android"],
    [/Windows/, "Windows"],
    [/Mac OS X|Macintosh/, "macOS"],
    [/Linux|X11/, "Linux"],
];

export function deviceName(userAgent: string): string {
    const find = (list: [RegExp, string][]) => list.find(([pattern]) => pattern.test(userAgent))?.[1];
    const browser = find(BROWSERS);
    const system = find(SYSTEMS);
    if (!browser && !system) return "Unknown browser";
    return [browser ?? "Browser", system].filter(Boolean).join(" on ");
}
