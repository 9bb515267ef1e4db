"""The finished weights of a run: whether a run can start from them, and whether anything needs them any more."""

from flipscale.run.files import WEIGHTS_FILE
from flipscale.run.folder import RunFolder
from flipscale.settings import KeepWeights


def lacks_weights(run: RunFolder) -> bool:
    """Whether the run has finished and its weights are not here, so that no run can start from them: archives and
    `keep_weights` leave them out, and a training command need not write any."""
    return (run.path / "result.json").exists() and not (run.path / WEIGHTS_FILE).is_file()


def weights_are_needed(keep: KeepWeights, *, started_from: bool) -> bool:
    """Whether the weights of a finished run are needed, if its study keeps them for this long.

    started_from: whether a run that has not finished is to start from them.
    """
    return started_from or keep is KeepWeights.ALWAYS
