# SPDX-License-Identifier: Apache-2.0
"""davit controlplane backup and restore: while it works, into a fresh place, from one engine to the other, and what is refused."""
import json
import os
import pathlib
import shutil
import signal
import stat
import struct
import threading
import time

import pytest

from lib import davit as davit_lib
from lib import proc
from lib.remote import Remote


def names(d):
    return {s["name"] for s in d.json("server", "ls")["servers"]}


def wait_online(d, name, timeout=30):
    proc.wait_for(lambda: any(s["name"] == name and s["state"] == "SERVER_STATE_ONLINE" for s in d.json("server", "ls")["servers"]), timeout,
                  text=f"{name} online")


def local_name(d):
    return next(s["name"] for s in d.json("server", "ls")["servers"] if s.get("local"))


def restored(d):
    return [e for e in d.json("audit", "ls", "--limit", "500")["entries"] if e["action"] == "controlplane.restored"]


def one_restored(d, created):
    """The one entry of a restore: of the right backup, by us, and its mark is gone."""
    entry, = restored(d)
    assert (entry["object"], entry["actor"], entry["outcome"]) == (created, f"uid:{os.getuid()}", "ok"), entry
    assert entry["reason"].endswith(f"ends with entry {int(entry['number']) - 1}")
    proc.wait_for(lambda: not (d.home / "state/restored").exists(), text="the mark is gone")


@pytest.mark.req("PR-14")
@pytest.mark.smoke
def test_backup_while_it_works_and_back(davit, busybox_image, docker):
    davit.home = davit.top / 'quo"te'  # what is said in JSON must bear it
    davit.up()
    davit.run("deploy", busybox_image, "--name", "web", timeout=90)
    remote = Remote(davit, "far-1")
    remote.add()
    remote.enroll()
    remote.start()
    remote.wait()
    before = names(davit)
    stop, made, failed = threading.Event(), [], []

    def write():
        while not stop.is_set():
            r = davit.run("server", "add", f"w-{len(made)}", check=False)
            (made if r.rc == 0 else failed).append(f"w-{len(made)}")

    writer = threading.Thread(target=write)
    writer.start()
    proc.wait_for(lambda: len(made) >= 3, text="writes")
    acknowledged = set(made)
    file = davit.top / "a.backup"
    said = davit.run("controlplane", "backup", file)
    during = len(made)
    proc.wait_for(lambda: len(made) > during, text="writes after the backup")
    stop.set()
    writer.join()
    assert not failed
    assert "secrets" in said.out and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert davit.run("controlplane", "backup", file, check=False).rc != 0
    davit.run("controlplane", "backup", "--force", davit.top / "b.backup")

    assert davit.run("controlplane", "restore", file, check=False).rc != 0  # there is one already
    container = docker.containers("davit.service=web")[0]["Id"]
    answer = davit.json("controlplane", "restore", "--force", file, timeout=120)
    assert answer["running"] and pathlib.Path(answer["kept"], "control.db").exists()
    now = names(davit)
    assert before | acknowledged <= now and now != before | set(made)
    # The log goes on from where the backup ends, in one chain.
    assert davit.run("audit", "verify").out.startswith("The log is whole: ")
    assert len(answer["notes"]) == 2 and "tokens" in answer["notes"][0] and answer["settings"] is False
    one_restored(davit, answer["created"])
    # Both agents come back as who they were, and the service is still that container.
    remote.wait(timeout=40)
    wait_online(davit, local_name(davit))
    services = davit.json("ps")["services"]
    assert [s["name"] for s in services] == ["web"] and docker.containers("davit.service=web")[0]["Id"] == container
    davit.run("deploy", busybox_image, "--name", "web", "--env", "A=1", timeout=90)


@pytest.mark.all_tier
@pytest.mark.req("PR-14")
def test_other_machine_and_other_engine(davit, bin_dir, docker, pg):
    davit.up("--no-agent")
    davit.run("server", "add", "kept-1")
    file = davit.top / "c.backup"
    davit.run("controlplane", "backup", file)
    davit.down()
    other = davit_lib.Davit(bin_dir, docker, davit.top / "other")
    other.top.mkdir(mode=0o755)
    store = pg.url + "#elsewhere"
    try:
        # No keys, no state: as on a new machine, and into PostgreSQL.
        other.run("controlplane", "restore", "--store", store, file, timeout=120)
        other.up("--no-agent")
        assert names(other) == {"kept-1"} and other.json("status")["store"] == "postgresql"
        other.run("server", "add", "new-1")
        back = davit.top / "d.backup"
        other.run("controlplane", "backup", back)
        other.run("server", "add", "lost-1")
        said = other.json("controlplane", "restore", "--force", back, timeout=120)
        assert names(other) == {"kept-1", "new-1"} and said["kept"]
        assert "elsewhere_before_restore_" in pg.sql("SELECT string_agg(nspname, ' ') FROM pg_namespace")
        # And from PostgreSQL to a file, with the same keys.
        davit.run("controlplane", "restore", "--force", back, timeout=120)
        davit.up("--no-agent")
        assert names(davit) == {"kept-1", "new-1"} and davit.json("status")["store"] == "sqlite"
    finally:
        if other.pid("davitd-pg"):
            other.kill("davitd-pg", signal.SIGTERM)
        shutil.rmtree(other.home, ignore_errors=True)


def settings(d):
    return json.loads((d.home / "config/cli.json").read_text())


def without_settings(file, to):
    """A backup as it was made when cli.json was not in it."""
    data = file.read_bytes()
    at = data.index(b"davit backup 1\n", 1)
    return remade(file, to, without(b"cli.json"), at)


@pytest.mark.req("PR-14")
@pytest.mark.smoke
def test_emptied_machine(davit):
    """What davit up was told comes back with the keys, where there is none; the log tells of the restore, after a crash too."""
    davit.up("--no-agent", "--advertise", "cp.example.com", "--docker", "unix:///other.sock")
    davit.run("server", "add", "kept-1")
    file, old = davit.top / "h.backup", davit.top / "old.backup"
    davit.run("controlplane", "backup", file)
    said = davit.run("controlplane", "backup", "-", check=False, cwd=davit.top)
    assert said.rc != 0 and "into a file" in said.err and not (davit.top / "-").exists()
    told = settings(davit)
    assert told["advertise"] == "cp.example.com" and told["docker"] == "unix:///other.sock"

    davit.down()
    shutil.rmtree(davit.home)
    said = davit.run("controlplane", "restore", file)
    for words in ("cli.json", "tokens that were used", "audit log ends"):
        assert words in said.out, said
    # Whether it is in a container is this machine's affair, and not said yet.
    assert settings(davit) == {**told, "mode": None} and (davit.home / "state/restored").exists()
    # On disk is the entry, and the mark is still there: at most the entry is doubled.
    mark = (davit.home / "state/restored").read_bytes()
    quiet = {k: v for k, v in davit.env.items() if k != "DOCKER_HOST"}  # nothing is said again
    davit.run("up", "--no-agent", timeout=90, env=quiet)
    assert settings(davit) == told and names(davit) == {"kept-1"}
    one_restored(davit, restored(davit)[0]["object"])
    davit.kill("davitd")
    (davit.home / "state/restored").write_bytes(mark)
    davit.up("--no-agent")
    assert len(restored(davit)) == 2
    assert davit.run("audit", "verify").out.startswith("The log is whole: ")

    # What is there stays, as the keys do; and a backup without it restores.
    davit.up("--no-agent", "--advertise", "new.example.com")
    davit.run("controlplane", "restore", "--force", file)
    assert settings(davit)["advertise"] == "new.example.com" and len(restored(davit)) == 1
    davit.down()
    shutil.rmtree(davit.home)
    assert davit.json("controlplane", "restore", without_settings(file, old))["settings"] is False
    assert not (davit.home / "config/cli.json").exists()
    davit.up("--no-agent")
    assert names(davit) == {"kept-1"}


def spoiled(file, to, change):
    data = bytearray(file.read_bytes())
    change(data)
    to.write_bytes(data)
    return to


def siphash(before, number, data):
    """SipHash-2-4, as store/archive.h has it."""
    mask = 2**64 - 1
    v = [before ^ 0x736f6d6570736575, number ^ 0x646f72616e646f6d, before ^ 0x6c7967656e657261, number ^ 0x7465646279746573]

    def turn(x, n):
        return (x << n | x >> (64 - n)) & mask

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & mask
            v[1] = turn(v[1], 13) ^ v[0]
            v[0] = turn(v[0], 32)
            v[2] = (v[2] + v[3]) & mask
            v[3] = turn(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & mask
            v[3] = turn(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & mask
            v[1] = turn(v[1], 17) ^ v[2]
            v[2] = turn(v[2], 32)

    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 255])
    for word in struct.unpack(f"<{len(padded) // 8}Q", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 255
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def remade(file, to, change, start=0):
    """The backup with other records in the part at @start, and checks that hold."""
    data, at, records = file.read_bytes(), start + 16, []
    while not records or records[-1][0] != b"E":
        n = int.from_bytes(data[at + 1:at + 5], "big")
        records.append([data[at:at + 1], data[at + 5:at + 5 + n]])
        at += 13 + n
    records = change(records[:-1])
    records.append([b"E", len(records).to_bytes(8, "big")])
    out, check = data[:start + 16], 0
    for number, (kind, payload) in enumerate(records):
        record = kind + len(payload).to_bytes(4, "big") + payload
        check = siphash(check, number, record)
        out += record + check.to_bytes(8, "big")
    to.write_bytes(out + data[at:])
    return to


def named_file(name):
    return lambda record: record[0] == b"F" and record[1].startswith(bytes([len(name)]) + name)


def without(name):
    return lambda records: [r for r in records if not named_file(name)(r)]


def renamed(old, new):
    return lambda records: [[k, bytes([len(new)]) + new + p[1 + len(old):]] if named_file(old)([k, p]) else [k, p] for k, p in records]


def newer(records):
    return [[k, p.replace(b'"version":"0.1.0"', b'"version":"9.1.0"') if k == b"M" else p] for k, p in records]


def twice(records):
    return [q for r in records for q in ([r, r] if named_file(b"root.crt")(r) else [r])]


UNFIT = [
    (newer, "was written by Davit 9.1.0"),
    (lambda r: [[k, p.replace(b'"audit"', b'"tidua"') if k == b"M" else p] for k, p in r], "another schema"),
    (lambda r: [[k, p.replace(b'"audit"', b'"audit","tomorrow"') if k == b"M" else p] for k, p in r], "newer version"),
    (renamed(b"master.key", b"../escaped.key"), "a name that is none"),
    (renamed(b"master.key", b"escaped.key"), "does not belong there"),
    (twice, "twice"),
    (lambda r: [[k, p.replace(b"\x05audit", b"\x05tidua") if k == b"T" else p] for k, p in r], "does not fit"),
    (lambda r: [q for q in r if q[0] != b"T" or b"\x05audit" not in q[1][:7]], "damaged"),
    (without(b"master.key"), "lacks keys"),
    (without(b"agents-ca.crt"), "lacks keys"),
    (renamed(b"agents-ca.key", b"server-ca.key"), "twice"),
]


@pytest.mark.all_tier
@pytest.mark.req("PR-14")
def test_what_is_no_good_backup(davit):
    davit.up("--no-agent")
    davit.run("server", "add", "kept-1")
    file, bad = davit.top / "e.backup", davit.top / "bad.backup"
    davit.run("controlplane", "backup", file)
    davit.run("server", "add", "later-1")
    inode = os.stat(davit.home / "state").st_ino

    def newer(data):
        data[:] = data.replace(b'"version":"0.1.0"', b'"version":"9.1.0"')

    cases = [
        (lambda d: d.__setitem__(slice(None), b"not a backup at all\n"), "is no backup of Davit"),
        (lambda d: d.__delitem__(slice(len(d) // 2, None)), "damaged"),
        (lambda d: d.__setitem__(len(d) // 3, d[len(d) // 3] ^ 1), "damaged"),
        (lambda d: d.extend(b"more"), "damaged"),
        (lambda d: d.clear(), "is no backup of Davit"),
        (newer, "damaged"),  # a check covers the manifest too
    ]
    for change, why in cases:
        said = davit.run("controlplane", "restore", "--force", spoiled(file, bad, change), check=False)
        assert said.rc != 0 and why in said.err, said
    assert names(davit) == {"kept-1", "later-1"}  # it was not even stopped
    # Files that are well made and still not ours to restore: all is left as it was, and the program goes on.
    for change, why in UNFIT:
        said = davit.run("controlplane", "restore", "--force", remade(file, bad, change), check=False)
        assert said.rc != 0 and why in said.err, said
    assert names(davit) == {"kept-1", "later-1"}
    assert os.stat(davit.home / "state").st_ino == inode
    assert not list(davit.home.glob("state.*")) and not list(davit.top.glob("**/escaped*"))


@pytest.mark.req("PR-14")
def test_what_is_no_good_backup_leaves_the_tables_alone(davit, pg):
    store = pg.url + "#unfit"
    davit.up("--no-agent", "--store", store)
    file, bad = davit.top / "g.backup", davit.top / "bad.backup"
    davit.run("controlplane", "backup", file)
    davit.run("server", "add", "later-1")
    assert davit.run("controlplane", "restore", "--force", remade(file, bad, without(b"agents-ca.crt")), check=False).rc != 0
    assert names(davit) == {"later-1"}
    # One that was to change the store as well leaves what davit up was told, and davitd where it was.
    told = settings(davit)
    assert davit.run("controlplane", "restore", "--force", "--store", "", remade(file, bad, without(b"agents-ca.crt")), check=False).rc != 0
    assert names(davit) == {"later-1"} and settings(davit) == told
    assert pg.sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'unfit\\_%'") == "0"
    davit.run("controlplane", "restore", "--force", file)
    assert not davit.json("server", "ls").get("servers")


@pytest.mark.req("PR-14")
def test_killed_in_the_middle(davit):
    """A restore that dies at any moment leaves the old state or the new one, and either of them starts."""
    davit.up("--no-agent")
    davit.run("server", "add", "old-1")
    file = davit.top / "f.backup"
    davit.run("controlplane", "backup", file)
    davit.run("server", "add", "new-1")
    seen = set()
    for n, delay in enumerate((0.05, 0.2, 0.4)):
        b = proc.Background([davit.bin / "davit", "controlplane", "restore", "--force", file], davit.top / f"kill{n}", env=davit.env)
        try:
            b.p.wait(delay)
        except Exception:
            b.stop(signal.SIGKILL)
        davit.up("--no-agent")
        seen.add(frozenset(names(davit)))
    assert seen <= {frozenset({"old-1"}), frozenset({"old-1", "new-1"})}
    # What an earlier restore of the same second kept is not touched.
    now = int(time.time())
    for second in range(now, now + 30):
        (davit.home / f"state.before-restore-{second}").mkdir(exist_ok=True)
        (davit.home / f"state.before-restore-{second}" / "mine").touch()
    davit.run("controlplane", "restore", "--force", file)
    assert names(davit) == {"old-1"}
    assert len(list(davit.home.glob("state.before-restore-*/mine"))) == 30
    davit.down("--purge")
    assert not davit.home.exists()
