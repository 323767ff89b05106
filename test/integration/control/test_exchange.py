# SPDX-License-Identifier: Apache-2.0
"""On 7440 and 7441 a session or an API token is exchanged for a token that lives shortly (RFC 8693), and what that opens."""
import http.client
import json
import time
import urllib.parse

import jwt
import pytest
from test_people import Plane, api, cookie_of, value  # noqa: F401  (fixture)

from lib import proc
from lib.tokens import Tokens

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS, SESSION = "urn:ietf:params:oauth:token-type:access_token", "urn:davit:oauth:token-type:session"
STATUS = "StatusService/GetStatus"
GATE = proc.free_port()


@pytest.fixture(scope="module")
def plane(api):  # noqa: F811
    p = Plane(api, ["--gate-listen", f"127.0.0.1:{GATE}"]).start()
    p.cookie = p.set_up()
    yield p
    p.close()


def exchange(p, cookie=None, web=False, headers=(), **form):
    """(status, answer) of one request; a field that is None is left out."""
    form = {k: v for k, v in ({"grant_type": GRANT} | form).items() if v is not None}
    fields = {"content-type": "application/x-www-form-urlencoded"} | ({"cookie": cookie} if cookie else {}) | dict(headers)
    status, _, body = p.ask("POST", "/oauth2/token", urllib.parse.urlencode(form).encode(), fields, web=web)
    return status, json.loads(body)


def good(p, **more):
    status, answer = exchange(p, **more)
    assert status == 200, answer
    return answer


def api_token(p, name, scope):
    return p.good("ApiTokenService/CreateApiToken", {"name": name, "scope": scope}, cookie=p.cookie)["secret"]


@pytest.mark.req("CW-9")
def test_an_api_token_is_exchanged(plane):
    ci = api_token(plane, "ci", "write")
    for web in (False, True):
        a = good(plane, web=web, subject_token=ci, subject_token_type=ACCESS)
        assert (a["token_type"], a["issued_token_type"], a["scope"]) == ("Bearer", ACCESS, "write") and 0 < a["expires_in"] <= 300
        plane.good(STATUS, token=a["access_token"], web=web)
        # At the other door it opens nothing.
        assert plane.call(STATUS, token=a["access_token"], web=not web)[0] == 401
        narrow = good(plane, web=web, subject_token=ci, subject_token_type=ACCESS, scope="read")["access_token"]
        plane.good(STATUS, token=narrow, web=web)
        assert plane.call("ServerService/CreateServer", {"name": "x"}, token=narrow, web=web)[0] == 403
        assert exchange(plane, web=web, subject_token=ci, subject_token_type=ACCESS, scope="admin") == (
            400, {"error": "invalid_scope", "error_description": "no wider scope is given than that of what is shown"})
        assert exchange(plane, web=web, subject_token=narrow, subject_token_type=ACCESS)[0] == 400  # no chain of them
    said = jwt.decode(narrow, options={"verify_signature": False})
    assert said["scope"] == "read" and said["client_id"].startswith("api-token:") and said["iss"] == said["aud"] == "davit://web"
    # 7443 wants one that is bound to a certificate, and gives those that open nothing here.
    tokens = Tokens(plane.api, plane.user)
    shown = {"authorization": f"Bearer {narrow}", "content-type": "application/json"}
    assert tokens.request("POST", f"/davit.control.v1.{STATUS}", b"{}", shown)[0] == 401
    bound = tokens.ask()[2]["access_token"]
    assert plane.call(STATUS, token=bound)[0] == 401 and plane.call(STATUS, token=bound, web=True)[0] == 401
    noted = plane.audit("oauth/exchange")
    assert any((e["actor"], e["object"], e["outcome"]) == ("token:ci", "read", "ok") for e in noted)
    assert any(e["outcome"] == "refused" and "invalid_scope" in e["reason"] for e in noted)
    # It ends with what it was made of.
    live = good(plane, subject_token=ci, subject_token_type=ACCESS)["access_token"]
    plane.good(STATUS, token=live)
    plane.good("ApiTokenService/RevokeApiToken", {"token": "ci"}, cookie=plane.cookie)
    status, answer, _ = plane.call(STATUS, token=live)
    assert status == 401 and "has ended" in answer["message"]
    assert exchange(plane, subject_token=ci, subject_token_type=ACCESS)[0] == 400


@pytest.mark.req("CW-9")
def test_a_session_is_exchanged(plane):
    own = cookie_of(plane.login(cookie=plane.cookie))
    plane.cookie = own
    by_cookie = good(plane, cookie=own, subject_token_type=SESSION)["access_token"]
    by_secret = good(plane, subject_token=value(own), subject_token_type=SESSION, scope="write read")
    assert by_secret["scope"] == "write"
    for token in (by_cookie, by_secret["access_token"]):
        plane.good(STATUS, token=token)
    # Who has it is not logged in: it makes nothing that outlives it, and it is no way to the password.
    assert plane.call("ApiTokenService/CreateApiToken", {"name": "mine", "scope": "read"}, token=by_cookie)[0] == 403
    assert plane.call("SessionService/ChangePassword", {"old_password": "x", "new_password": "y" * 12}, token=by_cookie)[0] == 403
    # A page of somebody else's cannot ask for one, and the cookie of one door is nothing at the other.
    assert exchange(plane, cookie=own, subject_token_type=SESSION, headers={"origin": "http://evil.example"})[0] == 403
    assert exchange(plane, cookie=own, web=True, subject_token_type=SESSION)[0] == 400
    assert exchange(plane, subject_token=value(own), subject_token_type=SESSION, web=True)[0] == 400
    for wrong in ({"grant_type": "client_credentials"}, {"subject_token_type": None}, {"subject_token_type": ACCESS}, {"actor_token": "x"}, {"audience": "x"},
                  {"subject_token": "0" * 64}, {"subject_token": "x" * 9000}):
        assert exchange(plane, **({"cookie": own, "subject_token_type": SESSION} | wrong))[0] in (400, 413), wrong
    plane.good("SessionService/Logout", cookie=own)
    plane.cookie = plane.set_up()
    assert plane.call(STATUS, token=by_cookie)[0] == 401 and plane.call(STATUS, token=by_secret["access_token"])[0] == 401


@pytest.mark.req("CW-9")
def test_they_end_and_are_not_made_without_limit(plane):
    ci = api_token(plane, "brief", "read")
    token = good(plane, subject_token=ci, subject_token_type=ACCESS)["access_token"]
    said, key = jwt.decode(token, options={"verify_signature": False}), (plane.state / "access-token.key").read_bytes()
    head, now = jwt.get_unverified_header(token), int(time.time())

    def made(**claims):
        return jwt.encode(said | claims, key, algorithm="ES256", headers={"typ": head["typ"], "kid": head["kid"]})
    plane.good(STATUS, token=made())
    for claims in ({"exp": now - 1, "iat": now - 300}, {"aud": "davit://web"}, {"client_id": "api-token:0123456789abcdef"}, {"cnf": {"x5t#S256": "A" * 43}}):
        assert plane.call(STATUS, token=made(**claims))[0] == 401, claims
    assert plane.call(STATUS, token=token[:-4] + "AAAA")[0] == 401
    answers = [exchange(plane, subject_token=ci, subject_token_type=ACCESS)[0] for _ in range(40)]
    assert answers.count(200) >= 25 and 429 in answers and set(answers) == {200, 429}


@pytest.mark.req("CW-68")
def test_a_proxy_asks_at_the_gate(plane):
    def ask(path="/", verb="GET", **fields):
        c = http.client.HTTPConnection("127.0.0.1", GATE, timeout=20)
        c.request(verb, path, headers=fields)
        r = c.getresponse()
        r.read()
        c.close()
        return r.status, r.getheader("x-davit-user"), r.getheader("x-davit-scope")
    proc.wait_for(lambda: proc.listens(GATE))
    ci = api_token(plane, "gate", "write")
    narrow = good(plane, subject_token=ci, subject_token_type=ACCESS, scope="read")["access_token"]
    assert ask(Authorization=f"Bearer {ci}") == (200, "token:gate", "write") == ask("/any/where?x=1", "HEAD", Authorization=f"Bearer {ci}")
    assert ask(Authorization=f"Bearer {narrow}") == (200, "token:gate", "read")
    assert ask(Cookie=plane.cookie) == (200, "person:owner", "admin")
    for fields in ({}, {"Authorization": f"Bearer {ci[:-1]}x"}, {"Authorization": "Basic eDp5"}, {"Cookie": "davit=" + "0" * 64}):
        assert ask(**fields) == (401, None, None), fields
    plane.good("ApiTokenService/RevokeApiToken", {"token": "gate"}, cookie=plane.cookie)
    assert ask(Authorization=f"Bearer {ci}")[0] == ask(Authorization=f"Bearer {narrow}")[0] == 401
