#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// build.mjs STEP...: the steps that make the dashboard, run in a folder that holds web/'s files and node_modules.
//   gen PROTO    TypeScript of the schema in PROTO into src/gen
//   check        type check
//   bundle       vite build into dist
//   test         unit tests: src/**/*.test.ts
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

const run = (program, args) => {
    const { status, error } = spawnSync(program, args, { stdio: "inherit" });
    if (error) throw error;
    if (status !== 0) process.exit(1);
};
const node = (file, ...args) => run(process.execPath, [join("node_modules", file), ...args]);
const find = (folder, match) =>
    readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
        const path = join(folder, entry.name);
        if (entry.isDirectory()) return find(path, match);
        return match(path) ? [path] : [];
    });

const steps = {
    gen(proto) {
        const parts = ["davit/common", "davit/control", "davit/options"];
        const files = parts.flatMap((part) => find(join(proto, part), (path) => path.endsWith(".proto")));
        rmSync("src/gen", { recursive: true, force: true });
        mkdirSync("src/gen", { recursive: true });
        execFileSync(
            "protoc",
            [
                "-I",
                proto,
                "--plugin=protoc-gen-es=node_modules/.bin/protoc-gen-es",
                "--es_out=src/gen",
                "--es_opt=target=ts",
                ...files,
            ],
            { stdio: "inherit" },
        );
    },
    check: () => node("typescript/bin/tsc", "-p", "."),
    bundle: () => node("vite/bin/vite.js", "build", "--logLevel", "warn"),
    async test() {
        const { build } = await import(join(process.cwd(), "node_modules/esbuild/lib/main.js"));
        const out = mkdtempSync(join(process.cwd(), "node-test-"));
        try {
            const entryPoints = find("src", (path) => path.endsWith(".test.ts") || path.endsWith(".test.tsx"));
            await build({
                entryPoints,
                outdir: out,
                bundle: true,
                platform: "node",
                format: "esm",
                outExtension: { ".js": ".mjs" },
                jsx: "automatic",
                jsxImportSource: "preact",
                logLevel: "warning",
            });
            run(process.execPath, ["--test", ...find(out, (path) => path.endsWith(".mjs"))]);
        } finally {
            rmSync(out, { recursive: true, force: true });
        }
    },
};

const args = process.argv.slice(2);
while (args.length > 0) {
    const step = args.shift();
    if (!(step in steps)) throw new Error(`no step ${step}`);
    await (step === "gen" ? steps.gen(args.shift()) : steps[step]());
}
