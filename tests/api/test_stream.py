"""The live stream over a real server: in order, replayed, hidden from who may not see, ended when it must."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import anyio
import httpx
import orjson
import pytest
import uvicorn

import api.stream
from api.app import create_app
from api.service import Service
from api.stream import QUEUE_LENGTH, Hub
from tests.api.conftest import PASSWORD
from tests.waiting import wait_until
from traceability.acts import system_actor
from traceability.errors import Refused
from traceability.materials import MaterialKind, define_material

TEST = system_actor("test")
PATIENCE_S = 20.0

Event = tuple[str, int | None, Any]


def act(service: Service, code: str) -> None:
    with service.database.write(TEST) as record:
        define_material(record, code, code, MaterialKind.HARDWARE, "piece")


def refuse(service: Service) -> None:
    with pytest.raises(Refused), service.database.write(TEST) as record, record.act("material.defined"):
        raise Refused("Somebody said no.")


@contextmanager
def until(told: Callable[[], bool]) -> Iterator[None]:
    yield
    wait_until("it was told", told, PATIENCE_S)


@pytest.fixture
def server(service: Service, free_port: int) -> Iterator[str]:
    """A real server; its address."""
    config = uvicorn.Config(create_app(service), port=free_port, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    with until(lambda: server.started):
        pass
    yield f"http://127.0.0.1:{free_port}/api/v1"
    service.hub.end()
    server.should_exit = True
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def bearer(server: str, name: str) -> dict[str, str]:
    answer = httpx.post(f"{server}/sessions", json={"name": name, "password": PASSWORD}, timeout=PATIENCE_S)
    return {"Authorization": f"Bearer {answer.json()['token']}"}


@contextmanager
def watching(server: str, name: str, last_id: int | None = None) -> Iterator[Iterator[Event]]:
    """The events that a person sees, as (name, id, data), without heartbeats."""
    headers = bearer(server, name) | ({} if last_id is None else {"Last-Event-ID": str(last_id)})
    with httpx.stream("GET", f"{server}/events", headers=headers, timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        lines = answer.iter_lines()
        assert next(lines) == "retry: 1000"
        with closing(_events(lines)) as events:
            yield events


def _events(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif fields:
            if fields["event"] != "heartbeat":
                yield fields["event"], int(fields["id"]) if "id" in fields else None, orjson.loads(fields["data"])
            fields = {}


def head(service: Service) -> int:
    with service.database.connect() as connection:
        return int(connection.exec_driver_sql("SELECT seq FROM audit_head").scalar_one())


def kinds(events: Iterator[Event], count: int) -> list[str]:
    return [next(events)[2]["kind"] for _ in range(count)]


def test_every_act_comes_once_in_order_with_its_number_on_the_trail(server: str, service: Service) -> None:
    with watching(server, "olga") as events:
        first = head(service) + 1
        for number in range(30):
            act(service, f"PART-{number}")
        seen = [next(events) for _ in range(30)]
    assert [event[1] for event in seen] == list(range(first, first + 30))
    assert [event[2]["detail"].get("code", event[2]["items"]) is not None for event in seen] == [True] * 30
    assert {event[2]["kind"] for event in seen} == {"material.defined"}


def test_a_stream_that_was_cut_goes_on_after_the_last_event_it_had(server: str, service: Service) -> None:
    bearer(server, "olga")
    before = head(service)
    for number in range(5):
        act(service, f"PART-{number}")
    with watching(server, "olga", last_id=before + 2) as events:
        assert [next(events)[1] for _ in range(3)] == [before + 3, before + 4, before + 5]
        act(service, "LATER")
        # Signing in to watch again left an event too, which an operator does not see.
        assert next(events)[1] == head(service)


def test_an_event_id_of_another_database_means_reading_again_and_not_silence(server: str, service: Service) -> None:
    with watching(server, "olga", last_id=10**12) as events:
        assert next(events)[0] == "reread"
        act(service, "PART-1")
        assert next(events)[2]["kind"] == "material.defined"


def test_what_people_did_at_the_door_is_shown_to_qa_and_hidden_from_operators(server: str, service: Service) -> None:
    before = head(service)
    refuse(service)
    bearer(server, "erika")
    act(service, "PART-1")
    with watching(server, "olga", last_id=before) as events:
        assert kinds(events, 1) == ["material.defined"]
        refuse(service)
        act(service, "PART-2")
        assert kinds(events, 1) == ["material.defined"]
    with watching(server, "quentin", last_id=before) as events:
        assert kinds(events, 3) == ["act.refused", "user.signed_in", "material.defined"]


@pytest.mark.parametrize("last_id", ["x", "-1", "1" * 30, "\xb2"])
def test_an_event_id_that_is_no_number_is_refused(server: str, last_id: str) -> None:
    headers = {
        b"Last-Event-ID": last_id.encode("latin-1"),
        **{k.encode(): v.encode() for k, v in bearer(server, "olga").items()},
    }
    assert httpx.get(f"{server}/events", headers=headers, timeout=PATIENCE_S).status_code == 422


def test_a_stream_ends_when_its_session_does(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.stream, "RECHECK_S", 0.2)
    headers = bearer(server, "olga")
    with httpx.stream("GET", f"{server}/events", headers=headers, timeout=PATIENCE_S) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 1000"
        assert httpx.delete(f"{server}/sessions/current", headers=headers, timeout=PATIENCE_S).status_code == 204
        for _ in lines:
            pass
    assert httpx.get(f"{server}/events", headers=headers, timeout=PATIENCE_S).status_code == 401


def test_a_client_that_goes_away_leaves_nothing_behind(server: str, service: Service) -> None:
    with until(lambda: service.hub.clients == 0), watching(server, "olga"):
        assert service.hub.clients == 1


async def _always() -> bool:
    return True


@pytest.fixture
async def hub(service: Service) -> AsyncIterator[Hub]:
    """A hub that runs, with no server around it."""
    hub = Hub(service.database, lambda: {"press-1": b'{"link":"online"}'})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hub.run)
        yield hub
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_slow_client_is_told_to_read_again_and_goes_on(service: Service, hub: Hub) -> None:
    with anyio.fail_after(PATIENCE_S):
        stream = hub.stream(None, sees_people=False, may_go_on=_always)
        assert await anext(stream) == b"retry: 1000\n\n"
        (client,) = hub._clients
        for number in range(QUEUE_LENGTH + 10):
            client.push(b"event: tool\ndata: %d\n\n" % number)
        while not (message := await anext(stream)).startswith(b"event: reread"):
            assert message.startswith(b"event: tool")
        following = await anext(stream)
        assert following.startswith(b"event: tool")
        assert following != b"event: tool\ndata: 0\n\n"
        await stream.aclose()
    assert hub.clients == 0


@pytest.mark.anyio
async def test_who_connects_sees_the_tools_as_they_are_now(hub: Hub) -> None:
    with anyio.fail_after(PATIENCE_S):
        stream = hub.stream(None, sees_people=False, may_go_on=_always)
        while (
            message := await anext(stream)
        ) != b'event: tool\ndata: {"tool":"press-1","state":{"link":"online"}}\n\n':
            assert message.startswith((b"retry", b"event: heartbeat"))
        await stream.aclose()


def test_a_server_that_stops_ends_its_streams(server: str, service: Service) -> None:
    with watching(server, "olga") as events:
        service.hub.end()
        assert list(events) == []
