"""The mirror on a real MLflow server on a real PostgreSQL: many writers, lost answers, no server; and its page."""

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from flipscale.errors import FlipscaleError
from flipscale.study import read_study
from flipscale.track import MirrorSource, mirror, runs_page
from tests.clusters.mlflow_server import free_port, missing, mlflow_server, postgresql
from tests.parts import need
from tests.patience import PATIENCE, wait_until
from tests.test_track import bring, curve, row, runs_there, table
from tests.test_track_live import collect_beside_live_curves

pytestmark = [
    pytest.mark.slow,
    # MLflow 3.17 on SQLAlchemy 2.1: theirs to mend.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]

ROOT = Path(__file__).parents[1]

WRITERS = 12


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    need(not missing(), missing())
    with postgresql() as uri:
        yield uri


@pytest.fixture(scope="module")
def server(database, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, database, workers=2) as uri:
        yield uri


def tables(*ids):
    return table(*(row(run_id, seed=number) for number, run_id in enumerate(ids))), curve(ids[0], 20)


def keys_of(uri, experiment_id):
    return sorted(run.data.tags["flipscale.id"] for run in MlflowClient(uri).search_runs([experiment_id]))


def test_a_server_takes_a_study_and_its_artifacts_once(server, tmp_path):
    figure = tmp_path / "speedup.svg"
    figure.write_text("<svg/>")
    where = {"tracking_uri": server, "artifact_root": tmp_path / "artifacts", "files": [figure]}
    first = bring(*tables("a-1", "a-2"), study="once", **where)
    second = bring(*tables("a-1", "a-2"), study="once", **where)
    assert (first.created, second.unchanged) == (2, 2)
    runs = runs_there(where, second)
    assert len(runs) == 4
    assert [p.path for p in MlflowClient(server).list_artifacts(runs["study once"].info.run_id)] == ["speedup.svg"]
    assert len(MlflowClient(server).get_metric_history(runs["a-1"].info.run_id, "train/loss")) == 20


def test_the_database_itself_is_mirrored_to_as_well(database, server, tmp_path):
    where = {"tracking_uri": database, "artifact_root": tmp_path / "artifacts"}
    done = bring(*tables("a-1", "a-2"), study="direct", **where)
    runs = runs_there({"tracking_uri": server}, done)
    assert len(runs) == 4
    history = MlflowClient(server).get_metric_history(runs["a-1"].info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history][:2] == [(4, 4.0), (8, 3.95)]
    through = bring(*tables("a-1", "a-2"), study="direct", tracking_uri=server, artifact_root=tmp_path / "artifacts")
    assert through.unchanged == 2


def test_collecting_leaves_what_it_leaves_without_live_curves(server, tmp_path):
    collect_beside_live_curves(server, tmp_path)


def test_twelve_writers_at_once_write_each_of_their_studies_once(server, tmp_path, monkeypatch):
    """One in four has a study of its own; the others write the same three, from folders of their own."""
    # A call that is given up on a busy machine waits on in the server, which may do it when its writer has ended.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(int(PATIENCE)))

    def write(number: int):
        study = f"own-{number}" if number % 4 == 0 else f"shared-{number % 3}"
        where = {"tracking_uri": server, "artifact_root": tmp_path / str(number) / "artifacts"}

        def written() -> str | None:
            # A collect whose runs another deletes meanwhile is refused, says so, and is repeated.
            with contextlib.suppress(FlipscaleError):
                return bring(*tables("a-1", "a-2"), study=study, **where).experiment_id
            return None

        return study, wait_until(written, f"{study} in MLflow")

    with ThreadPoolExecutor(WRITERS) as pool:
        written = dict(pool.map(write, range(WRITERS)))
    assert len(written) == 3 + 3
    for study, experiment_id in written.items():
        if study.startswith("shared"):
            # Entries that several made at once remain once after one of them has looked.
            where = {"tracking_uri": server, "artifact_root": tmp_path / "last"}
            bring(*tables("a-1", "a-2"), study=study, thoroughly=True, **where)
        keys = keys_of(server, experiment_id)
        assert (len(keys), len(set(keys))) == (4, 4), study
        assert keys[:2] == ["a-1", "a-2"]


class Lossy:
    """A proxy that passes every call on to the server, and loses the answers to some."""

    def __init__(self, uri: str, *, each: int = 1_000_000, to: bytes = b"", port: int | None = None):
        """Loses the answer to each `each`-th call whose first line has `to` in it."""
        self.each, self.to = each, to
        self.host, server_port = uri.removeprefix("http://").split(":")
        self.port = int(server_port)
        self.lost = 0
        self._calls = 0
        self._listens = socket.create_server(("127.0.0.1", port or free_port()))
        self.uri = f"http://127.0.0.1:{self._listens.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listens.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client:
            request = _message(client)
            if not request:
                return
            head, _, body = request.partition(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            with socket.create_connection((self.host, self.port)) as server:
                server.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
                answer = b"".join(iter(lambda: server.recv(65536), b""))
            self._calls += self.to in lines[0]
            if self.to in lines[0] and self._calls % self.each == 0:
                self.lost += 1
                return
            client.sendall(answer)

    def close(self) -> None:
        self._listens.close()


def _message(connection: socket.socket) -> bytes:
    text = b""
    while b"\r\n\r\n" not in text:
        part = connection.recv(65536)
        if not part:
            return b""
        text += part
    head, _, body = text.partition(b"\r\n\r\n")
    sizes = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while len(body) < sum(sizes):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def test_lost_answers_make_nothing_twice_and_lose_nothing(server, tmp_path):
    proxy = Lossy(server, each=3)
    where = {"artifact_root": tmp_path / "artifacts"}
    ids = [f"a-{number}" for number in range(6)]
    try:
        for _ in range(20):
            with contextlib.suppress(FlipscaleError):
                done = bring(*tables(*ids), study="lossy", tracking_uri=proxy.uri, **where)
                break
        else:
            raise AssertionError("refused 20 times")
    finally:
        proxy.close()
    assert proxy.lost > 5
    bring(*tables(*ids), study="lossy", tracking_uri=server, thoroughly=True, **where)
    runs = MlflowClient(server).search_runs([done.experiment_id])
    assert len(runs) == len({run.data.tags["flipscale.id"] for run in runs}) == 8
    (first,) = [run for run in runs if run.data.tags["flipscale.id"] == "a-0"]
    history = MlflowClient(server).get_metric_history(first.info.run_id, "train/loss")
    assert [point.step for point in history] == [4 * (number + 1) for number in range(20)]


def test_a_run_created_again_as_its_answer_was_lost_is_there_once_after_one_mirroring(server, tmp_path):
    """Calls 2, 4 and 6 of the 7 that create 4 runs get no answer, so MLflow creates 7."""
    client = MlflowClient(server)
    of_another = {"flipscale.id": "b-1", "flipscale.writer": "another"}
    client.create_run(client.create_experiment("again"), tags=of_another)
    proxy = Lossy(server, each=2, to=b"/runs/create")
    try:
        done = bring(*tables("a-1", "a-2"), study="again", tracking_uri=proxy.uri, artifact_root=tmp_path / "artifacts")
    finally:
        proxy.close()
    assert (done.created, proxy.lost) == (2, 3)
    keys = keys_of(server, done.experiment_id)
    assert [key for key in keys if not key.startswith("cell")] == ["a-1", "a-2", "b-1", "study again"]
    assert len(keys) == 5
    deleted = client.search_runs([done.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert len(deleted) == 3


def test_what_could_not_be_sent_is_sent_later(server, tmp_path: Path):
    """The server is there at its address at the second try."""
    port = free_port()
    where = {"artifact_root": tmp_path / "artifacts", "tracking_uri": f"http://127.0.0.1:{port}"}
    with pytest.raises(FlipscaleError, match="The results on disk are complete"):
        bring(*tables("a-1", "a-2"), study="later", **where)
    with contextlib.closing(Lossy(server, port=port)):
        done = bring(*tables("a-1", "a-2"), study="later", **where)
        assert done.created == 2
        assert len(keys_of(server, done.experiment_id)) == 4


def test_no_password_is_said_or_kept(database, tmp_path, capfd):
    wrong = database.replace("hunter2", "hunter3")
    with pytest.raises(FlipscaleError) as caught:
        bring(*tables("a-1"), study="secret", tracking_uri=wrong, artifact_root=tmp_path / "artifacts")
    bring(*tables("a-1"), study="secret", tracking_uri=database, artifact_root=tmp_path / "artifacts")
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None
    said = capfd.readouterr()
    assert "hunter" not in said.out + said.err
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if b"hunter" in path.read_bytes()]


# MLflow's own page, in a real browser


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_page_shows_cells_and_groups_by_an_axis(server: str, tmp_path: Path, browser: Any) -> None:
    """A study is there as cells, with their curves, and can be grouped by an axis."""
    study = read_study(ROOT / "studies/fashion.yaml")
    shutil.copytree(ROOT / "results/fashion", tmp_path / "fashion")
    # The page draws a figure of each score, with a line a run: those of one model show as much as all 90.
    table = tmp_path / "fashion/results.csv"
    head, *rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join([head, *(row for row in rows if row.startswith("ViT-w16d1-4_"))]))
    source = MirrorSource("fashion", table, study.question, study.baseline)
    done = mirror(source, tracking_uri=server, artifact_root=tmp_path / "artifacts")
    page = browser.new_page(viewport={"width": 1600, "height": 1200})
    # It is 10 MB of scripts, and other work may go on beside it.
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(runs_page(server, done.experiment_id))
    page.get_by_text("Run Name", exact=True).first.wait_for()
    page.get_by_text("mask 75 %, ViT-w16d1-4, 60k pairs, 32k samples", exact=True).first.wait_for()
    page.goto(f"{runs_page(server, done.experiment_id)}?compareRunsMode=CHART")
    page.get_by_text("train/loss", exact=True).first.wait_for()
    # The note is fetched by a request of its own, that may answer after the figures.
    page.get_by_text(study.question).wait_for()
    page.get_by_text("Group by", exact=True).first.click()
    page.keyboard.type("mask_ratio")
    page.get_by_text("mask_ratio", exact=True).last.click()
    for value in ("0.0", "0.5", "0.75"):
        page.get_by_text(f"Group: {value}", exact=True).first.wait_for()
    page.close()
