"""A service with people, and clients signed in as each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.service import Service
from api.settings import Settings
from tests.api.builders import Lab
from traceability.acts import Role, system_actor
from traceability.passwords import hash_password
from traceability.users import User

PASSWORD = "correct horse battery"
PEOPLE = {
    "olga": Role.OPERATOR,
    "emil": Role.ENGINEER,
    "erika": Role.ENGINEER,
    "quentin": Role.QA,
    "ada": Role.ADMIN,
}

SignIn = Callable[[str], TestClient]


@pytest.fixture(scope="session")
def password_hash() -> bytes:
    """Made once: hashing is slow on purpose."""
    return hash_password(PASSWORD)


def enrol_people(service: Service, password_hash: bytes) -> None:
    """Enter one person for each role."""
    with service.database.write(system_actor("test")) as record:
        for name, role in PEOPLE.items():
            with record.act("user.created", f"user:{name}"):
                record.add(
                    User(
                        name=name,
                        full_name=name.title() + " Example",
                        password_hash=password_hash,
                        password_temporary=False,
                        roles=[role],
                        trained_for=["rf_magnetron_sputter", "glovebox_press"],
                        created_at=service.clock.now(),
                    )
                )


@pytest.fixture
def service(schema_url: str, tmp_path: Path, password_hash: bytes) -> Iterator[Service]:
    """A service on an empty database with one person for each role; it drives no tools."""
    service = Service(Settings(data_folder=tmp_path / "var", database_url=schema_url, drive_tools=False))
    enrol_people(service, password_hash)
    yield service
    service.database.close()


@pytest.fixture
def sign_in(service: Service) -> SignIn:
    """Gives a client that acts as the named person."""
    app = create_app(service)

    def signed_in(name: str) -> TestClient:
        client = TestClient(app, base_url="https://testserver", raise_server_exceptions=False)
        answer = client.post("/api/v1/sessions", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        client.cookies.clear()
        client.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        return client

    return signed_in


@pytest.fixture
def lab(service: Service, sign_in: SignIn) -> Lab:
    """Two linked tools, defined materials, the founding recipes as drafts."""
    return Lab(service, sign_in, PASSWORD)
