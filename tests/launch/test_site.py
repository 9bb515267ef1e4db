"""A site file is read to literal values, or refused with every complaint about it at once."""

import json

import pytest

from flipscale.errors import StudyError
from flipscale.launch import price_at, read_site
from flipscale.launch.site import DEFAULTS
from flipscale.settings.devices import Price

NOTHING_KNOWN = {
    "schema": 1,
    "name": None,
    "cluster": None,
    "partition": None,
    "account": None,
    "qos": None,
    "reservation": None,
    "time": None,
    "time_limit": "predicted",
    "warning": 120,
    "stalled": None,
    "connect": 600,
    "gpus_per_node": 8,
    "interconnect": 400.0,
    "gpu_type": None,
    "gres": [],
    "processes_per_node": None,
    "cpus_per_process": 1,
    "memory_per_process": "predicted",
    "constraint": None,
    "exclude": [],
    "throttle": None,
    "max_array_size": None,
    "sbatch": [],
    "srun": [],
    "export": None,
    "setup": [],
    "python": None,
    "container": None,
    "price": None,
    "pack": {"time": None, "share": 1, "device_memory": None, "whole_nodes": False},
}

EMPTY = {**NOTHING_KNOWN, "name": "site"}
"""What an empty site file means: the file's name is that of the site."""

FULL = """
schema: 1
name: hall
cluster: west
partition: gpu,gpu-long
account: flip-0042
qos: normal
reservation: maintenance
time: 1.5d
time_limit: site
warning: 300s
stalled: 45m
connect: 20m
gpus_per_node: 4
gpu_type: a100
gres: [lustre:1, "nvme:100G"]
processes_per_node: 2
cpus_per_process: 12
memory_per_process: 120G
constraint: ib&rocky9
exclude:
  - gpu-001
  - gpu-[014-016]
throttle: 1k
max_array_size: 1001
sbatch: [--exclusive, --comment=a study of masks, --mail-type=END]
srun: [--cpu-bind=cores]
export: PATH,HOME
setup:
  - module load cuda/12.4
  - 'export NCCL_DEBUG="WARN"'
python: /opt/flip/bin/python
container:
  image: /images/flip.sif
  runtime: apptainer
  mounts: [/data, "/scratch/me:/results"]
  arguments: [--nv]
price: {gpu_hour: 2.1, core_hour: 0.02, currency: EUR}
pack:
  time: 2h
  share: 4
  device_memory: 80G
  whole_nodes: true
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads a site file of that text."""
    monkeypatch.chdir(tmp_path)

    def read(text):
        (tmp_path / "site.yaml").write_text(text)
        return read_site("site.yaml")

    return read


@pytest.fixture
def complaints(read):
    """What is said of a site file of that text."""

    def complaints(text):
        with pytest.raises(StudyError) as refused:
            read(text)
        return list(refused.value.complaints)

    return complaints


# What reads


def test_of_an_empty_site_nothing_is_known(read):
    assert read("schema: 1\n") == EMPTY
    assert dict(DEFAULTS) == NOTHING_KNOWN


def test_a_full_site_reads_to_seconds_counts_and_lists(read):
    assert read(FULL) == {
        "schema": 1,
        "name": "hall",
        "cluster": "west",
        "partition": "gpu,gpu-long",
        "account": "flip-0042",
        "qos": "normal",
        "reservation": "maintenance",
        "time": 129600,
        "time_limit": "site",
        "warning": 300,
        "stalled": 2700,
        "connect": 1200,
        "gpus_per_node": 4,
        "interconnect": 400.0,
        "gpu_type": "a100",
        "gres": ["lustre:1", "nvme:100G"],
        "processes_per_node": 2,
        "cpus_per_process": 12,
        "memory_per_process": "120G",
        "constraint": "ib&rocky9",
        "exclude": ["gpu-001", "gpu-[014-016]"],
        "throttle": 1000,
        "max_array_size": 1001,
        "sbatch": ["--exclusive", "--comment=a study of masks", "--mail-type=END"],
        "srun": ["--cpu-bind=cores"],
        "export": "PATH,HOME",
        "setup": ["module load cuda/12.4", 'export NCCL_DEBUG="WARN"'],
        "python": "/opt/flip/bin/python",
        "container": {
            "image": "/images/flip.sif",
            "runtime": "apptainer",
            "mounts": ["/data", "/scratch/me:/results"],
            "arguments": ["--nv"],
        },
        "price": {"gpu_hour": 2.1, "core_hour": 0.02, "currency": "EUR"},
        "pack": {"time": 7200, "share": 4, "device_memory": "80G", "whole_nodes": True},
    }


def test_one_value_is_a_list_of_it_and_an_image_alone_is_a_container(read):
    site = read(
        "schema: 1\nexclude: n1\nsetup: module load cuda\nsbatch: --exclusive\npython: python3\ncontainer: flip.sqsh\n"
    )
    assert (site["exclude"], site["setup"], site["sbatch"]) == (["n1"], ["module load cuda"], ["--exclusive"])
    assert site["container"] == {"image": "flip.sqsh", "runtime": "pyxis", "mounts": [], "arguments": []}


def test_a_price_by_itself_is_that_of_a_gpu_hour_in_dollars(read):
    assert price_at(read("schema: 1\nprice: 2.5\n")) == Price(2.5, None, "USD")
    assert price_at(read("schema: 1\n")) is None


def test_a_site_is_json(read):
    assert json.loads(json.dumps(read(FULL))) == read(FULL)


def test_a_warning_may_be_a_number_of_seconds_as_the_table_of_keys_has_it(read, complaints):
    assert read("schema: 1\nwarning: 120\n")["warning"] == 120
    assert read("schema: 1\nwarning: 2m\n")["warning"] == 120
    for wrong in ("0", "-5", "true", "1.5"):
        assert "is not a time; write 90s" in complaints(f"schema: 1\nwarning: {wrong}\n")[0]
    assert "is not a time" in complaints("schema: 1\ntime: 60\n")[0]  # To SLURM that would be minutes.


def test_null_is_the_clusters_own_choice(read):
    nulls = ("partition", "account", "time", "memory_per_process", "throttle", "max_array_size", "container", "pack")
    read = read("schema: 1\n" + "".join(f"{key}: null\n" for key in nulls))
    assert read == {**EMPTY, "memory_per_process": None}


def test_memory_may_be_predicted_as_it_is_where_nothing_is_written(read):
    assert read("schema: 1\nmemory_per_process: predicted\n") == EMPTY


# What does not


def test_values_of_the_wrong_kind_are_told_at_once(complaints):
    text = "schema: 1\nparttion: 3\ntime: 4\nmemory_per_process: 32\ncontainer: {runtime: pyxis}\npack: {share: 0}\n"
    said = complaints(text)
    assert [complaint.partition(": ")[0] for complaint in said] == [f"site.yaml:{line}" for line in range(2, 7)]
    assert "did you mean 'partition'?" in said[0]
    assert said[2].endswith(
        "32 is not an amount of memory; write 500M, 32G or 1T; or predicted, all, or null for the cluster's default"
    )


def test_a_schema_of_another_time_is_refused(complaints):
    assert complaints("schema: 2\n") == ["site.yaml:1: schema 2 is not one this flipscale reads; write schema: 1"]
    assert complaints("partition: main\n") == ["site.yaml:1: site lacks 'schema'; add it: version of the site file"]


def test_a_file_that_is_not_there_is_empty_or_is_no_site_is_refused(complaints, tmp_path):
    with pytest.raises(StudyError, match=r"^none\.yaml: there is no such file; docs/slurm\.md has one to start from$"):
        read_site("none.yaml")
    with pytest.raises(StudyError, match=r"^\.: is a folder; give the site's YAML file$"):
        read_site(".")
    assert complaints("") == ["site.yaml:1: is empty; docs/slurm.md has one to start from"]
    assert complaints("# nothing\n") == ["site.yaml:1: is empty; docs/slurm.md has one to start from"]
    assert complaints("- 1\n") == ["site.yaml:1: holds a list, not keys with values; begin with schema: 1"]
    assert complaints("schema: 1\n---\nschema: 1\n") == [
        "site.yaml:3: a second YAML document begins here; a site is one document, remove '---'"
    ]


# What no key shows by itself


def test_what_is_no_stall_is_told_what_would_be_right(complaints):
    assert complaints("schema: 1\nstalled: often\n") == [
        "site.yaml:2: 'often' is not a time; write 90s, 30m, 4h or 2d, or never"
    ]


def test_a_job_lasts_longer_than_its_warning(complaints):
    assert complaints("schema: 1\ntime: 2m\n") == [
        "site.yaml:2: is no longer than the warning before its end, 120 s; raise it or lower warning"
    ]
    assert complaints("schema: 1\nwarning: 1h\n\ntime: 60m\n") == [
        "site.yaml:4: is no longer than the warning before its end, 3600 s; raise it or lower warning"
    ]


def test_a_pack_is_no_longer_than_a_job(complaints):
    assert complaints("schema: 1\ntime: 2h\npack:\n  share: 2\n  time: 121m\n") == [
        "site.yaml:5: is longer than time, the limit of a job; lower it, or raise time"
    ]


def test_what_no_key_shows_by_itself_is_told_at_once_too(complaints):
    assert complaints("schema: 3\ntime: 1m\npack: {time: 1h}\nsbatch: [-N2]\nsrun: [-v]\n") == [
        "site.yaml:1: schema 3 is not one this flipscale reads; write schema: 1",
        "site.yaml:2: is no longer than the warning before its end, 120 s; raise it or lower warning",
        "site.yaml:3: is longer than time, the limit of a job; lower it, or raise time",
        "site.yaml:4: '-N2' is not an option of sbatch; write --name or --name=value",
        "site.yaml:5: '-v' is not an option of srun; write --name or --name=value",
    ]


@pytest.mark.parametrize(
    ("key", "line"),
    [
        *((key, f"{key}: %s") for key in ("partition", "account", "qos", "reservation", "gpu_type", "constraint")),
        *((key, f"{key}: [good, %s]") for key in ("gres", "exclude", "sbatch", "srun")),
        ("python", "python: %s"),
        ("image", "python: p\ncontainer: %s"),
        ("mounts", "python: p\ncontainer: {image: i, mounts: %s}"),
        ("arguments", "python: p\ncontainer: {image: i, arguments: %s}"),
    ],
)
@pytest.mark.parametrize("character", ["\\n", "\\r", "\\t", "\\x07", "\\x1b", "\\x7f", "\\x85", "\\u2028", "\\u200b"])
def test_what_ends_a_line_or_is_not_seen_is_refused_in_every_value(complaints, key, line, character):
    """A line break in an option of the batch script would begin a line of its own: another option, or a command."""
    faults = complaints("schema: 1\n" + line % f'"--x{character}#SBATCH --uid=0"' + "\n")
    number = 1 + len(line.splitlines())
    said = repr(character.encode().decode("unicode_escape"))
    if character in ("\\r", "\\x07", "\\x1b", "\\x7f", "\\x85"):  # what no study file may hold either
        code = f"\\\\x{ord(character.encode().decode('unicode_escape')):02x}"
        wrong = f"'--x{code}#SBATCH --uid=0' holds a control character; name files in UTF-8, and write it plainly"
    else:
        wrong = f"'--x{said[1:-1]}#SBATCH --uid=0' holds a control character; write one line of plain text"
    assert [complaint for complaint in faults if "control" in complaint] == [f"site.yaml:{number}: {wrong}"]


def test_a_block_of_text_is_no_option_and_setup_may_have_several_lines(complaints, read):
    (said,) = complaints("schema: 1\npartition: |\n  gpu\n  rm\n")
    assert said == "site.yaml:2: 'gpu\\nrm\\n' holds a control character; write one line of plain text"
    assert read("schema: 1\nsetup: |\n  module load cuda\n\ttrue\n".replace("\t", "  "))["setup"] == [
        "module load cuda\ntrue\n"
    ]


@pytest.mark.parametrize("option", ["-N2", "exclusive", "--Big", "--mail-type END", "--", "-- x", "--comment ='x'"])
def test_what_is_no_option_of_sbatch_is_refused(complaints, option):
    assert complaints(f"schema: 1\nsbatch:\n  - --exclusive\n  - {option!r}\n") == [
        f"site.yaml:4: {option!r} is not an option of sbatch; write --name or --name=value".replace('"', "'")
    ]


def test_what_is_no_option_of_srun_is_refused(complaints):
    assert complaints("schema: 1\nsrun: [--cpu-bind=cores, cpu-bind, -v]\n") == [
        "site.yaml:2: 'cpu-bind' is not an option of srun; write --name or --name=value",
        "site.yaml:2: '-v' is not an option of srun; write --name or --name=value",
    ]


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("--clusters=west", "--clusters is not for a site file: write cluster"),
        ("--array=0-3", "--array is not for a site file: flipscale gives it itself"),
        ("--nodes=2", "--nodes is not for a site file: write gpus_per_node or processes_per_node"),
        ("--time=1", "--time is not for a site file: write time"),
    ],
)
def test_options_of_sbatch_that_flipscale_gives_itself_are_refused(complaints, option, instead):
    assert complaints(f"schema: 1\nsbatch: [{option}]\n") == [f"site.yaml:2: {instead}"]


def test_every_key_for_an_option_of_sbatch_is_refused_as_an_option(complaints):
    given = ("partition", "account", "qos", "reservation", "time", "constraint", "exclude", "gres")
    said = complaints("schema: 1\nsbatch:\n" + "".join(f"  - --{name}=x\n" for name in given))
    assert [line.split(" is not for a site file")[0] for line in said] == [
        f"site.yaml:{number}: --{name}" for number, name in enumerate(given, start=3)
    ]


# Times


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        *((f"time: {written}", "time", value) for written, value in [("4h", 14400), ("'2 d'", 172800), ("1.5h", 5400)]),
        ("warning: 0.5m", "warning", 30),
        ("stalled: never", "stalled", "never"),
        ("stalled: 90s", "stalled", 90),
    ],
)
def test_a_time_has_a_unit_and_stalled_may_be_never(read, line, key, value):
    assert read(f"schema: 1\n{line}\n")[key] == value


@pytest.mark.parametrize("wrong", ["'12:30'", "'0.4s'", "'-4h'", "inf", "'2 weeks'", "'0s'"])
def test_what_is_no_time_is_told_what_would_be_right(complaints, wrong):
    written = wrong.replace("inf", ".inf")
    assert complaints(f"schema: 1\ntime: {written}\n") == [
        f"site.yaml:2: {wrong} is not a time; write 90s, 30m, 4h or 2d"
    ]


def test_a_pack_may_last_as_long_as_a_job(read):
    assert read("schema: 1\ntime: 2h\nwarning: 119m\npack: {time: 120m}\n")["pack"]["time"] == 7200
    assert read("schema: 1\npack: {time: 9d}\n")["pack"]["time"] == 777600, "where the limit is the partition's"


@pytest.mark.parametrize("amount", ["1.5G", "0G", "80GB"])
def test_an_amount_of_memory_is_a_whole_number_with_a_unit(complaints, amount):
    (said,) = complaints(f"schema: 1\nmemory_per_process: {amount}\n")
    assert said.startswith(f"site.yaml:2: '{amount}' is not an amount of memory; write 500M, 32G or 1T")
    (said,) = complaints("schema: 1\npack: {device_memory: predicted}\n")
    assert said == "site.yaml:2: 'predicted' is not an amount of memory; write 500M, 32G or 1T"


def test_an_option_of_sbatch_without_the_value_that_it_announces_is_refused(complaints):
    """It would be left out of the script without a word."""
    assert complaints("schema: 1\nsbatch: [--gpu-freq=]\n") == [
        "site.yaml:2: '--gpu-freq=' is not an option of sbatch; write --name or --name=value"
    ]
