/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of the deploy form: each limit at it and one beyond, and that the control plane's refusals find their field. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { HealthKind, ServiceSpecSchema } from "../../gen/davit/common/v1/service_pb";
import * as spec from "../spec";

const form = (change: Partial<spec.SpecForm>): spec.SpecForm => ({ ...spec.emptyForm(), image: "nginx", name: "web", ...change });
const bad = (change: Partial<spec.SpecForm>): string[] => [...spec.checkForm(form(change)).keys()];

test("image references", () => {
    const digest = "@sha256:" + "a".repeat(64);
    const fine = [
        "nginx",
        "nginx:1.27",
        "team/app",
        "localhost/app",
        "registry:5000/team/web-app:1.2",
        "a.b/c" + digest,
        "x:1" + digest,
        "a/b/c/d",
    ];
    const not = [
        "",
        "Nginx",
        "nginx:",
        "nginx@",
        "nginx@sha256:12",
        "-x",
        "a//b",
        "/a",
        "a/",
        "a b",
        "http://x/y",
        "x:" + "t".repeat(129),
        "reg:0/x",
        "reg:65536/x",
        "a".repeat(513),
    ];
    for (const ref of fine) assert.ok(spec.isImage(ref), ref);
    for (const ref of not) assert.ok(!spec.isImage(ref), ref);
    assert.ok(spec.isImage("a".repeat(512)));
});

test("names", () => {
    assert.ok(spec.isLabel("a") && spec.isLabel("a-1") && spec.isLabel("a".repeat(63)));
    for (const s of ["", "-a", "a-", "A", "a_b", "a".repeat(64), "ä"]) assert.ok(!spec.isLabel(s), s);
    assert.equal(spec.nameOfImage("registry:5000/team/web_app:1.2@sha256:00"), "web-app");
    assert.equal(spec.registryOf("registry:5000/team/x"), "registry:5000");
    assert.equal(spec.registryOf("team/x"), "");
});

test("limits", () => {
    assert.equal(spec.parseCpus("0.01"), 10);
    assert.equal(spec.parseCpus("0.009"), undefined);
    assert.equal(spec.parseCpus("1024"), 1024000);
    assert.equal(spec.parseCpus("1024.001"), undefined);
    assert.equal(spec.parseCpus("1e1"), undefined);
    assert.equal(spec.parseMemory("6m"), 6n << 20n);
    assert.equal(spec.parseMemory("6291455"), undefined);
    assert.equal(spec.parseMemory("2 GB"), 2n << 30n);
    assert.equal(spec.parseMemory("-1"), undefined);
    assert.equal(spec.parseMs("500ms"), 500);
    assert.equal(spec.parseMs("5m"), 300000);
    assert.equal(spec.parseMs("x"), undefined);
    assert.deepEqual(bad({ pids: "4194304" }), []);
    assert.deepEqual(bad({ pids: "4194305" }), ["pids_limit"]);
    assert.deepEqual(bad({ pids: "0" }), ["pids_limit"]);
});

test("commands are split as a shell does, and nothing is expanded", () => {
    assert.deepEqual(spec.parseCommand(`sh -c 'echo "$HOME"' "a b" c\\ d ""`), ["sh", "-c", 'echo "$HOME"', "a b", "c d", ""]);
    assert.deepEqual(spec.parseCommand("  "), []);
    assert.equal(spec.parseCommand("'open"), undefined);
    assert.equal(spec.parseCommand("open\\"), undefined);
    assert.deepEqual(bad({ command: "x ".repeat(spec.COMMAND_MAX) }), []);
    assert.deepEqual(bad({ command: "x ".repeat(spec.COMMAND_MAX + 1) }), ["command"]);
});

test("environment", () => {
    const { rows, bad: lines } = spec.parseEnvText("# c\nA=1\r\nexport B=\"x y\"\n\nC='a=b'\nnonsense\n=x\nD= \n");
    assert.deepEqual(rows, [
        { name: "A", value: "1" },
        { name: "B", value: "x y" },
        { name: "C", value: "a=b" },
        { name: "D", value: " " },
    ]);
    assert.deepEqual(lines, ["nonsense", "=x"]);
    const many = (n: number) => Array.from({ length: n }, (_, i) => ({ name: `V${i}`, value: "" }));
    assert.deepEqual(bad({ env: many(spec.ENV_MAX) }), []);
    assert.deepEqual(bad({ env: many(spec.ENV_MAX + 1) }), ["env"]);
    assert.deepEqual(bad({ env: [{ name: "1A", value: "" }] }), ["env.0.name"]);
    assert.deepEqual(
        bad({
            env: [
                { name: "A", value: "" },
                { name: "A", value: "" },
            ],
        }),
        ["env.1.name"],
    );
    assert.deepEqual(bad({ env: [{ name: "A", value: "x".repeat(spec.ENV_VALUE_MAX) }] }), []);
    assert.deepEqual(bad({ env: [{ name: "A", value: "é".repeat(spec.ENV_VALUE_MAX / 2) + "x" }] }), ["env.0.value"]);
});

test("ports and volumes", () => {
    const port = (p: Partial<spec.PortRow>) =>
        bad({ ports: [{ host: "", hostPort: "8080", containerPort: "80", protocol: "tcp", ...p }] });
    assert.deepEqual(port({}), []);
    assert.deepEqual(port({ hostPort: "" }), []);
    assert.deepEqual(port({ hostPort: "65535" }), []);
    assert.deepEqual(port({ hostPort: "65536" }), ["ports.0.hostPort"]);
    assert.deepEqual(port({ containerPort: "0" }), ["ports.0.containerPort"]);
    assert.deepEqual(port({ containerPort: "8e1" }), ["ports.0.containerPort"]);
    assert.deepEqual(port({ host: "::1" }), []);
    assert.deepEqual(port({ host: "0.0.0.0" }), []);
    assert.deepEqual(port({ host: "256.0.0.1" }), ["ports.0.host"]);
    assert.deepEqual(port({ host: "example" }), ["ports.0.host"]);
    const same = { host: "", hostPort: "80", containerPort: "80", protocol: "tcp" };
    assert.deepEqual(bad({ ports: [same, { ...same, containerPort: "81" }] }), ["ports.1.hostPort"]);
    assert.deepEqual(bad({ ports: [same, { ...same, protocol: "udp" }] }), []);
    const path = (p: string) => bad({ volumes: [{ name: "data", path: p, readOnly: false }] }).length === 0;
    for (const p of ["/data", "/var/lib/x", "/etc/app", "/" + "x".repeat(1023)]) assert.ok(path(p), p);
    for (const p of [
        "/",
        "data",
        "/a/",
        "/a/../b",
        "/a//b",
        "/a:b",
        "/etc",
        "/run",
        "/proc",
        "/sys/fs",
        "/dev/shm",
        "/" + "x".repeat(1024),
        "/a\n",
    ])
        assert.ok(!path(p), p);
});

test("health checks", () => {
    const http = (c: Partial<spec.SpecForm>) => bad({ healthKind: HealthKind.HTTP, ...c });
    assert.deepEqual(http({}), []);
    assert.deepEqual(http({ healthPath: "x" }), ["health.path"]);
    assert.deepEqual(http({ healthPath: "/a b" }), ["health.path"]);
    assert.deepEqual(http({ healthInterval: "99ms" }), ["health.interval"]);
    assert.deepEqual(http({ healthInterval: "5m" }), []);
    assert.deepEqual(http({ healthInterval: "301s" }), ["health.interval"]);
    assert.deepEqual(http({ healthTimeout: "61s" }), ["health.timeout"]);
    assert.deepEqual(http({ healthRetries: "101" }), ["health.retries"]);
    assert.deepEqual(http({ healthGrace: "31m" }), ["health.grace"]);
    assert.deepEqual(bad({ healthKind: HealthKind.NONE, healthPath: "x" }), []);
});

test("a refusal of the control plane finds its field", () => {
    assert.deepEqual(spec.fieldOf('image: "X" is no reference'), { field: "image", text: '"X" is no reference' });
    assert.equal(spec.fieldOf("ports.host_port: 80 is given twice")?.field, "ports");
    assert.equal(spec.fieldOf("health.grace: 9 ms are not allowed")?.field, "health.grace");
    assert.equal(spec.fieldOf("no server web-1"), undefined);
    assert.equal(spec.fieldOf("constructor: x"), undefined);
});

test("the same from a terminal, without values", () => {
    const f = form({
        env: [{ name: "TOKEN", value: "s3cret" }],
        ports: [{ host: "", hostPort: "8080", containerPort: "80", protocol: "tcp" }],
        command: "sh -c 'a b'",
    });
    assert.equal(
        spec.cliOf(f, "web-1"),
        "davit deploy --name web --server web-1 --env TOKEN=… --publish 8080:80 nginx -- sh -c 'a b'",
    );
    assert.equal(spec.specOf(f).env?.[0]?.value, "s3cret");
});

test("hostnames and containers", () => {
    const host = (hostname: string, port = "") => ({ routes: [{ hostname, port }] });
    assert.ok(spec.isHostname("a") && spec.isHostname("shop.example.com") && spec.isHostname("a".repeat(63) + ".b"));
    for (const s of ["", "a..b", "-a.b", "a_b", "a".repeat(64), "a/b", "a:80", ("a".repeat(49) + ".").repeat(5) + "abcd"])
        assert.ok(!spec.isHostname(s), s);
    assert.deepEqual(bad(host("Shop.Example.com", "8080")), []);
    assert.deepEqual(bad(host("shop", "0")), ["routes.0.port"]);
    assert.deepEqual(bad({ routes: [host("a").routes[0]!, host("A").routes[0]!] }), ["routes.1.hostname"]);
    const many = (n: number) => Array.from({ length: n }, (_, i) => ({ hostname: `h${i}`, port: "" }));
    assert.deepEqual(bad({ routes: many(spec.ROUTES_MAX) }), []);
    assert.deepEqual(bad({ routes: many(spec.ROUTES_MAX + 1) }), ["routes"]);
    assert.deepEqual(bad({ replicas: "32" }), []);
    assert.deepEqual(bad({ replicas: "33" }), ["replicas"]);
    const made = spec.specOf(form({ ...host("Shop", "80"), replicas: "3", kept: { allow: ["network:host"] } }));
    assert.deepEqual([made.routes, made.replicas, made.allow], [[{ hostname: "shop", port: 80 }], 3, ["network:host"]]);
    assert.deepEqual(spec.fieldOf("routes.hostname: shop.x belongs to a/b"), { field: "routes", text: "shop.x belongs to a/b" });
});

test("a deployment from the form of one before loses nothing but values and the count of containers", () => {
    const before = create(ServiceSpecSchema, {
        project: "shop",
        name: "web",
        image: "nginx:1",
        command: ["sh", "-c", "a 'b'"],
        env: [{ name: "KEY", value: "", secret: true, file: "key" }],
        cpuMilli: 500n,
        memoryBytes: 128n << 20n,
        volumes: [{ name: "data", path: "/data", readOnly: true }],
        ports: [{ hostIp: "::1", hostPort: 8080, containerPort: 80, protocol: "udp" }],
        health: { kind: HealthKind.HTTP, path: "/up", port: 81, intervalMs: 1500, timeoutMs: 2000, retries: 4, graceMs: 60_000 },
        restart: "always",
        pidsLimit: 99,
        capAdd: ["NET_ADMIN"],
        readOnly: true,
        pull: "never",
        replicas: 2,
        routes: [{ hostname: "shop.example", port: 80 }],
        binds: [{ source: "/srv/a", path: "/a", readOnly: true }],
        allow: ["host-network"],
    });
    for (const field of ServiceSpecSchema.fields) {
        const value = before[field.localName as keyof typeof before];
        assert.ok(Array.isArray(value) ? value.length : value, `${field.name} is not in this test: has the form it?`);
    }
    const f = spec.formOf(before);
    assert.deepEqual([...spec.checkForm(f).keys()], []);
    assert.deepEqual(create(ServiceSpecSchema, spec.specOf(f)), create(ServiceSpecSchema, { ...before, replicas: 0 }));
    const told = spec.cliOf(f, "");
    for (const part of ["--bind /srv/a:/a:ro", "--cap-add NET_ADMIN", "--allow host-network", "--health 81/up", "--health-grace 60s"])
        assert.ok(told.includes(part), `${part} in ${told}`);
    assert.ok(spec.cliOf({ ...f, healthKind: HealthKind.NONE }, "").includes("--health none"));
});
