"""Alive, and ready: what a supervisor of processes and a load balancer ask."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.dependencies import Served

router = APIRouter(tags=["health"])


class Check(BaseModel):
    """One thing that must be right."""

    name: str
    ok: bool
    detail: str


class Readiness(BaseModel):
    """Whether the service can do its work, and what is missing."""

    ready: bool
    checks: list[Check]


@router.get("/healthz", openapi_extra={"security": []})
async def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": Readiness}}, openapi_extra={"security": []})
def ready(service: Served, response: Response) -> Readiness:
    """Database, disk, clock, leases and tools. A tool that is away is shown but does not make the service unready."""
    found = service.checks()
    is_ready = all(check.ok for check in found if check.vital)
    if not is_ready:
        response.status_code = 503
    return Readiness(
        ready=is_ready, checks=[Check(name=check.name, ok=check.ok, detail=check.detail) for check in found]
    )
