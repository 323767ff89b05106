// SPDX-License-Identifier: Apache-2.0
// One of several views (Tabs), and one of several deeds (Menu). Both go by arrow keys, as people who use only the keyboard expect.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

import { navigate } from "../shell/router";
import { Button, type ButtonProps } from "./button";
import { Icon, type IconName } from "./icon";

export interface Tab {
    id: string;
    title: string;
    count?: number | undefined;
}

/** Where the arrow, Home and End keys lead among `count` things. */
export function stepTo(key: string, at: number, count: number, back: string, forth: string): number | undefined {
    if (count === 0) return undefined;
    if (key === forth) return (at + 1) % count;
    if (key === back) return (at - 1 + count) % count;
    if (key === "Home") return 0;
    if (key === "End") return count - 1;
    return undefined;
}

export function Tabs({
    label,
    tabs,
    current,
    onChange,
    children,
}: {
    label: string;
    tabs: Tab[];
    current: string;
    onChange: (id: string) => void;
    children?: ComponentChildren;
}) {
    const id = useId();
    const list = useRef<HTMLDivElement>(null);
    // On a phone there are more than fit: the one that is shown is in sight.
    useEffect(() => {
        const box = list.current?.getBoundingClientRect();
        const tab = list.current?.querySelector("[aria-selected=true]")?.getBoundingClientRect();
        if (!box || !tab) return;
        if (tab.left < box.left) list.current!.scrollLeft -= box.left - tab.left;
        else if (tab.right > box.right) list.current!.scrollLeft += tab.right - box.right;
    }, [current]);
    return (
        <div class="tabs">
            <div
                class="tabs-list"
                role="tablist"
                aria-label={label}
                ref={list}
                onKeyDown={(event) => {
                    const to = stepTo(
                        event.key,
                        tabs.findIndex((tab) => tab.id === current),
                        tabs.length,
                        "ArrowLeft",
                        "ArrowRight",
                    );
                    if (to === undefined) return;
                    event.preventDefault();
                    onChange(tabs[to]!.id);
                    list.current?.querySelectorAll<HTMLElement>("[role=tab]")[to]?.focus();
                }}
            >
                {tabs.map((tab) => (
                    <button
                        key={tab.id}
                        type="button"
                        class="tab"
                        role="tab"
                        id={`${id}-${tab.id}`}
                        aria-selected={tab.id === current}
                        aria-controls={`${id}-panel`}
                        tabIndex={tab.id === current ? 0 : -1}
                        onClick={() => onChange(tab.id)}
                    >
                        {tab.title}
                        {tab.count !== undefined && <span class="tab-count">{tab.count.toLocaleString("en-US")}</span>}
                    </button>
                ))}
            </div>
            <div class="tabs-panel" role="tabpanel" id={`${id}-panel`} aria-labelledby={`${id}-${current}`}>
                {children}
            </div>
        </div>
    );
}

export interface MenuItem {
    label: string;
    icon?: IconName;
    danger?: boolean;
    disabled?: boolean;
    onSelect?: () => void;
    href?: string;
}

const GAP = 4;

/* Below the button, their right edges in line; above it where there is no room. */
function placeBeside(list: HTMLElement, button: HTMLElement): void {
    const at = button.getBoundingClientRect();
    const below = at.bottom + GAP;
    const top = below + list.offsetHeight > innerHeight - GAP ? at.top - GAP - list.offsetHeight : below;
    list.style.top = `${Math.max(GAP, top)}px`;
    list.style.left = `${Math.max(GAP, at.right - list.offsetWidth)}px`;
}

export function Menu({
    label,
    icon = "dots",
    kind = "quiet",
    items,
    children,
}: {
    label: string;
    icon?: IconName;
    kind?: ButtonProps["kind"] & string;
    items: (MenuItem | false | undefined)[];
    children?: ComponentChildren;
}) {
    const id = useId();
    const open = useSignal(false);
    const root = useRef<HTMLDivElement>(null);
    const button = useRef<HTMLButtonElement>(null);
    const shown = items.filter((item): item is MenuItem => Boolean(item));

    useEffect(() => {
        if (!open.value) return undefined;
        const list = root.current?.querySelector<HTMLElement>("[role=menu]");
        const place = () => list && button.current && placeBeside(list, button.current);
        // Above all that cuts off what it holds, as rows of a table do; a browser that knows no popover has it where it stands.
        if (list && "showPopover" in list) {
            list.popover = "manual";
            list.showPopover();
            place();
            addEventListener("scroll", place, { passive: true, capture: true });
            addEventListener("resize", place);
        }
        root.current?.querySelector<HTMLElement>("[role=menuitem]:not(:disabled)")?.focus({ preventScroll: true });
        const away = (event: Event) => {
            if (!root.current?.contains(event.target as Node)) open.value = false;
        };
        addEventListener("pointerdown", away);
        addEventListener("focusin", away);
        return () => {
            removeEventListener("pointerdown", away);
            removeEventListener("focusin", away);
            removeEventListener("scroll", place, { capture: true });
            removeEventListener("resize", place);
        };
    }, [open.value]);

    const keys = (event: KeyboardEvent) => {
        if (event.key === "Escape" || event.key === "Tab") {
            open.value = false;
            button.current?.focus();
            if (event.key === "Escape") event.stopPropagation();
            return;
        }
        const entries = [...root.current!.querySelectorAll<HTMLElement>("[role=menuitem]:not(:disabled)")];
        const to = stepTo(
            event.key,
            entries.indexOf(document.activeElement as HTMLElement),
            entries.length,
            "ArrowUp",
            "ArrowDown",
        );
        if (to === undefined) return;
        event.preventDefault();
        // The row of a table it stands in would move as well.
        event.stopPropagation();
        entries[to]?.focus();
    };
    return (
        <div class="menu" ref={root}>
            <Button
                icon={icon}
                kind={kind}
                buttonRef={button}
                aria-haspopup="menu"
                aria-expanded={open.value}
                aria-controls={id}
                {...(children ? {} : { "aria-label": label, title: label })}
                onClick={() => (open.value = !open.value)}
            >
                {children}
            </Button>
            {open.value && (
                <div class="menu-list" role="menu" id={id} aria-label={label} onKeyDown={keys}>
                    {shown.map((item) => (
                        <button
                            key={item.label}
                            type="button"
                            role="menuitem"
                            tabIndex={-1}
                            disabled={item.disabled}
                            class={item.danger ? "menu-item menu-danger" : "menu-item"}
                            onClick={() => {
                                open.value = false;
                                button.current?.focus();
                                if (item.href) navigate(item.href);
                                item.onSelect?.();
                            }}
                        >
                            {item.icon && <Icon name={item.icon} />}
                            <span>{item.label}</span>
                        </button>
                    ))}
                </div>
            )}
        </div>
    );
}
