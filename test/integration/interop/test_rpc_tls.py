# SPDX-License-Identifier: Apache-2.0
"""What scanners of TLS say about our server."""
import json
import xml.etree.ElementTree as ET

import pytest

from lib import proc

# The root is private, and so there is neither a public chain nor a public list of what was revoked; the rest is about testssl itself.
EXPECTED = {"cert_chain_of_trust", "cert_revocation", "engine_problem"}


@pytest.mark.req("MA-2")
def test_sslscan(tls_server, tmp_path):
    """TLS 1.3 and nothing else, with forward secrecy and authenticated encryption in every suite."""
    proc.run(["sslscan", f"--xml={tmp_path / 'out.xml'}", "--no-failed", tls_server], timeout=60)
    found = ET.parse(tmp_path / "out.xml").getroot().find("ssltest")
    offered = {p.get("type") + p.get("version") for p in found.findall("protocol") if p.get("enabled") == "1"}
    assert offered == {"tls1.3"}
    assert {c.get("cipher") for c in found.findall("cipher")} == {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}
    assert all(int(c.get("ecdhebits")) >= 253 for c in found.findall("cipher"))
    assert found.find("renegotiation").get("supported") == "0"
    assert all(h.get("vulnerable") == "0" for h in found.findall("heartbleed"))
    key = found.find("certificates/certificate/pk")
    assert (key.get("type"), key.get("curve_name")) == ("EC", "prime256v1")


@pytest.mark.all_tier
@pytest.mark.req("MA-2")
def test_testssl(tls_server, tmp_path):
    """testssl.sh, everything that concerns a server of TLS 1.3: nothing worse than LOW. A shell script of minutes."""
    out = tmp_path / "out.json"
    r = proc.run(["nice", "testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--nodns", "none", "--jsonfile", out,
                  "-p", "-s", "-f", "-P", "-S", "-U", f"https://{tls_server}"], timeout=1500, check=False)
    findings = json.loads(out.read_text())
    said = {f["id"].split(" ")[0]: f for f in findings}
    bad = [f for f in findings if f["severity"] not in ("OK", "INFO", "LOW") and f["id"].split(" ")[0] not in EXPECTED]
    assert bad == [], r
    assert "not offered" in said["TLS1_2"]["finding"] and "offered" in said["TLS1_3"]["finding"], said
    assert said["heartbleed"]["severity"] == "OK" and said["BREACH"]["severity"] in ("OK", "INFO"), said
