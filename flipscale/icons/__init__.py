"""A data set of some 300,000 captioned icons, built from the npm package @iconify/json into webdataset shards.

    DIR/train-00000.tar ...     KEY.png, KEY.txt (the icon's name in words), KEY.json (set, name, concept, licence)
    DIR/test-00000.tar ...      the same, of sets that are not trained on, and with captions that are all different
    DIR/concepts-00000.tar ...  KEY.png, KEY.cls: labelled icons of those sets, the names of the classes in concepts.txt
    DIR/README.md               counts, and by set its author, licence and part

The icons of a shard, and of all shards, are in the order of a hash of their set and name, so the first n training pairs
are a random sample of all sets, whatever n, and stay nearly the same from one version of the package to the next. From
the same package, and with the same releases of resvg-py and Pillow, every file comes out the same to the last byte.

build.py      the whole of it
iconify.py    the package's format: icons, their names in words, their pictures
collections.py  what the package says about its sets
drawing.py    pictures of every set
parts.py      which pictures are trained on, held out, labelled
shards.py     the tar files
readme.py     what was built, in words
"""

from flipscale.icons.build import Icons, build_icons

__all__ = ["Icons", "build_icons"]
