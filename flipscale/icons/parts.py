"""Which pictures are trained on, held out, labelled."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flipscale.icons.drawing import DrawnIcon, DrawnSet

HELD_OUT_SETS = frozenset({
    "ant-design", "carbon", "clarity", "f7", "gravity-ui", "iconoir", "marketeq", "nimbus", "pixelarticons",
    "teenyicons", "twemoji", "vaadin", "zondicons",
})  # fmt: skip
"""Sets that are not trained on: outlined, solid, pixelled, coloured and emoji, by authors who drew them for themselves.

Many sets are copies, forks or new editions of others, which would turn the test into one of memory. For 250 icons of
each set the nearest picture of the training sets was therefore looked up, in 16 x 16 grey levels. In these sets 1 to
4 % of the icons have one that is nearly the same (.04 apart of 1, root mean square): dots and chevrons, which can be
drawn in one way only, and logos. Training takes sets with 7 to 22 %: ri, si, uil and its like, jam, majesticons,
radix-icons, iconamoon, grommet-icons. It also takes those that share an author or an origin with others: fluent-mdl2,
octicon, flat-color-icons, cil; and all sets of logos or flags.
"""

CONCEPTS, CONCEPT_IMAGES = 200, 5
"""Number of classes, the concepts that the most training sets draw, and the held-out icons that each must have."""


@dataclass(frozen=True)
class Parts:
    """Which pictures go where, each part in the order of the shards."""

    training: tuple[DrawnIcon, ...]
    test: tuple[DrawnIcon, ...]
    labelled: tuple[DrawnIcon, ...]
    classes: tuple[str, ...]
    doubles: int
    """Left out because the same picture, pixel by pixel, is already in."""
    shared: int
    """Left out of training because a held-out set has the same picture."""


def part(drawn: Mapping[str, DrawnSet]) -> Parts:
    """Sort the pictures into training and held-out ones; each occurs once, and no held-out one is trained on."""
    icons = sorted((icon for drawn_set in drawn.values() for icon in drawn_set.icons), key=lambda icon: icon.order)
    held_out = _once(icon for icon in icons if icon.prefix in HELD_OUT_SETS)
    for_training = _once(icon for icon in icons if icon.prefix not in HELD_OUT_SETS)
    held = {icon.digest for icon in held_out}
    training = [icon for icon in for_training if icon.digest not in held]
    classes = _classes(training, held_out)
    return Parts(
        training=tuple(training),
        test=_one_a_caption(held_out),
        labelled=tuple(icon for icon in held_out if icon.words.concept in classes),
        classes=classes,
        doubles=len(icons) - len(held_out) - len(for_training),
        shared=len(for_training) - len(training),
    )


def _one_a_caption(icons: Iterable[DrawnIcon]) -> tuple[DrawnIcon, ...]:
    captions: dict[str, DrawnIcon] = {}
    for icon in icons:
        captions.setdefault(icon.words.caption, icon)
    return tuple(captions.values())


def _once(icons: Iterable[DrawnIcon]) -> list[DrawnIcon]:
    """The icons; of several with the same picture, the first."""
    pictures: dict[bytes, DrawnIcon] = {}
    for icon in icons:
        pictures.setdefault(icon.digest, icon)
    return list(pictures.values())


def _classes(training: Iterable[DrawnIcon], held_out: Iterable[DrawnIcon]) -> tuple[str, ...]:
    """The concepts that most training sets draw, of those with enough held-out pictures; in alphabetical order."""
    sets: dict[str, set[str]] = defaultdict(set)
    for icon in training:
        sets[icon.words.concept].add(icon.prefix)
    pictures = Counter(icon.words.concept for icon in held_out)
    enough = [concept for concept, count in pictures.items() if count >= CONCEPT_IMAGES and concept in sets]
    return tuple(sorted(sorted(enough, key=lambda concept: (-len(sets[concept]), concept))[:CONCEPTS]))
