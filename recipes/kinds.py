"""The kinds of document that share one life: master recipes, routes and test protocols.

Each document names its kind by its `format`; from here on lifecycle, store, diff and library treat all alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from typing import Any, TypeAlias

from recipes.documents import read
from recipes.errors import UnreadableDocument
from recipes.master import MasterRecipe, master_schema
from recipes.protocols import TestProtocol, validate_protocol
from recipes.reading import Report, did_you_mean
from recipes.routes import Route, validate_route
from recipes.validation import validate_master
from traceability.errors import Finding

AnyDocument: TypeAlias = MasterRecipe | Route | TestProtocol


class DocumentKind(StrEnum):
    """What a document is, by its `format`."""

    RECIPE = "argonaut-master-recipe"
    ROUTE = "argonaut-route"
    PROTOCOL = "argonaut-test-protocol"


_CLASSES: Mapping[DocumentKind, type[MasterRecipe] | type[Route] | type[TestProtocol]] = {
    DocumentKind.RECIPE: MasterRecipe,
    DocumentKind.ROUTE: Route,
    DocumentKind.PROTOCOL: TestProtocol,
}


def kind_of(document: AnyDocument) -> DocumentKind:
    """The kind of a document."""
    return DocumentKind(document.format)


def from_canonical(kind: DocumentKind, content: str | bytes) -> AnyDocument:
    """The document that a store holds as canonical JSON.

    Raises:
        pydantic.ValidationError: The content is another kind of document.
    """
    return _CLASSES[kind].from_canonical(content)


def schema(kind: DocumentKind) -> dict[str, Any]:
    """The published JSON schema of a kind of document (draft 2020-12)."""
    if kind is DocumentKind.RECIPE:
        return master_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_CLASSES[kind].model_json_schema()}


def validate(
    document: str | bytes | Mapping[str, Any],
) -> Report[MasterRecipe] | Report[Route] | Report[TestProtocol]:
    """Find everything that is wrong with a document of any kind; never raises because of the input."""
    try:
        data = read(document)
    except UnreadableDocument as error:
        return Report[MasterRecipe].unreadable(error)
    match data.get("format"):
        case DocumentKind.RECIPE.value:
            return validate_master(data)
        case DocumentKind.ROUTE.value:
            return validate_route(data)
        case DocumentKind.PROTOCOL.value:
            return validate_protocol(data)
        case other:
            finding = Finding(
                "unknown_format",
                f"The document's format is {other!r}, which is no kind of recipe.",
                did_you_mean(str(other), [kind.value for kind in DocumentKind]),
                "format",
            )
            return Report[MasterRecipe](None, (finding,))


def read_document(document: str | bytes | Mapping[str, Any]) -> AnyDocument:
    """A document of any kind that may be stored.

    Raises:
        InvalidRecipe: With all findings, where one is an error.
    """
    return validate(document).accepted()


def founding_library() -> tuple[AnyDocument, ...]:
    """The recipes, routes and protocols that come with the product, recipes first.

    Raises:
        InvalidRecipe: A file of the library is not valid, which a test rules out.
    """
    found = [
        read_document(entry.read_bytes())
        for entry in files("recipes").joinpath("library").iterdir()
        if entry.name.endswith(".yaml")
    ]
    order = list(DocumentKind)
    return tuple(sorted(found, key=lambda document: (order.index(kind_of(document)), document.document_id)))
