import hashlib
import io
import json
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from flipscale.data.formats import open_data, open_held_out
from flipscale.data.pairs import Form
from flipscale.errors import DataError
from flipscale.settings.declarations import ShardSet, WebDataset
from tests.parts import need

need(find_spec("resvg_py") is not None, "resvg-py (pip install flipscale[icons])")

from icons import Icon, Icons, Name, build_icons, draw, read_names, visible_icons  # noqa: E402

pytestmark = pytest.mark.slow

SQUARE = '<path fill="currentColor" d="M4 4h16v16H4z"/>'
LEFT_HALF = '<path fill="currentColor" d="M0 0h12v24H0z"/>'
TOP_LEFT = '<path fill="currentColor" d="M0 0h12v12H0z"/>'


def bar(x: int) -> str:
    """A body that no other x gives."""
    return f'<path fill="currentColor" d="M{x} 2h3v20h-3z"/>'


def white(part: npt.NDArray[np.uint8]) -> bool:
    return bool((part == 255).all())


def black(part: npt.NDArray[np.uint8]) -> bool:
    return bool((part == 0).all())


def drawn(size: int = 24, **icon: Any) -> npt.NDArray[np.uint8]:
    picture = draw(Icon(**{"width": 24, "height": 24, **icon}), size)
    assert picture is not None
    assert picture.shape == (size, size, 3)
    return picture


@pytest.mark.parametrize("body", ["", "<g/>", '<path fill="none" d="M4 4h16v16H4z"/>', '<path d="M30 30h9v9z"/>'])
def test_an_icon_that_shows_nothing_has_no_picture(body: str) -> None:
    assert draw(Icon(body, width=24, height=24), 24) is None


@pytest.mark.parametrize(
    ("turns", "where"),
    [
        ({"h_flip": True}, (0, 1)),
        ({"v_flip": True}, (1, 0)),
        ({"h_flip": True, "v_flip": True}, (1, 1)),
        ({"rotate": 1}, (0, 1)),
        ({"rotate": 2}, (1, 1)),
        ({"rotate": 3}, (1, 0)),
        ({"rotate": 1, "h_flip": True}, (1, 1)),
        ({"rotate": 3, "v_flip": True}, (1, 1)),
    ],
)
@pytest.mark.parametrize(("left", "top"), [(0, 0), (-8, 40)])
def test_icons_are_flipped_and_then_turned_clockwise(
    turns: dict[str, Any], where: tuple[int, int], left: int, top: int
) -> None:
    """The top left quarter is black before: by (row, column) of the quarters, where it is after."""
    body = f'<g transform="translate({left} {top})">{TOP_LEFT}</g>'
    picture = drawn(body=body, left=left, top=top, **turns)
    quarters = {(row, column): picture[12 * row :, 12 * column :][:12, :12] for row in (0, 1) for column in (0, 1)}
    assert black(quarters.pop(where))
    assert all(white(quarter) for quarter in quarters.values())


def test_aliases_that_turn_or_flip_are_icons_and_mere_other_names_and_hidden_icons_are_not() -> None:
    collection = {
        "prefix": "a",
        "width": 24,
        "height": 20,
        "icons": {
            "left": {"body": "L"},
            "small": {"body": "S", "width": 8, "left": 2},
            "old": {"body": "O", "hidden": True},
        },
        "aliases": {
            "back": {"parent": "left"},
            "right": {"parent": "left", "hFlip": True},
            "left-again": {"parent": "right", "hFlip": True, "rotate": 3},
            "up": {"parent": "left-again", "rotate": 2},
            "gone": {"parent": "old", "vFlip": True},
            "withdrawn": {"parent": "left", "hFlip": True, "hidden": True},
            "nobody": {"parent": "nothing", "rotate": 1},
            "ring": {"parent": "ring", "rotate": 1},
        },
    }
    assert dict(visible_icons(collection)) == {
        "left": Icon("L", 0, 0, 24, 20),
        "small": Icon("S", 2, 0, 8, 20),
        "right": Icon("L", 0, 0, 24, 20, h_flip=True),
        "left-again": Icon("L", 0, 0, 24, 20, rotate=3),
        "up": Icon("L", 0, 0, 24, 20, rotate=1),
    }


def test_captions_keep_the_style_and_drop_the_size() -> None:
    names = ["arrow-left-16-filled", "arrow-left-24", "bell-24-filled", "forward-10-20-filled", "house-16"]
    assert read_names(names) == [
        Name("arrow left filled", "arrow left", 16),
        Name("arrow left", "arrow left", 24),
        Name("bell filled", "bell", 24),
        Name("forward 10 filled", "forward", 20),
        Name("house", "home", 16),
    ]


LICENCES = {
    "plain": "MIT",
    "sized": "CC-BY-4.0",
    "share-alike": "CC-BY-SA-4.0",
    "copyleft": "GPL-3.0",
    "carbon": "Apache-2.0",
    "clarity": "MIT",
}
"""carbon and clarity are names of real sets that are held out."""

SETS: dict[str, dict[str, Any]] = {
    "plain": {
        "icons": {
            **{f"thing-{number}": {"body": bar(number)} for number in range(12)},
            "bell": {"body": '<path d="M2 2h3v3H2z"/>'},
            "bell-outline": {"body": '<path d="M2 2h4v3H2z"/>'},
            "home": {"body": '<path d="M2 2h5v3H2z"/>'},
            "house": {"body": '<path d="M2 2h5v3H2z"/>'},
            "square": {"body": SQUARE},
            "withdrawn": {"body": '<path d="M2 2h6v3H2z"/>', "hidden": True},
            "nothing": {"body": "<g/>"},
            "no-svg": {"body": "<path"},
            "left": {"body": LEFT_HALF},
        },
        "aliases": {"right": {"parent": "left", "hFlip": True}, "port": {"parent": "left"}},
    },
    "sized": {
        "icons": {
            "bell-16-filled": {"body": '<path d="M9 2h3v3H9z"/>'},
            "bell-24-filled": {"body": '<path d="M9 2h3v4H9z"/>'},
            "bell-16-regular": {"body": '<path d="M9 2h3v5H9z"/>'},
            "home-16-regular": {"body": '<path d="M9 2h3v6H9z"/>'},
        }
    },
    "share-alike": {"icons": {"bell": {"body": '<path d="M9 9h3v3H9z"/>'}}},
    "copyleft": {"icons": {"bell": {"body": '<path d="M9 9h3v4H9z"/>'}}},
    "carbon": {
        "icons": {
            "square": {"body": SQUARE},
            **{f"bell-{number}": {"body": f'<path d="M2 2h{number}v15H2z"/>'} for number in range(1, 5)},
            **{f"home-{number}": {"body": f'<path d="M2 2h{number}v16H2z"/>'} for number in range(1, 6)},
            **{f"unheard-{number}": {"body": f'<path d="M2 2h{number}v17H2z"/>'} for number in range(1, 7)},
        }
    },
    "clarity": {
        "icons": {
            "bell": {"body": '<path d="M2 2h5v15H2z"/>'},
            "bell-1": {"body": '<path d="M2 2h6v15H2z"/>'},
            "cloud": {"body": '<path d="M2 2h7v15H2z"/>'},
        }
    },
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small package in the real format: two sets to train on, two held out, two under other licences."""
    folder = tmp_path_factory.mktemp("npm") / "package"
    (folder / "json").mkdir(parents=True)
    about = {
        prefix: {
            "name": prefix.title(),
            "total": len(icons["icons"]),
            "author": {"name": "A. Drawer", "url": f"https://example.com/{prefix}"},
            "license": {"title": spdx, "spdx": spdx, "url": "https://example.com/licence"},
        }
        for (prefix, icons), spdx in zip(SETS.items(), LICENCES.values(), strict=True)
    }
    (folder / "package.json").write_text(json.dumps({"name": "@iconify/json", "version": "2.2.0"}))
    (folder / "collections.json").write_text(json.dumps(about))
    for prefix, icons in SETS.items():
        content = {"prefix": prefix, "info": about[prefix], "width": 24, "height": 24, **icons}
        (folder / "json" / f"{prefix}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def built(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Icons:
    return build_icons(tmp_path_factory.mktemp("built") / "icons", package, 24, 1, lambda line: None)


def contents(folder: Path, part: str) -> dict[str, dict[str, bytes]]:
    """The files of the part's only shard, by key and extension."""
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(folder / f"{part}-00000.tar") as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            content = tar.extractfile(member)
            assert content is not None
            samples.setdefault(key, {})[extension] = content.read()
    return samples


def names(folder: Path, part: str) -> set[tuple[str, str]]:
    facts = [json.loads(sample["json"]) for sample in contents(folder, part).values()]
    return {(fact["set"], fact["name"]) for fact in facts}


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_training_pairs_are_of_sets_with_a_permissive_licence_that_are_not_held_out(built: Icons) -> None:
    found = names(built.folder, "train")
    assert {prefix for prefix, _ in found} == {"plain", "sized"}
    assert len(found) == built.train == 12 + 5 + 3
    assert {prefix for prefix, _ in names(built.folder, "test")} == {"carbon", "clarity"}


def test_a_picture_is_trained_on_once_and_never_if_it_is_held_out(built: Icons) -> None:
    found = names(built.folder, "train")
    assert len(found & {("plain", "home"), ("plain", "house")}) == 1
    assert ("plain", "square") not in found
    assert ("carbon", "square") in names(built.folder, "test")
    pictures = [sample["png"] for part in ("train", "test") for sample in contents(built.folder, part).values()]
    assert len(set(pictures)) == len(pictures)


def test_held_out_captions_are_all_different(built: Icons) -> None:
    captions = [sample["txt"] for sample in contents(built.folder, "test").values()]
    assert len(captions) == built.test == 18  # of 19 pictures, two of which are "bell 1"
    assert len(set(captions)) == 18


def test_classes_are_concepts_that_training_sets_draw_with_five_held_out_pictures(built: Icons) -> None:
    assert (built.folder / "concepts.txt").read_text() == "bell\nhome\n"
    labels = [int(sample["cls"]) for sample in contents(built.folder, "concepts").values()]
    assert (built.concepts, built.labelled) == (2, 11)
    assert sorted(labels) == [0] * 6 + [1] * 5


def test_the_readme_names_authors_licences_and_what_is_left_out(built: Icons) -> None:
    readme = (built.folder / "README.md").read_text()
    assert "@iconify/json 2.2.0" in readme
    assert "| training | train-{00000..00000}.tar | 20 |" in readme
    assert (
        "| sized | Sized | [A. Drawer](https://example.com/sized) | [CC-BY-4.0](https://example.com/licence) "
        "| training | 3 |" in readme
    )
    assert "- share-alike (Share-Alike, 1 icons): CC-BY-SA-4.0\n" in readme
    assert "- copyleft (Copyleft, 1 icons): GPL-3.0\n" in readme
    assert "\n- plain:no-svg: " in readme
    assert "| copyleft |" not in readme


def test_the_same_package_gives_the_same_bytes_in_any_order_and_number_of_workers(
    built: Icons, package: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "iconify-json-2.2.0.tgz", "w:gz") as tar:
        tar.add(package, "package")
    said: list[str] = []
    again = build_icons(tmp_path / "again", tmp_path / "iconify-json-2.2.0.tgz", 24, 2, said.append)
    assert hashes(again.folder) == hashes(built.folder)
    assert set(hashes(again.folder)) == {
        "README.md",
        "concepts.txt",
        "concepts-00000.tar",
        "test-00000.tar",
        "train-00000.tar",
    }
    assert said[0] == "unpacking iconify-json-2.2.0.tgz"
    assert not (tmp_path / "again.unfinished").exists()


def lengths(texts: list[str]) -> npt.NDArray[np.int64]:
    """Each text's length, eight times."""
    return np.array([[len(text)] * 8 for text in texts], np.int64)


def test_flipscale_trains_on_the_pairs(built: Icons, tmp_path: Path) -> None:
    data = open_data(
        WebDataset(f"{built.folder}/train-{{00000..00000}}.tar", name="icons", decode=None, sizes=None),
        Form(24, 8, lengths, tmp_path),
        data_size=None,
        samples=20,
    )
    images, tokens = data.batch(np.arange(data.size))
    first = contents(built.folder, "train")["000000000"]
    assert data.size == built.train
    assert (images[0].transpose(1, 2, 0) == np.asarray(Image.open(io.BytesIO(first["png"])))).all()
    assert tokens[0, 0] == len(first["txt"])


def test_flipscale_evaluates_on_the_held_out_sets(built: Icons, tmp_path: Path) -> None:
    form = Form(24, 8, lengths, tmp_path)
    shards = {part: f"{built.folder}/{part}-{{00000..00000}}.tar" for part in ("test", "concepts")}
    pairs = ShardSet(shards["test"], name=None, classes=None, templates=None)
    found = open_held_out(pairs, form, images=100, templates=None, trained_on=False)
    assert found is not None
    assert found.pairs is not None
    assert len(found.pairs[0]) == built.test
    classes = ShardSet(shards["concepts"], name=None, classes=f"{built.folder}/concepts.txt", templates=None)
    found = open_held_out(classes, form, images=100, templates=None, trained_on=False)
    assert found is not None
    assert found.labelled is not None
    assert found.classes == ("bell", "home")
    assert sorted(found.labelled[1].tolist()) == [0] * 6 + [1] * 5


def test_a_folder_that_is_there_is_left_alone(package: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="exists already; remove it or name another folder"):
        build_icons(tmp_path, package, 24, 1, lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
