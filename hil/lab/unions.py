"""Sections of a lab file whose model is chosen by a word in them, among the kinds that are installed.

``power: Annotated[OutletSpec, OneOfKinds(kinds.OUTLETS, "kind")]`` reads the section with the model of the kind that
its key ``kind`` names.  The kinds are entry points (:mod:`hil.core.kinds`), so a package from outside adds to them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from hil.core import kinds
from hil.errors import ConfigurationError

_log = logging.getLogger(__name__)

_MODELS: dict[str, type[BaseModel]] = {}
"""Tag ("driver: jetson") to model, of every union that has been built."""


@dataclass(frozen=True)
class OneOfKinds:
    """The union of the models of all installed kinds of ``group``; the word under ``key`` chooses."""

    group: str
    key: str
    default: str = ""  # the word that need not be written
    allowed: Callable[[Any], bool] = lambda _kind: True

    def models(self) -> Mapping[str, type[BaseModel]]:
        """Return the model of each kind that may stand here, without those of a package that is broken."""
        models: dict[str, type[BaseModel]] = {}
        for name in kinds.names(self.group):
            try:
                kind = kinds.load(self.group, name)
            except ConfigurationError as exc:
                _log.warning("left out: %s", exc.message)  # lab files that do not name it are still read
                continue
            if self.allowed(kind):
                models[name] = kind.model
        return models

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        models = self.models()
        if not models:
            raise ConfigurationError(
                f"no installed package has anything in {self.group}",
                remedy="this program is not installed as it is now: `make venv`, or install it again",
            )
        _MODELS.update({self._tag(name): model for name, model in models.items()})
        union = core_schema.tagged_union_schema(
            {self._tag(name): handler.generate_schema(model) for name, model in models.items()},
            lambda value: self._tag(self._word(value)),
        )
        return core_schema.no_info_before_validator_function(self._check, union)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        document = handler(schema)
        references = [each["$ref"] for each in document.get("oneOf", [document])]
        return {
            "oneOf": [{"$ref": reference} for reference in references],
            "discriminator": {"propertyName": self.key, "mapping": dict(zip(self.models(), references, strict=True))},
        }

    def _tag(self, word: object) -> str:
        return f"{self.key}: {word}"

    def _word(self, value: Any) -> object:
        return value.get(self.key) if isinstance(value, dict) else getattr(value, self.key, None)

    def _check(self, value: Any) -> Any:
        """Put the default word in; PydanticCustomError when the word is no kind's."""
        if isinstance(value, dict) and self.default and self.key not in value:
            value = {**value, self.key: self.default}
        names = sorted(self.models())
        word = self._word(value)
        if word not in names and not isinstance(value, dict | BaseModel):
            message = f"is a section with the key {self.key} (found {value!r})"
            raise PydanticCustomError("value_error", "{text}", {"text": message})
        if word not in names:
            wrong = f"unknown {self.key} {word!r}"
            if word in kinds.names(self.group):
                kinds.load(self.group, str(word))  # raises when its package is broken: says which, and why
                wrong = f"{word!r} has no place here"  # e.g. a pin where an outlet is wanted
            close = get_close_matches(str(word), names, n=1, cutoff=0.5)
            message = wrong if word else "is empty"
            message = "is required and missing" if word is None else message
            message += (f"; did you mean {close[0]}?" if close else ".") + f" Allowed: {', '.join(names)}"
            raise PydanticCustomError("rule", "{text}", {"text": message, "key": self.key, "value": str(word)})
        return value


def model_of_tag(step: object) -> type[BaseModel] | None:
    """Return the model that a tag stands for; None for a step that is no tag."""
    return _MODELS.get(step) if isinstance(step, str) else None


def owners_of_key(wrong: str, location: Sequence[int | str]) -> list[str]:
    """Return the tags of other kinds whose section has the key that is wrong in this one."""
    tag = location[-1] if location else None
    if not isinstance(tag, str) or tag not in _MODELS:
        return []
    word = tag.partition(":")[0]
    return [
        other
        for other, model in _MODELS.items()
        if other != tag and other.partition(":")[0] == word and wrong in model.model_fields
    ]
