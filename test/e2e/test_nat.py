# SPDX-License-Identifier: Apache-2.0
"""A server behind NAT: a network namespace of its own that can dial out through address translation and accepts nothing from outside."""
import os
import subprocess

import pytest

from lib import images
from lib.remote import Remote

HOST, GUEST, OUTER = "10.213.7.1", "10.213.7.2", "10.213.8.1"


def sh(text):
    subprocess.run(["sh", "-ec", text], check=True, capture_output=True, timeout=30)


@pytest.fixture
def nat():
    """Name of the namespace. Its only way out is a veth pair; it drops every packet that starts something from outside."""
    name = f"davit-nat-{os.getpid()}"
    sh(f"""
ip netns add {name}
ip link add dvnat0 type veth peer name dvnat1 netns {name}
ip addr add {HOST}/24 dev dvnat0
ip link set dvnat0 up
ip link add dvout0 type bridge 2>/dev/null || true
ip addr add {OUTER}/24 dev dvout0
ip link set dvout0 up
ip netns exec {name} sh -ec '
  ip link set lo up
  ip addr add {GUEST}/24 dev dvnat1
  ip link set dvnat1 up
  ip route add default via {HOST}
  iptables -P INPUT DROP
  iptables -A INPUT -i lo -j ACCEPT
  iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT'
iptables -t nat -A POSTROUTING -s {GUEST} -d {OUTER} -j SNAT --to-source {HOST}
""")
    yield name
    sh(f"""
iptables -t nat -D POSTROUTING -s {GUEST} -d {OUTER} -j SNAT --to-source {HOST}
ip link del dvout0
ip link del dvnat0
ip netns del {name}
""")


@pytest.mark.req("CL-20")
def test_everything_works_from_behind_nat_with_all_inbound_traffic_dropped(davit, docker, nat):
    davit.up("--advertise", OUTER, link=f"{OUTER}:{davit.link}")
    r = Remote(davit, "home", prefix=("nsenter", f"--net=/run/netns/{nat}"))
    r.add("--profile", "local")
    r.enroll(server=f"{OUTER}:{davit.link}")
    r.start()
    r.wait()
    assert r.show()["system"]["lanAddresses"] == [GUEST]
    image = images.script(docker, "davit-test/says:1", images.WAITING + "echo from the inside\nsleep 600 & wait $!\n")
    davit.run("deploy", "--server", "home", "--name", "web", "--health", "none", image)
    assert "from the inside" in davit.run("logs", "web").out
    assert "restarted" in davit.run("restart", "web").out
    assert davit.json("ps", "--server", "home")["services"][0]["containers"][0]["state"] == "running"
    assert "removed" in davit.run("rm", "web").out
