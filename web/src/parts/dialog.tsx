// SPDX-License-Identifier: Apache-2.0
// What stands over the page until it is answered. The browser's own <dialog> keeps the focus inside, closes on Esc and gives the focus back.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

import type { Problem } from "../api/client";
import { Button, IconButton } from "./button";
import { ErrorBox } from "./feedback";
import { TextField } from "./form";

export interface DialogProps {
    title: string;
    open: boolean;
    onClose: () => void;
    children?: ComponentChildren;
    footer?: ComponentChildren;
    /** Esc and the button do nothing: something is on its way. */
    locked?: boolean | undefined;
    wide?: boolean;
}

const FIELDS = "textarea, input:not([readonly], [type=checkbox], [type=radio])";

/** A click beside it, which happens, must not cost what was typed: then it takes Esc or a button. */
function isTyped(dialog: HTMLElement): boolean {
    return [...dialog.querySelectorAll<HTMLInputElement>(FIELDS)].some((field) => field.value !== "");
}

export function Dialog(props: DialogProps) {
    // Closed, its content is not there: what it holds begins anew each time.
    return props.open ? <OpenDialog {...props} /> : null;
}

function OpenDialog({ title, onClose, children, footer, locked, wide }: DialogProps) {
    const dialog = useRef<HTMLDialogElement>(null);
    const pressed = useRef(false);
    const id = useId();
    useEffect(() => {
        const element = dialog.current;
        const before = document.activeElement;
        if (element && !element.open) element.showModal();
        return () => {
            element?.close();
            if (before instanceof HTMLElement && before.isConnected) before.focus();
        };
    }, []);
    const close = () => {
        if (!locked) onClose();
    };
    return (
        <dialog
            ref={dialog}
            class={wide ? "dialog dialog-wide" : "dialog"}
            aria-labelledby={id}
            onCancel={(event) => {
                event.preventDefault();
                close();
            }}
            onMouseDown={(event) => (pressed.current = event.target === dialog.current)}
            onClick={(event) => {
                // Beside the dialog, pressed and let go there: not where a selection began inside.
                if (pressed.current && event.target === dialog.current && !isTyped(dialog.current!)) close();
            }}
        >
            <div class="dialog-box">
                <header class="dialog-head">
                    <h2 id={id} class="wrap">
                        {title}
                    </h2>
                    <IconButton icon="close" size="small" label="Close" disabled={locked} onClick={close} />
                </header>
                <div class="dialog-body">{children}</div>
                {footer && <footer class="dialog-foot">{footer}</footer>}
            </div>
        </dialog>
    );
}

export interface ConfirmProps {
    title: string;
    open: boolean;
    onClose: () => void;
    onConfirm: () => void;
    /** What the button says: the deed, not "OK". */
    action: string;
    /** To be typed before the button works: for what cannot be taken back. */
    name?: string;
    busy?: boolean | undefined;
    error?: Problem | undefined;
    danger?: boolean;
    children?: ComponentChildren;
}

export function Confirm(props: ConfirmProps) {
    return props.open ? <OpenConfirm {...props} /> : null;
}

function OpenConfirm({ title, onClose, onConfirm, action, name, busy, error, danger = true, children }: ConfirmProps) {
    const typed = useSignal("");
    const form = useId();
    // What went wrong with the thing before is not told of this one.
    const before = useRef(error);
    const ready = name === undefined || typed.value === name;
    return (
        <Dialog
            title={title}
            open
            onClose={onClose}
            locked={busy}
            footer={
                <>
                    <Button onClick={onClose} disabled={busy} autoFocus={name === undefined}>
                        Cancel
                    </Button>
                    <Button kind={danger ? "danger" : "primary"} disabled={!ready} busy={busy} onClick={onConfirm}>
                        {action}
                    </Button>
                </>
            }
        >
            <form
                id={form}
                class="form"
                noValidate
                onSubmit={(event) => {
                    event.preventDefault();
                    if (ready && !busy) onConfirm();
                }}
            >
                <div class="wrap">{children}</div>
                {name !== undefined && (
                    <TextField
                        label={`Type ${name} to confirm`}
                        value={typed.value}
                        onInput={(text) => (typed.value = text)}
                        required
                        mono
                        autoFocus
                        disabled={busy ?? false}
                    />
                )}
                {error && error !== before.current && <ErrorBox problem={error} />}
            </form>
        </Dialog>
    );
}
