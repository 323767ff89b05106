// SPDX-License-Identifier: Apache-2.0
// The one-time link: its secret stands behind the # of the address, which browsers send nowhere, and leaves the address at once.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { sessions, toProblem, type Problem } from "../api/client";
import { Button, Code, Form, Notice, TextField, toast } from "../parts";
import { afterLogin, loadSession, session } from "../session";
import { Bare } from "../shell/nav";
import { FirstStart, LoginPage } from "./login";

export const PASSWORD_MIN = 10;
export const PASSWORD_MAX = 256;

let secret = "";

function take(): void {
    if (location.pathname !== "/setup" || location.hash.length < 2) return;
    secret = location.hash.slice(1);
    history.replaceState(null, "", "/setup");
}
take();
// The same tab may be given a second link.
addEventListener("hashchange", take);

/** What is wrong with a new password; nothing if nothing is. Counted in characters, as the control plane does. */
export function passwordFault(password: string): string | undefined {
    const length = [...password].length;
    if (length < PASSWORD_MIN) return `At least ${PASSWORD_MIN} characters: it has ${length}.`;
    if (length > PASSWORD_MAX) return `At most ${PASSWORD_MAX} characters: it has ${length}.`;
    return undefined;
}

/** A new password, typed twice. */
export function useNewPassword() {
    const password = useSignal("");
    const again = useSignal("");
    const tried = useSignal(false);
    const fault = passwordFault(password.value);
    const differs = password.value === again.value ? undefined : "The two differ.";
    return { password, again, tried, fault, differs };
}

export function NewPassword({
    of,
    label,
    hint,
    autoFocus = false,
}: {
    of: ReturnType<typeof useNewPassword>;
    label: string;
    hint: string;
    autoFocus?: boolean;
}) {
    const { password, again, tried, fault, differs } = of;
    return (
        <>
            <TextField
                label={label}
                name="password"
                type="password"
                value={password.value}
                onInput={(text) => (password.value = text)}
                required
                autoFocus={autoFocus}
                autocomplete="new-password"
                error={tried.value ? fault : undefined}
                hint={`${PASSWORD_MIN} characters or more. ${hint}`}
            />
            <TextField
                label={`${label} again`}
                name="again"
                type="password"
                value={again.value}
                onInput={(text) => (again.value = text)}
                required
                autocomplete="new-password"
                error={tried.value ? differs : undefined}
            />
        </>
    );
}

export function SetupPage() {
    const old = session.value?.ownerExists;
    const name = useSignal("owner");
    const fresh = useNewPassword();
    const { password, tried, fault, differs } = fresh;
    const busy = useSignal(false);
    const problem = useSignal<Problem | undefined>(undefined);

    useEffect(() => {
        document.title = "Set the password · Davit";
    }, []);
    // Without a link there is nothing to set: the way in is the login, if there is one.
    if (secret === "") return session.value?.ownerExists ? <LoginPage /> : <FirstStart />;

    const submit = async () => {
        tried.value = true;
        if (fault || differs || busy.value) return;
        busy.value = true;
        problem.value = undefined;
        try {
            // Empty: as it is. A new password renames nobody.
            await sessions.setUpOwner({ secret, name: old ? "" : name.value.trim(), password: password.value });
            secret = "";
            await loadSession();
            toast({ tone: "ok", title: "The password is set" });
            afterLogin(null);
        } catch (error) {
            problem.value = toProblem(error);
        } finally {
            busy.value = false;
        }
    };
    return (
        <Bare>
            <div class="door">
                <h1>{old ? "A new password" : "Welcome aboard"}</h1>
                <p class="quiet">
                    {old
                        ? "It replaces the old one, and ends all sessions."
                        : "Choose the password of this Davit's owner. There is no other way in from a browser."}
                </p>
                <Form
                    label="Set the password"
                    onSubmit={() => void submit()}
                    error={problem.value}
                    actions={
                        <Button kind="primary" type="submit" busy={busy.value}>
                            Set the password
                        </Button>
                    }
                >
                    {problem.value?.code === "permission_denied" && (
                        <Notice tone="info">
                            A link works once and for an hour. The command{" "}
                            <Code>{session.value?.ownerExists ? "davit dashboard --reset" : "davit dashboard"}</Code> prints a new
                            one.
                        </Notice>
                    )}
                    {!old && (
                        <TextField
                            label="Name"
                            name="username"
                            value={name.value}
                            onInput={(text) => (name.value = text)}
                            required
                            autocomplete="username"
                        />
                    )}
                    <NewPassword of={fresh} label="Password" hint="A few words are easy to keep in mind." autoFocus />
                </Form>
            </div>
        </Bare>
    );
}
