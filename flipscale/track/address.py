"""Where MLflow is, and how its address may be shown: no password is printed or written."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flipscale.errors import FlipscaleError, printable
from flipscale.guard import check_folder

_USER = re.compile(r"(?<=://)[^\s'\"]*@")
"""The part before the last @ of an address: a password may hold an @ and a slash itself."""

_SECRET = re.compile(
    r"(?i)\b([\w.-]*(?:password|passwd|pwd|token|secret|api_?key|signature|credential|accesskeyid|\bsig)=)[^&\s'\";]+"
)
"""Options of an address: ?password=..."""


def is_server(tracking_uri: str) -> bool:
    return tracking_uri.startswith(("http://", "https://"))


_STORES = ("s3://", "gs://", "wasbs://", "abfss://", "hdfs://", "file:///", "/")
"""Where a server may keep artifacts itself. It is not sent MLflow's token."""


def may_hold(location: str, tracking_uri: str, folder: Path) -> bool:
    """Whether artifacts may go where MLflow says: into `folder`, which flipscale has given it, or for a server to that
    server or its store.

    A database may come from a stranger. MLflow's client would send its token to an address in it, and write to a path.
    """
    if not is_server(tracking_uri):
        return location == folder.as_uri()
    scheme, _, place = tracking_uri.partition("://")
    server = f"{scheme}://{place.rpartition('@')[2].rstrip('/')}/"
    places = (server, "mlflow-artifacts:/", *_STORES)
    return location.startswith(places) and not location.startswith("mlflow-artifacts://")


def tracking_address(results: Path) -> str:
    """The address in MLflow's own variable, or else that of a SQLite file among the results.

    A path in a SQLite address is made absolute: MLflow would read it from wherever it is started.
    """
    database = results / "mlflow.db"
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        check_folder(database)
        uri = f"sqlite:///{database.absolute()}"
    scheme, slashes, path = uri.partition(":///")
    if scheme == "sqlite" and slashes and path and not path.startswith("/"):
        uri = f"sqlite:///{Path(path).absolute()}"
    paths = f"{uri} {results.absolute()}"
    if printable(paths) != paths and not is_server(uri):
        raise FlipscaleError(
            f"{results.absolute()}: MLflow takes no path that is not UTF-8; rename the folder, or mirror to a server."
        )
    return uri


def without_secrets(text: str, tracking_uri: str = "") -> str:
    """The text with users, passwords and tokens of addresses as ***, and with that of `tracking_uri` wherever it is."""
    text = _SECRET.sub(r"\1***", _USER.sub("***@", text))
    try:
        password = urlsplit(tracking_uri).password or ""
    except ValueError:
        password = ""
    for word in {password, unquote(password)} - {""}:
        text = text.replace(word, "***")
    return text


UI_ADDRESS = "http://127.0.0.1:5000"
"""Where `mlflow ui` listens unless it is told another port."""


def runs_page(tracking_uri: str, experiment_id: str | None) -> str:
    """The address of an experiment's runs in MLflow's page, which opens on traces without `/runs`."""
    server = without_secrets(tracking_uri).rstrip("/") if is_server(tracking_uri) else UI_ADDRESS
    return f"{server}/#/experiments/{experiment_id}/runs"


def ui_command(tracking_uri: str) -> str:
    """The command that shows the experiments; for a server, its address to open.

    It listens on this machine alone, as MLflow does not authenticate. One worker is enough for one person: MLflow's own
    choice on a 2-core machine took 2.7 GB. An address with a password goes by a variable, as others see command lines.
    """
    if is_server(tracking_uri):
        return without_secrets(tracking_uri)
    # In an environment that is not activated the shell does not know the command.
    mlflow = "mlflow" if shutil.which("mlflow") else f"{shlex.quote(sys.executable)} -m mlflow"
    address = without_secrets(tracking_uri)
    store = f"--backend-store-uri {shlex.quote(tracking_uri)} " if address == tracking_uri else ""
    command = f"{mlflow} ui {store}--host 127.0.0.1 --workers 1"
    return command if store else f"{command}   # with MLFLOW_BACKEND_STORE_URI set to the address of {address}"
