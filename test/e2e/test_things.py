# SPDX-License-Identifier: Apache-2.0
"""What a server has beside services, by `davit`: containers that Davit did not make, images, volumes, cleaning up."""
import uuid

import pytest

from lib import images, proc


@pytest.fixture
def up(davit_of_file):
    davit_of_file.revive()
    yield davit_of_file
    davit_of_file.clear()


@pytest.fixture
def foreign(docker, busybox_image):
    """A running container that Davit did not make, with a volume that neither it did."""
    name = "foreign-" + uuid.uuid4().hex[:8]
    body = {"Image": busybox_image, "HostConfig": {"Mounts": [{"Type": "volume", "Source": name, "Target": "/d"}]}}
    made = docker.json("POST", "/containers/create", body, query={"name": name})["Id"]
    docker.call("POST", f"/containers/{made}/start")
    yield name
    docker.remove(made)
    docker.call("DELETE", f"/volumes/{name}", query={"force": 1})


@pytest.mark.req("WK-15")
def test_containers_of_others_are_listed_and_changed_by_name_only(up, docker, foreign, busybox_image):
    up.run("deploy", "--name", "web", busybox_image)
    row = proc.wait_for(lambda: [c for c in up.json("container", "ls", "--all").get("containers", []) if c["name"] == foreign], 15)[0]
    assert row["foreign"] and row["state"] == "running"
    mine = up.json("container", "ls")["containers"]
    assert [c["service"] for c in mine] == ["web"] and not any(c.get("foreign") for c in mine)
    assert foreign in up.run("ps", "--all").out and foreign not in up.run("ps").out
    both = up.json("ps", "--all")
    assert [s["name"] for s in both["services"]] == ["web"] and foreign in [c["name"] for c in both["containers"]]
    assert up.json("server", "ls")["servers"][0]["containersRunning"] == 1
    refused = up.run("container", "rm", foreign, check=False)
    assert refused.rc == 7 and "--force" in refused.err
    refused = up.run("container", "stop", mine[0]["name"], check=False)
    assert refused.rc == 7 and "service web" in refused.err
    forced = up.run("container", "stop", "--force", "--stop-timeout", "1s", mine[0]["name"]).out
    assert "its agent starts it again; davit stop web lasts" in forced
    assert up.run("container", "stop", "--stop-timeout", "1s", foreign).out.endswith(": stopped\n")
    assert "removed" in up.run("container", "rm", foreign).out
    assert foreign not in [c["Names"][0].strip("/") for c in docker.containers()]
    assert foreign in [v["Name"] for v in docker.volumes()]


@pytest.mark.req("WK-5", "CB-13", "CX-9")
def test_images_volumes_and_cleaning_up(up, docker, foreign, registry):
    image = images.web(docker, f"davit-test/{foreign}:1", hello=foreign)
    full = registry.push(image, f"app/{foreign}:1")
    docker.remove_image(image)
    assert "pulled sha256:" in up.run("image", "pull", full).out
    assert [i for i in up.json("image", "ls")["images"] if full in i.get("tags", [])]
    assert "up to date" in up.run("image", "check", full).out
    up.run("deploy", "--name", "db", "--volume", "data:/data", full)
    refused = up.run("image", "rm", full, check=False)
    assert refused.rc == 7 and "davit-default-db-" in refused.err
    volumes = {v["name"]: v for v in up.json("volume", "ls")["volumes"]}
    assert volumes["davit-default-data"]["service"] == "db" and not volumes[foreign].get("service")
    assert up.run("volume", "rm", foreign, check=False).rc == 7
    said = up.run("ps", "--project", "nope").err
    assert "project nope" in said and "yet" not in said, said
    said = up.run("rm", "db").err
    assert "volumes stay" in said and "env ls" not in said, said
    shown = up.run("prune", "--volumes")
    assert "davit-default-data" in shown.out and full in shown.out and foreign + " " not in shown.out and "Nothing was removed" in shown.err
    assert docker.has_image(full)
    missing = up.run("image", "rm", "nosuch:1", check=False)
    assert missing.err.lower().count("no such image") == 1 and "pull" not in missing.err, str(missing)
    result = up.json("prune", "--volumes", "--yes")["result"]
    assert sorted(i["kind"] for i in result["removed"]) == ["image", "volume"] and not result.get("kept"), result
    left = [v["Name"] for v in docker.volumes()]
    assert "davit-default-data" not in left and foreign in left and not docker.has_image(full)
    assert "nothing to remove" in up.run("prune", "--volumes").err
