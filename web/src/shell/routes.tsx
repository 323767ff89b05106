// SPDX-License-Identifier: Apache-2.0
// Which page stands at which address.
import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { signal } from "@preact/signals";

import { toProblem, type Problem } from "../api/client";
import { DeployPage } from "../pages/deploy";
import { DeploymentPage } from "../pages/deployment";
import { OverviewPage } from "../pages/overview";
import { ServerPage } from "../pages/server";
import { ServersPage } from "../pages/servers";
import { ServicePage } from "../pages/service";
import { ServicesPage } from "../pages/services";
import { SettingsPage } from "../pages/settings";
import { ErrorBox } from "../parts/feedback";

type Params = Record<string, string>;

export interface Route {
    pattern: string;
    /** Which entry of the navigation is lit. */
    nav: string;
    page: (params: Params) => preact.JSX.Element;
}

/** A page that few look at is fetched when it is asked for. */
function later(load: () => Promise<ComponentType>) {
    const loaded = signal<ComponentType | undefined>(undefined);
    const problem = signal<Problem | undefined>(undefined);
    const fetch = () => {
        problem.value = undefined;
        load().then(
            (page) => (loaded.value = page),
            (error) => (problem.value = toProblem(error)),
        );
    };
    return function Later() {
        useEffect(() => {
            if (!loaded.value) fetch();
        }, []);
        if (problem.value) return <ErrorBox problem={problem.value} retry={fetch} />;
        const Page = loaded.value;
        return Page ? <Page /> : <span />;
    };
}

const UiPage = later(() => import("../pages/ui").then((module) => module.UiPage));

// The key makes another thing another page: nothing of the one before is left in it.
export const ROUTES: Route[] = [
    { pattern: "/", nav: "/", page: () => <OverviewPage /> },
    { pattern: "/servers", nav: "/servers", page: () => <ServersPage /> },
    { pattern: "/servers/:name", nav: "/servers", page: ({ name }) => <ServerPage key={name} name={name!} /> },
    { pattern: "/services", nav: "/services", page: () => <ServicesPage /> },
    {
        pattern: "/services/:project/:name",
        nav: "/services",
        page: ({ project, name }) => <ServicePage key={`${project}/${name}`} project={project!} name={name!} />,
    },
    { pattern: "/deploy", nav: "/services", page: () => <DeployPage /> },
    { pattern: "/deployments/:id", nav: "/services", page: ({ id }) => <DeploymentPage key={id} id={id!} /> },
    { pattern: "/settings", nav: "/settings", page: () => <SettingsPage /> },
    { pattern: "/ui", nav: "/ui", page: () => <UiPage /> },
];
