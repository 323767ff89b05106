// SPDX-License-Identifier: Apache-2.0
// Text of others, made harmless to read: nothing in it may move the cursor, turn the line around or hide.

// Colours and the like of terminals, titles of windows; what is no complete sequence stays and is shown by its picture.
const TERMINAL = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;
// Marks that turn the direction of writing, marks without width, separators of lines, and the byte order mark.
const UNSEEN = /[\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const CONTROL = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g;

/** One line of a log as it is shown. */
export function inert(text: string): string {
    return text
        .replace(/\r$/, "")
        .replace(TERMINAL, "")
        .replace(CONTROL, (c) => {
            const code = c.charCodeAt(0);
            return code < 0x20 ? String.fromCharCode(0x2400 + code) : code === 0x7f ? "\u2421" : "\ufffd";
        })
        .replace(UNSEEN, (c) => `<U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}>`);
}
