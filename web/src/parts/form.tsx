// SPDX-License-Identifier: Apache-2.0
// What is filled in. Every field has a label, may have a hint, and says what is wrong with it beside itself.
import type { ComponentChildren, JSX } from "preact";
import { useId } from "preact/hooks";

import type { Problem } from "../api/client";
import { ErrorBox } from "./feedback";
import { Icon } from "./icon";

interface Common {
    label: string;
    hint?: ComponentChildren;
    error?: string | undefined;
    required?: boolean;
    disabled?: boolean;
    /** The label is there for those who hear it only. */
    bare?: boolean;
}

function useField({ hint, error }: { hint?: ComponentChildren; error?: string | undefined }) {
    const id = useId();
    const about = [hint ? `${id}-hint` : "", error ? `${id}-error` : ""].filter(Boolean).join(" ");
    return { id, aria: { "aria-describedby": about || undefined, "aria-invalid": error ? ("true" as const) : undefined } };
}

function Frame({ id, label, hint, error, required, bare, children }: Common & { id: string; children: ComponentChildren }) {
    return (
        <div class={error ? "field field-bad" : "field"}>
            <label for={id} class={bare ? "unseen" : "field-label"}>
                {label}
                {!required && !bare && <span class="field-optional">optional</span>}
            </label>
            {children}
            {error && (
                <p id={`${id}-error`} class="field-error">
                    <Icon name="alert" size={13} />
                    {error}
                </p>
            )}
            {hint && (
                <p id={`${id}-hint`} class="field-hint">
                    {hint}
                </p>
            )}
        </div>
    );
}

export interface TextFieldProps extends Common {
    value: string;
    onInput: (value: string) => void;
    type?: "text" | "password" | "search" | "url" | "number";
    name?: string;
    placeholder?: string;
    mono?: boolean;
    autoFocus?: boolean;
    autocomplete?: string;
    maxLength?: number;
    min?: number;
    max?: number;
    step?: number;
    suffix?: string;
    list?: string[];
}

export function TextField(props: TextFieldProps) {
    const { id, aria } = useField(props);
    const { value, onInput, type = "text", mono, suffix, list, autoFocus } = props;
    return (
        <Frame {...props} id={id}>
            <div class="input-line">
                <input
                    {...aria}
                    id={id}
                    class={mono ? "input mono" : "input"}
                    type={type}
                    value={value}
                    name={props.name}
                    placeholder={props.placeholder}
                    autofocus={autoFocus}
                    autocomplete={props.autocomplete ?? "off"}
                    maxLength={props.maxLength}
                    min={props.min}
                    max={props.max}
                    step={props.step}
                    required={props.required}
                    disabled={props.disabled}
                    spellcheck={false}
                    autocapitalize="off"
                    list={list ? `${id}-list` : undefined}
                    onInput={(event) => onInput(event.currentTarget.value)}
                    ref={(element) => {
                        if (autoFocus) focusOnce(element);
                    }}
                />
                {suffix && <span class="input-suffix">{suffix}</span>}
            </div>
            {list && (
                <datalist id={`${id}-list`}>
                    {list.map((one) => (
                        <option key={one} value={one} />
                    ))}
                </datalist>
            )}
        </Frame>
    );
}

export interface NumberFieldProps extends Common {
    value: number | undefined;
    onInput: (value: number | undefined) => void;
    min?: number;
    max?: number;
    step?: number;
    suffix?: string;
    placeholder?: string;
}

export function NumberField({ value, onInput, ...rest }: NumberFieldProps) {
    const read = (text: string) => (text === "" || !Number.isFinite(Number(text)) ? undefined : Number(text));
    return (
        <TextField
            {...rest}
            type="number"
            value={value === undefined ? "" : String(value)}
            onInput={(text) => onInput(read(text))}
        />
    );
}

/* The attribute works at the first load of a page only. */
function focusOnce(element: HTMLElement | null): void {
    if (!element || element.dataset.focused) return;
    element.dataset.focused = "1";
    requestAnimationFrame(() => element.focus());
}

export interface TextAreaProps extends Common {
    value: string;
    onInput: (value: string) => void;
    rows?: number;
    mono?: boolean;
    placeholder?: string;
    autoFocus?: boolean;
}

export function TextArea(props: TextAreaProps) {
    const { id, aria } = useField(props);
    return (
        <Frame {...props} id={id}>
            <textarea
                {...aria}
                id={id}
                class={props.mono ? "input mono" : "input"}
                rows={props.rows ?? 4}
                value={props.value}
                required={props.required}
                placeholder={props.placeholder}
                disabled={props.disabled}
                spellcheck={false}
                autofocus={props.autoFocus}
                ref={(element) => {
                    if (props.autoFocus) focusOnce(element);
                }}
                onInput={(event) => props.onInput(event.currentTarget.value)}
            />
        </Frame>
    );
}

export interface Option {
    value: string;
    label: string;
}

/** The browser's own list: it is right on a phone and under a screen reader. */
export function SelectField(props: Common & { value: string; onChange: (value: string) => void; options: Option[] }) {
    const { id, aria } = useField(props);
    return (
        <Frame {...props} id={id}>
            <div class="select">
                <select
                    {...aria}
                    id={id}
                    class="input"
                    value={props.value}
                    disabled={props.disabled}
                    required={props.required}
                    onChange={(event) => props.onChange(event.currentTarget.value)}
                >
                    {props.options.map(({ value, label }) => (
                        <option key={value} value={value}>
                            {label}
                        </option>
                    ))}
                </select>
                <Icon name="down" size={14} />
            </div>
        </Frame>
    );
}

/** One of a few, all of them in sight. */
export function Choices(props: {
    label: string;
    value: string;
    onChange: (value: string) => void;
    options: (Option & { note?: string })[];
    hint?: ComponentChildren;
}) {
    const name = useId();
    return (
        <fieldset class="choices">
            <legend class="field-label">{props.label}</legend>
            <div class="choices-list">
                {props.options.map(({ value, label, note }) => (
                    <label class="choice" key={value}>
                        <input
                            type="radio"
                            name={name}
                            value={value}
                            checked={props.value === value}
                            onChange={() => props.onChange(value)}
                        />
                        <span class="choice-text">
                            {label}
                            {note && <span class="field-hint">{note}</span>}
                        </span>
                    </label>
                ))}
            </div>
            {props.hint && <p class="field-hint">{props.hint}</p>}
        </fieldset>
    );
}

interface OnOff {
    label: string;
    checked: boolean;
    onChange: (checked: boolean) => void;
    hint?: ComponentChildren;
    disabled?: boolean;
}

function OnOffField({ label, checked, onChange, hint, disabled, kind }: OnOff & { kind: "toggle" | "checkbox" }) {
    const id = useId();
    return (
        <div class={`onoff onoff-${kind}`}>
            <input
                id={id}
                type="checkbox"
                role={kind === "toggle" ? "switch" : undefined}
                checked={checked}
                disabled={disabled}
                aria-describedby={hint ? `${id}-hint` : undefined}
                onChange={(event) => onChange(event.currentTarget.checked)}
            />
            <div>
                <label for={id}>{label}</label>
                {hint && (
                    <p id={`${id}-hint`} class="field-hint">
                        {hint}
                    </p>
                )}
            </div>
        </div>
    );
}

/** Takes effect at once. */
export function Toggle(props: OnOff) {
    return <OnOffField {...props} kind="toggle" />;
}

/** Part of a form that is sent later. */
export function Checkbox(props: OnOff) {
    return <OnOffField {...props} kind="checkbox" />;
}

export interface FormProps {
    onSubmit: () => void;
    /** Why it was refused; what belongs to a field stands at the field. */
    error?: Problem | undefined;
    actions: ComponentChildren;
    label?: string;
    children?: ComponentChildren;
}

export function Form({ onSubmit, error, actions, label, children }: FormProps) {
    const submit: JSX.SubmitEventHandler<HTMLFormElement> = (event) => {
        event.preventDefault();
        onSubmit();
    };
    return (
        // What a field lacks is said by us, beside it, not by the browser.
        <form class="form" onSubmit={submit} noValidate aria-label={label}>
            {children}
            {error && <ErrorBox problem={error} />}
            <div class="form-actions">{actions}</div>
        </form>
    );
}
