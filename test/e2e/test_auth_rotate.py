# SPDX-License-Identifier: Apache-2.0
"""davit auth rotate: all keys and certificates are made anew while a sandbox runs, and what a control plane needs and does not have is named and cured."""
import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

pytest.importorskip("cryptography")

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402

from lib import proc  # noqa: E402
from lib.pki import DAY, Authority, load_key  # noqa: E402

CONTROL = ("root.crt", "server-ca.key", "server-ca.crt", "agents-ca.key", "agents-ca.crt", "sandboxes-ca.key", "sandboxes-ca.crt",
           "controlplane.crt", "access-token.key", "assertion.jwk")
USER = ("root.key", "root.crt", "cli.key", "cli.crt", "assertion.key")
SLEEP = ("/bin/busybox", "sleep", "1000")


@pytest.fixture(scope="module")
def up(davit_of_file):
    davit_of_file.up()
    yield davit_of_file
    davit_of_file.up(check=False)
    for s in davit_of_file.json("sandbox", "ls").get("sandboxes", []):
        davit_of_file.run("sandbox", "rm", "--force", "--volumes", s["id"], check=False)


def files(d):
    return {n: (d.home / w / n).read_bytes() for w, names in (("state", CONTROL), ("config", USER)) for n in names}


def status(d):
    return d.json("auth", "rotate", "--status")


def of(d, name):
    return next(s for s in d.json("sandbox", "ls")["sandboxes"] if s["name"] == name)


def run(d, name, image):
    p = subprocess.Popen([d.bin / "davit", "run", "--name", name, image, *SLEEP], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, env=d.env)
    return p, proc.wait_for(lambda: next((s for s in d.json("sandbox", "ls").get("sandboxes", [])
                                          if s["name"] == name and s["state"] == "SANDBOX_STATE_RUNNING"), None), 30, text=f"{name} runs")


def old_one(d, name):
    """The user's directory as it is now, with the token that it has."""
    old = d.top / name
    shutil.copytree(d.home / "config", old / "config")
    return d.env | {"DAVIT_HOME": str(old)}


def lost_answer(d, before, name):
    """The user's directory as the first step of a change leaves it: the new waits beside the old."""
    config = d.top / name / "config"
    shutil.copytree(d.home / "config", config)
    (config / "next").mkdir(mode=0o700)
    (config / "access-token.json").unlink(missing_ok=True)
    for n in USER:
        os.rename(config / n, config / "next" / n)
        with open(config / n, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(before[n])
    return d.env | {"DAVIT_HOME": str(d.top / name)}


def signers(d):
    """How many keys the control plane tells that tokens may be of."""
    config = d.home / "config"
    got = proc.run(["curl", "-s", "--cacert", config / "root.crt", "--cert", config / "cli.crt", "--key", config / "cli.key",
                    f"https://127.0.0.1:{d.api}/.well-known/jwks.json"])
    return len(json.loads(got.out)["keys"])


@pytest.mark.req("CW-11", "CW-12")
def test_everything_is_new_and_a_sandbox_goes_on(up, docker, busybox_image):
    p, one = run(up, "one", busybox_image)
    q, two = run(up, "two", busybox_image)
    docker.call("POST", f"/containers/{two['containerId']}/kill")
    q.wait(20)
    started = docker.inspect(one["containerId"])["State"]["StartedAt"]
    before, env = files(up), old_one(up, "old")
    assert up.run("status", env=env).rc == 0 and signers(up) == 1

    said = up.run("auth", "rotate", "--overlap", "1d")
    assert "are new" in said.err and "waiting    sandbox two" in said.out and "is stopped" in said.out, said
    after = files(up)
    assert [n for n in before if before[n] == after[n]] == []
    # Old and new work: the CLI with what it had, its token too; the sandbox has the new over its session.
    assert signers(up) == 2 and up.run("status", env=env).rc == 0
    os.unlink(up.top / "old/config/access-token.json")
    assert up.run("status", env=env).rc == 0
    box = of(up, "one")
    assert box["session"] and box["liveThumbprint"] == box["thumbprint"] != one["thumbprint"] and len(box["rootPins"]) == 2
    assert not [s for s in status(up).get("sandboxes", []) if s.get("running")]
    assert "already" in up.run("auth", "rotate").err and files(up) == after
    up.kill("davitd")
    up.up()
    assert signers(up) == 2 and up.run("status", env=env).rc == 0 and "hours the old one opens nothing" in up.run("status").out

    # At its end the old opens nothing, also after a restart; what runs never noticed.
    end = up.run("auth", "rotate", "--now")
    assert "opens nothing any more" in end.out and not (up.home / "config/old-root.key").exists(), end
    for again in (False, True):
        if again:
            up.kill("davitd")
            up.up()
        assert len(status(up)["roots"]) == 1 and signers(up) == 1
        got = up.run("status", env=env, check=False)
        assert got.rc != 0 and "certificate" in got.err, got
    proc.wait_for(lambda: of(up, "one").get("rootPins") == [status(up)["roots"][0]["pin"]] and of(up, "one")["session"], 30, text="material without the old root")
    assert docker.inspect(one["containerId"])["State"]["StartedAt"] == started
    # Who began it and never heard so is not locked out by its end.
    lost = lost_answer(up, before, "lost")
    assert up.run("status", env=lost).rc == 0 and (up.top / "lost/config/root.crt").read_bytes() == after["root.crt"]
    assert not (up.top / "lost/config/next").exists()
    # One that was stopped all the time gets its material now.
    up.run("sandbox", "start", "two")
    assert of(up, "two")["trust"] == "SANDBOX_TRUST_REGISTERED" and of(up, "two")["rootPins"] == of(up, "one")["rootPins"]
    assert not status(up).get("sandboxes")
    for s in ("one", "two"):
        up.run("sandbox", "rm", "--force", "--volumes", s)
    p.wait(20)


@pytest.mark.req("CW-12")
def test_an_overlap_ends_by_itself(up):
    env = old_one(up, "brief")
    up.run("auth", "rotate", "--overlap", "1s", "--wait", "0s")
    assert up.run("status", env=env, check=False).rc == 0 or len(status(up)["roots"]) == 1
    proc.wait_for(lambda: len(status(up)["roots"]) == 1, 10, text="its end")
    assert up.run("status", env=env, check=False).rc != 0 and "roots.end" in up.run("audit", "export").out
    # Also while nobody is there to end it: who starts again finds it over.
    env = old_one(up, "off")
    up.run("auth", "rotate", "--overlap", "1s", "--wait", "0s")
    if len(status(up)["roots"]) == 2:
        up.kill("davitd")
        time.sleep(1.1)
        up.up()
    assert len(status(up)["roots"]) == 1 and signers(up) == 1
    assert up.run("status", env=env, check=False).rc != 0


@pytest.mark.req("CW-11", "CW-12")
@pytest.mark.parametrize("delay", [pytest.param(0.12, marks=pytest.mark.all_tier), 0.2, pytest.param(0.28, marks=pytest.mark.all_tier)])
def test_cut_off_at_any_moment_it_goes_on(up, delay):
    """kill -9 of the CLI, and of the control plane: a repeat ends what was begun, and nobody is locked out meanwhile."""
    with subprocess.Popen([up.bin / "davit", "auth", "rotate", "--wait", "0s"], env=up.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(p.pid, signal.SIGKILL)
    if delay > 0.15:
        up.kill("davitd")
    up.up()
    assert up.run("status").rc == 0
    up.run("auth", "rotate", "--now", "--wait", "0s")
    assert len(status(up)["roots"]) == 1 and signers(up) == 1 and up.run("status").rc == 0


def sign(d, name, start, life):
    """The certificate of an intermediate as the user's root would have made it at another time."""
    root, old = Authority.load(d.home / "config", "root"), x509.load_pem_x509_certificate((d.home / f"state/{name}.crt").read_bytes())
    now = datetime.datetime.utcnow()
    b = (x509.CertificateBuilder().subject_name(old.subject).issuer_name(root.cert.subject).public_key(old.public_key())
         .serial_number(x509.random_serial_number()).not_valid_before(now + start).not_valid_after(now + life))
    for e in old.extensions:
        b = b.add_extension(e.value, e.critical)
    (d.home / f"state/{name}.crt").write_bytes(b.sign(root.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def swapped_key(d):
    shutil.copy(d.home / "state/agents-ca.key", d.home / "state/server-ca.key")
    return "server-ca.key is not the key of server-ca.crt"


def expired(d):
    sign(d, "server-ca", -10 * DAY, -DAY)
    return "server-ca.crt has expired"


def another_ca(d):
    (d.home / "state/agents-ca.crt").write_bytes(Authority.make().pem())
    return "agents-ca"


def another_root(d):
    (d.home / "state/root.crt").write_bytes(Authority.make().pem())
    return "server-ca.crt was not signed by root.crt"


def missing(d):
    (d.home / "state/agents-ca.crt").unlink()
    (d.home / "state/controlplane.key").unlink()
    return "agents-ca.crt is missing; controlplane.key is missing"


def damaged(d):
    (d.home / "state/access-token.key").write_bytes(b"no key")
    return "access-token.key cannot be used"


@pytest.mark.req("CW-113")
def test_what_does_not_belong_together_is_named_and_cured(up):
    words, server = up.words("davitd"), next(s for s in up.json("server", "ls")["servers"] if s["local"])
    up.down()
    for harm in (swapped_key, expired, another_ca, another_root, missing, damaged):
        want = harm(up)
        for command in ([up.bin / "davitd", *words], [up.bin / "davit", "up"]):
            got = proc.run(command, env=up.env, check=False, timeout=60)
            assert got.rc != 0 and want in got.err + up.log("davitd")[-4000:] and "davit auth rotate" in got.err, (harm, command, got)
        cured = up.run("auth", "rotate")
        assert want in cured.out and "davit up" in cured.out, cured
    again = up.run("auth", "rotate", check=False)
    assert again.rc != 0 and "belong together" in again.err, again
    up.up()
    assert up.run("status").rc == 0
    proc.wait_for(lambda: [s["id"] for s in up.json("server", "ls")["servers"] if s["local"] and s["state"].endswith("ONLINE")] == [server["id"]], 20)
    # Its own certificate is made anew in any case; that it was not as it should be is told, too.
    up.down()
    key = load_key(up.home / "state/server-ca.key")
    (up.home / "state/controlplane.crt").write_bytes(Authority(key, Authority.load(up.home / "state", "server-ca").cert).leaf("davit://controlplane", -DAY, -2 * DAY)[1])
    said = up.up()
    assert "controlplane" in said.err and "davit auth rotate" in said.err and up.run("status").rc == 0, said
