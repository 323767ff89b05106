// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";

import { inert } from "../inert";
import { LINE_MAX, LogBuffer } from "../logbuffer";

const out = (text: string) => ({ text, stream: "out" as const });

test("text of others: nothing in it steers a terminal, turns the line or hides", () => {
    assert.equal(inert("\u001b[31mred\u001b[0m"), "red");
    assert.equal(inert("\u001b]0;title\u0007x"), "x");
    assert.equal(inert("\u001b]8;;http://e\u001b\\link\u001b]8;;\u001b\\"), "link");
    assert.equal(inert("a\u202eb\u200bc\ufeff"), "a<U+202E>b<U+200B>c<U+FEFF>");
    assert.equal(inert("\u0000\u0007\u001b\u007f\u0085"), "␀␇␛␡\ufffd");
    assert.equal(inert("tab\tstays\r"), "tab\tstays");
    assert.equal(inert("<img src=x onerror=alert(1)>"), "<img src=x onerror=alert(1)>");
});

test("a log buffer holds so many lines, and one more drops the oldest", () => {
    const buffer = new LogBuffer(3);
    buffer.push([out("a"), out("b"), out("c")]);
    assert.equal(buffer.dropped, 0);
    buffer.push([out("d")]);
    assert.equal(buffer.length, 3);
    assert.equal(buffer.dropped, 1);
    assert.equal(buffer.at(0)?.text, "b");
    assert.equal(buffer.at(0)?.seq, 1);
    assert.equal(buffer.text(), "b\nc\nd\n");
});

test("a log buffer holds so much text, but always the last line", () => {
    const buffer = new LogBuffer(100, 10);
    buffer.push([out("12345"), out("67890")]);
    assert.equal(buffer.length, 2);
    buffer.push([out("x")]);
    assert.equal(buffer.length, 2);
    buffer.push([out("y".repeat(11))]);
    assert.equal(buffer.length, 1);
});

test("a line at the limit is kept whole, one beyond is cut and says so", () => {
    const buffer = new LogBuffer();
    buffer.push([out("z".repeat(LINE_MAX)), out("z".repeat(LINE_MAX + 1))]);
    assert.equal(buffer.at(0)?.text.length, LINE_MAX);
    assert.match(buffer.at(1)?.text ?? "", / … 1 more characters$/);
});

test("a million lines stay bounded, and the search finds among what is held", () => {
    const buffer = new LogBuffer(1000);
    for (let i = 0; i < 1000; i++) buffer.push(Array.from({ length: 1000 }, (_, k) => out(`line ${i * 1000 + k}`)));
    assert.equal(buffer.length, 1000);
    assert.equal(buffer.dropped, 999_000);
    assert.deepEqual(buffer.find("LINE 999999"), [999]);
    assert.deepEqual(buffer.find(""), []);
    buffer.clear();
    assert.equal(buffer.length, 0);
});
