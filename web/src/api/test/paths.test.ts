// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";

import { cleanPath, joinPath, modeText, parentPath, wordsOf } from "../paths";

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

test("a command line is taken apart as a shell does it", () => {
    assert.deepEqual(wordsOf("sh"), ["sh"]);
    assert.deepEqual(wordsOf("  psql   -U postgres "), ["psql", "-U", "postgres"]);
    assert.deepEqual(wordsOf(`sh -c "echo \\"a b\\""`), ["sh", "-c", 'echo "a b"']);
    assert.deepEqual(wordsOf(`sh -c 'echo $HOME'`), ["sh", "-c", "echo $HOME"]);
    assert.deepEqual(wordsOf("a\\ b c"), ["a b", "c"]);
    assert.deepEqual(wordsOf(""), []);
});
