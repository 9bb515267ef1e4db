"""Data sets and other inputs of runs: declared in a study, checked before anything starts, then opened.

formats.py is where the others begin: the module with the name of a set's kind checks and opens it.

shapes.py            images that are drawn, with captions
fashion.py           Fashion-MNIST's four IDX files
webdataset.py        tar shards: pairs, decoded once or always; sets to score or to fine-tune on
folder.py            folders of labelled images
idx.py               IDX files of images and labels, as MNIST's
captions.py          tables of image paths and captions
command.py           programs of the user's own, which train or score

formats.py           the functions that each of these modules has, and the module of a set
pairs.py             the interface of every data set
labelled.py          what formats of labelled images share: names of classes, which images are scored
shards.py            tar shards by their pattern, their samples
stream.py, cache.py  pairs read as they are needed; a shard decoded once for all runs
library.py           where shards come from: a disk, a URL, a command
shuffle.py           the order in which pairs are seen
views.py             the part of an image that a model sees
decode.py            image files decoded as CLIP evaluates
digest.py            the content of the sets that runs are scored on, to tell when it changes

check.py             the inputs of the runs of a plan, checked
inspection.py        what a check finds, with lines of the study
weights.py           checkpoints to start from
code_changes.py      which code trains today, and which finished runs other code trained
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
