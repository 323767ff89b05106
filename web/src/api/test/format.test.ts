/* SPDX-License-Identifier: Apache-2.0 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeName, decodeHint, toProblem } from "../client";
import * as f from "../format";

test("sizes and shares", () => {
    assert.equal(f.bytes(0), "0 B");
    assert.equal(f.bytes(1023n), "1023 B");
    assert.equal(f.bytes(1536), "1.5 KB");
    assert.equal(f.bytes(150n << 30n), "150 GB");
    assert.equal(f.bytes(1n << 62n), "4096 PB");
    assert.equal(f.bytes(-1), "-");
    assert.equal(f.rate(2048), "2.0 KB/s");
    assert.equal(f.percent(0.125), "12.5 %");
    assert.equal(f.percent(NaN), "-");
    assert.equal(f.cores(1500), "150 %");
    assert.equal(f.count(1, "server"), "1 server");
    assert.equal(f.count(12345, "server"), "12,345 servers");
});

test("times", () => {
    assert.deepEqual([0, 59, 60, 3600, 3900, 86400, 90000, 11 * 86400 + 3600].map(f.duration), [
        "0 s",
        "59 s",
        "1 min",
        "1 h",
        "1 h 5 min",
        "1 d",
        "1 d 1 h",
        "11 d",
    ]);
    assert.equal(f.countdown(3543), "59:03");
    assert.equal(f.countdown(3661), "1:01:01");
    assert.equal(f.countdown(-5), "00:00");
    assert.equal(f.ago(0n, 5_000), "never");
    assert.equal(f.ago(2_000_000n, 5_000), "3 s ago");
    assert.equal(f.ago(9_000_000n, 5_000), "now");
    assert.equal(f.until(65_000_000n, 5_000), "in 1 min");
    assert.equal(f.until(1_000_000n, 61_000), "1 min ago");
});

test("addresses and ids", () => {
    assert.equal(f.hostPort("::1", 80), "[::1]:80");
    assert.equal(f.short("sha256:0123456789abcdef"), "0123456789ab");
});

test("failures keep code, message and hint", () => {
    assert.equal(codeName(Code.FailedPrecondition), "failed_precondition");
    assert.equal(decodeHint("davit%20up%20%e2%80%a6"), "davit up …");
    assert.equal(decodeHint("100% sure"), "100% sure");
    const e = new ConnectError("no server web-1", Code.NotFound, new Headers({ "davit-hint": "davit%20server%20ls" }));
    assert.deepEqual(toProblem(e), { code: "not_found", message: "no server web-1", hint: "davit server ls" });
    assert.equal(toProblem(new TypeError("Failed to fetch")).code, "unavailable");
    assert.equal(toProblem(new ConnectError("", Code.Internal)).message, "It failed without a reason.");
});

test("a plot of one sample, or of none, reaches over two minutes and not over a day", () => {
    assert.deepEqual(f.spanOf([1000]), [1000 - f.SPAN_MIN_S, 1000]);
    assert.deepEqual(f.spanOf([], 5000), [5000 - f.SPAN_MIN_S, 5000]);
    assert.deepEqual(f.spanOf([1000, 1100]), [980, 1100]);
    assert.deepEqual(f.spanOf([1000, 2000]), [1000, 2000]);
});
