# SPDX-License-Identifier: Apache-2.0
"""What was active once comes back as it was; what is under way can be given up."""
import json

import pytest

from lib import images, proc

FAST = ("--health-interval", "300ms", "--health-timeout", "1s", "--health-grace", "2s")


@pytest.fixture
def up(davit_of_file):
    davit_of_file.revive()
    yield davit_of_file
    davit_of_file.clear()


def running(d, service="web"):
    server = {s["id"] for s in d.json("server", "ls").get("servers", [])}
    return [d.engine.inspect(c["Id"]) for c in d.engine.containers(f"davit.service={service}", every=False) if c["Labels"].get("davit.server") in server]


def history(d):
    return d.json("deployments").get("deployments", [])


def states(d):
    return [x["state"].removeprefix("DEPLOYMENT_STATE_") for x in history(d)]


def env_of(c):
    return dict(e.split("=", 1) for e in c["Config"]["Env"])


@pytest.mark.req("CX-7", "CX-9")
def test_rollback_brings_back_image_environment_port_and_limits(up, registry, docker):
    """The tag has moved and the image of then is not on the server any more: it is known by its digest."""
    def push(word):
        local = images.script(docker, f"davit-test/back-{word}:1", images.WAITING + f"mkdir -p /tmp/w; echo {word} > /tmp/w/health\n"
                              "httpd -f -p 8080 -h /tmp/w &\nwait $!\n", changes=["EXPOSE 8080"])
        return registry.push(local, "team/back:1")

    port = proc.free_port()
    image = push("first")
    up.run("deploy", "--name", "web", "--env", "MODE=first", "--memory", "48m", "--volume", "data:/data", "--publish", f"{port}:8080",
           "--health", "8080/health", *FAST, "--pull", "always", image)
    first = running(up)[0]
    assert up.engine.exec(first["Id"], ["sh", "-c", "echo precious > /data/x"])[0] == 0
    push("second")
    up.run("deploy", "--name", "web", "--env", "MODE=second", "--memory", "64m", "--volume", "data:/data", "--health", "8080/health", *FAST,
           "--pull", "always", image)
    second = running(up)[0]
    assert second["Image"] != first["Image"] and env_of(second)["MODE"] == "second"
    up.engine.remove_image(first["Image"])

    one = history(up)[1]
    assert one["wasActive"] and one["imageDigest"].startswith("sha256:")
    got = up.run("rollback", "web")
    assert "is active" in got.out and one["id"][:8] in got.err
    now = running(up)
    assert len(now) == 1
    now = now[0]
    assert (now["Image"], env_of(now)["MODE"], now["HostConfig"]["Memory"]) == (first["Image"], "first", 48 << 20)
    assert now["HostConfig"]["PortBindings"] == first["HostConfig"]["PortBindings"]
    assert now["Id"] != first["Id"] and up.engine.exec(now["Id"], ["cat", "/data/x"])[1].strip() == "precious"
    newest = history(up)[0]
    assert newest["sourceDeploymentId"] == one["id"] and one["imageDigest"] in newest["spec"]["image"]
    assert newest["spec"]["health"] == one["spec"]["health"]
    assert states(up)[:3] == ["ACTIVE", "ROLLED_BACK", "SUPERSEDED"]
    # And forth again, by the beginning of its id as the table shows it.
    up.run("rollback", "web", "--to", history(up)[1]["id"][:8])
    assert env_of(running(up)[0])["MODE"] == "second"
    assert "rollback to" in up.run("deployments").out


@pytest.mark.req("CX-4")
def test_cancelled_deployment_leaves_the_old_one_serving(up, web_image, busybox_image):
    up.run("deploy", "--name", "web", "--health", "8080/health", *FAST, web_image)
    before = running(up)[0]["Id"]
    got = json.loads(up.run("deploy", "--name", "web", "--health", "tcp:9", "--health-grace", "10m", "--detach", "--output", "json", busybox_image).out)
    proc.wait_for(lambda: states(up)[0] == "HEALTH_CHECKING", 60, text="its health is being checked")
    assert "is cancelled" in up.run("cancel", got["deploymentId"][:8]).out
    assert states(up)[:2] == ["CANCELLED", "ACTIVE"]
    assert [c["Id"] for c in running(up)] == [before]
    late = up.run("cancel", history(up)[1]["id"], check=False)
    assert late.rc != 0 and "too late" in late.err and "davit rollback" in late.err
