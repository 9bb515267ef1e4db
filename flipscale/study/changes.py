"""A study file with other values of some keys."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from flipscale.errors import StudyError, did_you_mean
from flipscale.kinds import options_of
from flipscale.study.document import Complaints, read_value
from flipscale.study.keys import TOP
from flipscale.study.reader import read_study


def write_changed(path: Path, changes: Sequence[str], name: str, folder: Path | None = None) -> Path:
    """The study file NAME.yaml in a folder, by default beside `path`: the keys of that one with these changes, each
    KEY=VALUE.

    A setting's name stands for its place under base, or under axes where the value is a list, and replaces what the
    study says of it; any other key may have dots: seeds, evaluation.images, axes.samples. The file stays where it says
    this already. Raises StudyError for a change that cannot be read, a faulty study, or another file of that name.
    """
    study = read_study(path)
    data = study.document.data
    known = options_of(study.record)
    for change in changes:
        key, equals, text = change.partition("=")
        first = key.split(".")[0]
        if not equals or first not in {*TOP, *known}:
            raise StudyError([f"{change}: {did_you_mean(first, [*known, *TOP])}; write KEY=VALUE, as in lr=1e-3"])
        complaints = Complaints()
        value = read_value(text, change, complaints)
        complaints.raise_if_any()
        if key in known and key not in TOP:
            for part in ("base", "axes", "couple"):
                data[part] = {setting: said for setting, said in data.get(part, {}).items() if setting != key}
            key = f"{'axes' if isinstance(value, list) else 'base'}.{key}"
        *outer, last = key.split(".")
        inside = data
        for part in outer:
            inside[part] = dict(inside.get(part) or {})
            inside = inside[part]
        inside[last] = value
    data = {key: value for key, value in data.items() if value != {}}
    body = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    said = f"# {path.name} with {' '.join(changes)}\n{body}"
    changed = (folder or path.parent) / f"{name}.yaml"
    if changed.exists():
        if changed.read_text(encoding="utf-8") != said:
            raise StudyError([f"{changed}: is there already and says something else; give another --name"])
        return changed
    changed.write_text(said, encoding="utf-8")
    try:
        read_study(changed)
    except StudyError:
        changed.unlink()
        raise
    return changed
