"""Values of a study file as their kinds read them, with a complaint for each that is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flipscale.door.statements import Values
from flipscale.errors import did_you_mean
from flipscale.kinds import INVALID, JsonObject, Option, Path_, options_of, read, show
from flipscale.settings.declarations import Evaluation, Settings
from flipscale.study.document import Complaints, Document
from flipscale.study.keys import TOP, StudyKeys
from flipscale.study.named_sets import faults_of_evaluation
from flipscale.study.settings import SETTINGS

_EXAMPLES = {
    "parameters": "depth: 8",
    "base": "model: ViT-B-16",
    "axes": "mask_ratio: [0, 0.5]",
    "couple": "lr: 4e-6 * batch_size / 256",
    "baseline": "mask_ratio: 0",
    "claims": "a mask costs accuracy: {left: {mask_ratio: 0.5}, expect: worse}",
}
"""Examples of the keys that take settings."""

_ELSEWHERE = {
    "epochs": "write samples: the epochs times the number of pairs",
    "steps": "write samples: the steps times batch_size",
    "learning_rate": "write lr",
    "wd": "write weight_decay",
    "patch_dropout": "write mask_ratio",
    "force_patch_dropout": "write mask_ratio",
    "masking": "write mask_ratio",
    "resolution": "write image_size",
    "context_length": "write text_length",
    "train_data": "write data",
    "pretrained": "write init",
    "gpus": "write it under resources: {gpus: 8}",
}
"""Settings under the names that other programs give them, and what to write in a study instead."""


def setting_meant(name: str, known: Mapping[str, Option] = SETTINGS) -> str:
    """The end of a complaint about an unknown setting. known: those that the study has.

    >>> setting_meant("epochs")
    'write samples: the epochs times the number of pairs'
    """
    return _ELSEWHERE.get(name.replace("-", "_")) or did_you_mean(name, known)


@dataclass
class ValueReader:
    """Reads parts of a document, gathering every complaint on the way."""

    document: Document
    complaints: Complaints
    record: type[Settings] = Settings
    """The settings that the study's runs have: flipscale's, and the study's own parameters."""

    @property
    def known(self) -> Mapping[str, Option]:
        """Every setting by its name."""
        return options_of(self.record)

    def complain(self, at: Path_, what: str) -> None:
        """Report the fault of the value at this path, and its remedy."""
        self.complaints.add(self.document.place(*at), what)

    def keys(self) -> StudyKeys:
        """The keys of the file as their types read them, each at its default where it is missing or wrong."""
        data = self.document.data
        values: JsonObject = {}
        for key, option in TOP.items():
            value = read(option.type, data[key], (key,), self.complain) if key in data else INVALID
            values[key] = option.default if value is INVALID else value
        return StudyKeys(**values)

    def mapping(self, key: str) -> Values:
        """The mapping under a key; an empty one where it is missing or wrong."""
        value = self.document.data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.complain((key,), f"{show(value)} gives no keys; write {key} as in {_EXAMPLES[key]}")
            return {}
        return value

    def setting(self, name: str, value: Any, at: Path_) -> Any:
        """The value of a setting; INVALID after complaints, also about a name that is no setting."""
        if name not in self.known:
            self.complain(at, f"unknown setting '{name}'; {setting_meant(name, self.known)}")
            return INVALID
        setting = read(self.known[name].type, value, at, self.complain)
        faults = list(faults_of_evaluation(setting)) if isinstance(setting, Evaluation) else []
        for path, what in faults:
            self.complain((*at, *path), what)
        return INVALID if faults else setting

    def settings(self, given: Values, *at: str | int) -> Values:
        """The settings of a mapping at this path; those that are wrong are complaints, and left out."""
        settings = {name: self.setting(name, value, (*at, name)) for name, value in given.items()}
        return {name: value for name, value in settings.items() if value is not INVALID}

    def distinct(self, name: str, values: Any, at: Path_) -> tuple[Any, ...]:
        """The values of an axis, or its one; one that is given twice is a complaint, and left out."""
        distinct: list[Any] = []
        for index, value in enumerate(values if isinstance(values, list) else [values]):
            setting = self.setting(name, value, (*at, index))
            if setting in distinct:
                self.complain((*at, index), f"{show(value)} is given twice on the axis '{name}'; keep one")
            elif setting is not INVALID:
                distinct.append(setting)
        return tuple(distinct)
