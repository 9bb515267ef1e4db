"""The JSON Schema of a study file, from the tables the reader itself uses: an editor completes and checks with it."""

from flipscale.study.claims import CLAIM
from flipscale.study.keys import SCHEMA, TOP
from flipscale.study.kinds import JsonSchema
from flipscale.study.settings import EVALUATION, SETTINGS


def study_schema() -> JsonSchema:
    """The schema (draft 2020-12). It accepts what `read_study` accepts, and cannot check expressions and cells."""
    settings = {name: {"description": setting.says, **setting.kind.schema()} for name, setting in SETTINGS.items()}
    lists = {
        name: {"description": setting.says, "type": "array", "minItems": 1, "items": setting.kind.schema()}
        for name, setting in SETTINGS.items()
    }
    expression = {"type": ["string", "number"]}
    some_settings = _mapping(settings)
    condition = {"anyOf": [{"type": "string"}, some_settings]}
    grid = _mapping({name: {"anyOf": [kind, {"const": "all"}, settings[name]]} for name, kind in lists.items()})
    crossed = {"type": "object", "additionalProperties": False, "properties": {"cross": {"type": "array"}}}
    design = {
        "anyOf": [
            {"enum": ["full", "one_at_a_time"]},
            _mapping({"one_at_a_time": crossed}),
            _mapping({"grids": {"type": "object", "additionalProperties": grid}}),
        ]
    }
    special: dict[str, JsonSchema] = {
        "schema": {"const": SCHEMA},
        "base": some_settings,
        "axes": _mapping(lists),
        "couple": _mapping(dict.fromkeys(SETTINGS, expression)),
        "where": {"anyOf": [condition, {"type": "array", "items": condition}]},
        "exclude": {"anyOf": [condition, {"type": "array", "items": condition}]},
        "design": design,
        "baseline": some_settings,
        "evaluation": EVALUATION.schema(),
        "claims": {"type": ["object", "null"], "additionalProperties": CLAIM.schema()},
    }
    properties = {
        key: {"description": option.says, **special.get(key, option.kind.schema())} for key, option in TOP.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flipscale study",
        "type": "object",
        "additionalProperties": False,
        "required": ["schema"],
        "properties": properties,
    }


def _mapping(properties: dict[str, JsonSchema]) -> JsonSchema:
    return {"type": ["object", "null"], "additionalProperties": False, "properties": properties}
