// SPDX-License-Identifier: Apache-2.0
// The frame of a page: where it is, what it is, what can be done with it.
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

import { Link } from "../shell/router";
import { Icon } from "./icon";
import { inert } from "./inert";

export interface Crumb {
    title: string;
    href: string;
}

export function Breadcrumbs({ crumbs }: { crumbs: Crumb[] }) {
    return (
        <nav class="crumbs" aria-label="Breadcrumbs">
            <ol>
                {crumbs.map((crumb, i) => (
                    <li key={crumb.href}>
                        {i > 0 && <Icon name="right" size={12} />}
                        <Link href={crumb.href} class="clip">
                            {inert(crumb.title)}
                        </Link>
                    </li>
                ))}
            </ol>
        </nav>
    );
}

export interface PageProps {
    title: string;
    crumbs?: Crumb[];
    /** A badge beside the title. */
    state?: ComponentChildren;
    subtitle?: ComponentChildren;
    actions?: ComponentChildren;
    /** For forms: not wider than is read well. */
    narrow?: boolean;
    children?: ComponentChildren;
}

export function Page({ title: text, crumbs, state, subtitle, actions, narrow, children }: PageProps) {
    // It may stand in the address, which anybody may have written.
    const title = inert(text);
    useEffect(() => {
        document.title = `${title} · Davit`;
    }, [title]);
    return (
        <div class={narrow ? "page page-narrow" : "page"}>
            <header class="page-head">
                {crumbs && <Breadcrumbs crumbs={crumbs} />}
                <div class="page-title">
                    <h1 class="clip" title={title}>
                        {title}
                    </h1>
                    {state}
                    {actions && <div class="page-actions">{actions}</div>}
                </div>
                {subtitle && <div class="page-subtitle">{subtitle}</div>}
            </header>
            {children}
        </div>
    );
}
