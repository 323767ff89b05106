/* SPDX-License-Identifier: Apache-2.0 */
/* paths: paths and rights of files in containers, as people type and read them. Pure. */

/** "/a/b" and "c" -> "/a/b/c". */
export function joinPath(folder: string, name: string): string {
    return folder === "/" ? `/${name}` : `${folder}/${name}`;
}

/** "/a/b" -> "/a"; of "/" it is "/". */
export function parentPath(path: string): string {
    return path.slice(0, Math.max(1, path.lastIndexOf("/")));
}

/** What people type: without doubled and closing slashes, and absolute. */
export function cleanPath(text: string): string {
    return "/" + text.split("/").filter(Boolean).join("/");
}

/** 0o755 -> "rwxr-xr-x". */
export function modeText(mode: number): string {
    return [6, 3, 0].map((at) => ["r", "w", "x"].map((c, i) => ((mode >> at) & (4 >> i) ? c : "-")).join("")).join("");
}
