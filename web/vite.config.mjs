// SPDX-License-Identifier: Apache-2.0
// How the dashboard is bundled. `vite dev` proxies calls to a davitd whose plain listener is DAVIT_WEB (default 127.0.0.1:7441).
import { defineConfig } from "vite";

const backend = `http://${process.env.DAVIT_WEB ?? "127.0.0.1:7441"}`;

export default defineConfig({
    clearScreen: false,
    esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
    build: {
        target: "es2021",
        outDir: "dist",
        emptyOutDir: true,
        // Inline data would need a wider content security policy, and the polyfill an inline script.
        assetsInlineLimit: 0,
        modulePreload: { polyfill: false },
        cssCodeSplit: false,
        reportCompressedSize: false,
        rollupOptions: {
            output: {
                entryFileNames: "assets/app-[hash].js",
                chunkFileNames: "assets/[name]-[hash].js",
                assetFileNames: "assets/[name]-[hash][extname]",
            },
        },
    },
    server: {
        port: 5173,
        // The control plane takes calls of its own origin only.
        proxy: { "^/davit\\.": { target: backend, changeOrigin: true, ws: true, headers: { origin: backend } } },
    },
});
