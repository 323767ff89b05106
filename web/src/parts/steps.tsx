// SPDX-License-Identifier: Apache-2.0
// Long work in its steps: what is done, what goes on, what it waits for.
import type { ComponentChildren } from "preact";

import { Icon } from "./icon";
import { Progress } from "./meter";
import { Ago } from "./text";

export type StepMark = "waiting" | "running" | "done" | "failed" | "undone";

export interface Step {
    id: string;
    title: string;
    state: StepMark;
    message?: ComponentChildren;
    /** 0 to 100, while it runs. */
    percent?: number | undefined;
    atUs?: bigint | undefined;
}

const WORDS: Record<StepMark, string> = {
    waiting: "waiting",
    running: "running",
    done: "done",
    failed: "failed",
    undone: "undone",
};

function StepIcon({ state }: { state: StepMark }) {
    return (
        <span class={`step-mark step-${state}`} role="img" aria-label={WORDS[state]}>
            {state === "done" && <Icon name="check" size={12} />}
            {state === "failed" && <Icon name="close" size={12} />}
            {state === "undone" && <Icon name="restart" size={12} />}
        </span>
    );
}

export function Steps({ steps, label }: { steps: Step[]; label?: string }) {
    return (
        <ol class="steps" aria-label={label ?? "Steps"}>
            {steps.map((step) => (
                <li
                    class={`step step-is-${step.state}`}
                    key={step.id}
                    aria-current={step.state === "running" ? "step" : undefined}
                >
                    <StepIcon state={step.state} />
                    <div class="step-text">
                        <div class="step-head">
                            <span class="step-title wrap">{step.title}</span>
                            {step.atUs !== undefined && step.atUs > 0n && (
                                <span class="step-time">
                                    <Ago us={step.atUs} />
                                </span>
                            )}
                        </div>
                        {step.message && <div class="step-message wrap">{step.message}</div>}
                        {step.state === "running" && (
                            <Progress value={step.percent ? step.percent / 100 : undefined} label={`${step.title}: progress`} />
                        )}
                    </div>
                </li>
            ))}
        </ol>
    );
}
