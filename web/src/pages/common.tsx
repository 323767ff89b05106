/* SPDX-License-Identifier: Apache-2.0 */
/* common: what several pages share: a topic on its way to the page, a call with its outcome, badges of the states. */
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

import type { Container } from "../gen/davit/common/v1/service_pb";
import type { Server } from "../gen/davit/control/v1/servers_pb";
import type { Service } from "../gen/davit/control/v1/workloads_pb";
import { toProblem, type Problem } from "../api/client";
import { countdown } from "../api/format";
import { now } from "../api/clock";
import { watch, type Use } from "../api/watch";
import { containerState, serverState, serviceState, type Word } from "../api/words";
import { Badge, Button, Empty, ErrorBox, inert, Notice } from "../parts";

export function StateBadge({ word }: { word: Word }) {
    return (
        <Badge tone={word.tone} title={inert(word.meaning) || undefined}>
            {inert(word.word)}
        </Badge>
    );
}

export function ServerBadge({ server }: { server: Server }) {
    return <StateBadge word={serverState(server)} />;
}

export function ServiceBadge({ service }: { service: Service }) {
    return <StateBadge word={serviceState(service)} />;
}

export function ContainerBadge({ container }: { container: Container }) {
    return <StateBadge word={containerState(container)} />;
}

/** Text of others on one line: nothing in it acts, what does not fit is in the title. */
export function Clip({ text, mono }: { text: string; mono?: boolean }) {
    const shown = inert(text);
    return (
        <span class={mono ? "clip mono" : "clip"} title={shown}>
            {shown}
        </span>
    );
}

/** While the control plane is not reached: that it is so, and when it is tried again. */
export function Away() {
    const at = watch.retryAt.value;
    const left = at ? (at - Date.now()) / 1000 : 0;
    void now.value;
    return (
        <Notice
            tone="warn"
            title="The control plane cannot be reached"
            actions={
                <Button size="small" icon="restart" onClick={() => watch.wake()}>
                    Try now
                </Button>
            }
        >
            {watch.link.value === "offline" ? "This device has no network. " : ""}
            What is shown is the last that was known. It is tried again by itself{left > 1 ? ` in ${countdown(left)}` : ""}.
        </Notice>
    );
}

interface LoadedProps<M> {
    use: Use<M>;
    skeleton: ComponentChildren;
    /** Where to look instead for what is not there. */
    back?: { title: string; href: string };
    children: (model: M) => ComponentChildren;
}

/** What of a topic there is: its failure, a place of its size while it comes, or the content. */
export function Loaded<M>({ use, skeleton, back, children }: LoadedProps<M>) {
    const problem = use.state === "failed" ? use.problem : undefined;
    if (problem?.code === "not_found" && back) {
        return (
            <Empty icon="search" title={inert(problem.message)} actions={<Button href={back.href}>{back.title}</Button>}>
                {inert(problem.hint)}
            </Empty>
        );
    }
    if (problem) return <ErrorBox problem={problem} retry={use.retry} />;
    return (
        <>
            {use.away && <Away />}
            {use.model === undefined ? skeleton : children(use.model)}
        </>
    );
}

export interface Call {
    /** The word that the call was begun with; "" when none is on its way. */
    busy: string;
    problem: Problem | undefined;
    clear: () => void;
    /** Resolves to whether it went well; the problem stays here. A second call while one is on its way does nothing. */
    run: (what: string, f: () => Promise<unknown>) => Promise<boolean>;
}

export function useCall(): Call {
    const busy = useSignal("");
    const problem = useSignal<Problem | undefined>(undefined);
    const here = useRef(true);
    useEffect(() => () => void (here.current = false), []);
    return {
        busy: busy.value,
        problem: problem.value,
        clear: () => (problem.value = undefined),
        run: async (what, f) => {
            if (busy.peek()) return false;
            busy.value = what;
            problem.value = undefined;
            try {
                await f();
                return here.current;
            } catch (e) {
                problem.value = toProblem(e);
                return false;
            } finally {
                busy.value = "";
            }
        },
    };
}

/** What a page asks for once, and again when it changed something or @of is another. Only the answer to what was asked last is taken. */
export function useLoad<T>(load: () => Promise<T>, of = "") {
    const value = useSignal<{ of: string; value: T } | undefined>(undefined);
    const problem = useSignal<Problem | undefined>(undefined);
    const busy = useSignal(false);
    const asked = useRef(0);
    const latest = useRef({ load, of });
    latest.current = { load, of };
    const again = async () => {
        const mine = ++asked.current;
        const { load, of } = latest.current;
        busy.value = true;
        try {
            const got = await load();
            if (mine !== asked.current) return;
            value.value = { of, value: got };
            problem.value = undefined;
        } catch (error) {
            if (mine === asked.current) problem.value = toProblem(error);
        } finally {
            if (mine === asked.current) busy.value = false;
        }
    };
    useEffect(() => {
        problem.value = undefined;
        void again();
    }, [of]);
    /* What was not reached is asked for again when the control plane is back. */
    const open = watch.link.value === "open";
    useEffect(() => {
        if (open && problem.peek()?.code === "unavailable") void again();
    }, [open]);
    const got = value.value;
    return { value: got && got.of === of ? got.value : undefined, problem: problem.value, busy: busy.value, again };
}
