"""What views of the record have in common: made from rows by attribute, decimals as strings, times in UTC."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field


class View(BaseModel):
    """What is shown of a row: the attributes of the same names."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def of(cls, row: object) -> Self:
        """The view of a row."""
        return cls.model_validate(row)


class Body(BaseModel):
    """What a request brings; a field that nobody knows is a mistake and not ignored."""

    model_config = ConfigDict(extra="forbid")


class Reason(Body):
    """Why something is done."""

    reason: str = Field(min_length=3, max_length=1000, examples=["certificate checked"])


class SignatureComponents(Body):
    """Both components of the signer's identity. Nobody signs for somebody else."""

    name: str = Field(max_length=64, examples=["quentin"])
    password: str = Field(max_length=256)


class SignedReason(Reason):
    """Why, and the signature under it."""

    signature: SignatureComponents


def streamed(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that streams a file, in one of several forms."""
    file = {"schema": {"type": "string", "format": "binary"}}
    text = {"schema": {"type": "string"}}
    content = {form: text if form.startswith("text/") else file for form in media_types}
    return {200: {"content": content, "description": "The file, streamed."}}


DecimalText = Annotated[
    str, Field(pattern=r"^\d{1,20}(\.\d{1,12})?$", examples=["150"], description="Decimal number as a string.")
]
Unit = Annotated[str, Field(examples=["mg"], description="ug, mg, g, kg, uL, mL, L or piece.")]
Serial = Annotated[str, Field(max_length=40, examples=["LOT-000017-5"])]
Text = Annotated[str, Field(max_length=200)]
