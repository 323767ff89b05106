// SPDX-License-Identifier: Apache-2.0
// The lines of a log that the page holds: the newest so many, and never more text than a limit; what is older is counted and forgotten.
import { signal } from "@preact/signals";

import { inert } from "./inert";

export interface LogLine {
    text: string;
    stream: "out" | "err" | "notice";
    atNs?: bigint | undefined;
}

export interface KeptLine extends LogLine {
    /** Counts up from 0, without gaps. */
    seq: number;
}

export const LINES_MAX = 20_000;
export const CHARS_MAX = 8 * 1024 * 1024;
/** More of one line is not kept: nobody reads a line of a megabyte. */
export const LINE_MAX = 16 * 1024;

export class LogBuffer {
    /** Changes with every push and clear; what shows the buffer reads it. */
    readonly version = signal(0);
    #lines: KeptLine[] = [];
    #first = 0;
    #next = 0;
    #chars = 0;

    constructor(
        readonly linesMax = LINES_MAX,
        readonly charsMax = CHARS_MAX,
    ) {}

    get length(): number {
        return this.#lines.length - this.#first;
    }

    /** How many are no longer held. */
    get dropped(): number {
        return this.#next - this.length;
    }

    at(i: number): KeptLine | undefined {
        return this.#lines[this.#first + i];
    }

    push(lines: readonly LogLine[]): void {
        if (lines.length === 0) return;
        for (const line of lines) {
            const clean = inert(line.text);
            const text =
                clean.length > LINE_MAX ? `${clean.slice(0, LINE_MAX)} … ${clean.length - LINE_MAX} more characters` : clean;
            this.#lines.push({ ...line, text, seq: this.#next++ });
            this.#chars += text.length;
        }
        while (this.length > this.linesMax || (this.#chars > this.charsMax && this.length > 1)) {
            this.#chars -= this.#lines[this.#first]!.text.length;
            this.#first++;
        }
        // The array is cut now and then, not at each line.
        if (this.#first > 1024 && this.#first * 2 > this.#lines.length) {
            this.#lines = this.#lines.slice(this.#first);
            this.#first = 0;
        }
        this.version.value++;
    }

    clear(): void {
        this.#lines = [];
        this.#first = this.#chars = this.#next = 0;
        this.version.value++;
    }

    /** Indexes of the lines that hold the text, whatever its case. */
    find(text: string): number[] {
        const want = text.toLowerCase();
        const found: number[] = [];
        if (want === "") return found;
        for (let i = 0; i < this.length; i++) {
            if (this.at(i)!.text.toLowerCase().includes(want)) found.push(i);
        }
        return found;
    }

    text(): string {
        const all: string[] = [];
        for (let i = 0; i < this.length; i++) all.push(this.at(i)!.text);
        return all.join("\n") + "\n";
    }
}
