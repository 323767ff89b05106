// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";

// The little of a browser that the modules touch when they are loaded.
const give = (name: string, value: unknown) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
give("location", new URL("https://davit.test:7440/servers?add=1"));
give("addEventListener", () => undefined);
give("matchMedia", () => ({ matches: false, addEventListener: () => undefined }));
give("navigator", { userAgent: "test", onLine: true });
give("document", { documentElement: { dataset: {} }, hidden: false, addEventListener: () => undefined });
give("window", globalThis);

const { href, isOurs, match } = await import("../router");
const { score } = await import("../palette");
const { arrange, compare } = await import("../../parts/table");
const { stepTo } = await import("../../parts/choose");
const { passwordFault } = await import("../../pages/setup");
const { deviceName } = await import("../../pages/useragent");

test("an address is ours only if it stays here", () => {
    for (const to of ["/", "/servers/a", "/servers?x=//e.test"]) assert.equal(isOurs(to), true, to);
    for (const to of ["//e.test", "/\\e.test", "https://e.test/", "javascript:alert(1)", "servers", "", "/\t/e.test"])
        assert.equal(isOurs(to), false, to);
});

test("patterns take one part each, decoded, and never an empty one", () => {
    assert.deepEqual(match("/", "/"), {});
    assert.deepEqual(match("/servers/:name", "/servers/web%2F1"), { name: "web/1" });
    assert.deepEqual(match("/servers/:name", "/servers/a/"), { name: "a" });
    assert.equal(match("/servers/:name", "/servers/"), undefined);
    assert.equal(match("/servers/:name", "/servers/%zz"), undefined);
    assert.equal(match("/servers/:name", "/servers/a/b"), undefined);
    assert.equal(href("servers", "a/b?c#d"), "/servers/a%2Fb%3Fc%23d");
});

test("the palette puts beginnings first, then words, then letters in order", () => {
    const points = ["web", "shop/web", "cobweb", "w-e-b", "x"].map((text) => score(text, "web"));
    assert.deepEqual(points, [4, 3, 2, 1, 0]);
});

test("rows are sorted by number within text, stay in order where equal, and are filtered by all words", () => {
    const rows = ["b10", "b9", "a1", "b9"].map((name, i) => ({ name, i }));
    const columns = [{ id: "name", title: "", render: () => null, sort: (r: { name: string }) => r.name, text: (r: { name: string }) => r.name }];
    const names = (id: string, down: boolean, want: string) => arrange(rows, columns, { id, down }, want).map((r) => r.name + r.i);
    assert.deepEqual(names("name", false, ""), ["a12", "b91", "b93", "b100"]);
    assert.deepEqual(names("name", true, ""), ["b100", "b91", "b93", "a12"]);
    assert.deepEqual(names("none", false, "B 9"), ["b91", "b93"]);
    assert.ok(compare(2n, 10n) < 0);
});

test("ten thousand rows are arranged within a frame or two", () => {
    const rows = Array.from({ length: 10_000 }, (_, i) => ({ name: `thing-${(i * 7919) % 10_007}` }));
    const columns = [{ id: "name", title: "", render: () => null, sort: (r: { name: string }) => r.name, text: (r: { name: string }) => r.name }];
    assert.equal(arrange(rows, columns, { id: "name", down: false }, "thing")[0]?.name, "thing-0");
});

test("arrow keys go round, Home and End to the ends", () => {
    assert.equal(stepTo("ArrowDown", 2, 3, "ArrowUp", "ArrowDown"), 0);
    assert.equal(stepTo("ArrowUp", 0, 3, "ArrowUp", "ArrowDown"), 2);
    assert.equal(stepTo("End", 0, 3, "ArrowUp", "ArrowDown"), 2);
    assert.equal(stepTo("x", 0, 3, "ArrowUp", "ArrowDown"), undefined);
    assert.equal(stepTo("Home", 0, 0, "ArrowUp", "ArrowDown"), undefined);
});

test("a password has 10 to 256 characters, however many bytes", () => {
    assert.ok(passwordFault("9 letters"));
    assert.equal(passwordFault("10 letters"), undefined);
    assert.equal(passwordFault("\u{1f6a2}".repeat(10)), undefined);
    assert.equal(passwordFault("x".repeat(256)), undefined);
    assert.ok(passwordFault("x".repeat(257)));
});

test("a browser's name is one of ours, whatever it says", () => {
    assert.equal(deviceName("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"), "Firefox on Linux");
    assert.equal(deviceName("<script>alert(1)</script>"), "Unknown browser");
});
