// SPDX-License-Identifier: Apache-2.0
// Dark or light: what the viewer chose (kept in this browser), else what the system says, as it changes.
import { computed, effect, signal } from "@preact/signals";

export type Choice = "system" | "light" | "dark";
const KEY = "davit.theme";

function kept(): Choice {
    try {
        const value = localStorage.getItem(KEY);
        return value === "light" || value === "dark" ? value : "system";
    } catch {
        return "system"; // storage may be forbidden
    }
}

const wish = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(wish.matches);
wish.addEventListener("change", (event) => (systemDark.value = event.matches));

export const choice = signal<Choice>(kept());
export const theme = computed<"light" | "dark">(() =>
    choice.value === "system" ? (systemDark.value ? "dark" : "light") : choice.value,
);

export function choose(next: Choice): void {
    choice.value = next;
    try {
        if (next === "system") localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, next);
    } catch {
        // Then it holds for this page only.
    }
}

effect(() => {
    document.documentElement.dataset.theme = theme.value;
});
