// SPDX-License-Identifier: Apache-2.0
// Rows of things, up to tens of thousands: only those in sight are in the document, at one height, and they scroll with the page. Sorted by the
// head, searched by the filter, walked by the arrow keys. On a phone each row is a card.
import { signal, useComputed, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";

import { isPlainClick, Link, navigate } from "../shell/router";
import { Empty, SkeletonTable } from "./feedback";
import { Icon } from "./icon";

export interface Column<T> {
    id: string;
    title: string;
    render: (row: T) => ComponentChildren;
    /** What it is sorted by; without it the column cannot be. */
    sort?: (row: T) => string | number | bigint;
    /** What the filter looks into. */
    text?: (row: T) => string;
    /** A CSS width; the others share what is left. */
    width?: string;
    align?: "end";
    /** Left out where the window is not wide. */
    wide?: boolean;
    /** On a phone: the head of the card (the first column if none says so), or left out. */
    card?: "title" | "hide";
}

export interface TableProps<T> {
    label: string;
    rows: readonly T[];
    columns: Column<T>[];
    rowKey: (row: T) => string;
    /** Where a row leads; its first column (or the card's head) is the link. */
    rowHref?: (row: T) => string | undefined;
    onOpen?: (row: T) => void;
    /** What is shown instead when there are no rows. */
    empty?: ComponentChildren;
    initialSort?: { id: string; down?: boolean };
    loading?: boolean;
    filter?: boolean;
    /** Beside the filter. */
    toolbar?: ComponentChildren;
}

const ROW = 40;
const CARD_LINE = 24;
const CARD_REST = 54;
const MARGIN = 12;
const phone = matchMedia("(max-width: 599px)");
const narrow = signal(phone.matches);
phone.addEventListener("change", (event) => (narrow.value = event.matches));

const middle = matchMedia("(max-width: 1099px)");
const tight = signal(middle.matches);
middle.addEventListener("change", (event) => (tight.value = event.matches));

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

export function compare(a: string | number | bigint, b: string | number | bigint): number {
    if (typeof a === "string" && typeof b === "string") return collator.compare(a, b);
    return a < b ? -1 : a > b ? 1 : 0;
}

/** Sorted and filtered as the viewer asked. The order of equal rows is that in which they came. */
export function arrange<T>(
    rows: readonly T[],
    columns: Column<T>[],
    order: { id: string; down: boolean } | undefined,
    want: string,
): readonly T[] {
    const words = want.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = columns.flatMap((column) => column.text ?? []);
    const kept =
        words.length === 0
            ? rows
            : rows.filter((row) => {
                  const text = texts
                      .map((of) => of(row))
                      .join("\n")
                      .toLowerCase();
                  return words.every((word) => text.includes(word));
              });
    const by = order && columns.find((column) => column.id === order.id)?.sort;
    if (!by) return kept;
    const way = order.down ? -1 : 1;
    return kept
        .map((row) => ({ row, key: by(row) }))
        .sort((a, b) => way * compare(a.key, b.key))
        .map(({ row }) => row);
}

/** Which rows are in sight of the window. */
function useWindow(count: number, height: number) {
    const body = useRef<HTMLElement | null>(null);
    const range = useSignal({ first: 0, last: Math.min(count, 60) });
    const measure = () => {
        const element = body.current;
        if (!element) return;
        const top = element.getBoundingClientRect().top;
        const first = Math.min(Math.max(0, count - 1), Math.max(0, Math.floor(-top / height) - MARGIN));
        const last = Math.min(count, Math.max(first + 1, Math.ceil((innerHeight - top) / height) + MARGIN));
        if (first !== range.value.first || last !== range.value.last) range.value = { first, last };
    };
    useLayoutEffect(measure, [count, height]);
    useEffect(() => {
        addEventListener("scroll", measure, { passive: true });
        addEventListener("resize", measure);
        return () => {
            removeEventListener("scroll", measure);
            removeEventListener("resize", measure);
        };
    }, [count, height]);
    return { body, first: Math.min(range.value.first, count), last: Math.min(range.value.last, count) };
}

export function Table<T>(props: TableProps<T>) {
    const { label, rows, columns, empty, initialSort, loading, filter, toolbar } = props;
    const order = useSignal(initialSort && { id: initialSort.id, down: initialSort.down ?? false });
    const want = useSignal("");
    const shown = useMemo(() => arrange(rows, columns, order.value, want.value), [rows, columns, order.value, want.value]);
    return (
        <div class="table-frame">
            {(filter || toolbar) && (
                <div class="table-tools">
                    {filter && (
                        <div class="table-filter">
                            <Icon name="search" size={14} />
                            <input
                                class="input"
                                type="search"
                                aria-label={`Filter ${label.toLowerCase()}`}
                                placeholder="Filter"
                                value={want.value}
                                spellcheck={false}
                                data-filter=""
                                onInput={(event) => (want.value = event.currentTarget.value)}
                                onKeyDown={(event) => event.key === "Escape" && (want.value = "")}
                            />
                        </div>
                    )}
                    {toolbar}
                    <span class="table-count" role="status">
                        {!loading &&
                            (want.value
                                ? `${shown.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")}`
                                : rows.length.toLocaleString("en-US"))}
                    </span>
                </div>
            )}
            {loading && rows.length === 0 ? (
                <SkeletonTable />
            ) : rows.length === 0 ? (
                (empty ?? <Empty title="Nothing here yet" />)
            ) : shown.length === 0 ? (
                <Empty icon="search" title="Nothing matches">
                    No row holds "{want.value}".
                </Empty>
            ) : narrow.value ? (
                <Cards {...props} rows={shown} />
            ) : (
                <Grid
                    {...props}
                    columns={tight.value ? columns.filter((column) => !column.wide) : columns}
                    rows={shown}
                    order={order.value}
                    onSort={(id) => {
                        const now = order.value;
                        order.value = { id, down: now?.id === id ? !now.down : false };
                    }}
                />
            )}
        </div>
    );
}

function useOpen<T>({ rowHref, onOpen }: TableProps<T>) {
    return (row: T, event?: MouseEvent) => {
        // A click on a button or link in the row, or the end of a selection, is meant for that.
        if (
            event &&
            (!isPlainClick(event) ||
                (event.target as Element).closest("a, button, input, label") ||
                getSelection()?.isCollapsed === false)
        )
            return;
        const to = rowHref?.(row);
        if (to !== undefined) navigate(to);
        else onOpen?.(row);
    };
}

function Grid<T>(props: TableProps<T> & { order: { id: string; down: boolean } | undefined; onSort: (id: string) => void }) {
    const { label, rows, columns, rowKey, rowHref, onOpen, order, onSort } = props;
    const { body, first, last } = useWindow(rows.length, ROW);
    const active = useSignal<string | undefined>(undefined);
    const open = useOpen(props);
    const opens = Boolean(rowHref || onOpen);
    const focusable = useComputed(() => active.value);

    const move = (event: KeyboardEvent, at: number) => {
        const page = Math.max(1, Math.floor(innerHeight / ROW) - 4);
        const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: rows.length - 1 }[
            event.key
        ];
        if (
            to === undefined ||
            event.ctrlKey ||
            event.metaKey ||
            event.altKey ||
            (event.target as Element).closest("input, select, textarea")
        ) {
            if (event.key === "Enter" && event.target === event.currentTarget) open(rows[at]!);
            return;
        }
        event.preventDefault();
        const next = Math.min(rows.length - 1, Math.max(0, to));
        active.value = rowKey(rows[next]!);
        // Scrolled to first, so that the row is there to be focused.
        const top = body.current!.getBoundingClientRect().top + next * ROW;
        const head = 96;
        if (top < head) scrollBy(0, top - head);
        else if (top + ROW > innerHeight - 8) scrollBy(0, top + ROW - innerHeight + 8);
        requestAnimationFrame(() =>
            requestAnimationFrame(() =>
                body.current?.querySelector<HTMLElement>(`tr[data-at="${next}"]`)?.focus({ preventScroll: true }),
            ),
        );
    };

    const anyActive = rows.some((row) => rowKey(row) === focusable.value);
    const lines = [];
    for (let at = first; at < last; at++) {
        const row = rows[at]!;
        const key = rowKey(row);
        const to = rowHref?.(row);
        const can = opens && (anyActive ? focusable.value === key : at === first);
        lines.push(
            <tr
                key={key}
                data-at={at}
                aria-rowindex={at + 2}
                class={opens ? "table-row table-opens" : "table-row"}
                tabIndex={opens ? (can ? 0 : -1) : undefined}
                onClick={(event) => open(row, event)}
                onKeyDown={(event) => move(event, at)}
                onFocus={() => (active.value = key)}
            >
                {columns.map((column, i) => {
                    const inside = column.render(row);
                    return (
                        <td key={column.id} class={column.align === "end" ? "table-cell table-end" : "table-cell"}>
                            <div class="table-inside">
                                {i === 0 && to !== undefined ? (
                                    <Link href={to} tabIndex={-1} class="table-link clip">
                                        {inside}
                                    </Link>
                                ) : (
                                    inside
                                )}
                            </div>
                        </td>
                    );
                })}
            </tr>,
        );
    }
    return (
        <table class="table" aria-label={label} aria-rowcount={rows.length + 1}>
            <colgroup>
                {columns.map((column) => (
                    <col key={column.id} style={column.width ? { width: column.width } : {}} />
                ))}
            </colgroup>
            <thead>
                <tr>
                    {columns.map((column) => (
                        <th
                            key={column.id}
                            scope="col"
                            class={column.align === "end" ? "table-end" : ""}
                            aria-sort={
                                column.sort
                                    ? order?.id === column.id
                                        ? order.down
                                            ? "descending"
                                            : "ascending"
                                        : "none"
                                    : undefined
                            }
                        >
                            {column.sort ? (
                                <button type="button" class="table-sort" onClick={() => onSort(column.id)}>
                                    <span class="clip">{column.title}</span>
                                    <span class="table-arrow">
                                        {order?.id === column.id && <Icon name={order.down ? "down" : "up"} size={12} />}
                                    </span>
                                </button>
                            ) : (
                                <span class="table-title clip">{column.title || <span class="unseen">Actions</span>}</span>
                            )}
                        </th>
                    ))}
                </tr>
            </thead>
            <tbody ref={(element) => void (body.current = element)}>
                {first > 0 && (
                    <tr aria-hidden="true">
                        <td colSpan={columns.length} style={{ height: `${first * ROW}px`, padding: "0" }} />
                    </tr>
                )}
                {lines}
                {last < rows.length && (
                    <tr aria-hidden="true">
                        <td colSpan={columns.length} style={{ height: `${(rows.length - last) * ROW}px`, padding: "0" }} />
                    </tr>
                )}
            </tbody>
        </table>
    );
}

function Cards<T>(props: TableProps<T>) {
    const { label, rows, columns, rowKey, rowHref } = props;
    const title = columns.find((column) => column.card === "title") ?? columns[0]!;
    const rest = columns.filter((column) => column !== title && column.card !== "hide");
    const height = CARD_REST + rest.length * CARD_LINE;
    const { body, first, last } = useWindow(rows.length, height);
    const open = useOpen(props);
    return (
        <ul
            class="cards"
            aria-label={label}
            ref={(element) => void (body.current = element)}
            style={{ height: `${rows.length * height}px` }}
        >
            {rows.slice(first, last).map((row, i) => {
                const to = rowHref?.(row);
                return (
                    <li
                        key={rowKey(row)}
                        class="cards-card"
                        aria-setsize={rows.length}
                        aria-posinset={first + i + 1}
                        style={{ height: `${height - 8}px`, transform: `translateY(${(first + i) * height}px)` }}
                        onClick={(event) => open(row, event)}
                    >
                        <div class="cards-title">
                            {to === undefined ? (
                                title.render(row)
                            ) : (
                                <Link href={to} class="table-link clip">
                                    {title.render(row)}
                                </Link>
                            )}
                        </div>
                        <dl class="cards-facts">
                            {rest.map((column) => (
                                <div class="cards-fact" key={column.id}>
                                    <dt class="clip">{column.title || <span class="unseen">Actions</span>}</dt>
                                    <dd>
                                        <div class="table-inside">{column.render(row)}</div>
                                    </dd>
                                </div>
                            ))}
                        </dl>
                    </li>
                );
            })}
        </ul>
    );
}
