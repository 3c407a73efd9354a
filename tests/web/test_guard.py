from __future__ import annotations

import asyncio

from starlette.testclient import TestClient

from planner.web.app import application
from planner.web.guard import Guard
from planner.web.limits import ServerLimits
from planner.web.same_process import SameProcess


def test_a_long_body_is_refused_by_its_length_and_by_its_bytes(client: TestClient) -> None:
    much = b"x" * (ServerLimits.body_bytes + 1)
    assert client.post("/api/v1/solve", content=much).status_code == 413

    def parts():  # type: ignore[no-untyped-def]
        yield from (much[:600_000], much[600_000:])

    found = client.post("/api/v1/solve", content=parts())
    assert found.status_code == 413
    assert str(ServerLimits.body_bytes) in found.text


def test_a_long_address_is_refused(client: TestClient) -> None:
    assert client.get("/?layout.tensor_parallel=" + "1" * ServerLimits.url_bytes).status_code == 414


def test_another_host_name_is_refused(client: TestClient) -> None:
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 421


def test_every_answer_forbids_what_the_page_does_not_need(client: TestClient) -> None:
    headers = client.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_a_token_opens_the_page_once_and_is_kept_as_a_cookie() -> None:
    with TestClient(application(SameProcess(ServerLimits()), token="secret")) as client:
        assert client.get("/").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        assert client.get("/healthz").status_code == 200
        assert client.get("/", headers={"authorization": "Bearer secret"}).status_code == 200
        assert client.get("/?token=secret").status_code == 200
        assert client.get("/").status_code == 200


def test_a_body_that_does_not_arrive_ends_with_its_limit() -> None:
    sent = []

    async def never() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        raise AssertionError("reached")

    async def send(message) -> None:  # type: ignore[no-untyped-def]
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    asyncio.run(Guard(app, ServerLimits(read_seconds=0.01), None, None)(scope, never, send))
    assert sent[0]["status"] == 408
