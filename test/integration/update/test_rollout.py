# SPDX-License-Identifier: Apache-2.0
"""Rollouts: a real davitd, the real CLI, and agents of grpcio that answer as the test wants: what is pushed, how many at a time, what is recorded, and
what becomes of it when one fails, nobody is there, the control plane is restarted, the user changes his mind."""
import contextlib
import json
import os
import shutil
import sys

import pytest

grpc = pytest.importorskip("grpc")

from lib import edges, postgres, proc, release, updates  # noqa: E402
from lib.daemon import BUILD, Daemon, generate  # noqa: E402
from lib.fake_agent import FakeAgent  # noqa: E402

BIN = BUILD / "test/integration/update"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    try:
        yield generate(out)
    finally:
        sys.path.remove(str(out))


class Plane(Daemon):
    """A davitd that believes the releases of the tests, and `davit` for it."""

    def command(self):
        return [BIN / "davitd", *super().command()[1:], "--web-listen", f"127.0.0.1:{self.web}"]

    def __init__(self, *args):
        super().__init__(*args)
        self.web = proc.free_port()

    def cli(self, *args, check=True, timeout=60):
        return proc.run([BIN / "davit", *args], env=self.cli_env(), check=check, timeout=timeout)

    def cli_env(self):
        if not (self.dir / "config").exists():
            (self.dir / "config").symlink_to(self.user)
            (self.user / "cli.json").write_text(json.dumps({"api": f"127.0.0.1:{self.api}"}))
        return dict(os.environ, DAVIT_HOME=str(self.dir), HOME=str(self.dir))

    def status(self):
        return json.loads(self.cli("server", "update", "--status", "--output", "json").out)

    def states(self):
        return {s["serverName"]: s["state"].removeprefix("ROLLOUT_STEP_STATE_").lower() for s in self.status()["steps"]}

    def until(self, **wanted):
        """Waits until the steps of these servers are in these states; returns all steps by name."""
        proc.wait_for(lambda: wanted.items() <= {k.replace("-", "_"): v for k, v in self.states().items()}.items(), text=f"{wanted}")
        return {s["serverName"].replace("-", "_"): s for s in self.status()["steps"]}

    def update(self, *args):
        """`davit server update ARGS` in the background."""
        b = proc.Background([BIN / "davit", "server", "update", *args], self.dir / f"update.{len(self.background)}.log", env=self.cli_env())
        self.background.append(b)
        return b

    def restart(self):
        assert self.p.stop() == 0
        self.start()


@pytest.fixture
def plane(api, tmp_path):
    agent = tmp_path / "davit-agent"
    agent.write_bytes(b"#!/bin/sh\nexit 0\n")
    files = {"linux-amd64": {"davit-agent": agent}}
    release.make(tmp_path / "releases" / "new", "0.2.0", files, counter=7, scratch=tmp_path)
    release.make(tmp_path / "releases" / "old", "0.1.5", files, counter=6, scratch=tmp_path)
    with contextlib.closing(Plane(api, ["--release-dir", tmp_path / "releases"])) as d:
        d.releases = tmp_path / "releases"
        yield d.start()


def agents(d, n, **more):
    """web-1 ... web-N, enrolled and connected."""
    made = [FakeAgent(d, f"web-{i}", **more) for i in range(1, n + 1)]
    for a in made:
        a.enroll()
        a.connect()
    for a in made:
        proc.wait_for(lambda a=a: d.show(a.name).state == 2, text=f"{a.name} online")
    return made


@pytest.mark.req("CL-75", "CL-76")
def test_the_command_says_what_and_where_from(plane):
    # What is newer and not stable goes to those that ask for it.
    release.make(plane.releases / "beta", "0.3.0", {"linux-amd64": {"davit-agent": plane.releases.parent / "davit-agent"}}, counter=8, channel="beta",
                 scratch=plane.releases.parent)
    (a,) = agents(plane, 1)
    u = plane.update("web-1")
    cmd = a.take()
    got = cmd.update_agent
    metadata = (plane.releases / "new/release.json").read_bytes()
    file = json.loads(metadata)["files"][0]
    assert got.version == "0.2.0" and got.metadata == metadata and got.signatures == (plane.releases / "new/release.sig").read_text()
    assert got.sha256 == file["sha256"] == release.tool.sha256(plane.releases / "new" / file["name"]) and got.size == file["size"]
    assert got.url == f"https://127.0.0.1:{plane.web}/releases/new/{file['name']}"
    a.progress(cmd, "download")
    proc.wait_for(lambda: "download" in plane.cli("server", "update", "--status").out)
    a.updated(cmd)
    assert u.p.wait(20) == 0, u.text()
    assert "done" in u.text() and "1 of 1 done" in u.text()
    # Once more: it is there already, and nothing is sent.
    assert "current" in plane.cli("server", "update", "web-1").out
    assert a.commands.empty()


@pytest.mark.req("CL-88")
def test_the_outcome_is_recorded_and_shown(plane):
    a, b = agents(plane, 2)
    u = plane.update("--all", "--max-parallel", "2")
    b.progress(cmd := b.take(), "verify")
    proc.wait_for(lambda: any(s["phase"] == "verify" for s in plane.status()["steps"] if "phase" in s))
    b.finish(cmd, failure=(9, "signature", "the release is not signed by two of three"))
    a.updated(a.take())
    assert u.p.wait(20) == 1, u.text()
    assert "failed at verify (signature): the release is not signed by two of three" in u.text()
    for _ in range(2):
        shown = plane.cli("server", "show", "web-2").out
        assert "last update" in shown and "to 0.2.0: failed at verify (signature)" in shown
        last = json.loads(plane.cli("server", "show", "web-2", "--output", "json").out)["server"]["update"]
        assert (last["state"], last["reason"], last["phase"], last["toVersion"], last["fromVersion"]) == (
            "ROLLOUT_STEP_STATE_FAILED", "signature", "verify", "0.2.0", "0.1.0")
        assert json.loads(plane.cli("server", "show", "web-1", "--output", "json").out)["server"]["update"]["state"].endswith("_DONE")
        assert plane.status()["rollout"]["state"] == "ROLLOUT_STATE_FAILED"
        plane.restart()


def test_so_many_at_a_time(plane):
    five = agents(plane, 5)
    u = plane.update("--all", "--max-parallel", "2")
    left = {a.name: a for a in five}
    while left:
        working = proc.wait_for(lambda: (lambda w: w if len(w) == min(2, len(left)) else None)(
            [a for a in left.values() if not a.commands.empty()]), text="servers at work")
        states = list(plane.states().values())
        assert states.count("running") == len(working) and states.count("waiting") == len(left) - len(working)
        working[0].updated(working[0].take())
        del left[working[0].name]
    assert u.p.wait(20) == 0, u.text()


def test_a_failure_halts(plane):
    three = agents(plane, 3)
    u = plane.update("--all", "--halt-on-failure")
    first = three[0]
    first.finish(first.take(), failure=(8, "disk_full", "no room"))
    assert u.p.wait(20) == 1, u.text()
    steps = plane.until(web_1="failed", web_2="skipped", web_3="skipped")
    assert steps["web_2"]["reason"] == "halted" and plane.status()["rollout"]["state"] == "ROLLOUT_STATE_HALTED"
    assert three[1].commands.empty() and three[2].commands.empty()


@pytest.mark.parametrize("answered", ["before", "meanwhile"])
def test_it_goes_on_after_a_restart(plane, answered):
    three = agents(plane, 3)
    u = plane.update("--all", "--detach")
    assert u.p.wait(20) == 0
    cmd = three[0].take()
    plane.until(web_1="running")
    if answered == "meanwhile":
        plane.p.stop(9)
        plane.start()
        for a in three:
            a.reconnect()
        three[0].updated(cmd)
    else:
        three[0].finish(cmd)
        plane.until(web_1="confirming")
        plane.restart()
        three[0].version = "0.2.0"
        for a in three:
            a.reconnect()
    for a in three[1:]:
        a.updated(a.take())
    plane.until(web_1="done", web_2="done", web_3="done")
    proc.wait_for(lambda: plane.status()["rollout"]["state"] == "ROLLOUT_STATE_DONE")


def test_cancelled(plane):
    three = agents(plane, 3)
    plane.cli("server", "update", "--all", "--detach")
    cmd = three[0].take()
    refused = plane.cli("server", "update", "--all", check=False)
    assert refused.rc != 0 and "under way" in refused.err
    plane.cli("server", "update", "--cancel")
    plane.until(web_2="skipped", web_3="skipped", web_1="running")
    three[0].updated(cmd)
    steps = plane.until(web_1="done")
    assert steps["web_3"]["reason"] == "cancelled"
    proc.wait_for(lambda: plane.status()["rollout"]["state"] == "ROLLOUT_STATE_CANCELLED")
    assert plane.cli("server", "update", "--cancel", check=False).rc != 0


def test_who_is_passed_over(plane):
    """Each with its word, and none of them is a failure of the rollout."""
    kinds = {"boxed": {"method": "container"}, "packed": {"method": "package"}, "forbids": {"forbids": ["policy_update"]}, "arm": {"arch": "arm64"},
             "newer": {"version": "0.3.0"}, "away": {}}
    made = {name: FakeAgent(plane, name, **more) for name, more in kinds.items()}
    for a in made.values():
        a.enroll()
        a.connect()
        proc.wait_for(lambda a=a: plane.show(a.name).state == 2)
    made["away"].disconnect()
    u = plane.update("--all", "--offline-wait", "1s")
    assert u.p.wait(20) == 0, u.text()
    reasons = {s["serverName"]: s.get("reason") for s in plane.status()["steps"]}
    assert reasons == {"boxed": "container", "packed": "package", "forbids": "policy_update", "arm": "no_build", "newer": "newer", "away": "offline"}
    assert all(a.commands.empty() for a in made.values())


def test_one_that_comes_in_time_is_not_passed_over(plane):
    (a,) = agents(plane, 1)
    a.disconnect()
    plane.cli("server", "update", "web-1", "--offline-wait", "1m", "--detach")
    assert plane.states() == {"web-1": "waiting"}
    a.connect()
    a.updated(a.take())
    plane.until(web_1="done")


def test_one_that_only_says_so_is_not_done(plane):
    (a,) = agents(plane, 1)
    plane.cli("server", "update", "web-1", "--detach")
    a.finish(a.take())
    plane.until(web_1="confirming")
    a.disconnect()
    a.connect()  # as what it was
    assert plane.states() == {"web-1": "confirming"}


def test_bad_requests(plane):
    agents(plane, 1)
    for args, said in (
            (["web-1", "--version", "9.9.9"], "no release 9.9.9"), (["web-1", "--version", "x"], "version: "), (["nobody"], "nobody"),
            ([], "which servers"), (["web-1", "--all"], "not both"), (["web-1", "--status"], "go alone"),
            (["web-1", "--max-parallel", "101"], "max-parallel"), (["web-1", "--max-parallel", "0"], "max-parallel"),
            (["web-1", "--offline-wait", "8d"], "offline-wait")):
        got = plane.cli("server", "update", *args, check=False)
        assert got.rc != 0 and said in got.err, (args, got)
    assert "no rollout yet" in plane.cli("server", "update", "--status", check=False).err


@pytest.mark.all_tier
def test_what_is_no_release_is_shown_and_not_used(plane):
    top = plane.releases
    for name, spoil in {
            "unsigned": lambda d: (d / "release.sig").unlink(), "one": lambda d: release.sign(d, (1,), top.parent),
            "strangers": lambda d: release.sign(d, (4, 5, 6), top.parent), "expired": lambda d: None,
            "changed": lambda d: (d / "davit-0.4.0-linux-amd64.tar").write_bytes(b"x" * (d / "davit-0.4.0-linux-amd64.tar").stat().st_size),
            "short": lambda d: (d / "davit-0.4.0-linux-amd64.tar").write_bytes(b"x"),
            "gone": lambda d: (d / "davit-0.4.0-linux-amd64.tar").unlink(),
            "retold": lambda d: (d / "release.json").write_text((d / "release.json").read_text().replace("0.4.0", "0.5.0"))}.items():
        release.make(top / name, "0.4.0", {"linux-amd64": {"davit-agent": top.parent / "davit-agent"}}, counter=9, scratch=top.parent,
                     **({"created": 1, "days": 1} if name == "expired" else {}))
        spoil(top / name)
    got = {r.get("directory"): r.get("problem", "") for r in json.loads(plane.cli("server", "update", "--releases", "--output", "json").out)["releases"]}
    assert got.pop("new") == got.pop("old") == ""
    said = {"unsigned": "not signed", "one": "signed by 1", "strangers": "signed by 0", "expired": "expired", "changed": "checksum", "short": "size",
            "gone": "davit-0.4.0", "retold": "not one of this release"}
    assert got.keys() == said.keys()
    for name, word in said.items():
        assert word in got[name], (name, got[name])
    agents(plane, 1)
    refused = plane.cli("server", "update", "web-1", "--version", "0.4.0", check=False)
    assert refused.rc != 0 and "no release 0.4.0" in refused.err


class Slots:
    """A real agent as install.sh leaves it: in a slot, started by a manager that hears what it says."""

    def __init__(self, d, name, enroll=None, env=None, more=()):
        """enroll(token, directory): the control plane's own, if another way is not given."""
        self.d, self.name, self.prefix, self.dir = d, name, d.dir / f"{name}-opt", d.dir / f"{name}-etc"
        slot = self.prefix / f"slots/{release.VERSION}-1"
        slot.mkdir(parents=True)
        shutil.copy(BIN / "davit-agent", slot)
        (slot / "MANIFEST").write_text("")
        (self.prefix / "bin").mkdir()
        (self.prefix / "bin/davit-agent").symlink_to("../current/davit-agent")
        (self.prefix / "current").symlink_to(slot.relative_to(self.prefix))
        (enroll or d.enroll)(d.add(name), self.dir)
        top = d.dir / f"{name}-run"
        top.mkdir()
        self.manager = updates.Manager(top, [self.prefix / "bin/davit-agent", "run", "--config-dir", self.dir, "--docker", f"unix:{top}/none",
                                             *more],
                                       d.env | (env or {}))
        proc.wait_for(lambda: d.show(name).state == 2, 40, text=f"{name} online")


@pytest.mark.req("CL-75")
def test_the_whole_way(plane):
    """davitd, davit and an agent as they are: the release comes over 7440, the agent believes it and comes back as the new version."""
    program = release.other_version(BIN / "davit-agent", plane.releases.parent / "new-agent", "0.3.0")
    release.make(plane.releases / "real", "0.3.0", {updates.Host.platform(): {"davit-agent": program}}, counter=9, scratch=plane.releases.parent)
    agent = Slots(plane, "web-1")
    with contextlib.ExitStack() as stack:
        stack.callback(agent.manager.stop)
        assert plane.show("web-1").agent_version == release.VERSION and plane.show("web-1").system.update_method == "slots"
        u = plane.update("web-1")
        assert u.p.wait(90) == 0, u.text() + agent.manager.text()[-3000:]
        assert "1 of 1 done" in u.text() and plane.show("web-1").agent_version == "0.3.0"
        assert os.readlink(agent.prefix / "current").startswith("slots/0.3.0-")
        assert "to 0.3.0: done" in plane.cli("server", "show", "web-1").out
    assert "Sanitizer" not in agent.manager.text()


EDGE = "10.213.11.1"  # what is on loopback goes by no proxy


@pytest.fixture
def edge_address():
    proc.run(["ip", "addr", "add", f"{EDGE}/32", "dev", "lo"])
    yield EDGE
    proc.run(["ip", "addr", "del", f"{EDGE}/32", "dev", "lo"])


@pytest.mark.all_tier
@pytest.mark.req("CL-75", "CL-86")
def test_the_whole_way_through_an_edge(api, tmp_path, edge_address):
    """In tunnel mode, and all of it by the proxy of the environment: the link, the download, and what the new version asks before it takes over."""
    tmp_path.chmod(0o755)
    program = release.other_version(BIN / "davit-agent", tmp_path / "new-agent", "0.3.0")
    release.make(tmp_path / "releases", "0.3.0", {updates.Host.platform(): {"davit-agent": program}}, counter=9, scratch=tmp_path)
    certificates = edges.Certificates(tmp_path, edge_address)
    with contextlib.closing(Plane(api, ["--release-dir", tmp_path / "releases", "--hostname", edge_address])) as d, contextlib.ExitStack() as stack:
        d.start()
        relay = edges.Relay(certificates, d.web, address=(edge_address, 443))
        stack.callback(relay.stop)
        out, url = edges.tinyproxy(tmp_path, edge_address)
        stack.callback(out.stop)
        env = {"HTTPS_PROXY": url}

        def enroll(token, directory):
            proc.run([BIN / "davit-agent", "enroll", "--mode", "tunnel", "--server", f"https://{edge_address}", "--tunnel-ca", certificates.root, "--token-file",
                      "-", "--config-dir", directory], stdin=token + "\n", env=d.env | env)
        agent = Slots(d, "web-1", enroll, env, ("--trial-wait", "3s"))
        stack.callback(agent.manager.stop)
        u = d.update("web-1")
        assert u.p.wait(90) == 0, u.text() + agent.manager.text()[-3000:]
        assert d.show("web-1").agent_version == "0.3.0" and d.show("web-1").connection_mode == "tunnel"
        asked = (tmp_path / "tinyproxy.log").read_text().count(f"CONNECT {edge_address}:443")
        assert relay.connections == asked, "all of it went by the proxy"
        # One that does not reach the control plane says so before the old one gives anything away: its link stays.
        lost, links = tmp_path / "lost", agent.manager.text().count("connected to the control plane")
        shutil.copytree(agent.dir, lost, ignore=lambda _, names: [n for n in names if n.endswith(".sock")])
        config = lost / "config.yaml"
        config.write_text(config.read_text().replace(f"{edge_address}:443", f"{edge_address}:{proc.free_port()}"))
        other = release.other_version(BIN / "davit-agent", tmp_path / "other", "0.4.0")
        script = tmp_path / "script"
        script.write_text(f'#!/bin/sh\n[ "$1" = selftest ] && exec {other} "$@"\nexec {other} run --config-dir {lost} --takeover\n')
        script.chmod(0o755)
        release.make(tmp_path / "releases/later", "0.4.0", {updates.Host.platform(): {"davit-agent": script}}, counter=10, scratch=tmp_path)
        u = d.update("web-1")
        assert u.p.wait(90) != 0 and "update_trial" in u.text(), u.text()
        assert "the control plane was not reached" in agent.manager.text(), agent.manager.text()[-3000:]
        assert agent.manager.text().count("connected to the control plane") == links and d.show("web-1").agent_version == "0.3.0"
        assert "Sanitizer" not in agent.manager.text()


class PgPlane(Plane):
    def command(self):
        return [BIN / "davitd-pg", *super().command()[1:]]


@pytest.mark.all_tier
def test_on_postgresql(api, tmp_path):
    agent = tmp_path / "davit-agent"
    agent.write_bytes(b"x")
    release.make(tmp_path / "r", "0.2.0", {"linux-amd64": {"davit-agent": agent}}, scratch=tmp_path)
    with postgres.Postgres() as pg, contextlib.closing(PgPlane(api, ["--release-dir", tmp_path / "r", "--store", pg.url + "#rollouts"])) as d:
        d.start()
        a, b = agents(d, 2)
        d.cli("server", "update", "--all", "--detach")
        cmd = a.take()
        d.p.stop(9)
        d.start()
        for each in (a, b):
            each.reconnect()
        a.updated(cmd)
        b.finish(b.take(), failure=(9, "signature", "no"))
        d.until(web_1="done", web_2="failed")
        d.restart()
        assert "to 0.2.0: failed (signature)" in d.cli("server", "show", "web-2").out
