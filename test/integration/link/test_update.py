# SPDX-License-Identifier: Apache-2.0
"""An agent that updates itself, or does not: against a control plane, a service manager and a shelf of releases made by lib.updates."""
import os
import shutil
import subprocess
import time

import pytest

from lib import proc
from lib.updates import NEW, OLD, a_host, modules  # noqa: F401 (a fixture)

OTHER = "0.3.0"


@pytest.fixture
def host(modules):
    with a_host(modules, "--trial-wait", "60s") as h:
        yield h.start()


@pytest.fixture(scope="module")
def old(modules):
    """One agent that nothing here brings to another version; each test sees that it is the same process as before."""
    with a_host(modules, "--trial-wait", "5s") as h:
        yield h.start()


def refused(host, words, reason, timeout=60):
    main = host.manager.main
    result = host.update(words, timeout)
    assert result.HasField("failure") and result.failure.reason == reason, f"{result}\n{host.manager.text()[-3000:]}"
    host.unchanged(main)
    return result.failure


@pytest.mark.req("CL-18", "CL-80", "CL-81")
def test_an_update_takes_over_and_keeps_the_one_before(host):
    before, first = host.manager.main, host.plane.hellos[-1]
    assert first.system.update_method == "slots" and first.system.agent_version == OLD
    host.shelf.how = [503, 429]  # a server that asks for patience is no failure
    result = host.update(host.offer())
    assert not result.HasField("failure"), f"{result}\n{host.manager.text()[-6000:]}"
    assert result.outcome == f"updated to {NEW}" and len(host.shelf.asked) == 3
    assert host.plane.online().system.agent_version == NEW
    assert host.current() == f"{NEW}-1" == host.manager.exe()
    assert os.readlink(host.prefix / "previous") == f"slots/{OLD}-1"
    assert host.slots() == {f"{OLD}-1", f"{NEW}-1", "counter"}
    assert host.manager.main != before and host.manager.starts == 1, "handed over, not started anew"
    assert (host.dir / "lock").read_text().strip() == str(host.manager.main)
    # The same once more is done already; what was before is a step back, also with a counter that was not seen.
    assert host.update(host.offer()).outcome == f"already at {NEW}"
    assert host.update(host.offer(OLD, host.program, counter=99)).failure.reason == "update_version"


@pytest.mark.req("CL-82")
def test_a_new_version_that_dies_at_once_is_taken_back(host):
    seq = host.plane.send(update_agent=host.modules.link.UpdateAgent(**host.offer()))
    host.manager.kills_next = True  # the very moment it is told of: nothing of it may be in the journal yet
    result = host.plane.result(seq)
    assert result.failure.reason == "update_replace" and "came to an end" in result.failure.message, result
    assert host.current() == f"{OLD}-1" == host.manager.exe() and host.manager.starts == 2
    assert host.plane.online().system.agent_version == OLD
    assert host.slots() <= {f"{OLD}-1", "counter"}
    # What is left of it is in no next one's way.
    assert host.update(host.offer()).outcome == f"updated to {NEW}"


@pytest.mark.all_tier
@pytest.mark.req("CB-4")
def test_what_is_killed_in_the_trial_begins_it_again(host):
    host.plane.refused = {NEW}
    seq = host.plane.send(update_agent=host.modules.link.UpdateAgent(**host.offer()))
    proc.wait_for(lambda: "another version is tried" in host.manager.text(), 60, every=0.05)
    time.sleep(0.5)
    host.manager.kill()
    proc.wait_for(lambda: host.manager.starts == 2 and host.plane.live, 30)
    host.plane.refused = set()
    assert host.plane.result(seq).outcome == f"updated to {NEW}"
    assert host.current() == f"{NEW}-1" == host.manager.exe()


# --- What is not believed --------------------------------------------------------------------------------------------------------

@pytest.mark.req("CL-79")
def test_what_two_of_the_makers_did_not_sign(old):
    for spoil in (lambda m, s: (m, ""), lambda m, s: (m, s.splitlines(True)[0]), lambda m, s: (m.replace(b"0.2.0", b"0.2.1"), s),
                  lambda m, s: (m, s.replace("a", "b")), lambda m, s: (b"", s)):
        refused(old, old.offer(spoil=spoil), "update_signature")
    refused(old, old.offer(keys=(4, 5)), "update_signature")
    refused(old, old.offer(keys=(1, 4)), "update_signature")
    refused(old, old.offer(created=int(time.time()) - 100 * 86400, days=90), "update_signature")
    assert not old.shelf.asked, "nothing was downloaded"


@pytest.mark.req("CB-6")
def test_an_old_release_under_a_newer_name(old):
    words = old.offer("0.0.9")
    assert "says version 0.2.0" in refused(old, words | {"version": NEW}, "update_version").message
    refused(old, words | {"version": NEW, "url": words["url"].replace("0.0.9", NEW)}, "update_version")
    refused(old, words, "update_version")
    # An older release of the same name: its counter is behind.
    replayed = old.offer(counter=5)
    (old.prefix / "slots/counter").write_text("6\n")
    assert "5" in refused(old, replayed, "update_version").message
    (old.prefix / "slots/counter").unlink()
    refused(old, old.offer(OTHER, min_from=NEW), "update_version")
    assert not old.shelf.asked, "nothing was downloaded"


@pytest.mark.req("CL-76")
def test_a_command_that_is_not_what_was_signed(old):
    words = old.offer()
    refused(old, words | {"sha256": "0" * 64}, "update_checksum")
    refused(old, words | {"sha256": ""}, "update_checksum")
    refused(old, words | {"size": words["size"] + 1}, "update_checksum")
    refused(old, words | {"url": words["url"].replace("https", "http")}, "update_download")
    refused(old, words | {"url": words["url"] + "x"}, "update_download")
    assert not old.shelf.asked, "nothing was downloaded"


# --- Downloads -------------------------------------------------------------------------------------------------------------------

@pytest.mark.req("CL-78")
def test_downloads_that_are_not_what_was_signed(old):
    words = old.offer()
    for how, reason in (("wrong", "update_checksum"), ("endless", "update_download"), ("huge", "update_download"),
                        ("truncated", "update_download")):
        old.shelf.how = how
        refused(old, words, reason)
    old.shelf.how = None
    refused(old, old.offer() | {"url": old.shelf.url(f"gone/{words['url'].rsplit('/', 1)[1]}")},
            "update_download")


@pytest.mark.req("CL-77")
def test_a_download_has_a_name_that_nothing_starts(old):
    seen = []
    old.shelf.how = lambda: seen.append(old.slots())
    refused(old, old.offer(program=__file__), "update_selftest")
    old.shelf.how = None
    assert len(seen) == 1 and seen[0] - {f"{OLD}-1", "counter"} == {next(n for n in seen[0] if n.startswith(".fetch-"))}


def test_archives_that_no_release_is(old, tmp_path):
    """Signed, and yet not unpacked: what is believed of a release is bounded all the same."""
    import tarfile
    from lib import release

    def with_link(path, top, programs, when):
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            info = tarfile.TarInfo(top)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
            info = tarfile.TarInfo(f"{top}/davit-agent")
            info.type, info.linkname = tarfile.SYMTYPE, "/bin/true"
            tar.addfile(info)

    pack, release.tool.pack_tar = release.tool.pack_tar, with_link
    try:
        words = old.offer()
    finally:
        release.tool.pack_tar = pack
    refused(old, words, "update_extract")


# --- Programs that do not do -------------------------------------------------------------------------------------------------------

def script(host, name, run):
    """A program that passes the selftest as the version that it claims and then does @run."""
    path = host.top / name
    path.write_text(f'#!/bin/sh\n[ "$1" = selftest ] && exec {host.version(NEW)} "$@"\n{run}\n')
    path.chmod(0o755)
    return path


@pytest.mark.req("CB-5")
def test_five_bad_programs_end_on_the_version_before(old):
    garbage, foreign, one = (old.top / n for n in ("garbage", "foreign", "one"))
    garbage.write_bytes(os.urandom(100000))
    body = bytearray(old.version(NEW).read_bytes())
    body[18:20] = b"\xf7\x00"  # e_machine: BPF, which no kernel executes
    foreign.write_bytes(body)
    one.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    for program in (garbage, foreign):
        refused(old, old.offer(program=program), "update_selftest")
    assert refused(old, old.offer(program=one), "update_selftest").detail == "no such luck"
    exits = refused(old, old.offer(program=script(old, "exits", "echo the last words >&2; exit 1")), "update_trial")
    assert "status 1" in exits.message and exits.detail == "the last words"
    refused(old, old.offer(program=script(old, "hangs", "exec sleep 1000")), "update_trial")
    elsewhere = old.top / "elsewhere"
    shutil.copytree(old.dir, elsewhere, ignore=lambda _, names: [n for n in names if n.endswith(".sock")])
    config = elsewhere / "config.yaml"
    config.write_text(config.read_text().replace(str(old.plane.port), str(proc.free_port())))
    lost = script(old, "lost", f'exec {old.version(NEW)} run --config-dir {elsewhere} --takeover')
    assert "not reached" in refused(old, old.offer(program=lost), "update_trial").detail


def test_one_that_is_not_welcome_gives_everything_back(old):
    """It has the journal and the locks already, and commands came meanwhile: the old one goes on with all of them."""
    old.plane.refused = {NEW}
    main = old.manager.main
    seq = old.plane.send(update_agent=old.modules.link.UpdateAgent(**old.offer()))
    tried = old.manager.text().count("another version is tried")
    proc.wait_for(lambda: old.manager.text().count("another version is tried") > tried, 30, every=0.05)
    meanwhile = old.plane.send(remove_service=old.modules.link.RemoveService(project="p", service="s"))
    result = old.plane.result(seq)
    old.plane.refused = set()
    assert result.failure.reason == "update_trial", result
    old.unchanged(main)
    assert old.plane.result(meanwhile).failure.code, "done by the old one, which has no engine"


# --- Where it is not wanted, or cannot be ------------------------------------------------------------------------------------------

def test_what_the_owner_forbids(old):
    policy = old.dir / "policy.yaml"
    policy.write_text("self-update: forbid\n")
    policy.chmod(0o600)
    refused(old, old.offer(), "policy_update")
    policy.unlink()


def test_slots_that_others_may_write_to(old):
    (old.prefix / "slots").chmod(0o777)
    failure = refused(old, old.offer(), "update_method")
    assert "written to by others" in failure.message and "chmod" in failure.hint
    (old.prefix / "slots").chmod(0o755)
    (old.prefix / "slots").rename(old.prefix / "away")
    (old.prefix / "slots").symlink_to("away")
    assert old.update(old.offer()).failure.reason == "update_method"
    (old.prefix / "slots").unlink()
    (old.prefix / "away").rename(old.prefix / "slots")


def test_a_slot_that_is_a_link_is_not_entered(old):
    """Its name stands there already, as a link to somewhere else: that is removed, not followed."""
    outside = old.top / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "davit-agent").write_text("mine")
    seq = len(old.plane.seqs) + 1
    (old.prefix / f"slots/{NEW}-{seq}").symlink_to(outside)
    refused(old, old.offer(program=__file__), "update_selftest")
    assert (outside / "davit-agent").read_text() == "mine"


def test_a_link_comes_back_where_health_does_not(old):
    """Neither the new one nor the old one can open its socket, as on a full disk. The last test of this agent, which has no health from here on."""
    sock = old.dir / "health.sock"
    sock.unlink()
    (sock / "in the way").mkdir(parents=True)
    refused(old, old.offer(), "update_trial")
    assert "health could not be opened again" in old.manager.text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_without_room_nothing_begins(modules):
    with a_host(modules) as h:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "tmpfs", h.prefix], check=True)
        try:
            h.install()
            h.start()
            assert "MB are needed" in refused(h, h.offer(), "update_download").message
            # Room for it when it began, and none any more when it is there.
            size = len(h.shelf.files.popitem()[1])
            subprocess.run(["mount", "-o", f"remount,size={2 * size + (32 << 20) + h.program.stat().st_size}", h.prefix], check=True)
            h.shelf.how = lambda: subprocess.run(["mount", "-o", f"remount,size={h.program.stat().st_size + size // 2}", h.prefix], check=True)
            failure = refused(h, h.offer(), "update_download")
            assert failure.code == 8, failure  # exhausted
        finally:
            h.manager.stop()
            subprocess.run(["umount", "-l", h.prefix], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_in_a_container_it_says_how(modules):
    inside = ("unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run && touch /run/.containerenv && exec \"$@\"", "inside",
              "env", "-u", "NOTIFY_SOCKET")
    with a_host(modules, wrap=inside) as h:
        h.start()
        assert h.plane.hellos[-1].system.update_method == "container"
        failure = h.update(h.offer()).failure
        assert failure.reason == "update_method" and "image of the new version" in failure.hint
