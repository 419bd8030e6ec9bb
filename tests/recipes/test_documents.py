"""One content has one canonical form, however it is written; hostile text is refused with a sentence."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recipes.documents import MAX_DOCUMENT_BYTES, Frozen, Number, read_text
from recipes.errors import UnreadableDocument
from recipes.formula import Parameter
from recipes.kinds import AnyDocument, founding_library, from_canonical, kind_of, read_document

LIBRARY = founding_library()
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9)


class _Holder(Frozen):
    number: Number


@pytest.mark.parametrize("document", LIBRARY, ids=lambda document: document.document_id)
def test_a_document_comes_back_the_same_from_yaml_json_and_its_canonical_form(document: AnyDocument) -> None:
    assert read_document(document.to_yaml()) == document
    assert read_document(document.model_dump_json()) == document
    assert from_canonical(kind_of(document), document.canonical_json()) == document
    assert read_document(document.to_yaml()).content_hash() == document.content_hash()


@pytest.mark.parametrize("document", LIBRARY, ids=lambda document: document.document_id)
def test_the_canonical_form_is_rfc_8785_without_any_float(document: AnyDocument) -> None:
    plain = json.loads(document.canonical_json(), parse_float=lambda text: pytest.fail(f"a float: {text}"))
    assert document.canonical_json() == rfc8785.dumps(plain)


@given(NUMBERS)
def test_the_way_a_number_is_written_does_not_change_the_content(number: Decimal) -> None:
    writings: list[Any] = [number, str(number), f"{number}000"[: len(str(number)) + 3], f"{number:E}"]
    forms = {_Holder(number=writing).model_dump_json() for writing in writings}
    assert len(forms) == 1
    assert Decimal(json.loads(forms.pop())["number"]) == number


@given(NUMBERS, NUMBERS)
def test_two_numbers_share_a_form_only_if_they_are_equal(one: Decimal, other: Decimal) -> None:
    assert (_Holder(number=one).model_dump_json() == _Holder(number=other).model_dump_json()) == (one == other)


@given(st.dictionaries(st.sampled_from("abcdefgh"), NUMBERS, min_size=1))
def test_numbers_read_from_yaml_and_json_are_exact(values: dict[str, Decimal]) -> None:
    as_json = "{" + ",".join(f'"{key}": {value:f}' for key, value in values.items()) + "}"
    as_yaml = "\n".join(f"{key}: {value:f}" for key, value in values.items())
    assert {key: Decimal(value) for key, value in read_text(as_json).items()} == values
    assert {key: Decimal(value) for key, value in read_text(as_yaml).items()} == values


def test_the_order_of_names_does_not_change_the_content() -> None:
    document = next(iter(LIBRARY))
    plain = yaml.safe_load(document.to_yaml())
    shuffled = dict(reversed(list(plain.items())))
    shuffled["formula"]["parameters"] = dict(reversed(list(plain["formula"]["parameters"].items())))
    assert read_document(shuffled).content_hash() == document.content_hash()


def test_a_document_can_not_be_changed_in_place() -> None:
    recipe: Any = next(document for document in LIBRARY if document.document_id == "SP-LIALO2-200")
    with pytest.raises(ValidationError):
        recipe.title = "another"
    with pytest.raises(TypeError):
        recipe.formula.parameters["rf_power_w"] = Parameter(target=Decimal(1), unit="W")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x 1\nb: *x", "aliases"),
        ("a: 1\na: 2", "twice"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": NaN}', "not a number"),
        ("a: [", "neither YAML nor JSON"),
        ("- 1", "not a mapping"),
        ("", "not a mapping"),
        ("a: " + "[" * 40, "nested"),
        ('{"a":' * 5000, "neither YAML nor JSON"),
        ("a: !!python/object/apply:os.system [ls]", "constructor"),
        ("? [1]\n: 2", "not text"),
        (b"\xff\xfe", "UTF-8"),
        ("a: " + "x" * MAX_DOCUMENT_BYTES, "bytes"),
    ],
)
def test_hostile_or_broken_text_is_refused_with_a_sentence(text: str | bytes, why: str) -> None:
    with pytest.raises(UnreadableDocument, match=why):
        read_text(text)
