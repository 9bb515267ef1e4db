"""What devices sustain, against their data sheets and the rows they were fitted to."""

import math

import pytest

from flipscale.door.run_states import Hours, total_hours
from flipscale.settings.devices import BALANCE, DEVICES, MEASURED, Device, Rate, device_named


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA RTX A1000", None),
        ("cpu", "cpu"),
    ],
)
def test_a_gpu_is_known_by_the_name_it_gives_itself(name: str, key: str | None) -> None:
    assert device_named(name) == key


def test_fp16_is_as_fast_as_bf16() -> None:
    assert DEVICES["H100"].peak("fp16") == 989e12
    assert DEVICES["A100"].rate(1024, "fp16") == DEVICES["A100"].rate(1024, "bf16")


def test_wider_towers_sustain_more_and_none_more_than_six_tenths() -> None:
    a100 = DEVICES["A100"]
    assert isinstance(a100, Device)
    assert [round(a100.share(width), 3) for width in (768, 1024, 1408, 100_000)] == [0.275, 0.3, 0.33, 0.6]


@pytest.mark.parametrize(("name", "share"), [("L4", 0.112), ("RTX-4090", 0.275), ("B200", 0.16), ("MI300X", 0.182)])
def test_a_device_without_published_trainings_goes_by_its_bandwidth(name: str, share: float) -> None:
    found = DEVICES[name]
    assert isinstance(found, Device)
    assert found.share(1024) == pytest.approx(share, abs=0.001)
    assert found.share(1024) == pytest.approx(BALANCE * found.bandwidth / found.bf16)
    assert found.rate(1024, "bf16").spread > DEVICES["A100"].rate(1024, "bf16").spread


def test_a_v100_has_no_tf32_and_is_held_to_its_fp32_peak() -> None:
    assert DEVICES["V100"].rate(1024, "fp32").flops_per_second == pytest.approx(0.6 * 15.7e12)


def test_a_tpu_multiplies_fp32_as_bf16_and_has_fused_attention_in_2022() -> None:
    tpu = DEVICES["TPU-v3"]
    assert tpu.rate(1024, "fp32") == tpu.rate(1024, "bf16") == tpu.rate(1024, "bf16", 2022)


def test_a_core_is_within_what_was_measured_and_no_faster_in_bf16() -> None:
    core = DEVICES["cpu"].rate(48, "fp32")
    assert core == DEVICES["cpu"].rate(48, "bf16")
    assert math.isinf(core.samples_per_second)
    hours = core.hours(40e9 * 3600, 1)
    assert hours.low <= 40 / 59
    assert hours.high >= 40 / 28


def test_ranges_of_runs_add_up() -> None:
    assert total_hours([Hours(3, 2, 4.5), Hours(30, 25, 36)]) == Hours(33, 27, 40.5)
    assert total_hours([]) == Hours(0, 0, 0)


def test_a_measured_rate_has_a_narrow_range() -> None:
    assert Rate(1e12).hours(3.6e15, 1) == Hours(1, 1 / MEASURED, MEASURED)


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (Hours(1234, 823, 1851), "about 1,200 (820 to 1,900)"),
        (Hours(0.01234, 0.00823, 0.01851), "about 0.012 (0.0082 to 0.019)"),
        (Hours(9.96, 6.64, 14.94), "about 10 (6.6 to 15)"),
        (Hours(12.34, 11.9, 12.8), "about 12.3 (11.9 to 12.8)"),
        (Hours(1.5, 1.5, 1.5), "about 1.5"),
        (Hours(0, 0, 0), "about 0"),
        (Hours(229_665, 153_110, 344_497), "about 230,000 (150,000 to 340,000)"),
    ],
)
def test_hours_in_words(hours: Hours, words: str) -> None:
    assert str(hours) == words
