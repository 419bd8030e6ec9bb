"""Every error of the domain has its place in the table."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import api
import equipment
import recipes
import traceability
from api.errors import STATUS, status_of
from traceability.errors import ArgonautError


def _all_errors(root: type[ArgonautError]) -> Iterator[type[ArgonautError]]:
    for child in root.__subclasses__():
        yield child
        yield from _all_errors(child)


def test_every_error_maps_to_a_status() -> None:
    for package in (api, equipment, recipes, traceability):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "migrations" not in module.name and "__main__" not in module.name:
                importlib.import_module(module.name)
    assert [error.__name__ for error in _all_errors(ArgonautError) if status_of(error) is None] == []
    assert ArgonautError not in STATUS, "the root has no status, so that a class without one is found"


def test_codes_are_unique() -> None:
    codes = [error.code for error in _all_errors(ArgonautError)]
    assert sorted(codes) == sorted(set(codes))
