// SPDX-License-Identifier: Apache-2.0
// The door: login, and what stands there before there is an owner.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { sessions, toProblem, type Problem } from "../api/client";
import { Button, CopyField, Form, TextField } from "../parts";
import { afterLogin, loadSession, session } from "../session";
import { Bare } from "../shell/nav";
import { query } from "../shell/router";

const LINK_COMMAND = "davit dashboard";
const RESET_COMMAND = "davit dashboard --reset";

export function LoginPage() {
    const name = useSignal("owner");
    const password = useSignal("");
    const busy = useSignal(false);
    const problem = useSignal<Problem | undefined>(undefined);
    const lacking = useSignal(false);
    const next = query.value.get("next");

    useEffect(() => {
        document.title = "Log in · Davit";
        if (session.value?.person) afterLogin(next);
    }, []);

    const submit = async () => {
        lacking.value = password.value === "";
        if (lacking.value || busy.value) return;
        busy.value = true;
        problem.value = undefined;
        try {
            await sessions.login({ name: name.value.trim(), password: password.value });
            await loadSession();
            afterLogin(next);
        } catch (error) {
            problem.value = toProblem(error);
            password.value = "";
        } finally {
            busy.value = false;
        }
    };
    return (
        <Bare>
            <div class="door">
                <h1>Log in</h1>
                <Form
                    label="Log in"
                    onSubmit={() => void submit()}
                    error={problem.value}
                    actions={
                        <Button kind="primary" type="submit" busy={busy.value}>
                            Log in
                        </Button>
                    }
                >
                    <TextField
                        label="Name"
                        name="username"
                        value={name.value}
                        onInput={(text) => (name.value = text)}
                        required
                        autocomplete="username"
                    />
                    <TextField
                        label="Password"
                        name="password"
                        type="password"
                        value={password.value}
                        onInput={(text) => (password.value = text)}
                        required
                        autoFocus
                        autocomplete="current-password"
                        error={lacking.value ? "The password is missing." : undefined}
                    />
                </Form>
                <details class="door-more">
                    <summary>Password forgotten?</summary>
                    <p class="quiet">
                        On the machine of the control plane, this prints a link with which a new one is set. It works once.
                    </p>
                    <CopyField label="Command" text={RESET_COMMAND} />
                </details>
            </div>
        </Bare>
    );
}

/** No owner yet, and no link was followed: there is no page here on which just anybody could become one. */
export function FirstStart() {
    useEffect(() => {
        document.title = "First start · Davit";
    }, []);
    return (
        <Bare>
            <div class="door">
                <h1>Who owns this Davit?</h1>
                <p class="quiet">
                    Nobody yet. On the machine of the control plane, this command prints a link that works once: open it in this
                    browser and choose a password.
                </p>
                <CopyField label="Command" text={LINK_COMMAND} hint="The davit up of the first start printed one too." />
                <div class="row">
                    <Button icon="restart" onClick={() => void loadSession()}>
                        Look again
                    </Button>
                </div>
            </div>
        </Bare>
    );
}
