# SPDX-License-Identifier: Apache-2.0
"""Stored variables and logins for registries: a service gets them, and nobody finds them anywhere else."""
import json
import pathlib
import subprocess
import urllib.request

import pytest

from lib import images, proc
from lib import registry as registry_lib

# Each stands for one secret; none may be in any file of Davit's, in any form.
TOKEN, KEY, PLAIN = "canary-t0ken-86a1", "canary-key-11d9\nline two\n", "canary-plain-73bc"
# What a container got, told by itself: its environment and its files.
TELL = "mkdir -p /tmp/w; env > /tmp/w/env; cp /run/secrets/* /tmp/w/; ls -ln /run/secrets > /tmp/w/ls; (echo x > /run/secrets/new) 2>/tmp/w/err; " \
       "echo ok > /tmp/w/health; httpd -f -p 8080 -h /tmp/w &\nwait $!\n"


@pytest.fixture
def up(davit_of_file):
    davit_of_file.revive()
    yield davit_of_file
    davit_of_file.clear()


@pytest.fixture
def telling(docker):
    return images.script(docker, "davit-test/telling:1", images.WAITING + TELL, changes=["EXPOSE 8080"])


@pytest.fixture(scope="module")
def closed_registry(docker):
    """One with a password that is found by accident nowhere."""
    with registry_lib.Registry(docker, user="ann", password="canary-registry-2f61") as r:
        yield r


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as r:
        return r.read().decode()


def container(d, service):
    mine = {s["id"] for s in d.json("server", "ls")["servers"]}  # others left theirs on this engine
    found = [c for c in d.engine.containers(f"davit.service={service}") if c["Labels"].get("davit.server") in mine]
    assert len(found) == 1, found
    return d.engine.inspect(found[0]["Id"])


def nowhere(d, *secrets):
    """In none of the files below the home of Davit: databases and their logs, journals, logs of the daemons."""
    seen = 0
    for f in d.home.rglob("*"):
        if not f.is_file():
            continue
        content = f.read_bytes()
        seen += 1
        for s in secrets:
            assert s.encode() not in content, f"{s} stands in {f}"
    assert seen > 5


def deploy(d, image, port, *more):
    return d.run("deploy", "--name", "web", "--publish", f"{port}:8080", "--health", "/health", "--health-interval", "300ms", *more, image)


@pytest.mark.req("CX-8", "WK-9")
def test_secrets_reach_the_service_and_are_found_nowhere_else(up, telling, free_port, tmp_path):
    port = free_port()
    (tmp_path / "key.pem").write_text(KEY)
    first = KEY.split("\n")[0]
    up.run("env", "set", "--secret", "web", "TOKEN=-", stdin=TOKEN + "\n")
    up.run("env", "set", "--secret", "--file", "app.key", "--from-file", tmp_path / "key.pem", "web", "APP_KEY")
    up.run("env", "set", "web", f"PLAIN={PLAIN}", "MODE=stored")
    deploy(up, telling, port, "--env", "MODE=asked")
    env = dict(line.split("=", 1) for line in get(port, "/env").splitlines() if "=" in line)
    assert (env["TOKEN"], env["PLAIN"], env["MODE"]) == (TOKEN, PLAIN, "asked") and "APP_KEY" not in env
    assert get(port, "/app.key") == KEY
    assert "Read-only" in get(port, "/err") and "r--r--r--" in get(port, "/ls")

    # The file is in memory, and nobody but the agent's account comes near it.
    c = container(up, "web")
    assert not [e for e in c["Config"]["Env"] if "APP_KEY" in e or first in e]
    (mount,) = [m for m in c["Mounts"] if m["Destination"] == "/run/secrets"]
    source = pathlib.Path(mount["Source"])
    assert not mount["RW"] and (source / "app.key").read_text() == KEY
    kind = subprocess.run(["stat", "-f", "-c", "%T", source], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    assert kind == "tmpfs" and source.parent.stat().st_mode & 0o077 == 0

    # Masked wherever it is shown.
    listed = up.run("env", "ls", "web")
    assert "********" in listed.out and PLAIN in listed.out and "/run/secrets/app.key" in listed.out
    shown = [listed.out + listed.err] + [up.run(*words).out for words in
                                         (("env", "ls", "web", "-o", "json"), ("deployments", "-o", "json"), ("ps", "-o", "json"), ("audit", "ls", "-o", "json"))]
    for text in shown:
        assert TOKEN not in text and first not in text, text
    assert all(v["name"] in shown[2] for v in json.loads(shown[1])["variables"])
    nowhere(up, TOKEN, first, "line two", PLAIN)

    # With another value there is another deployment; the old snapshot is as sealed as the new one.
    up.run("env", "set", "--secret", "web", "TOKEN=-", stdin=TOKEN + "-second")
    deploy(up, telling, port, "--env", "MODE=asked")
    assert f"TOKEN={TOKEN}-second\n" in get(port, "/env")
    proc.wait_for(lambda: not source.exists(), text="the files of the old container go with it")
    source = pathlib.Path([m for m in container(up, "web")["Mounts"] if m["Destination"] == "/run/secrets"][0]["Source"])

    # Looking is told, and a service goes without its variables unless they are named.
    assert up.run("env", "reveal", "web", "TOKEN").out == TOKEN + "-second\n"
    assert up.run("env", "reveal", "web", "APP_KEY").out == KEY
    entries = up.json("audit", "ls", "--object", "default/web/TOKEN")["entries"]
    assert entries[0]["action"] == "EnvironmentService/RevealVariable" and entries[0]["outcome"] == "ok", entries
    said = up.run("rm", "web").err
    assert "env ls default/web" in said and "volume" not in said, said
    proc.wait_for(lambda: not source.exists(), text="the files go with the container")
    assert len(up.json("env", "ls", "web")["variables"]) == 4
    nowhere(up, TOKEN, first, PLAIN)


@pytest.mark.req("CX-8")
def test_looks_at_secrets_are_counted(up):
    up.run("env", "import", "--secret", "looks", "-", stdin="# pasted\nexport A='x y'\nB=2\n")
    for _ in range(40):  # on a slow machine some more than ten
        r = up.run("env", "reveal", "looks", "A", check=False)
        if r.rc:
            break
        assert r.out == "x y\n"
    assert r.rc == 8 and "try again in" in r.err, str(r)
    bad = up.run("env", "import", "looks", "-", stdin="C=1\nnot a line\n", check=False)
    assert bad.rc == 1 and "line 2" in bad.err and "Nothing was set" in bad.err, str(bad)
    assert [v["name"] for v in up.json("env", "ls", "looks")["variables"]] == ["A", "B"]
    gone = up.run("env", "rm", "looks", "A", "B")
    assert "2 removed" in gone.out and "next deployment of default/looks" in gone.err, str(gone)
    up.run("env", "set", "--from-file", "-", "looks", "A", stdin="\r\nx\r\n")
    assert [v["value"] for v in up.json("env", "ls", "looks")["variables"]] == ["\r\nx\r\n"]
    said = up.run("env", "set", "--secret", "looks", "S=on-the-command-line").err
    assert "KEY=-" in said


@pytest.mark.req("WK-2")
def test_login_is_kept_and_sent_with_the_pull_alone(up, closed_registry, web_image):
    r, word = closed_registry, closed_registry.password
    full = r.push(web_image, "team/web:9")
    none = up.run("deploy", "--name", "web", full, check=False)
    assert none.rc == 1 and "davit registry login" in none.err, str(none)
    up.run("registry", "login", "--user", r.user, r.host, stdin="not-the-password\n")
    wrong = up.run("deploy", "--name", "web", full, check=False)
    assert wrong.rc == 1 and f"the login kept for {r.host} was sent" in wrong.err, str(wrong)
    # By another spelling of the same registry.
    port = r.host.rsplit(":", 1)[1]
    assert f"localhost:{port}" in up.run("registry", "login", "--user", r.user, f"https://LocalHost:{port}/", stdin=word + "\n").out
    upper = f"LOCALHOST:{port}/team/web:9"
    up.run("deploy", "--name", "web", upper)
    assert container(up, "web")["Config"]["Image"] == upper
    up.engine.remove_image(upper)
    listed = up.run("registry", "ls", "-o", "json").out
    assert word not in listed and {e["server"] for e in json.loads(listed)["registries"]} == {r.host, f"localhost:{port}"}
    for d in pathlib.Path("/proc").iterdir():
        if d.name.isdigit():
            try:
                said = (d / "cmdline").read_bytes() + (d / "environ").read_bytes()
            except OSError:
                continue
            assert word.encode() not in said
    nowhere(up, word, "not-the-password")
    up.run("registry", "logout", r.host)
    up.run("registry", "logout", f"LOCALHOST:{port}")
    up.run("rm", "web")
    up.engine.remove_image(full)
    assert up.run("deploy", "--name", "web", full, check=False).rc == 1
