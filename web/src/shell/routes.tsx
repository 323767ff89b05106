// SPDX-License-Identifier: Apache-2.0
// Which page stands at which address.
import { DeployPage } from "../pages/deploy";
import { DeploymentPage } from "../pages/deployment";
import { EventsPage } from "../pages/events";
import { IdentitiesPage } from "../pages/identities";
import { OverviewPage } from "../pages/overview";
import { SandboxPage } from "../pages/sandbox";
import { NewSandboxPage } from "../pages/sandbox_new";
import { SandboxesPage } from "../pages/sandboxes";
import { ServerPage } from "../pages/server";
import { ServersPage } from "../pages/servers";
import { ServicePage } from "../pages/service";
import { ServicesPage } from "../pages/services";
import { SettingsPage } from "../pages/settings";
import { later } from "./later";

type Params = Record<string, string>;

export interface Route {
    pattern: string;
    /** Which entry of the navigation is lit. */
    nav: string;
    page: (params: Params) => preact.JSX.Element;
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
    { pattern: "/sandboxes", nav: "/sandboxes", page: () => <SandboxesPage /> },
    { pattern: "/sandboxes/new", nav: "/sandboxes", page: () => <NewSandboxPage /> },
    { pattern: "/sandboxes/:id", nav: "/sandboxes", page: ({ id }) => <SandboxPage key={id} id={id!} /> },
    { pattern: "/identities", nav: "/sandboxes", page: () => <IdentitiesPage /> },
    { pattern: "/events", nav: "/events", page: () => <EventsPage /> },
    { pattern: "/settings", nav: "/settings", page: () => <SettingsPage /> },
    { pattern: "/ui", nav: "/ui", page: () => <UiPage /> },
];
