# SPDX-License-Identifier: Apache-2.0
"""The davit program by itself: no control plane is up."""
import json
import os
import pathlib
import re
import socket

import pytest

from lib import proc

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def alone(bin_dir, tmp_home):
    """davit ARGS... with a home that nothing was ever in."""
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS")}
    env |= {"DAVIT_HOME": str(tmp_home / "davit"), "LANG": "C.UTF-8"}
    return lambda *args, **more: proc.run([bin_dir / "davit", *args], **{"env": env, "check": False, **more})


@pytest.mark.parametrize("args,status,said", [
    ([], 2, "usage: davit VERB"),
    (["--help"], 0, "usage: davit VERB"),
    (["stauts"], 2, 'did you mean "status"'),
    (["--output", "json", "status"], 2, "options stand behind the verb"),
    (["server"], 2, "usage: davit server VERB"),
    (["server", "nonsense"], 2, "there is no verb"),
    (["logs"], 2, "something is missing"),
    (["ps", "extra"], 2, "too much was given"),
    (["deploy"], 2, "what shall be deployed"),
    (["deploy", "--file", "/nonexistent/davit.yaml"], 3, "/nonexistent/davit.yaml"),
    (["deploy", "--file", "/dev/null"], 2, "names no service"),
    (["deploy", "--file", "x", "--env", "A=1"], 2, "described in the file"),
    (["deploy", "x", "--publish", "80"], 2, "write HOST:CONTAINER"),
    (["deploy", "x", "--health", "soon"], 2, "/path, 8080/path"),
    (["deploy", "x", "--health-retries", "101"], 2, "allowed: 1..100"),
    (["deploy", "x", "--registry-user", "u"], 2, "belong together"),
    (["restart", "A/B"], 2, "PROJECT/SERVICE"),
    (["ps"], 7, "run `davit up` first"),
    (["down"], 0, "was not running"),
    (["completion", "ksh"], 2, "bash, zsh or fish"),
])
def test_ends_with_status_and_advice(alone, args, status, said):
    r = alone(*args)
    assert r.rc == status and said in r.out + r.err, str(r)


def test_large_file_is_refused_at_once(alone, tmp_home):
    big = tmp_home / "davit.yaml"
    with big.open("wb") as f:
        f.truncate(100 * 1024 * 1024)
    r = alone("deploy", "--file", str(big), timeout=20)
    assert r.rc == 8 and "larger than 1048576 bytes" in r.err, str(r)


def test_login_goes_to_one_registry_only(alone, tmp_home):
    text = "projects:\n  shop:\n    services:\n      a:\n        image: one.example:5000/a:1\n      b:\n        image: %s/b:1\n"
    manifest, password = tmp_home / "davit.yaml", tmp_home / "password"
    password.write_text("s3cret\n")
    login = ("--registry-user", "u", "--registry-password-file", str(password))
    manifest.write_text(text % "two.example:5000")
    r = alone("deploy", "--file", str(manifest), *login)
    assert r.rc == 2 and "more than one registry" in r.err, str(r)
    manifest.write_text(text % "one.example:5000")
    assert alone("deploy", "--file", str(manifest), *login).rc == 7  # nothing is up: the file is fine


def test_error_as_json(alone):
    r = alone("ps", "--format", "json")
    error = json.loads(r.err)["error"]
    assert r.rc == 7 and error["code"] == "failed_precondition" and "davit up" in error["hint"] and r.out == ""


def completed(alone, *words):
    script = alone("completion", "bash", check=True).out
    show = f'{script}\nCOMP_WORDS=(davit {" ".join(words)}); COMP_CWORD={len(words)}; _davit; printf "%s\\n" "${{COMPREPLY[@]}}"'
    return proc.run(["bash", "-c", show]).out.split()


def test_completion_of_verbs_and_options(alone):
    assert completed(alone, "lo") == ["logs"]
    assert "--health-grace" in completed(alone, "deploy", "--hea")
    assert completed(alone, "server", "sh") == ["show"]
    assert completed(alone, "server", "add", "--pro") == ["--profile"]


def test_man_page_names_every_verb(alone):
    man = alone("man", check=True).out
    for verb in ("up", "down", "server add", "deploy", "logs", "completion"):
        assert f'.SS "davit {verb}' in man, verb
    r = proc.run(["man", "-l", "--warnings", "-"], stdin=man, check=False) if os.path.exists("/usr/bin/man") else None
    assert r is None or (r.rc == 0 and "warning" not in r.err), str(r)


@pytest.mark.req("CW-5")
def test_the_verbs_of_the_control_plane_are_there_and_no_task_needs_them(alone):
    said = alone("controlplane", "--help").out
    verbs = {line.split()[0] for line in said.splitlines() if line.startswith("  ") and line.split()}
    assert {"up", "down", "status", "agents"} <= verbs, said
    # What pages tell to type. Its upkeep (backup, the root) is in operating.md, and is none of these.
    pages = [ROOT / "README.md", *(ROOT / "doc" / f"{name}.md" for name in ("sandboxes", "deploy", "servers", "dashboard", "operating", "tunnel"))]
    blocks = [b for page in pages for b in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.S)]
    assert len(blocks) > len(pages)
    needed = re.findall(r"davit controlplane (?:up|down|status|agents)\b.*", "\n".join(blocks))
    assert not needed, needed


def test_home_with_things_of_somebody_else_is_left_alone(alone, tmp_home):
    theirs = tmp_home / "davit/config/app.yml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("keep: this\n")
    up, down = alone("up"), alone("down", "--purge")
    assert up.rc == 7 and "not made by davit up" in up.err, str(up)
    assert down.rc == 0 and "was not running" in down.out and theirs.exists(), str(down)


@pytest.mark.req("MA-1")
def test_up_keeps_the_engine_for_a_later_up_without_it(davit):
    """The shell of the next `up`, or a unit of systemd, knows nothing of DOCKER_HOST."""
    davit.up()
    davit.down()
    plain = {k: v for k, v in davit.env.items() if k != "DOCKER_HOST"}
    up = davit.up(env=plain)
    assert "warning" not in up.err, str(up)
    [server] = davit.json("server", "ls")["servers"]
    assert server["health"] == "ok", server
    davit.down()
    wrong = davit.up("--docker", "unix:/nonexistent/docker.sock")
    assert "warning: Docker does not answer" in wrong.err, str(wrong)
    davit.up("--docker", davit.engine.host)


@pytest.mark.req("MA-1")
def test_bad_settings_touch_nothing_that_works(davit, tmp_home):
    """Judged before anything is stopped or saved; what only shows when davitd starts is taken back."""
    davit.up()
    pid, saved = davit.pid("davitd"), (davit.home / "config/cli.json").read_bytes()
    (tmp_home / "file").write_text("")
    for option, value, said in (
            ("advertise", "CP.example.com", "lower case"), ("advertise", "foo bar", "neither a host name"),
            ("advertise", "cp.example.com:99999", "between 1 and 65535"), ("advertise", "0.0.0.0", "where one listens"),
            ("hostname", "https://cp.example.com", "--hostname"), ("link-listen", "somewhere:7442", "no numeric host"),
            ("web-listen", "7440", "not host:port"), ("api-listen", "127.0.0.1:0", "between 1 and 65535"),
            ("release-dir", str(tmp_home / "none"), "none"), ("release-dir", str(tmp_home / "file"), "no directory"),
            ("local-web-listen", "0.0.0.0:7441", "not an address of loopback"), ("store", "data.db", "absolute path"), ("docker", "docker.sock", "expected unix:/path")):
        r = davit.up(f"--{option}", value, check=False)
        assert r.rc in (2, 3) and said in r.err and "hint: " in r.err or option in ("docker", "release-dir"), str(r)
    assert davit.pid("davitd") == pid and (davit.home / "config/cli.json").read_bytes() == saved
    # Only davitd can find out that the address is not there.
    r = davit.up("--link-listen", "127.0.0.1:%d" % davit.link, "--api-listen", "192.0.2.77:7443", "--wait", "10s", check=False)
    assert r.rc == 5 and "those of before are kept and it runs with them again" in r.err and "192.0.2.77" in r.err, str(r)
    assert (davit.home / "config/cli.json").read_bytes() == saved
    davit.run("status")
    davit.down()
    r = davit.up("--api-listen", "192.0.2.77:7443", check=False)
    assert r.rc == 5 and "those of before are kept:" in r.err and not davit.pid("davitd"), str(r)
    davit.up()


def test_down_is_told_as_such(davit):
    davit.up()
    davit.down()
    r = davit.run("status", check=False)
    assert r.rc == 5 and "davit up" in r.err and "not running" in r.out, str(r)
    r = davit.down("--purge", check=False)
    assert r.rc == 7 and "cannot be asked" in r.err and "--force" in r.err and (davit.home / "state/control.db").exists(), str(r)


@pytest.mark.req("CW-43", "CW-67")
def test_the_control_planes_own_verbs(davit, alone):
    stopped = alone("controlplane", "status")
    assert (stopped.rc, stopped.out) == (1, "Container: stopped\n")
    assert json.loads(alone("controlplane", "status", "--format", "json").out) == {"container_running": False}
    davit.up("--no-agent")
    assert "up already" in davit.run("controlplane", "up", "--no-agent").out
    fine = davit.run("controlplane", "status")
    assert "Container: running" in fine.out and "Healthz:   healthy" in fine.out
    assert davit.json("controlplane", "status") == {
        "container_running": True, "healthz_ok": True, "healthz_status": "healthy", "healthz_error": ""}
    assert davit.run("controlplane", "status", "-q").out == ""
    assert "Davit is down" in davit.run("controlplane", "down").out
    assert davit.run("controlplane", "status", "-q", check=False).rc == 1
    assert "was not running" in davit.run("controlplane", "down").out


@pytest.mark.req("CW-107")
def test_settings_of_the_file_count_for_everybody(davit):
    """A port that the file moves is where davitd listens and this program asks; one that is taken is named with its key."""
    api, tokens = proc.free_port(), proc.free_port()
    davit.up("--no-agent")
    before = davit.pid("davitd")
    (davit.home / "config/settings.yaml").write_text(f"control_plane:\n  admin_port: {api}\n  hydra_public_port: {tokens}\n  kratos_admin_port: 4434\n")
    with socket.create_server(("127.0.0.1", api)):
        r = davit.run("up", "--no-agent", check=False)
        assert r.rc != 0 and f"127.0.0.1:{api} is taken" in r.err and "control_plane.admin_port" in r.err and "--api-listen" in r.err, str(r)
    assert davit.pid("davitd") == before, "what works goes on"
    r = davit.run("up", "--no-agent")
    assert "kratos_admin_port has no effect" in r.err
    assert f"127.0.0.1:{api}" in davit.run("status").out and proc.listens(tokens) and not proc.listens(davit.api)
    (davit.home / "config/settings.yaml").write_text("control_plane:\n  admin_port: many\n")
    r = davit.run("up", "--no-agent", check=False)
    assert r.rc == 2 and 'line 2: "admin_port"' in r.err, str(r)


def test_output_that_cannot_be_written_is_told(bin_dir):
    r = proc.run(["sh", "-c", '"$0" man >/dev/full', bin_dir / "davit"], check=False)
    assert r.rc == 8 and "standard output" in r.err, str(r)
