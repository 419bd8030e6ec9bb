"""What can go wrong with recipes, as a tree with one root below `ArgonautError`. Knows no HTTP."""

from __future__ import annotations

from traceability.errors import ArgonautError


class RecipeError(ArgonautError):
    """Root of the errors of this package."""

    code = "recipe_error"


class UnreadableDocument(RecipeError):
    """The text is no YAML or JSON document at all."""

    code = "unreadable_document"


class InvalidRecipe(RecipeError):
    """A recipe, route or protocol has findings of severity error; all findings come with it."""

    code = "invalid_recipe"


class NotRunnable(RecipeError):
    """A recipe can't become a control recipe as asked: not effective, or a binding does not fit."""

    code = "recipe_not_runnable"


class CorrectionRefused(RecipeError):
    """A run-to-run correction is held or beyond its clamp; a person has to decide."""

    code = "correction_refused"
