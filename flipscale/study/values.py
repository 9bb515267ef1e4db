"""Values of a study file as their kinds read them, with a complaint for each that is wrong."""

from typing import Any

from flipscale.errors import did_you_mean
from flipscale.kinds import INVALID, Path_, show
from flipscale.study.document import Complaints, Document
from flipscale.study.keys import TOP
from flipscale.study.settings import SETTINGS
from flipscale.study.study import Values

_EXAMPLES = {
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


def setting_meant(name: str) -> str:
    """The end of a complaint about an unknown setting.

    >>> setting_meant("epochs")
    'write samples: the epochs times the number of pairs'
    """
    return _ELSEWHERE.get(name.replace("-", "_")) or did_you_mean(name, SETTINGS)


class ValueReader:
    """Reads parts of a document, gathering every complaint on the way."""

    def __init__(self, document: Document, complaints: Complaints):
        self.document = document
        self.complaints = complaints

    def complain(self, at: Path_, what: str) -> None:
        """Report the fault of the value at this path, and its remedy."""
        self.complaints.add(self.document.place(*at), what)

    def top(self, key: str) -> Any:
        """The value of a key of the file, at its default where it is missing or wrong."""
        option = TOP[key]
        if key not in self.document.data:
            return option.default
        value = option.read(self.document.data[key], (key,), self.complain)
        return option.default if value is INVALID else value

    def mapping(self, key: str) -> Values:
        """The mapping under a key; an empty one where it is missing or wrong."""
        value = self.document.data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.complain((key,), f"{show(value)} gives no keys; write {key} as in {_EXAMPLES[key]}")
            return {}
        return value

    def settings(self, key: str, given: Values) -> Values:
        """The settings in the mapping under `key`, read by their kinds."""
        read = {}
        for name, value in given.items():
            if name not in SETTINGS:
                self.complain((key, name), f"unknown setting '{name}'; {setting_meant(name)}")
                continue
            if key == "base" and isinstance(value, list) and len(value) > 1 and name != "stages":
                self.complain((key, name), f"{show(value)} is several values; put them under axes: {{{name}: [...]}}")
                continue
            setting = SETTINGS[name].read(value, (key, name), self.complain)
            if setting is not INVALID:
                read[name] = setting
        return read

    def distinct(self, name: str, values: list[Any], at: Path_) -> tuple[Any, ...]:
        """The values of an axis; one that is given twice is a complaint, and left out."""
        read: list[Any] = []
        for index, value in enumerate(values):
            setting = SETTINGS[name].read(value, (*at, index), self.complain)
            if setting is INVALID:
                continue
            if setting in read:
                self.complain((*at, index), f"{show(value)} is given twice on the axis '{name}'; keep one")
            else:
                read.append(setting)
        return tuple(read)
