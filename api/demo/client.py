"""People of the demonstration at their keyboards: the public API over HTTP and nothing else."""

from __future__ import annotations

import uuid
from typing import Any

import httpx

from api.demo.processes import DemoFailed

PASSWORD = "solid-state-demo"
TRAINED_FOR = ("rf_magnetron_sputter", "glovebox_press")
PEOPLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "olga": ("Olga Operator", ("operator",)),
    "emil": ("Emil Engineer", ("engineer",)),
    "erika": ("Erika Engineer", ("engineer",)),
    "quentin": ("Quentin Quality", ("qa",)),
    "ada": ("Ada Admin", ("admin",)),
}


class Person:
    """Somebody signed in to the service.

    Args:
        url: The service's address.
        name: One of `PEOPLE`.
    """

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._client = httpx.Client(base_url=f"{url}/api/v1", timeout=30.0, trust_env=False)
        session = self.post("/sessions", name=name, password=PASSWORD)
        self._client.headers["Authorization"] = f"Bearer {session['token']}"

    @property
    def signature(self) -> dict[str, str]:
        """Both components, as a signing dialog asks for them."""
        return {"name": self.name, "password": PASSWORD}

    def get(self, path: str, **query: str | int) -> Any:
        """Read something."""
        return self._answer(self._client.get(path, params=query))

    def post(self, path: str, **body: Any) -> Any:
        """Do something, once: a request that was cut is sent again under the same key."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        for attempt in range(3):
            try:
                return self._answer(self._client.post(path, json=body, headers=headers))
            except httpx.TransportError:
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Leave the keyboard."""
        self._client.close()

    def _answer(self, response: httpx.Response) -> Any:
        if response.is_success:
            return response.json() if response.content else None
        try:
            problem = response.json()
            findings = "; ".join(f"{f['path']}: {f['message']} {f['action']}" for f in problem.get("findings", ()))
            what = f"{problem.get('detail', '')} {findings}".strip()
        except ValueError:
            what = response.text[:200]
        raise DemoFailed(f"{self.name}: {response.request.method} {response.request.url.path}: {what}")
