// SPDX-License-Identifier: Apache-2.0
// The frame around all pages: navigation at the left (on a phone at the bottom), and a head with search, connection, theme and person.
import type { ComponentChildren } from "preact";

import { connection } from "../api/watch";
import { Button, Icon, IconButton, type IconName, KeyHint, Menu, StateDot, type Tone, toastProblem, Wordmark } from "../parts";
import { toProblem } from "../api/client";
import { logout, session } from "../session";
import { openHelp } from "./help";
import { openPalette } from "./palette";
import { Link } from "./router";
import { choice, choose, theme } from "./theme";

export interface NavEntry {
    href: string;
    title: string;
    icon: IconName;
    keys: string;
}

export const NAV: NavEntry[] = [
    { href: "/", title: "Overview", icon: "overview", keys: "G O" },
    { href: "/servers", title: "Servers", icon: "server", keys: "G S" },
    { href: "/services", title: "Services", icon: "service", keys: "G V" },
    { href: "/sandboxes", title: "Sandboxes", icon: "sandbox", keys: "G B" },
    { href: "/events", title: "Events", icon: "history", keys: "G E" },
    { href: "/settings", title: "Settings", icon: "settings", keys: "G T" },
];

const LINKS: Record<"connecting" | "live" | "reconnecting" | "off", { tone: Tone; word: string; about: string }> = {
    live: { tone: "ok", word: "Live", about: "What you see changes by itself" },
    connecting: { tone: "pending", word: "Connecting", about: "The live connection is being made" },
    reconnecting: {
        tone: "warn",
        word: "Reconnecting",
        about: "The live connection is lost: what you see may be old. It comes back by itself",
    },
    off: { tone: "neutral", word: "Idle", about: "Nothing on this page changes by itself" },
};

function Connection() {
    const { tone, word, about } = LINKS[connection.value];
    return (
        <span class={`live tone-${tone}`} role="status" title={about}>
            <StateDot tone={tone} />
            <span class="live-word">{word}</span>
        </span>
    );
}

function ThemeButton() {
    const dark = theme.value === "dark";
    return (
        <IconButton
            icon={dark ? "sun" : "moon"}
            label={dark ? "Light theme" : "Dark theme"}
            onClick={() => choose(dark ? "light" : "dark")}
        />
    );
}

function PersonMenu() {
    const name = session.value?.person?.name ?? "";
    return (
        <Menu
            label={`Account of ${name}`}
            icon="person"
            items={[
                { label: "Settings", icon: "settings", href: "/settings" },
                choice.value !== "system" && { label: "Theme of the system", icon: "system", onSelect: () => choose("system") },
                { label: "Keyboard shortcuts", icon: "info", onSelect: openHelp },
                {
                    label: "Log out",
                    icon: "leave",
                    onSelect: () => logout().catch((error) => toastProblem("Logging out failed", toProblem(error))),
                },
            ]}
        />
    );
}

export function Shell({ nav, children }: { nav: string; children: ComponentChildren }) {
    return (
        <div class="shell">
            <a
                class="skip"
                href="#main"
                onClick={(event) => {
                    event.preventDefault();
                    document.getElementById("main")?.focus();
                }}
            >
                Skip to content
            </a>
            <nav class="nav" aria-label="Main">
                <Link href="/" class="nav-brand" aria-label="Davit: overview">
                    <Wordmark size={22} />
                </Link>
                <ul class="nav-list">
                    {NAV.map(({ href, title, icon }) => (
                        <li key={href}>
                            <Link href={href} class="nav-link" aria-current={nav === href ? "page" : undefined}>
                                <Icon name={icon} />
                                <span>{title}</span>
                            </Link>
                        </li>
                    ))}
                </ul>
                <Link href="/deploy" class="button button-plain nav-deploy">
                    <Icon name="deploy" />
                    <span>Deploy</span>
                </Link>
                <p class="nav-version" title="Version of the control plane">
                    {session.value?.version}
                </p>
            </nav>
            <header class="head">
                <Link href="/" class="head-brand" aria-label="Davit: overview">
                    <Wordmark size={20} />
                </Link>
                <button
                    type="button"
                    class="head-search"
                    onClick={openPalette}
                    aria-keyshortcuts="Control+K Meta+K"
                >
                    <Icon name="search" size={14} />
                    <span class="head-search-text">Go to or do</span>
                    <KeyHint keys="Mod+K" />
                </button>
                <span class="grow" />
                <Connection />
                <ThemeButton />
                <PersonMenu />
            </header>
            <main class="main" id="main" tabIndex={-1}>
                {children}
            </main>
        </div>
    );
}

/** For pages without navigation: login, first start. */
export function Bare({ children }: { children: ComponentChildren }) {
    return (
        <div class="bare">
            <header class="bare-head">
                <Wordmark size={26} />
                <ThemeButton />
            </header>
            <main class="bare-main" id="main" tabIndex={-1}>
                {children}
            </main>
        </div>
    );
}

export function NotFound() {
    return (
        <div class="lost">
            <p class="lost-code">404</p>
            <h1>There is no page here</h1>
            <p class="quiet wrap">The address may be of something that was removed, or mistyped.</p>
            <div class="row">
                <Button kind="primary" href="/">
                    Overview
                </Button>
                <Button onClick={openPalette} icon="search">
                    Search
                </Button>
            </div>
        </div>
    );
}
