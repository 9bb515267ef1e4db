"""Training pairs and held-out items of a data set by its declaration, as numpy arrays.

    Shapes         drawn on the spot, endless                          shapes.py
    Fashion        Fashion-MNIST from a folder                         fashion.py
    WebDataset     tar shards of images and captions, here or far off  webdataset.py
    FineTuningSet  images with classes, to fine-tune on                classified.py

    form = Form(image_size=28, text_length=16, tokenize=tokenize)
    data = open_data(settings.data, form, data_size=None, samples=32768)
    rows = slice(rank * 16, (rank + 1) * 16)
    images, tokens = data.batch(data.order(seed, step, 64)[rows], views(settings, step * 64 + rows.start, 16))

Everything is stateless: which pair is seen at which position follows from the seed, what it looks like from its index,
how it is cropped from seed and position. A resumed run therefore sees what it would have seen, any number of processes
together see what one would, and two runs of one seed see the same pairs in the same order whatever their mask ratio.
The order is the same for all batch sizes, too: with more than shuffle.WINDOW pairs if they are multiples of 64, with an
endless set if they come to the same number of samples.

pairs.py        the interface of every data set
training.py     the pairs to train on of a data set
held_out.py     the items to score on
shuffle.py      the order in which pairs are seen
views.py        the part of an image that a model sees
randaugment.py  RandAugment, for fine-tuning
shards.py       tar shards, scanned once and read pair by pair
stream.py       pairs read from tar shards as they are needed
cache.py        a shard, decoded once for all runs
library.py      where shards come from: a disk, a URL, a command
tar_sets.py     tar shards declared for evaluation alone
captions.py     a table of image paths and captions
folder.py       a folder of labelled images
idx.py          labelled images of IDX files
labelled.py     which labelled images are scored, and the names of their classes
decode.py       image files decoded as CLIP evaluates
"""

from flipscale.train.data.classified import ClassifiedSet, open_classified
from flipscale.train.data.held_out import open_held_out
from flipscale.train.data.pairs import Data, Flags, Form, HeldOutItems, Images, Integers, Tokenize
from flipscale.train.data.shuffle import order
from flipscale.train.data.training import open_data
from flipscale.train.data.views import Views, view_stored, views

__all__ = [
    "ClassifiedSet",
    "Data",
    "Flags",
    "Form",
    "HeldOutItems",
    "Images",
    "Integers",
    "Tokenize",
    "Views",
    "open_classified",
    "open_data",
    "open_held_out",
    "order",
    "view_stored",
    "views",
]
