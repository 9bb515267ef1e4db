"""The JSON Schema of a study file, from the types the reader itself uses: an editor completes and checks with it."""

from collections.abc import Mapping

from flipscale.kinds import JsonSchema, Option, Some, Text, schemas_of
from flipscale.study.claims import WrittenClaim
from flipscale.study.keys import SCHEMA, TOP
from flipscale.study.settings import SETTINGS


def study_schema() -> JsonSchema:
    """The schema (draft 2020-12). It accepts what `read_study` accepts, and cannot check expressions and cells."""
    of_settings, definitions = _described(SETTINGS)
    of_keys, more = _described(TOP)
    of_claim, still_more = schemas_of({"claim": WrittenClaim})
    settings = {name: {"$ref": f"#/$defs/setting_{name}"} for name in SETTINGS}
    lists = {name: {"type": "array", "minItems": 1, "items": setting} for name, setting in settings.items()}
    expression = {"type": ["string", "number"]}
    some_settings = _mapping(settings)
    condition = {"anyOf": [{"type": "string"}, some_settings]}
    grid = _mapping({name: {"anyOf": [kind, {"const": "all"}, settings[name]]} for name, kind in lists.items()})
    crossed = {"type": "object", "additionalProperties": False, "properties": {"cross": {"type": "array"}}}
    special: dict[str, JsonSchema] = {
        "schema": {"const": SCHEMA},
        "include": schemas_of({"include": Some[Text] | None})[0]["include"],
        "base": some_settings,
        "axes": _mapping(lists),
        "couple": _mapping(dict.fromkeys(SETTINGS, expression) | {"stages": {"type": ["string", "array"]}}),
        "where": {"anyOf": [condition, {"type": "array", "items": condition}]},
        "exclude": {"anyOf": [condition, {"type": "array", "items": condition}]},
        "design": {
            "anyOf": [
                {"enum": ["full", "one_at_a_time"]},
                _mapping({"one_at_a_time": crossed}),
                _mapping({"grids": {"type": "object", "additionalProperties": grid}}),
            ]
        },
        "baseline": some_settings,
        "evaluation": settings["evaluation"],
        "claims": {"type": ["object", "null"], "additionalProperties": of_claim["claim"]},
    }
    shared = {f"setting_{name}": schema for name, schema in of_settings.items()}
    # Where a study has parameters of its own, names of settings cannot be checked.
    with_settings = ("base", "axes", "couple", "baseline", "where", "exclude", "design", "claims")
    closed = {name: special.pop(name) for name in with_settings}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flipscale study",
        "type": "object",
        "additionalProperties": False,
        "required": ["schema"],
        "properties": {name: schema | special.get(name, {}) for name, schema in of_keys.items()},
        "if": {"required": ["parameters"]},
        "else": {"properties": closed},
        "$defs": definitions | more | still_more | shared,
    }


def _described(options: Mapping[str, Option]) -> tuple[dict[str, JsonSchema], JsonSchema]:
    schemas, definitions = schemas_of({name: each.type for name, each in options.items()})
    return {name: {"description": options[name].says, **schema} for name, schema in schemas.items()}, definitions


def _mapping(properties: dict[str, JsonSchema]) -> JsonSchema:
    return {"type": ["object", "null"], "additionalProperties": False, "properties": properties}
