"""Curves in MLflow while a study runs, written in a thread beside whatever follows the study."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flipscale import track
from flipscale.errors import FlipscaleError
from flipscale.launch import StudyProgress
from flipscale.run import State
from flipscale.workflow.collected import mirror_source
from flipscale.workflow.messages import say
from flipscale.workflow.opened import OpenStudy

if TYPE_CHECKING:
    from flipscale.track.live import LiveCurves

LIVE_SECONDS = 5.0
"""Seconds between sending new points: one call to a server carries several."""


@contextmanager
def live_curves(opened: OpenStudy, looks: Iterator[StudyProgress]) -> Iterator[Iterator[StudyProgress]]:
    """The same looks at a study; at each, a thread learns what it may write into MLflow.

    If MLflow cannot be reached, that is reported once and tried again. It never holds up or ends what follows a study.
    """
    uri = track.tracking_address(opened.workspace.results)
    say(f"MLflow: curves are sent while runs train; to see them: {track.ui_command(uri)}")
    writer = _Writer(opened, uri)
    thread = threading.Thread(target=writer.write_until_closed, name="live curves", daemon=True)
    thread.start()
    try:
        yield map(writer.see, looks)
    finally:
        writer.closed.set()
        thread.join()


class _Writer:
    """Writes the curves by the latest states that it was shown."""

    def __init__(self, opened: OpenStudy, uri: str):
        self.opened = opened
        self.uri = uri
        self.closed = threading.Event()
        self._states: Mapping[str, State] = {}
        self._has_failed = False

    def see(self, progress: StudyProgress) -> StudyProgress:
        self._states = {run.id: run.state for run in progress.runs}
        return progress

    def write_until_closed(self) -> None:
        # It loads MLflow, which takes some seconds.
        from flipscale.track.live import LiveCurves

        opened = self.opened
        runs = opened.plan.runs
        folder = opened.workspace.runs
        artifacts = opened.workspace.artifacts
        curves = LiveCurves(mirror_source(opened), runs, folder, self.uri, artifacts)
        while not self.closed.wait(LIVE_SECONDS):
            self._send(curves)
        self._send(curves)

    def _send(self, curves: "LiveCurves") -> None:
        try:
            curves.send(self._states)
        except FlipscaleError as error:
            if not self._has_failed:
                self._has_failed = True
                say(f"live curves wait for MLflow: {error}")
