"""Handwritten digits as IDX files, in MNIST's form: a small labelled set to transfer to, from scikit-learn's own files.

The 1,797 pictures of 8 x 8 px are the test part of UCI's "Optical recognition of handwritten digits" (Alpaydin and
Kaynak 1998, CC BY 4.0), which scikit-learn ships. The first third is for training and the rest for testing, in the
order of the file. Strokes are white on black, as the clothes of Fashion-MNIST are; 16 grey levels become 0 to 255.

Run it as `python studies/data/digits.py DIR`.
"""

from pathlib import Path

import numpy as np
from shards import Built, run, unfinished_folder, write_labelled
from sklearn.datasets import load_digits

TO_LEARN_FROM = 597
"""Training pictures. That leaves 1,200 for testing, as few test pictures make scores coarse."""


def build_digits(out: Path) -> Built:
    """Write {train,test}-{images,labels}.gz into the folder `out`, which appears once it is complete. Raises DataError
    if it already holds something."""
    found = load_digits()
    pictures = np.rint(found.images * (255 / 16)).astype(np.uint8)
    labels = found.target.astype(np.uint8)
    unfinished = unfinished_folder(out)
    for part, rows in (("train", slice(TO_LEARN_FROM)), ("test", slice(TO_LEARN_FROM, None))):
        write_labelled(unfinished, part, pictures[rows], labels[rows])
    unfinished.rename(out)
    return Built(out, TO_LEARN_FROM, len(labels) - TO_LEARN_FROM)


if __name__ == "__main__":
    run(build_digits, __doc__)
