// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";

import { cleanPath, joinPath, modeText, parentPath } from "../paths";

test("paths are put together and taken apart", () => {
    assert.equal(joinPath("/", "etc"), "/etc");
    assert.equal(joinPath("/a/b", "c"), "/a/b/c");
    assert.equal(parentPath("/a/b"), "/a");
    assert.equal(parentPath("/a"), "/");
    assert.equal(parentPath("/"), "/");
});

test("what is typed becomes absolute and plain", () => {
    assert.equal(cleanPath(""), "/");
    assert.equal(cleanPath("a//b/"), "/a/b");
    assert.equal(cleanPath("///"), "/");
});

test("rights are told as ls does", () => {
    assert.equal(modeText(0o755), "rwxr-xr-x");
    assert.equal(modeText(0o600), "rw-------");
    assert.equal(modeText(0), "---------");
});
