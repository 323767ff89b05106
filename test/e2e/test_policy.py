# SPDX-License-Identifier: Apache-2.0
"""The policy of a server's owner: what it forbids is not done, whoever commands it, and is told with a reason."""
import pytest

from lib import proc
from lib.work import Driver


def spec(image, **more):
    return {"project": "p1", "name": "web", "image": image, "health": {"kind": "HEALTH_KIND_NONE", "graceMs": 100}, **more}


class Owner:
    """policy.yaml of an agent, in the hands of the server's owner."""

    def __init__(self, folder):
        self.path = folder / "policy.yaml"

    def says(self, text, mode=0o600):
        self.path.write_text(text)
        self.path.chmod(mode)


def refused(said, reason):
    """A `davit deploy --output json` that came to nothing: the failure, which gives @reason."""
    assert said.rc != 0
    text = said.out + said.err
    assert reason in text, text
    return text


@pytest.mark.req("CB-15")
def test_a_forbidden_deployment_is_refused_with_its_reason_until_the_owner_edits_the_file(davit, registry, web_image):
    davit.up()
    owner = Owner(davit.home / "agent")
    image = registry.push(web_image, "forbidden/web:1")
    davit.engine.remove_image(image)
    networks = len(davit.engine.networks("davit.project=default"))  # others may have left theirs
    deploy = ("deploy", "--name", "web", "--health", "/health", "--health-interval", "300ms", image)

    owner.says(f"# mine\nimages:\n  - {registry.host}/allowed/*\nprivileged: forbid\n")
    text = refused(davit.run(*deploy, "--output", "json", check=False), "policy_image_source")
    said = davit.run(*deploy, check=False)
    assert f"forbids the image {registry.host}/forbidden/web" in said.err and "policy.yaml line 2: images" in said.err, text
    assert not davit.engine.has_image(image), "it was pulled all the same"
    assert len(davit.engine.networks("davit.project=default")) == networks, "a network was made for it"

    # A sandbox by the same words; the control plane notes what its server refuses.
    said = davit.run("run", "--name", "box", image, "true", check=False)
    assert said.rc != 0 and "policy.yaml line 2: images" in said.err, said.err
    noted = lambda: [x for x in davit.run("audit", "export").out.splitlines() if '"sandbox.run"' in x and '"refused"' in x]  # noqa: E731
    assert "forbids the image" in proc.wait_for(noted, 10, text="in the audit log")[0]

    owner.says(f"images:\n  - {registry.host}/forbidden/*\nprivileged: forbid\n")
    refused(davit.run(*deploy, "--cap-add", "NET_ADMIN", "--output", "json", check=False), "policy_privileged")
    owner.says(f"images:\n  - {registry.host}/forbidden/*\n", 0o602)
    refused(davit.run(*deploy, "--output", "json", check=False), "policy_unreadable")
    assert not davit.engine.has_image(image)
    owner.path.chmod(0o600)
    assert "active" in davit.run(*deploy).out


@pytest.mark.req("CB-15")
def test_nothing_that_a_control_plane_sends_gets_around_it(docker, web_image, tmp_path):
    """Commands as a control plane that is not ours to trust might make them, without davitd in between."""
    owner = Owner(tmp_path)
    owner.says("images:\n  - registry.example.org/*\nprivileged:\n  - cap:NET_ADMIN\n")
    ident = docker.json("GET", f"/images/{web_image}/json")["Id"]
    digest = ident.removeprefix("sha256:")
    with Driver(docker.sock, "--policy", owner.path) as d:
        before = {c["Id"] for c in docker.containers()}
        for image in (web_image, ident, digest, digest[:12], f"docker.io/{web_image}", f"registry.example.org.evil.example/{web_image}"):
            for pull in ("", "never", "always"):
                got = d.deploy(spec(image, pull=pull))
                assert got["failure"]["reason"] in ("policy_image_source", "invalid"), (image, got)
        got = d.deploy(spec("registry.example.org/x:1", capAdd=["NET_ADMIN", "CAP_SYS_ADMIN"]))
        assert got["failure"]["reason"] == "policy_privileged" and "cap:SYS_ADMIN" in got["failure"]["message"]
        assert {c["Id"] for c in docker.containers()} == before
        # A capability that the owner allows; the registry is not there, which only shows that the policy let it go on.
        got = d.deploy(spec("registry.example.org/x:1", capAdd=["CAP_NET_ADMIN"], pull="never"))
        assert got["failure"]["reason"] == "image_not_found", got
        owner.path.unlink()
        assert "failure" not in d.deploy(spec(web_image))
        d.remove("p1", "web")


@pytest.mark.req("CB-15")
def test_what_is_forbidden_is_seen_at_the_control_plane(davit):
    davit.up()
    davit.davitd_again("--heartbeat-interval", "1s", "--offline-after", "4s")
    name = davit.json("server", "ls")["servers"][0]["name"]
    forbids = lambda: davit.json("server", "show", name)["server"].get("system", {}).get("policyForbids")  # noqa: E731
    assert forbids() is None
    Owner(davit.home / "agent").says("exec: forbid\nself-update: forbid\nmounts: [/srv]\n")
    assert proc.wait_for(forbids, 15, text="what the policy forbids") == ["policy_exec", "policy_update", "policy_mount"]
    said = davit.run("server", "show", name).out
    assert "owner forbids      commands inside containers, updates of the agent, mounts of the machine's folders" in said, said
    Owner(davit.home / "agent").says("exec: perhaps\n")
    reasons = lambda: davit.json("server", "show", name)["server"].get("healthReasons", [])  # noqa: E731
    [told] = proc.wait_for(reasons, 15, text="what is wrong with the policy")
    assert "policy file cannot be read" in told and f"davit server doctor {name}" in told


def test_policy_check_tells_what_a_file_allows_or_why_it_is_not_believed(bin_dir, run, tmp_path):
    owner = Owner(tmp_path)
    check = (bin_dir / "davit-agent", "policy", "check")
    assert "nothing is forbidden" in run([*check, "--config-dir", tmp_path]).out
    owner.says("exec: forbid\nimages:\n  - docker.io/library/*\n")
    for said in (run([*check, "--config-dir", tmp_path]), run([*check, owner.path])):
        assert "exec           commands inside containers: forbidden\n" in said.out
        assert "forbidden but for docker.io/library/*" in said.out
    owner.says("exec: forbid\nimages: nginx\n")
    bad = run([*check, owner.path], check=False)
    assert bad.rc == 2 and "line 2: images must be allow, forbid or a list" in bad.err
    owner.says("exec: forbid\n", 0o666)
    bad = run([*check, owner.path], check=False)
    assert bad.rc != 0 and "chmod go-w" in bad.err
    bad = run([*check, tmp_path / "none.yaml"], check=False)
    assert bad.rc == 3 and "is not there" in bad.err and bad.out == "", str(bad)
    bad = run([bin_dir / "davit-agent", "policy"], check=False)
    assert bad.rc == 2 and "policy check" in bad.err
