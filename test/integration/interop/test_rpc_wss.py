# SPDX-License-Identifier: Apache-2.0
"""WebSockets over TLS with a certificate of the client (python3-websockets); the rest of them is in test/integration/rpc/test_rpc_ws.py."""
import asyncio
import base64
import json
import ssl
import struct

import pytest

websockets = pytest.importorskip("websockets")
METHOD = "/grpc.testing.TestService/FullDuplexCall"


def context(pki):
    c = ssl.create_default_context(cafile=pki.path("ca.pem"))
    c.check_hostname = False
    c.load_cert_chain(pki.path("client.pem"), pki.path("client.key"))
    return c


def test_bidi_over_mtls(pki, mtls_server):
    """Messages over many records both ways, more than a queue's worth of them unread, and the end."""
    size, count = 300_000, 20

    async def talk():
        async with websockets.connect(f"wss://{mtls_server}{METHOD}", ssl=context(pki), subprotocols=["davit.connect.v1"], max_size=None,
                                      origin=f"https://{mtls_server}") as ws:
            body = base64.b64encode(bytes(size)).decode()
            await ws.send(json.dumps({"payload": {"body": body}, "responseParameters": [{"size": size}] * count}))
            await asyncio.sleep(0.5)
            for _ in range(count):
                message = await ws.recv()
                flags, n = struct.unpack(">BI", message[:5])
                assert flags == 0 and n == len(message) - 5
                assert len(base64.b64decode(json.loads(message[5:])["payload"]["body"])) == size
            await ws.send(b"\x02\0\0\0\0")
            end = await ws.recv()
            assert end[0] == 2 and json.loads(end[5:]).get("error") is None
            with pytest.raises(websockets.ConnectionClosedOK):
                await ws.recv()
    asyncio.run(asyncio.wait_for(talk(), 60))


def test_pages_without_tls_are_another_origin(pki, mtls_server):
    async def talk():
        with pytest.raises(websockets.InvalidStatusCode) as e:
            async with websockets.connect(f"wss://{mtls_server}{METHOD}", ssl=context(pki), subprotocols=["davit.connect.v1"],
                                          origin=f"http://{mtls_server}"):
                pass
        assert e.value.status_code == 403
    asyncio.run(asyncio.wait_for(talk(), 60))
