"""The finished weights of a run: whether a run can start from them."""

from flipscale.identity import goes_on
from flipscale.run.files import TRUNK_FILE, WEIGHTS_FILE
from flipscale.run.folder import RunFolder
from flipscale.settings import Settings


def lacks_weights(run: RunFolder, name: str = WEIGHTS_FILE) -> bool:
    """Whether the run has finished and its weights are not here, so that no run can start from them: archives and
    `keep_weights` leave them out, and a training command need not write any. name: or another file of it."""
    return (run.path / "result.json").exists() and not (run.path / name).is_file()


def lacking_for(child: Settings, parent: RunFolder) -> str:
    """The file of a finished parent that the child needs and that is not here; '' if none is lacking."""
    needed = (WEIGHTS_FILE, TRUNK_FILE) if goes_on(child) else (WEIGHTS_FILE,)
    return next((name for name in needed if lacks_weights(parent, name)), "")
