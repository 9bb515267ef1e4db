"""Data sets and other inputs of runs: declared in a study, checked before anything starts, then opened.

A format has one module, for the check (without torch, and without reading all of a set) and for opening it:

idx.py, fashion.py   IDX files, as MNIST's; Fashion-MNIST's four
labelled.py          folders of classes and their images, names of classes, which labelled images are scored
captions.py          tables of image paths and captions
shards.py            tar shards by their pattern, their samples
webdataset.py        pairs of tar shards, decoded once or always
stream.py, cache.py  pairs read as they are needed; a shard decoded once for all runs
library.py           where shards come from: a disk, a URL, a command
tar_sets.py          tar shards declared for evaluation alone
shapes.py            images that are drawn, with captions

training.py          the pairs to train on, by the declaration of a set
held_out.py          the items to score on
classified.py        labelled images to fine-tune on
pairs.py             the interface of every data set
shuffle.py           the order in which pairs are seen
views.py             the part of an image that a model sees
randaugment.py       RandAugment, for fine-tuning
decode.py            image files decoded as CLIP evaluates
classes.py           how many classes and pairs there are, without opening images
digest.py            the content of the sets that runs are scored on, to tell when it changes

check.py             the inputs of the runs of a plan, checked
paths.py             the files that a study's paths lead to
weights.py           checkpoints to start from
program.py           training commands
open_clip_flags.py   the flags of open_clip's own program, and its limits

    form = Form(image_size=28, text_length=16, tokenize=tokenize)
    data = open_data(settings.data, form, data_size=None, samples=32768)
    rows = slice(rank * 16, (rank + 1) * 16)
    images, tokens = data.batch(data.order(seed, step, 64)[rows], views(settings, step * 64 + rows.start, 16))

Everything is stateless: which pair is seen at which position follows from the seed, what it looks like from its index,
how it is cropped from seed and position. A resumed run therefore sees what it would have seen, any number of processes
together see what one would, and two runs of one seed see the same pairs in the same order whatever their mask ratio.
The order is the same for all batch sizes, too: with more than shuffle.WINDOW pairs if they are multiples of 64, with an
endless set if they come to the same number of samples.
"""
