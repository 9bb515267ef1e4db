"""Bad study files, each held to the whole of what is said about it."""

from pathlib import Path

import pytest

from flipscale.errors import StudyError
from flipscale.settings.architecture import known_models
from flipscale.study import read_study
from tests.conftest import Golden

GOLDEN = Path(__file__).parents[1] / "golden/bad_studies.txt"

GOOD = """schema: 1
base:
  model: ViT-w32d2-4
  samples: 16k
  batch_size: 64
axes:
  mask_ratio: [0, 0.5]
"""


def in_base(line: str) -> str:
    """GOOD with one more line at the end of its base, line 6."""
    return GOOD.replace("axes:", f"  {line}\naxes:")


LISTS = {
    "<KEYS>": (
        "schema, question, parameters, include, recipe, base, axes, couple, where, exclude, seeds, tune, design, "
        "baseline, evaluation, score, scores, cost, budget, resources, ..."
    ),
    "<SETTINGS>": (
        "model, image_size, text_length, data, data_size, crop, flip, normalization, samples, mask_ratio, mask_shape, "
        "text_mask_ratio, text_mask, reconstruction, loss_function, batch_size, lr, warmup, schedule, cooldown, ..."
    ),
    "<SCORES>": (
        "zero_shot_top1, zero_shot_top5, image_retrieval_r1, image_retrieval_r5, image_retrieval_r10, "
        "text_retrieval_r1, text_retrieval_r5, text_retrieval_r10, linear_probe_top1, fine_tune_top1, held_out_loss"
    ),
    "<ALLOWED>": (
        "use settings, numbers, + - * / // % **, comparisons, and, or, not, if else, in, min, max, round, "
        "ceil, floor, sqrt, log2, abs"
    ),
    "<MODELS>": ", ".join(known_models()[:20]),
}
"""What stands for long lists in the messages below."""

BAD = {
    # what is not a study at all
    "empty": "",
    "null_document": "---\n",
    "list_at_top": "- schema: 1\n",
    "two_documents": GOOD + "---\nschema: 1\n",
    "tab": "schema: 1\nbase:\n\tmodel: ViT-w32d2-4\n",
    "tab_inside": "schema: 1\nbase:\n  model:\tViT-w32d2-4\n \tsamples: 3\n",
    "bad_indent": "schema: 1\nbase:\n  model: ViT-w32d2-4\n   samples: 16k\n",
    "unclosed": "schema: 1\naxes:\n  mask_ratio: [0, 0.5\nseeds: 2\n",
    "colon": "schema: 1\nquestion: masking: does it pay?\n",
    "at": "schema: 1\nquestion: @home\n",
    "undefined_alias": "schema: 1\nbase: *small\n",
    "control": "schema: 1\nquestion: a\x07b\n",
    # keys twice, aliases, tags
    "key_twice": GOOD + "base: {}\n",
    "key_twice_nested": in_base("samples: 32k"),
    "key_twice_axes": GOOD + "  mask_ratio: [0.75]\n",
    "bomb": "schema: 1\n"
    + "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcde", "bcdef", strict=True)),
    "alias_self": "schema: 1\nbase: &b\n  data: *b\n",
    "deep": "schema: 1\nbase: " + "[" * 2000 + "\n",
    "deep_alias": "schema: 1\n" + "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [[[*a{i}]]]\n" for i in range(900)),
    "tag_python": "schema: 1\nquestion: !!python/object/apply:os.system ['true']\n",
    "tag_own": in_base("lr: !fast 1e-3"),
    "tag_str": in_base("seed: !!str 10"),
    "tag_root": "!study\nschema: 1\n",
    "merge_no_mapping": GOOD.replace("base:\n", "base:\n  <<: 5\n"),
    "complex_key": GOOD + "? [a, b]\n: 3\n",
    # YAML's traps
    "no": in_base("grad_clip: no"),
    "yes": in_base("data_size: yes"),
    "on": GOOD + "seeds: on\n",
    "octal": in_base("seed: 010"),
    "base60": in_base("data_size: 12:30"),
    "date": GOOD + "question: 2026-01-31\n",
    "off_in_list": GOOD.replace("[0, 0.5]", "[off, 0.5]"),
    "long_number": in_base("seed: " + "1" * 5000),
    # schema and unknown keys
    "unknown_weights": GOOD + "keep_weights: some\n",
    "no_schema": GOOD.replace("schema: 1\n", ""),
    "newer": GOOD.replace("schema: 1", "schema: 2"),
    "schema_text": GOOD.replace("schema: 1", "schema: one"),
    "schema_true": GOOD.replace("schema: 1", "schema: true"),
    "schema_0": GOOD.replace("schema: 1", "schema: 0"),
    "unknown_top": GOOD + "axis: {}\n",
    "setting_at_top": GOOD + "lr: 1e-3\n",
    "unknown_base": in_base("batchsize: 3"),
    "unknown_axis": GOOD.replace("mask_ratio", "mask_ration"),
    "unknown_couple": GOOD + "couple: {learning_rate: 1e-3}\n",
    "axes_text": "schema: 1\nbase: {model: ViT-w32d2-4, samples: 16k, batch_size: 64}\naxes: mask_ratio\n",
    "baseline_text": GOOD + "baseline: unmasked\n",
    "unknown_axis_of_another_program": GOOD.replace("mask_ratio", "epochs"),
    "unknown_flag_of_another_program": in_base("force-patch-dropout: 0.5"),
    # counts
    "lots": in_base("data_size: lots"),
    "space_m": in_base("data_size: 400 m"),
    "negative": in_base("data_size: -1"),
    "true": in_base("data_size: true"),
    "fraction": in_base("data_size: 1.5"),
    "1.5k?": in_base("data_size: 1.5k?"),
    "1e400": in_base("data_size: 1e400"),
    "1e30": in_base("data_size: 1e30"),
    "batch1": GOOD.replace("64", "1"),
    "1.2345k": in_base("data_size: 1.2345k"),
    # numbers and names
    "mask1": GOOD.replace("0.5]", "1]"),
    "mask_pct": GOOD.replace("0.5]", "50%]"),
    "lr0": in_base("lr: 0"),
    "percent": GOOD.replace("0.5]", "50]"),
    "several_in_base": in_base("lr: [1e-3, 2e-3]"),
    "beta": in_base("beta2: 1.0"),
    "lr_text": in_base("lr: '1e-3'"),
    "precision": in_base("precision: fp8"),
    "recipe": GOOD + "recipe: clip\n",
    "flip": in_base("flip: 'yes'"),
    "crop": in_base("crop: 0"),
    "cooldown": in_base("cooldown: 15k\n  schedule: constant"),
    "tuning_batch": in_base("tuning: 32"),
    "tuning_warmup": in_base("tuning: {samples: 1k, warmup: 2k}"),
    "fine_tuning_batch": in_base("fine_tuning: 512"),
    "fine_tuning_warmup": in_base("fine_tuning: {samples: 2k, warmup: 4k}"),
    "fine_tuning_on_captions": in_base("fine_tuning: 2k\n  data: {webdataset: a.tar}"),
    "fine_tuning_without_test_images": in_base("fine_tuning: {samples: 2k, data: {folder: {train: pets}}}"),
    "fine_tuning_on_no_labelled_set": in_base("fine_tuning: {samples: 2k, data: {captions: {file: a.csv}}}"),
    "fine_tuning_indivisible": in_base("fine_tuning: {samples: 2k, batch_size: 100}") + "resources: {processes: 8}\n",
    "tuning_key": in_base("tuning: {lr: 1e-4}"),
    "tuning_image_size": in_base("tuning:\n    samples: 1k\n    image_size: 30"),
    "tuning_model_of_another_size": in_base("image_size: 32\n  tuning: {samples: 1k, model: ViT-w32d2-8}"),
    "tuning_model_width": in_base("tuning: {samples: 1k, model: ViT-w48d2-4}"),
    "tuning_model_depth": in_base("tuning: {samples: 1k, model: ViT-w32d3-4}"),
    "tuning_model_stock": in_base("tuning: {samples: 1k, model: ViT-B-16}").replace(
        "ViT-w32d2-4\n", "ViT-B-16-quickgelu\n"
    ),
    "tuning_model_alone": in_base("tuning: {samples: 1k, model: ViT-B-16}").replace("ViT-w32d2-4\n", "ViT-g-14\n"),
    "tuning_model_unknown": in_base("tuning: {samples: 1k, model: ViT-B-17}"),
    "tuning_text_length": in_base("tuning: {samples: 1k, text_length: 33}"),
    "reconstruction": in_base("reconstruction: {}"),
    "resize_reconstruction": in_base("mask_shape: resize")
    .replace("axes:", "  reconstruction: {}\naxes:")
    .replace("[0, ", "["),
    "resize_too_little": in_base("mask_shape: resize").replace("0.5", "0.05"),
    "resize_tuning_too_little": in_base("mask_shape: resize").replace(
        "axes:", "  tuning: {samples: 1k, mask_ratio: 0.05}\naxes:"
    ),
    "trainer": in_base("trainer: {command: {}}"),
    "command_of_open_quotes": in_base("trainer: {command: 'python train.py \"--lr 3'}"),
    "parameters_without_a_command": GOOD + "parameters: {depth: 8}\n",
    "parameter_names": "schema: 1\n"
    "parameters: {seed: 1, steps: 2, a-b: 3, held_out_loss: 4, depth: [4, 8], norm: null}\n",
    "parameter_values": "schema: 1\nparameters: {depth: 8, norm: layer, bias: true}\n"
    "base: {trainer: {command: 'python train.py {dept}'}}\n"
    "axes: {depth: [4, deep], norm: [layer, 3], bias: [true, 1], nrm: [1]}\n",
    "command_names_no_parameter": "schema: 1\nparameters: {depth: 8}\n"
    "base: {trainer: {command: 'python train.py {dept}'}}\n",
    "score_of_a_column": GOOD + "scores: {lr: lower, steps: higher, loss: lower}\n",
    "score_direction": GOOD + "scores: {held_out_loss: higher}\n",
    "cost_of_unknown": "schema: 1\nparameters: {depth: 8}\nbase: {trainer: {command: python}}\n"
    "cost: {flops: 6 * width}\n",
    "stages_of_no_clip": "schema: 1\nparameters: {depth: 8}\n"
    "base: {trainer: {command: python}, tuning: {samples: 1k}}\n",
    "set_name": GOOD + "evaluation: {sets: {a.b: fashion}}\n",
    "set_kind": GOOD + "evaluation: {sets: {a: imagenet}}\n",
    "sets_list": GOOD + "evaluation: {sets: [fashion]}\n",
    "score_of_no_set": GOOD + "score: boots.zero_shot_top1\nevaluation: {sets: {boot: fashion}}\n",
    "seed_of_a_study": GOOD + "seed: [0, 1]\n",
    "score_of_shards": in_base("data: {webdataset: a.tar}")
    + "score: zero_shot_top1\nevaluation: {sets: {boot: fashion, coco: {captions: b.csv}}}\n",
    "score_of_classes": in_base("data: {webdataset: a.tar}")
    + "score: linear_probe_top1\nevaluation: {data: {webdataset: b.tar}, "
    "linear_probe: true}\n",
    "set_file": GOOD + "evaluation: {sets: {a: x.tar}}\n",
    "score_of_no_probe": GOOD + "score: linear_probe_top1\n",
    "open_clip_on_several_nodes": in_base("trainer: open_clip").replace("[0, 0.5]", "[0]") + "resources: {gpus: 16}\n",
    "processes": GOOD + "resources: {processes: 3, accumulate: 2}\n",
    "decoder": in_base("reconstruction: {width: 7}").replace("[0, 0.5]", "[0.5]"),
    "metric": GOOD + "evaluation: {sets: {a: {folder: {path: b, metric: map}}}}\n",
    "metric_of_two": GOOD
    + "evaluation: {sets: {a: {idx: {images: i, labels: l, classes: [x, y, z], metric: roc_auc}}}}\n",
    "metric_of_six": GOOD
    + "evaluation: {sets: {a: {idx: {images: i, labels: l, classes: [x, y], metric: mean_top1_top5}}}}\n",
    "score_not_given": GOOD + "evaluation: {sets: {a: {folder: b}}}\nscore: a.mean_per_class\n",
    "score_of_shards_without_classes": GOOD + "evaluation: {sets: {a: {webdataset: b.tar}}}\nscore: a.zero_shot_top1\n",
    "mean_of_nothing": GOOD + "evaluation:\n  sets: {pets: {folder: b}}\n  means: {all: [pets, dtd]}\n",
    "mean_of_captions": GOOD + "evaluation:\n  sets: {coco: {captions: b.csv}}\n  means: {all: [coco]}\n",
    "mean_of_losses": GOOD + "evaluation:\n  sets: {coco: {captions: b.csv}}\n  means: {all: [coco.held_out_loss]}\n",
    "mean_of_one_twice": GOOD
    + "evaluation:\n  sets: {pets: {folder: b}}\n  means: {all: [pets, pets.zero_shot_top1]}\n",
    "mean_by_a_sets_name": GOOD + "evaluation:\n  sets: {pets: {folder: b}}\n  means: {pets: [pets]}\n",
    "program_without_scores": GOOD + "evaluation:\n  sets: {vqa: {command: {arguments: x, scores: {}}}}\n",
    "program_of_no_direction": GOOD + "evaluation:\n  sets: {vqa: {command: {arguments: x, scores: {cider: more}}}}\n",
    "program_that_is_not_lower": GOOD + "evaluation:\n  sets: {vqa: {command: {arguments: x, scores: {gap: lower}}}}\n",
    "program_that_is_lower": GOOD + "evaluation:\n  sets: {vqa: {command: {arguments: x, scores: {loss: higher}}}}\n",
    "program_by_the_name_of_a_trainer": GOOD
    + "evaluation:\n  sets: {open_clip: {command: {arguments: x, scores: {cider: higher}}}}\n",
    "score_of_set": GOOD + "score: boots.accuracy\n",
    "seed_neg": in_base("seed: -1"),
    "text_length": in_base("text_length: 2"),
    # models
    "model": GOOD.replace("ViT-w32d2-4", "ViT-B16"),
    "resnet": GOOD.replace("ViT-w32d2-4", "RN50"),
    "coca": GOOD.replace("ViT-w32d2-4", "coca_ViT-B-32"),
    "width": GOOD.replace("ViT-w32d2-4", "ViT-w40d2-4"),
    "patch": GOOD.replace("ViT-w32d2-4", "ViT-w32d2-5"),
    "image_size": in_base("image_size: 30"),
    "model_number": GOOD.replace("ViT-w32d2-4", "12"),
    # axes
    "axis_empty": GOOD.replace("[0, 0.5]", "[]"),
    "axis_scalar": GOOD.replace("[0, 0.5]", "0.5"),
    "axis_null": GOOD.replace("[0, 0.5]", ""),
    "axis_twice": GOOD.replace("[0, 0.5]", "[0, 0.5, 0.50]"),
    "axis_twice_count": GOOD + "  data_size: [1k, 1000]\n",
    "axis_map": GOOD.replace("[0, 0.5]", "{from: 0, to: 0.5}"),
    "axis_lines": GOOD.replace("[0, 0.5]", "\n    - 0\n    - half\n    - 1.5"),
    "missing_required": "schema: 1\nbase:\n  model: ViT-w32d2-4\n",
    "missing_all": "schema: 1\n",
    "misspelt_required": GOOD.replace("batch_size:", "batchsize:"),
    "misspelt_evaluation": GOOD + "eval: {sets: {mine: {folder: {root: pictures}}}}\nscore: mine.zero_shot_top1\n",
    "required_at_top": GOOD.replace("  samples: 16k\n", "") + "samples: 16k\n",
    # couplings
    "couple_unknown": GOOD + "couple:\n  lr: 1e-3 * batchsize\n",
    "couple_function": GOOD + "couple:\n  lr: exp(batch_size)\n",
    "couple_cycle": GOOD + "couple:\n  lr: weight_decay\n  weight_decay: lr\n",
    "couple_cycle_self": GOOD + "couple:\n  lr: 2 * lr\n",
    "couple_cycle_rule": GOOD + "couple:\n  batch_size: lr * 1e6\n",
    "couple_fraction": GOOD.replace("0.5]", "0.7]") + "couple:\n  batch_size: 64 / (1 - mask_ratio)\n",
    "couple_zero": GOOD + "couple:\n  batch_size: 64 / mask_ratio\n",
    "couple_text": GOOD + "couple:\n  batch_size: model * 2\n",
    "couple_null": GOOD + "couple:\n  batch_size: data_size / 4\n",
    "couple_sqrt": GOOD + "couple:\n  lr: sqrt(mask_ratio - 1)\n",
    "couple_small": GOOD + "couple:\n  batch_size: 64 * mask_ratio\n",
    "couple_nocell": "schema: 1\nbase: {model: ViT-w32d2-4, samples: 16k}\ncouple: {batch_size: samples / 7}\n",
    "couple_import": GOOD + "couple:\n  lr: __import__('os').system('true')\n",
    "couple_attr": GOOD + "couple:\n  lr: model.__class__\n",
    "couple_lambda": GOOD + 'couple:\n  lr: "(lambda: 1)()"\n',
    "couple_power": GOOD + "couple:\n  lr: 9 ** 9 ** 9\n",
    "couple_big": GOOD + "couple:\n  lr: " + " * ".join(["10 ** 30"] * 40) + "\n",
    "couple_walrus": GOOD + "couple:\n  lr: '(a := 1)'\n",
    "couple_args": GOOD + "couple:\n  lr: sqrt(1, 2)\n",
    "couple_max1": GOOD + "couple:\n  lr: max(lr)\n",
    "couple_syntax": GOOD + "couple:\n  lr: 4e-6 * * batch_size\n",
    "couple_list": GOOD + "couple:\n  lr: [1, 2]\n",
    "couple_long": GOOD + "couple:\n  lr: " + "1 + " * 200 + "1\n",
    "couple_model2": GOOD + "couple:\n  model: \"'ViT-w48d3-4' if mask_ratio else 'ViT-w40d3-4'\"\n",
    "couple_axis": GOOD + "couple: {mask_ratio: 0.5}\n",
    "couple_bool": GOOD + "couple:\n  batch_size: mask_ratio > 0\n",
    # conditions
    "where_syntax": GOOD + "where: mask_ratio <\n",
    "where_constant": GOOD + "where: 1 < 2\n",
    "where_unknown": GOOD + "where: [mask_ratio < 0.6, mask > 2]\n",
    "where_none": GOOD + "where: mask_ratio > 0.9\n",
    "where_assign": GOOD + "where: mask_ratio = 0.5\n",
    "exclude_all": GOOD + "exclude: {mask_ratio: 0.5}\nwhere: mask_ratio > 0\n",
    "exclude_map_unknown": GOOD + "exclude:\n  - {maskratio: 0.5}\n",
    "exclude_map_bad": GOOD + "exclude:\n  - {mask_ratio: half}\n",
    "where_zero": GOOD + "where: 1 / mask_ratio > 1\n",
    "where_order": GOOD + "where: model > 3\n",
    "exclude_empty_map": GOOD + "exclude: {}\n",
    "where_true": GOOD + "where: true\n",
    # seeds
    "seeds_0": GOOD + "seeds: 0\n",
    "seeds_axis": GOOD + "  seed: [0, 1]\nseeds: 3\n",
    "seeds_text": GOOD + "seeds: three\n",
    "seeds_twice": GOOD + "seeds: [0, 1, 0]\n",
    "seeds_empty": GOOD + "seeds: []\n",
    "too_many": GOOD
    + "  lr: ["
    + ",".join(f"{i + 1}e-6" for i in range(1000))
    + "]\n  weight_decay: ["
    + ",".join(f"{i + 1}e-6" for i in range(1000))
    + "]\n",
    # design
    "design": GOOD + "design: one_at_time\n",
    "oaat_base": "schema: 1\n"
    "base: {batch_size: 64, samples: 16k}\n"
    "axes:\n"
    "  model: [ViT-w32d2-4, ViT-w48d3-4]\n"
    "  mask_ratio: [0, 0.5]\n"
    "design: one_at_a_time\n",
    "cross": GOOD + "design:\n  one_at_a_time:\n    cross: [mask]\n",
    "cross_list": GOOD + "design:\n  one_at_a_time: {cross: [[mask_ratio]]}\n",
    "grids_empty": GOOD + "design:\n  grids:\n",
    "grids_axis": GOOD + "design:\n  grids:\n    small: {mask: all}\n",
    "grids_all": GOOD + "design:\n  grids:\n    small: {lr: all}\n",
    "grids_value": GOOD + "design:\n  grids:\n    small: {lr: [0]}\n",
    "grids_one_value": GOOD + "design:\n  grids:\n    small:\n      lr: fast\n",
    "grids_no": GOOD + "design:\n  grids:\n    small: [lr]\n",
    "grids_empty_axis": GOOD + "design:\n  grids:\n    small: {lr: []}\n",
    "grids_lack": "schema: 1\n"
    "base: {batch_size: 64, samples: 16k}\n"
    "axes:\n"
    "  model: [ViT-w32d2-4, ViT-w48d3-4]\n"
    "design:\n"
    "  grids:\n"
    "    one: {mask_ratio: [0]}\n"
    "    two: {model: all}\n",
    "design_null": GOOD + "design:\n",
    # baseline
    "baseline": GOOD + "baseline: {mask: 0}\n",
    "baseline_value": GOOD + "baseline: {mask_ratio: 0.25}\n",
    "baseline_base": GOOD + "baseline: {batch_size: 128}\n",
    "baseline_bad": GOOD + "baseline: {batch_size: big}\n",
    "baseline_together": GOOD
    + "  lr: [1e-3, 2e-3]\nexclude: mask_ratio == 0 and lr < 2e-3\nbaseline: {mask_ratio: 0, lr: 1e-3}\n",
    # evaluation
    "eval_key": GOOD + "evaluation: {image: 100}\n",
    "eval_set_named_as_inference": GOOD + "evaluation: {sets: {masked: {folder: a}}}\n",
    "evaluation_on_an_axis": GOOD + "  evaluation: [{images: 100}, {images: 200}]\n",
    "evaluation_on_an_axis_and_in_the_baseline": GOOD
    + "  evaluation: [{images: 100}, {images: 200}]\nbaseline: {evaluation: {images: 100}}\n",
    "eval_at": GOOD + "evaluation:\n  at: [0.5, 50]\n",
    "eval_templates": GOOD + "evaluation:\n  templates:\n    - a photo of a {}\n    - a photo\n",
    "eval_data": GOOD + "evaluation: {data: imagenet}\n",
    "eval_both": GOOD.replace("axes:", "  evaluation: {images: 100}\naxes:") + "evaluation: {images: 200}\n",
    # data
    "data": in_base("data: shape"),
    "data_two": in_base("data: {shapes: {}, fashion: {}}"),
    "data_option": in_base("data: {shapes: {pair: 0.5}}"),
    "data_urls": in_base("data: webdataset"),
    "data_path": in_base("data: laion400m/{00000..41455}.tar"),
    "fashion": in_base("data: {fashion: {folder: 3}}"),
    # budget, resources, figures, score
    "budget": GOOD + "budget: {hours: 5}\n",
    "budget_v": GOOD + "budget: {gpu_hours: much}\n",
    "budget_0": GOOD + "budget: {gpu_hours: 0, runs: 0}\n",
    "budget_n": GOOD + "budget: 5\n",
    "gpus": GOOD + "resources: {gpu: 8}\n",
    "software": GOOD + "resources: {software: today}\n",
    "gpus_v": GOOD + "resources: {gpus: -1}\n",
    "device": GOOD + "resources: {device: H300}\n",
    "figures": GOOD + "figures: [accuracy]\n",
    "figures_n": GOOD + "figures: []\n",
    "score": GOOD + "score: zero_shot_top2\n",
    "question": GOOD + "question: 5\n",
    # what only shows in a cell
    "text_long": in_base("text_length: 64"),
    "samples_short": GOOD.replace("16k", "32"),
    "samples_flops_short": GOOD.replace("16k", "1e8 FLOPs"),
    "samples_flops_tiny": GOOD.replace("16k", "1 FLOPs"),
    "samples_flops_none": GOOD.replace("16k", "0 FLOPs"),
    "samples_flops_of_what_follows": GOOD.replace("16k", "1e12 FLOPs").replace(
        "axes:\n  mask_ratio: [0, 0.5]", "couple:\n  mask_ratio: 0.5"
    ),
    "samples_flops_coupled": GOOD.replace("  samples: 16k\n", "") + "couple: {samples: \"'1e12 FLOPs'\"}\n",
    "samples_flops_baseline": GOOD + "baseline: {samples: 1e12 FLOPs}\n",
    "samples_flops_unit": GOOD.replace("16k", "1e12 flop"),
    "data_size_short": in_base("data_size: 32"),
    "warmup": in_base("warmup: 32k"),
    "text_long_axis": GOOD.replace("  model: ViT-w32d2-4\n", "  text_length: 77\n")
    + "  model: [ViT-B-32, ViT-w48d3-4, ViT-w32d2-4]\n",
    # several complaints, in the order of their lines
    "several": "schema: 3\n"
    "questio: what?\n"
    "base:\n"
    "  model: RN50\n"
    "  samples: lots\n"
    "  batch_size: no\n"
    "axes:\n"
    "  mask_ratio: [0, 2]\n"
    "where: mask > 1\n"
    "seeds: 0\n",
}
"""Name of the case: the file. tests/golden/bad_studies.txt has the whole message of each."""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def complaint(text: str | bytes, **others: str) -> str:
    """What is said of study.yaml with this text, beside the files `others` (name without .yaml: text)."""
    for name, other in others.items():
        Path(f"{name}.yaml").write_text(other)
    Path("study.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StudyError) as error:
        read_study("study.yaml")
    assert error.value.complaints == tuple(str(error.value).splitlines())
    return str(error.value)


def test_a_bad_file_gives_one_sentence_that_says_where_what_and_what_would_be_right(golden: Golden) -> None:
    said = {name: complaint(text) for name, text in BAD.items()}
    for name, listed in LISTS.items():
        said = {case: message.replace(listed, name) for case, message in said.items()}
    golden(GOLDEN, "".join(f"# {name}\n{message}\n\n" for name, message in said.items()))


def test_the_good_file_that_the_bad_ones_come_from_is_good():
    Path("study.yaml").write_text(GOOD)
    assert read_study("study.yaml").name == "study"


def test_nothing_in_an_expression_is_ever_run():
    attacks = (
        "__import__('pathlib').Path('run').touch()",
        "().__class__.__base__.__subclasses__()",
        "open('run', 'w')",
        "(lambda: exec(\"open('run', 'w')\"))()",
        "[x for x in (1,)][0]",
        "max.__self__",
        "model.format",
        "f'{model.__class__}'",
    )
    for attack in attacks:
        quoted = attack.replace('"', '\\"')
        assert complaint(f'{GOOD}couple:\n  lr: "{quoted}"\n').startswith(
            (f"study.yaml:9: '{attack}' uses '", f"study.yaml:9: '{attack}' calls 'open', which is not a function")
        )
    assert not Path("run").exists()


WHOLE = {
    "a deep expression": (
        GOOD + "where: " + "(" * 240 + "lr" + ")" * 240 + "\n",
        "study.yaml:8: '" + "(" * 57 + "...' cannot be read; "
        "write a condition such as mask_ratio <= 0.5 or model == 'ViT-B-16'",
    ),
    "no UTF-8": (
        "schema: 1\nquestion: voil\xe0\n".encode("latin-1"),
        "study.yaml:2: is not UTF-8 text; save the file as UTF-8",
    ),
    "an include that is missing": (
        "include: others.yaml\n" + GOOD,
        "study.yaml:1: there is no file 'others.yaml'; give its path from the folder of this file",
    ),
    "an include that is no name": (
        "include: [5]\n" + GOOD,
        "study.yaml:1: 5 is not a file's name; write include: other.yaml",
    ),
    "an include of itself": (
        "include: study.yaml\n" + GOOD,
        "study.yaml:1: 'study.yaml' would include itself; remove this include",
    ),
}
"""Name of the case: the file, and all that is said of it."""

INCLUDED = {
    "includes of each other": (
        GOOD,
        "base: {lr: 1e-3}\ninclude: study.yaml\n",
        "other.yaml:2: 'study.yaml' would include itself; remove this include",
    ),
    "a value of the included file": (
        GOOD,
        "base:\n  weight_decay: 0.1\n  lr: fast\n",
        "other.yaml:3: 'fast' is not a number; write a number above 0",
    ),
    "a value that overrides the included one": (
        in_base("lr: fast"),
        "base:\n  lr: 1e-3\n",
        "study.yaml:7: 'fast' is not a number; write a number above 0",
    ),
    "a cell of an axis of the included file": (
        "schema: 1\nbase: {batch_size: 64, samples: 1k}\n",
        "axes:\n  model: [ViT-w32d2-4]\n  text_length: [16, 64]\n",
        "other.yaml:3: text_length 64 is more than ViT-w32d2-4 reads (at model ViT-w32d2-4, text_length 64); "
        "write 32 or less",
    ),
}
"""Name of the case: the file, the one that it includes, and all that is said: it names the file with the last word."""

NO_FILES = {
    "mask.yaml": "there is no such file; `flipscale init mask.yaml` writes one to start from",
    "texture.yaml": "there is no such file; did you mean textures.yaml?",
    "folder.yaml": "is a folder; give the study's YAML file",
    "textures.yaml/other.yaml": "there is no such file; `flipscale init textures.yaml/other.yaml` writes one to start "
    "from",
}
"""Beside textures.yaml and a folder folder.yaml."""


@pytest.mark.parametrize(("text", "right"), WHOLE.values(), ids=WHOLE)
def test_what_is_said_of_a_file_that_is_kept_in_no_golden_file(text: str | bytes, right: str) -> None:
    assert complaint(text) == right


@pytest.mark.parametrize(("text", "other", "right"), INCLUDED.values(), ids=INCLUDED)
def test_a_complaint_names_the_file_that_has_the_last_word(text: str, other: str, right: str) -> None:
    assert complaint("include: other.yaml\n" + text, other=other) == right


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file(name: str) -> None:
    Path("textures.yaml").write_text(GOOD)
    Path("folder.yaml").mkdir()
    with pytest.raises(StudyError) as error:
        read_study(name)
    assert str(error.value) == f"{name}: {NO_FILES[name]}"
