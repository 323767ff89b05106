// SPDX-License-Identifier: Apache-2.0
// What is shown: the pages, or what stands before them (login, first start, no answer).
import { Component, type ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

import type { Problem } from "./api/client";
import { FirstStart, LoginPage } from "./pages/login";
import { SetupPage } from "./pages/setup";
import { Button, ErrorBox, Toasts } from "./parts";
import { loadSession, session, sessionLost, sessionProblem } from "./session";
import { Help } from "./shell/help";
import { Bare, NotFound, Shell } from "./shell/nav";
import { Palette } from "./shell/palette";
import { match, path } from "./shell/router";
import { ROUTES } from "./shell/routes";

/** A page that broke takes no other with it. */
class Guard extends Component<{ at: string; children: ComponentChildren }, { error?: Error }> {
    override state: { error?: Error } = {};

    static override getDerivedStateFromError(error: Error) {
        return { error };
    }

    override componentDidUpdate(before: { at: string }) {
        if (before.at !== this.props.at && this.state.error) this.setState({ error: undefined as never });
    }

    override render() {
        const { error } = this.state;
        if (!error) return this.props.children;
        return (
            <div class="lost">
                <h1>This page broke</h1>
                <p class="quiet">
                    That is a fault of the dashboard, not of your servers: they go on. Loading the page again helps as a rule.
                </p>
                <pre class="code-block">{error.message}</pre>
                <div class="row">
                    <Button kind="primary" icon="restart" onClick={() => location.reload()}>
                        Load again
                    </Button>
                    <Button onClick={() => this.setState({ error: undefined as never })}>Try once more</Button>
                </div>
            </div>
        );
    }
}

function ToLogin() {
    useEffect(sessionLost, []);
    return null;
}

const ASK_AGAIN_MS = 3000;

/** The first question was not answered: it is asked again by itself, as the text promises. */
function NoAnswer({ problem }: { problem: Problem }) {
    useEffect(() => {
        const timer = setTimeout(() => void loadSession(), ASK_AGAIN_MS);
        return () => clearTimeout(timer);
    }, [problem]);
    return (
        <Bare>
            <ErrorBox title="No answer from the control plane" problem={problem} retry={() => void loadSession()} />
        </Bare>
    );
}

function Page() {
    const at = path.value;
    if (sessionProblem.value && !session.value) return <NoAnswer problem={sessionProblem.value} />;
    if (!session.value) return null;
    if (at === "/setup") return <SetupPage />;
    if (!session.value.ownerExists) return <FirstStart />;
    if (at === "/login") return <LoginPage />;
    if (!session.value.person) return <ToLogin />;
    for (const route of ROUTES) {
        const params = match(route.pattern, at);
        if (params)
            return (
                <Shell nav={route.nav}>
                    <Guard at={at}>{route.page(params)}</Guard>
                </Shell>
            );
    }
    return (
        <Shell nav="">
            <NotFound />
        </Shell>
    );
}

export function App() {
    return (
        <>
            <Guard at={path.value}>
                <Page />
            </Guard>
            {session.value?.person && <Palette />}
            <Help />
            <Toasts />
        </>
    );
}
