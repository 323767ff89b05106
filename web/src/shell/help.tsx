// SPDX-License-Identifier: Apache-2.0
// The keyboard shortcuts, on one sheet.
import { signal } from "@preact/signals";

import { Dialog, KeyHint } from "../parts";
import { shortcuts } from "./keys";

const open = signal(false);
export const openHelp = () => (open.value = true);

const IN_PLACE = [
    { keys: "↑ ↓", about: "Through the rows of a table, once one is focused" },
    { keys: "Enter", about: "Open the row" },
    { keys: "Esc", about: "Close a dialog, empty a filter" },
    { keys: "Shift+F6", about: "Leave a terminal" },
];

export function Help() {
    return (
        <Dialog title="Keyboard shortcuts" open={open.value} onClose={() => (open.value = false)}>
            <dl class="shortcuts">
                {[...shortcuts, ...IN_PLACE].map(({ keys, about }) => (
                    <div class="shortcut" key={keys}>
                        <dt>{about}</dt>
                        <dd>
                            <KeyHint keys={keys} />
                        </dd>
                    </div>
                ))}
            </dl>
        </Dialog>
    );
}
