// SPDX-License-Identifier: Apache-2.0
// What is pressed. `busy` keeps the width and the focus and lets no second press through.
import type { ComponentChildren, Ref } from "preact";

import { Link } from "../shell/router";
import { Icon, type IconName } from "./icon";

export interface ButtonProps {
    kind?: "primary" | "plain" | "quiet" | "danger";
    size?: "small";
    type?: "button" | "submit";
    icon?: IconName;
    busy?: boolean | undefined;
    disabled?: boolean | undefined;
    href?: string;
    onClick?: ((event: MouseEvent) => void) | undefined;
    children?: ComponentChildren;
    id?: string;
    autoFocus?: boolean;
    "aria-label"?: string | undefined;
    "aria-expanded"?: boolean;
    "aria-haspopup"?: "menu" | "dialog" | "listbox";
    "aria-pressed"?: boolean;
    "aria-controls"?: string;
    "aria-keyshortcuts"?: string;
    title?: string;
    buttonRef?: Ref<HTMLButtonElement>;
}

export function Button({
    kind = "plain",
    size,
    type = "button",
    icon,
    busy,
    disabled,
    href,
    onClick,
    children,
    autoFocus,
    buttonRef,
    ...rest
}: ButtonProps) {
    const name = `button button-${kind}${size === "small" ? " button-small" : ""}${children ? "" : " button-square"}`;
    const inside = (
        <>
            {icon && <Icon name={icon} />}
            {children && <span class="clip">{children}</span>}
        </>
    );
    if (href !== undefined && !disabled) {
        return (
            <Link class={name} href={href} {...(onClick ? { onClick } : {})} aria-label={rest["aria-label"]}>
                {inside}
            </Link>
        );
    }
    return (
        <button
            {...rest}
            class={name}
            type={type}
            disabled={disabled}
            aria-disabled={busy ? "true" : undefined}
            aria-busy={busy ? "true" : undefined}
            autofocus={autoFocus}
            ref={buttonRef ?? null}
            onClick={(event) => {
                if (busy) event.preventDefault();
                else onClick?.(event);
            }}
        >
            {inside}
            {busy && <span class="spinner button-spinner" />}
        </button>
    );
}

export type IconButtonProps = Omit<ButtonProps, "children" | "icon" | "aria-label"> & { icon: IconName; label: string };

export function IconButton({ label, kind = "quiet", ...rest }: IconButtonProps) {
    return <Button {...rest} kind={kind} aria-label={label} title={rest.title ?? label} />;
}
