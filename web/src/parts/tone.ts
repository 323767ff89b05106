// SPDX-License-Identifier: Apache-2.0
// What a colour means, everywhere. Each tone has a shape of its own, so that nobody needs to tell colours apart.
export type Tone = "ok" | "warn" | "bad" | "info" | "pending" | "neutral";
export const TONES: readonly Tone[] = ["ok", "warn", "bad", "info", "pending", "neutral"];
