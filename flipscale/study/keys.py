"""The keys of a study file, each with its kind and a sentence: the reader, the JSON Schema and the docs agree on it."""

from collections.abc import Mapping

from flipscale.devices import DEVICES, FUSED_SINCE, LOADERS, pairs_read
from flipscale.scores import SCORES
from flipscale.settings import Budget, Resources
from flipscale.study.kinds import (
    Choice,
    Count,
    Duration,
    Flag,
    Keys,
    ListOf,
    MapOf,
    Maybe,
    Number,
    Option,
    ScoreName,
    Text,
    WordsOf,
)
from flipscale.study.recipes import RECIPES
from flipscale.study.study import LOOKS, MARGIN

SCHEMA = 1
"""Version of the study file."""

DESIGN_ALL = "all"
"""In a named grid, the word for 'the values that axes gives'."""

FIGURE_NAMES = (
    "accuracy_vs_samples",
    "accuracy_vs_flops",
    "accuracy_vs_hours",
    "speedup",
    "scaling_axes",
    "scaling_curves",
    "mask_ratios",
    "gains",
    "gains_along_axes",
    "ablations",
    "claims",
    "repeats",
    "error_vs_compute",
    "isoflop",
    "learning_curves",
    "training_loss",
    "predicted_cost",
)

_BUDGET = Keys(
    "budget",
    {
        "gpu_hours": Option(Maybe(Number(0, above=True)), None, "predicted device-hours the whole study may cost"),
        "train_flops": Option(Maybe(Number(0, above=True)), None, "training FLOPs the whole study may cost"),
        "runs": Option(Maybe(Count()), None, "runs the study may have"),
        "price": Option(
            Maybe(Number(0, above=True)), None, "money the whole study may cost, by the `price` of the site file"
        ),
    },
    record=Budget,
)

_RESOURCES = Keys(
    "resources",
    {
        "gpus": Option(
            Count(0), Resources.gpus, "GPUs per run; 0 means cores of a CPU, or the one GPU that a local worker finds"
        ),
        "device": Option(
            Maybe(Choice(tuple(DEVICES), "device")),
            Resources.device,
            "the device that the plan is priced on; null means A100, or cpu without gpus",
        ),
        "flops_per_second": Option(
            Maybe(Number(1)),
            Resources.flops_per_second,
            "FLOP/s that one device sustains, if you have measured it",
        ),
        "processes": Option(
            Maybe(Count()),
            Resources.processes,
            "processes that share the batch of one run; null is one for each GPU, or one",
        ),
        "accumulate": Option(
            Count(),
            Resources.accumulate,
            "parts in which a process computes its share of the batch; the contrastive loss still covers the "
            "whole batch",
        ),
        "activation_checkpointing": Option(
            Flag(),
            Resources.activation_checkpointing,
            "whether activations are recomputed in the backward pass instead of stored",
        ),
        "compile": Option(Flag(), Resources.compile, "whether torch.compile compiles the towers"),
        "stalled": Option(
            Maybe(Duration(never=True)),
            Resources.stalled,
            "a run without a step for this long (30m, or never) has stalled: it is killed and resumed. null takes the "
            "site's, or else the time of 20 of its steps, at least 10 min",
        ),
        "fused": Option(Flag(), Resources.fused, "whether AdamW updates all weights in one kernel"),
        "software": Option(
            Maybe(Count(2017)),
            Resources.software,
            f"year of the software that hours and memory are predicted for, such as 2022; null is today's. Before "
            f"{FUSED_SINCE} there was no fused attention, and GPUs trained half as fast",
        ),
        "samples_per_second": Option(
            Maybe(Number(0, above=True)),
            Resources.samples_per_second,
            "most pairs per second that reading data feeds to one device; null is "
            f"{pairs_read(224):,.0f} at 224 px, by {LOADERS} cores, for a GPU whose images are decoded as they are "
            "read, and no limit for other data, a CPU or with flops_per_second",
        ),
    },
    record=Resources,
)

TOP: Mapping[str, Option] = {
    "schema": Option(Choice(("1",), "schema"), None, "version of the study file", True),
    "question": Option(Text(), "", "what the study asks, in a sentence"),
    "include": Option(ListOf(Text()), None, "other study files that this one extends, key by key"),
    "recipe": Option(
        Maybe(Choice(tuple(RECIPES), "recipe")),
        None,
        "named settings that base and couple extend: flip or openclip",
    ),
    "base": Option(Keys("base", {}), {}, "settings of every run, unless an axis or a coupling says otherwise"),
    "axes": Option(Keys("axes", {}), {}, "settings that vary, each with the list of its values"),
    "couple": Option(Keys("couple", {}), {}, "settings that follow from others, each as an expression"),
    "where": Option(ListOf(Text()), None, "conditions that every cell must meet"),
    "exclude": Option(ListOf(Text()), None, "conditions that no cell may meet, or settings it may not have together"),
    "seeds": Option(ListOf(Count(0)), None, "how many seeds each cell is run with, or a list of them"),
    "design": Option(Text(), "full", "which cells of the grid are run: full, one_at_a_time, or named grids"),
    "baseline": Option(Keys("baseline", {}), {}, "settings that mark the runs that the others are compared with"),
    "evaluation": Option(Keys("evaluation", {}), {}, "what is measured, and when"),
    "score": Option(
        Maybe(ScoreName(tuple(SCORES))), None, "the score of curves and comparisons; a set's score is NAME.score"
    ),
    "budget": Option(_BUDGET, _BUDGET.read({}, (), print), "limits that `submit` refuses to exceed"),
    "resources": Option(_RESOURCES, _RESOURCES.read({}, (), print), "what one run needs, and how it is priced"),
    "keep_weights": Option(
        Choice(("all", "last", "none"), "choice of weights to keep"),
        "all",
        "which finished weights stay: all, last (of runs that no other run starts from) or none",
    ),
    "claims": Option(
        Keys("claims", {}), {}, "contrasts between cells, each with the direction that it is expected to have"
    ),
    "margin": Option(
        Number(0, above=True), MARGIN, "sides closer than this are level: points of accuracy, or percent of a loss"
    ),
    "looks": Option(
        Count(),
        LOOKS,
        "planned looks at the results, the last among them; each is judged at 5 % / looks",
    ),
    "caveats": Option(
        ListOf(Text()), (), "what to hold against the study's numbers, a sentence each: shown wherever its claims are"
    ),
    "answer": Option(
        Maybe(Choice(("speedup", "gain", "law", "claims"), "answer")),
        None,
        "what heads the answer of `compare`: speedup, gain, law or claims; null is claims where there are any, else "
        "the speed-up where curves allow one, else the gain",
    ),
    "labels": Option(
        MapOf("words of its values", WordsOf()),
        {},
        "words for values of settings, which tables then use: {image_size: {14: small images}}",
    ),
    "figures": Option(
        Maybe(ListOf(Choice(FIGURE_NAMES, "figure"))), None, "figures to draw; null draws all that apply"
    ),
}
