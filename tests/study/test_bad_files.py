"""Bad study files, each held to the whole of what is said about it."""

from pathlib import Path

import pytest

from flipscale.architecture import known_models
from flipscale.errors import StudyError
from flipscale.study import read_study

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
        "schema, question, include, recipe, base, axes, couple, where, exclude, seeds, design, baseline, "
        "evaluation, score, budget, resources, keep_weights, claims, margin, caveats, ..."
    ),
    "<SETTINGS>": (
        "model, image_size, text_length, data, data_size, crop, flip, normalization, samples, mask_ratio, mask_shape, "
        "text_mask_ratio, text_mask, reconstruction, batch_size, lr, warmup, schedule, cooldown, weight_decay, ..."
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
    "empty": ("", "study.yaml:1: is empty; `flipscale init` writes a study to start from"),
    "null_document": ("---\n", "study.yaml:1: is empty; `flipscale init` writes a study to start from"),
    "list_at_top": ("- schema: 1\n", "study.yaml:1: holds a list, not keys with values; begin with schema: 1"),
    "two_documents": (
        GOOD + "---\nschema: 1\n",
        "study.yaml:9: a second YAML document begins here; a study is one document, remove '---'",
    ),
    "tab": (
        "schema: 1\nbase:\n\tmodel: ViT-w32d2-4\n",
        "study.yaml:3: is not YAML (found character '\\t' that cannot start any token); use spaces, not tabs",
    ),
    "tab_inside": (
        "schema: 1\nbase:\n  model:\tViT-w32d2-4\n \tsamples: 3\n",
        "study.yaml:3: is not YAML (found character '\\t' that cannot start any token); use spaces, not tabs",
    ),
    "bad_indent": (
        "schema: 1\nbase:\n  model: ViT-w32d2-4\n   samples: 16k\n",
        (
            "study.yaml:4: is not YAML (mapping values are not allowed here); put a text with such characters "
            "in quotes, or check the indentation"
        ),
    ),
    "unclosed": (
        "schema: 1\naxes:\n  mask_ratio: [0, 0.5\nseeds: 2\n",
        "study.yaml:4: is not YAML (expected ',' or ']', but got ':'); close the bracket of line 3",
    ),
    "colon": (
        "schema: 1\nquestion: masking: does it pay?\n",
        (
            "study.yaml:2: is not YAML (mapping values are not allowed here); put a text with such characters "
            "in quotes, or check the indentation"
        ),
    ),
    "at": (
        "schema: 1\nquestion: @home\n",
        (
            "study.yaml:2: is not YAML (found character '@' that cannot start any token); put a text with "
            "such characters in quotes, or check the indentation"
        ),
    ),
    "undefined_alias": (
        "schema: 1\nbase: *small\n",
        (
            "study.yaml:2: is not YAML (found undefined alias); mark the value that is meant with & "
            "and this name, above this line"
        ),
    ),
    "control": (
        "schema: 1\nquestion: a\x07b\n",
        "study.yaml:2: holds a character that YAML forbids, 0x07; save the file as plain text",
    ),
    # keys twice, aliases, tags
    "key_twice": (GOOD + "base: {}\n", "study.yaml:8: 'base' is given twice, first on line 2; keep one of them"),
    "key_twice_nested": (
        in_base("samples: 32k"),
        "study.yaml:6: 'samples' is given twice, first on line 4; keep one of them",
    ),
    "key_twice_axes": (
        GOOD + "  mask_ratio: [0.75]\n",
        "study.yaml:8: 'mask_ratio' is given twice, first on line 7; keep one of them",
    ),
    "bomb": (
        "schema: 1\n"
        + "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcde", "bcdef", strict=True)),
        "study.yaml:2: aliases (*) expand to more than 100,000 values; write the values out",
    ),
    "alias_self": (
        "schema: 1\nbase: &b\n  data: *b\n",
        "study.yaml:2: an alias (*) contains itself; write the values out",
    ),
    "deep": (
        "schema: 1\nbase: " + "[" * 2000 + "\n",
        "study.yaml:1: is nested too deeply to read; a study has a few levels",
    ),
    "deep_alias": (
        "schema: 1\n" + "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [[[*a{i}]]]\n" for i in range(900)),
        "study.yaml:1: is nested too deeply to read; a study has a few levels",
    ),
    "tag_python": (
        "schema: 1\nquestion: !!python/object/apply:os.system ['true']\n",
        (
            "study.yaml:1: no 'model' in base, axes or couple; add it to base: open_clip's name of a ViT, or "
            "ViT-w48d3-4: width 48, depth 3, patch 4\nstudy.yaml:1: no 'samples' in base, axes or couple; add "
            "it to base: length of the schedule, in samples seen; or in training FLOPs, such as 1e15 "
            "FLOPs\nstudy.yaml:1: no 'batch_size' in base, axes or couple; add it to base: pairs per step, over "
            "all devices\nstudy.yaml:2: the tag '!!python/object/apply:os.system' means nothing here; write the "
            "plain value, and text in quotes"
        ),
    ),
    "tag_own": (
        in_base("lr: !fast 1e-3"),
        "study.yaml:6: the tag '!fast' means nothing here; write the plain value, and text in quotes",
    ),
    "tag_str": (
        in_base("seed: !!str 10"),
        "study.yaml:6: the tag '!!str' means nothing here; write the plain value, and text in quotes",
    ),
    "tag_root": (
        "!study\nschema: 1\n",
        "study.yaml:1: the tag '!study' means nothing here; write the plain value, and text in quotes",
    ),
    "merge_no_mapping": (
        GOOD.replace("base:\n", "base:\n  <<: 5\n"),
        "study.yaml:3: '<<' merges a mapping; give it an alias of one",
    ),
    "complex_key": (GOOD + "? [a, b]\n: 3\n", "study.yaml:8: a key is a list; a key must be one word"),
    # YAML's traps
    "no": (in_base("grad_clip: no"), "study.yaml:6: YAML reads no as false; write false, or 'no' in quotes for text"),
    "yes": (in_base("data_size: yes"), "study.yaml:6: YAML reads yes as true; write true, or 'yes' in quotes for text"),
    "on": (GOOD + "seeds: on\n", "study.yaml:8: YAML reads on as true; write true, or 'on' in quotes for text"),
    "octal": (in_base("seed: 010"), "study.yaml:6: YAML reads 010 as the octal number 8; write it without the 0"),
    "base60": (
        in_base("data_size: 12:30"),
        "study.yaml:6: YAML reads 12:30 as a number in base 60; write '12:30' in quotes for text",
    ),
    "date": (
        GOOD + "question: 2026-01-31\n",
        "study.yaml:8: YAML reads 2026-01-31 as a date; write '2026-01-31' in quotes for text",
    ),
    "off_in_list": (
        GOOD.replace("[0, 0.5]", "[off, 0.5]"),
        "study.yaml:7: YAML reads off as false; write false, or 'off' in quotes for text",
    ),
    "long_number": (
        in_base("seed: " + "1" * 5000),
        (
            "study.yaml:6: '111111111111111111111111111111111111111111111111111111111...' is not a count; "
            "write 400M, 4e8 or 400000000"
        ),
    ),
    # schema and unknown keys
    "unknown_weights": (
        GOOD + "keep_weights: some\n",
        "study.yaml:8: 'some' is not a choice of weights to keep; Choices: all, last, none",
    ),
    "no_schema": (GOOD.replace("schema: 1\n", ""), "study.yaml:1: no 'schema'; write schema: 1 at the top"),
    "newer": (
        GOOD.replace("schema: 1", "schema: 2"),
        "study.yaml:1: schema 2 is newer than this flipscale, which reads 1; upgrade flipscale",
    ),
    "schema_text": (GOOD.replace("schema: 1", "schema: one"), "study.yaml:1: 'one' is not a schema; write schema: 1"),
    "schema_true": (GOOD.replace("schema: 1", "schema: true"), "study.yaml:1: true is not a schema; write schema: 1"),
    "schema_0": (GOOD.replace("schema: 1", "schema: 0"), "study.yaml:1: 0 is not a schema; write schema: 1"),
    "unknown_top": (GOOD + "axis: {}\n", "study.yaml:8: unknown key 'axis'; did you mean 'axes'? Choices: <KEYS>"),
    "setting_at_top": (
        GOOD + "lr: 1e-3\n",
        "study.yaml:8: unknown key 'lr'; did you mean it under base, as 'base: {lr: ...}'?",
    ),
    "unknown_base": (
        in_base("batchsize: 3"),
        "study.yaml:6: unknown setting 'batchsize'; did you mean 'batch_size'? Choices: <SETTINGS>",
    ),
    "unknown_axis": (
        GOOD.replace("mask_ratio", "mask_ration"),
        "study.yaml:7: unknown axis 'mask_ration'; did you mean 'mask_ratio'? Choices: <SETTINGS>",
    ),
    "unknown_couple": (
        GOOD + "couple: {learning_rate: 1e-3}\n",
        "study.yaml:8: unknown setting 'learning_rate'; write lr",
    ),
    "axes_text": (
        "schema: 1\nbase: {model: ViT-w32d2-4, samples: 16k, batch_size: 64}\naxes: mask_ratio\n",
        "study.yaml:3: 'mask_ratio' gives no keys; write axes as in mask_ratio: [0, 0.5]",
    ),
    "baseline_text": (
        GOOD + "baseline: unmasked\n",
        "study.yaml:8: 'unmasked' gives no keys; write baseline as in mask_ratio: 0",
    ),
    "unknown_axis_of_another_program": (
        GOOD.replace("mask_ratio", "epochs"),
        "study.yaml:7: unknown axis 'epochs'; write samples: the epochs times the number of pairs",
    ),
    "unknown_flag_of_another_program": (
        in_base("force-patch-dropout: 0.5"),
        "study.yaml:6: unknown setting 'force-patch-dropout'; write mask_ratio",
    ),
    # counts
    "lots": (in_base("data_size: lots"), "study.yaml:6: 'lots' is not a count; write 400M, 4e8 or 400000000"),
    "space_m": (in_base("data_size: 400 m"), "study.yaml:6: '400 m' is not a count; write 400M, 4e8 or 400000000"),
    "negative": (in_base("data_size: -1"), "study.yaml:6: -1 is too small; write a count of 1 or more"),
    "true": (in_base("data_size: true"), "study.yaml:6: true is not a count; write 400M, 4e8 or 400000000"),
    "fraction": (in_base("data_size: 1.5"), "study.yaml:6: 1.5 is not a whole number; write 1 or 2"),
    "1.5k?": (in_base("data_size: 1.5k?"), "study.yaml:6: '1.5k?' is not a count; write 400M, 4e8 or 400000000"),
    "1e400": (in_base("data_size: 1e400"), "study.yaml:6: inf is not a count; write 400M, 4e8 or 400000000"),
    "1e30": (in_base("data_size: 1e30"), "study.yaml:6: 1e+30 is too large; write a count below 1e+18"),
    "batch1": (GOOD.replace("64", "1"), "study.yaml:5: 1 is too small; write a count of 2 or more"),
    "1.2345k": (in_base("data_size: 1.2345k"), "study.yaml:6: '1.2345k' is not a whole number; write 1234 or 1235"),
    # numbers and names
    "mask1": (GOOD.replace("0.5]", "1]"), "study.yaml:7: 1 is out of range; write a number from 0 below 1"),
    "mask_pct": (GOOD.replace("0.5]", "50%]"), "study.yaml:7: '50%' is not a number; write a number from 0 below 1"),
    "lr0": (in_base("lr: 0"), "study.yaml:6: 0 is out of range; write a number above 0"),
    "percent": (GOOD.replace("0.5]", "50]"), "study.yaml:7: 50 is out of range; write 0.5 for 50 %"),
    "several_in_base": (
        in_base("lr: [1e-3, 2e-3]"),
        "study.yaml:6: a list of 2 is several values; put them under axes: {lr: [...]}",
    ),
    "beta": (in_base("beta2: 1.0"), "study.yaml:6: 1 is out of range; write a number from 0 below 1"),
    "lr_text": (in_base("lr: '1e-3'"), "study.yaml:6: '1e-3' is not a number; write a number above 0"),
    "precision": (
        in_base("precision: fp8"),
        "study.yaml:6: 'fp8' is not a precision; Choices: fp32, bf16, fp16",
    ),
    "recipe": (
        GOOD + "recipe: clip\n",
        "study.yaml:8: 'clip' is not a recipe; did you mean 'flip'? Choices: flip, openclip",
    ),
    "flip": (in_base("flip: 'yes'"), "study.yaml:6: 'yes' is neither true nor false; write one of them"),
    "crop": (in_base("crop: 0"), "study.yaml:6: 0 is out of range; write a number above 0 up to 1"),
    "cooldown": (
        in_base("cooldown: 15k\n  schedule: constant"),
        (
            "study.yaml:6: warmup and cooldown, 1600 + 15000, are longer than the schedule of 16000 samples "
            "(at mask_ratio 0); shorten one"
        ),
    ),
    "tuning_batch": (
        in_base("tuning: 32"),
        "study.yaml:6: tuning.samples 32 is less than one batch of 64 (at mask_ratio 0); write more samples",
    ),
    "tuning_warmup": (
        in_base("tuning: {samples: 1k, warmup: 2k}"),
        "study.yaml:6: tuning.warmup 2000 is longer than the tuning of 1000 samples (at mask_ratio 0); shorten it",
    ),
    "fine_tuning_batch": (
        in_base("fine_tuning: 512"),
        "study.yaml:6: fine_tuning.samples 512 is less than one batch of 1024 (at mask_ratio 0); write more samples, "
        "or a smaller batch_size",
    ),
    "fine_tuning_warmup": (
        in_base("fine_tuning: {samples: 2k, warmup: 4k}"),
        "study.yaml:6: fine_tuning.warmup 4000 is longer than its 2000 samples (at mask_ratio 0); shorten it",
    ),
    "fine_tuning_on_captions": (
        in_base("fine_tuning: 2k\n  data: {webdataset: a.tar}"),
        "study.yaml:6: fine_tuning needs images with classes, and the training data have captions (at mask_ratio 0); "
        "give data: {folder: {train: DIR, test: DIR}}, or another labelled set",
    ),
    "fine_tuning_without_test_images": (
        in_base("fine_tuning: {samples: 2k, data: {folder: {train: pets}}}"),
        "study.yaml:6: folder lacks 'test'; add it: the same for test images",
    ),
    "fine_tuning_on_no_labelled_set": (
        in_base("fine_tuning: {samples: 2k, data: {captions: {file: a.csv}}}"),
        "study.yaml:6: 'captions' is not a labelled set; Choices: shapes, fashion, folder, webdataset, idx",
    ),
    "fine_tuning_indivisible": (
        in_base("fine_tuning: {samples: 2k, batch_size: 100}") + "resources: {processes: 8}\n",
        "study.yaml:6: a batch of 100 does not divide into 8 processes x 1 parts, set in resources (at mask_ratio 0); "
        "write a multiple of 8",
    ),
    "tuning_key": (
        in_base("tuning: {lr: 1e-4}"),
        (
            "study.yaml:6: tuning lacks 'samples'; add it: length of the tuning, in samples seen; FLIP's is 128M "
            "after 2.56B"
        ),
    ),
    "tuning_image_size": (
        in_base("tuning:\n    samples: 1k\n    image_size: 30"),
        (
            "study.yaml:8: tuning: ViT-w32d2-4 cuts images into patches of 4 pixels (at mask_ratio 0); write "
            "image_size 28 or 32, not 30"
        ),
    ),
    "tuning_model_of_another_size": (
        in_base("image_size: 32\n  tuning: {samples: 1k, model: ViT-w32d2-8}"),
        (
            "study.yaml:7: tuning: ViT-w32d2-8 cuts images into patches of 8 pixels (at mask_ratio 0); write "
            "image_size 24 or 32, not its default of 28"
        ),
    ),
    "tuning_model_width": (
        in_base("tuning: {samples: 1k, model: ViT-w48d2-4}"),
        (
            "study.yaml:6: tuning.model ViT-w48d2-4 has other towers than ViT-w32d2-4: embed_dim 48, not 32 "
            "(at mask_ratio 0); write one that differs in its patches alone: ViT-w32d2-PATCH"
        ),
    ),
    "tuning_model_depth": (
        in_base("tuning: {samples: 1k, model: ViT-w32d3-4}"),
        (
            "study.yaml:6: tuning.model ViT-w32d3-4 has other towers than ViT-w32d2-4: vision_cfg.layers 3, not 2 "
            "(at mask_ratio 0); write one that differs in its patches alone: ViT-w32d2-PATCH"
        ),
    ),
    "tuning_model_stock": (
        in_base("tuning: {samples: 1k, model: ViT-B-16}").replace("ViT-w32d2-4\n", "ViT-B-16-quickgelu\n"),
        (
            "study.yaml:6: tuning.model ViT-B-16 has other towers than ViT-B-16-quickgelu: quick_gelu unset, not true "
            "(at mask_ratio 0); write one that differs in its patches alone: ViT-B-32-quickgelu"
        ),
    ),
    "tuning_model_alone": (
        in_base("tuning: {samples: 1k, model: ViT-B-16}").replace("ViT-w32d2-4\n", "ViT-g-14\n"),
        (
            "study.yaml:6: tuning.model ViT-B-16 has other towers than ViT-g-14: embed_dim 512, not 1024 "
            "(at mask_ratio 0); leave tuning.model out, as no other model has these towers"
        ),
    ),
    "tuning_model_unknown": (
        in_base("tuning: {samples: 1k, model: ViT-B-17}"),
        (
            "study.yaml:6: unknown model 'ViT-B-17', did you mean 'ViT-B-16'? Choices: <MODELS>, ... "
            "(or any other width, depth and patch in its place)"
        ),
    ),
    "tuning_text_length": (
        in_base("tuning: {samples: 1k, text_length: 33}"),
        ("study.yaml:6: tuning.text_length 33 is more than ViT-w32d2-4 reads (at mask_ratio 0); write 32 or less"),
    ),
    "reconstruction": (
        in_base("reconstruction: {}"),
        (
            "study.yaml:6: reconstruction needs patches that were dropped, and mask_ratio is 0 (at mask_ratio 0); "
            "exclude this combination"
        ),
    ),
    "resize_reconstruction": (
        in_base("mask_shape: resize").replace("axes:", "  reconstruction: {}\naxes:").replace("[0, ", "["),
        (
            "study.yaml:7: reconstruction needs patches that were dropped, and mask_shape resize drops none "
            "(at mask_ratio 0.5); exclude this combination"
        ),
    ),
    "resize_too_little": (
        in_base("mask_shape: resize").replace("0.5", "0.05"),
        (
            "study.yaml:8: a mask_ratio of 0.05 resizes no image of 7 x 7 patches, with mask_shape resize "
            "(at mask_ratio 0.05); write 0.15 or more"
        ),
    ),
    "resize_tuning_too_little": (
        in_base("mask_shape: resize").replace("axes:", "  tuning: {samples: 1k, mask_ratio: 0.05}\naxes:"),
        (
            "study.yaml:7: a mask_ratio of 0.05 resizes no image of 7 x 7 patches, with mask_shape resize "
            "(at mask_ratio 0); write 0.15 or more"
        ),
    ),
    "trainer": (
        in_base("trainer: {command: {}}"),
        "study.yaml:6: command lacks 'arguments'; add it: the program and its arguments; the run's folder is appended",
    ),
    "command_in_one_text": (
        in_base("trainer: {command: 'python train.py --lr 3'}"),
        (
            "study.yaml:6: 'python train.py --lr 3' is a whole command in one text; write a list of its words: "
            '[python, train.py, "--lr", "3"]'
        ),
    ),
    "set_name": (
        GOOD + "evaluation: {sets: {a.b: fashion}}\n",
        "study.yaml:8: 'a.b' is not a name; write letters, digits and _, a letter first",
    ),
    "set_kind": (
        GOOD + "evaluation: {sets: {a: imagenet}}\n",
        "study.yaml:8: 'imagenet' is not an evaluation set; Choices: shapes, fashion, webdataset, folder, idx, "
        "captions, command",
    ),
    "sets_list": (
        GOOD + "evaluation: {sets: [fashion]}\n",
        "study.yaml:8: a list of 1 gives no names; write {name: set}",
    ),
    "score_of_no_set": (
        GOOD + "score: boots.zero_shot_top1\nevaluation: {sets: {boot: fashion}}\n",
        (
            "study.yaml:8: 'boots.zero_shot_top1' is a score of the set 'boots', and evaluation.sets has none of that "
            "name; did you mean 'boot'? Choices: boot"
        ),
    ),
    "seed_of_a_study": (
        GOOD + "seed: [0, 1]\n",
        "study.yaml:8: unknown key 'seed'; did you mean 'seeds', or 'base: {seed: ...}'?",
    ),
    "score_of_shards": (
        in_base("data: {webdataset: a.tar}")
        + "score: zero_shot_top1\nevaluation: {sets: {boot: fashion, coco: {captions: b.csv}}}\n",
        (
            "study.yaml:9: 'zero_shot_top1' is measured on the study's own evaluation data, and tar shards have no "
            "held-out part; write score: boot.zero_shot_top1, or give evaluation: {data: ...}"
        ),
    ),
    "score_of_classes": (
        in_base("data: {webdataset: a.tar}") + "score: linear_probe_top1\nevaluation: {data: {webdataset: b.tar}, "
        "linear_probe: true}\n",
        (
            "study.yaml:9: 'linear_probe_top1' needs classes, and evaluation.data has captions; give a set with "
            "classes under evaluation.sets"
        ),
    ),
    "set_file": (
        GOOD + "evaluation: {sets: {a: x.tar}}\n",
        "study.yaml:8: 'x.tar' is not an evaluation set; write {webdataset: x.tar}",
    ),
    "score_of_no_probe": (
        GOOD + "score: linear_probe_top1\n",
        "study.yaml:8: linear_probe_top1 is not measured; write linear_probe: true under evaluation",
    ),
    "open_clip_on_several_nodes": (
        in_base("trainer: open_clip").replace("[0, 0.5]", "[0]") + "resources: {gpus: 16}\n",
        "study.yaml:6: open_clip's program trains on one node, and resources.gpus 16 take several (at mask_ratio 0); "
        "write gpus: 8 or fewer, or use flipscale's own trainer",
    ),
    "processes": (
        GOOD + "resources: {processes: 3, accumulate: 2}\n",
        (
            "study.yaml:5: a batch of 64 does not divide into 3 processes x 2 parts, set in resources "
            "(at mask_ratio 0); write a multiple of 6"
        ),
    ),
    "decoder": (
        in_base("reconstruction: {width: 7}").replace("[0, 0.5]", "[0.5]"),
        (
            "study.yaml:6: reconstruction.width 7 is not a multiple of 16, as the heads and positions of "
            "ViT-w32d2-4 require (at mask_ratio 0.5); write 16"
        ),
    ),
    "metric": (
        GOOD + "evaluation: {sets: {a: {folder: {path: b, metric: map}}}}\n",
        "study.yaml:8: 'map' is not a metric; did you mean 'map11'? Choices: top1, mean_per_class, map11, roc_auc, "
        "mean_top1_top5",
    ),
    "metric_of_two": (
        GOOD + "evaluation: {sets: {a: {idx: {images: i, labels: l, classes: [x, y, z], metric: roc_auc}}}}\n",
        "study.yaml:8: roc_auc takes two classes, and this set has 3; name another metric",
    ),
    "metric_of_six": (
        GOOD + "evaluation: {sets: {a: {idx: {images: i, labels: l, classes: [x, y], metric: mean_top1_top5}}}}\n",
        "study.yaml:8: mean_top1_top5 takes six classes or more, and this set has 2; name another metric",
    ),
    "score_not_given": (
        GOOD + "evaluation: {sets: {a: {folder: b}}}\nscore: a.mean_per_class\n",
        "study.yaml:9: 'a' gives no score 'mean_per_class'; Choices: zero_shot_top1, zero_shot_top5, linear_probe_top1",
    ),
    "score_of_shards_without_classes": (
        GOOD + "evaluation: {sets: {a: {webdataset: b.tar}}}\nscore: a.zero_shot_top1\n",
        "study.yaml:9: 'a' gives no score 'zero_shot_top1'; it names no classes, so its samples have captions; add "
        "classes: FILE for labels. Choices: image_retrieval_r1, image_retrieval_r5, image_retrieval_r10, "
        "text_retrieval_r1, text_retrieval_r5, text_retrieval_r10, held_out_loss",
    ),
    "mean_of_nothing": (
        GOOD + "evaluation:\n  sets: {pets: {folder: b}}\n  means: {all: [pets, dtd]}\n",
        "study.yaml:10: evaluation.sets has no 'dtd'; Choices: pets",
    ),
    "mean_of_captions": (
        GOOD + "evaluation:\n  sets: {coco: {captions: b.csv}}\n  means: {all: [coco]}\n",
        "study.yaml:10: 'coco' has no metric of its own; name one of its scores, such as coco.image_retrieval_r1",
    ),
    "mean_of_losses": (
        GOOD + "evaluation:\n  sets: {coco: {captions: b.csv}}\n  means: {all: [coco.held_out_loss]}\n",
        "study.yaml:10: 'coco.held_out_loss' is not a fraction, so a mean with others is meaningless; remove it",
    ),
    "mean_of_one_twice": (
        GOOD + "evaluation:\n  sets: {pets: {folder: b}}\n  means: {all: [pets, pets.zero_shot_top1]}\n",
        "study.yaml:10: 'pets.zero_shot_top1' is listed twice; keep one",
    ),
    "mean_by_a_sets_name": (
        GOOD + "evaluation:\n  sets: {pets: {folder: b}}\n  means: {pets: [pets]}\n",
        "study.yaml:10: 'pets' is also the name of a set; give the mean another name",
    ),
    "program_without_scores": (
        GOOD + "evaluation:\n  sets: {vqa: {command: {arguments: x, scores: {}}}}\n",
        "study.yaml:9: no score is named; write, for example, {cider: higher}",
    ),
    "program_of_no_direction": (
        GOOD + "evaluation:\n  sets: {vqa: {command: {arguments: x, scores: {cider: more}}}}\n",
        "study.yaml:9: 'more' is not a direction; Choices: higher, lower",
    ),
    "program_that_is_not_lower": (
        GOOD + "evaluation:\n  sets: {vqa: {command: {arguments: x, scores: {gap: lower}}}}\n",
        "study.yaml:9: the name 'vqa.gap' does not say that lower is better; name it gap_error, or use one of loss, "
        "error, perplexity, nll, bpb, fid, wer, cer, ece, mce, mse, rmse, brier, distance or seconds",
    ),
    "program_that_is_lower": (
        GOOD + "evaluation:\n  sets: {vqa: {command: {arguments: x, scores: {loss: higher}}}}\n",
        "study.yaml:9: the name 'vqa.loss' says that lower is better, as it contains one of loss, error, "
        "perplexity, nll, bpb, fid, wer, cer, ece, mce, mse, rmse, brier, distance or seconds; choose another "
        "name",
    ),
    "program_by_the_name_of_a_trainer": (
        GOOD + "evaluation:\n  sets: {open_clip: {command: {arguments: x, scores: {cider: higher}}}}\n",
        "study.yaml:9: 'open_clip' names the scores of open_clip's own program; give the set another name",
    ),
    "score_of_set": (
        GOOD + "score: boots.accuracy\n",
        "study.yaml:8: 'boots.accuracy' is a score of the set 'boots', and evaluation.sets has none of that name; "
        "add it there",
    ),
    "seed_neg": (in_base("seed: -1"), "study.yaml:6: -1 is too small; write a count of 0 or more"),
    "text_length": (in_base("text_length: 2"), "study.yaml:6: 2 is too small; write a count of 3 or more"),
    # models
    "model": (
        GOOD.replace("ViT-w32d2-4", "ViT-B16"),
        (
            "study.yaml:3: unknown model 'ViT-B16', did you mean 'ViT-B-16'? Choices: <MODELS>, ... (or any "
            "other width, depth and patch in its place)"
        ),
    ),
    "resnet": (
        GOOD.replace("ViT-w32d2-4", "RN50"),
        (
            "study.yaml:3: RN50 cannot be masked and counted: its image tower is a ResNet, which has no patch "
            "tokens to leave out; choose a model whose towers are open_clip's own, such as ViT-B-32, "
            "ViT-B-16, ViT-L-16"
        ),
    ),
    "coca": (
        GOOD.replace("ViT-w32d2-4", "coca_ViT-B-32"),
        (
            "study.yaml:3: coca_ViT-B-32 cannot be masked and counted: it is a CoCa model, which has a third "
            "tower that learns to write captions; choose a model whose towers are open_clip's own, such as "
            "ViT-B-32, ViT-S-32, ViT-M-32"
        ),
    ),
    "width": (
        GOOD.replace("ViT-w32d2-4", "ViT-w40d2-4"),
        (
            "study.yaml:3: the width of ViT-w40d2-4 is not a multiple of 16, the width of its attention "
            "heads; write ViT-w32d2-4"
        ),
    ),
    "patch": (
        GOOD.replace("ViT-w32d2-4", "ViT-w32d2-5"),
        (
            "study.yaml:3: ViT-w32d2-5 cuts images into patches of 5 pixels; write image_size 25 or 30, not its "
            "default of 28"
        ),
    ),
    "image_size": (
        in_base("image_size: 30"),
        "study.yaml:6: ViT-w32d2-4 cuts images into patches of 4 pixels; write image_size 28 or 32, not 30",
    ),
    "model_number": (
        GOOD.replace("ViT-w32d2-4", "12"),
        "study.yaml:3: 12 is not a model's name; write one such as ViT-B-16 or ViT-w48d3-4",
    ),
    # axes
    "axis_empty": (
        GOOD.replace("[0, 0.5]", "[]"),
        "study.yaml:7: the axis 'mask_ratio' has no values; write mask_ratio: [first, second]",
    ),
    "axis_scalar": (
        GOOD.replace("[0, 0.5]", "0.5"),
        "study.yaml:7: 0.5 is not a list of values; write mask_ratio: [first, second]",
    ),
    "axis_null": (
        GOOD.replace("[0, 0.5]", ""),
        "study.yaml:7: null is not a list of values; write mask_ratio: [first, second]",
    ),
    "axis_twice": (
        GOOD.replace("[0, 0.5]", "[0, 0.5, 0.50]"),
        "study.yaml:7: 0.5 is given twice on the axis 'mask_ratio'; keep one",
    ),
    "axis_twice_count": (
        GOOD + "  data_size: [1k, 1000]\n",
        "study.yaml:8: 1000 is given twice on the axis 'data_size'; keep one",
    ),
    "axis_map": (
        GOOD.replace("[0, 0.5]", "{from: 0, to: 0.5}"),
        "study.yaml:7: a mapping of from, to is not a list of values; write mask_ratio: [first, second]",
    ),
    "axis_lines": (
        GOOD.replace("[0, 0.5]", "\n    - 0\n    - half\n    - 1.5"),
        (
            "study.yaml:9: 'half' is not a number; write a number from 0 below 1\n"
            "study.yaml:10: 1.5 is out of range; write a number from 0 below 1"
        ),
    ),
    "missing_required": (
        "schema: 1\nbase:\n  model: ViT-w32d2-4\n",
        (
            "study.yaml:2: no 'samples' in base, axes or couple; add it to base: length of the schedule, in "
            "samples seen; or in training FLOPs, such as 1e15 FLOPs\nstudy.yaml:2: no 'batch_size' in base, "
            "axes or couple; add it to base: pairs per step, over all devices"
        ),
    ),
    "missing_all": (
        "schema: 1\n",
        (
            "study.yaml:1: no 'model' in base, axes or couple; add it to base: open_clip's name of a ViT, or "
            "ViT-w48d3-4: width 48, depth 3, patch 4\nstudy.yaml:1: no 'samples' in base, axes or couple; add "
            "it to base: length of the schedule, in samples seen; or in training FLOPs, such as 1e15 "
            "FLOPs\nstudy.yaml:1: no 'batch_size' in base, axes or couple; add it to base: pairs per step, over "
            "all devices"
        ),
    ),
    "misspelt_required": (
        GOOD.replace("batch_size:", "batchsize:"),
        "study.yaml:5: unknown setting 'batchsize'; did you mean 'batch_size'? Choices: <SETTINGS>",
    ),
    "misspelt_evaluation": (
        GOOD + "eval: {sets: {mine: {folder: {root: pictures}}}}\nscore: mine.zero_shot_top1\n",
        "study.yaml:8: unknown key 'eval'; did you mean 'evaluation'? Choices: <KEYS>",
    ),
    "required_at_top": (
        GOOD.replace("  samples: 16k\n", "") + "samples: 16k\n",
        "study.yaml:7: unknown key 'samples'; did you mean it under base, as 'base: {samples: ...}'?",
    ),
    # couplings
    "couple_unknown": (
        GOOD + "couple:\n  lr: 1e-3 * batchsize\n",
        (
            "study.yaml:9: '1e-3 * batchsize' names 'batchsize', which is not a setting; did you mean "
            "'batch_size'? Choices: <SETTINGS>"
        ),
    ),
    "couple_function": (
        GOOD + "couple:\n  lr: exp(batch_size)\n",
        (
            "study.yaml:9: 'exp(batch_size)' calls 'exp', which is not a function; Choices: min, max, round, "
            "ceil, floor, sqrt, log2, abs"
        ),
    ),
    "couple_cycle": (
        GOOD + "couple:\n  lr: weight_decay\n  weight_decay: lr\n",
        "study.yaml:9: 'lr' depends on itself, through lr, weight_decay; give one of them in base or axes",
    ),
    "couple_cycle_self": (
        GOOD + "couple:\n  lr: 2 * lr\n",
        "study.yaml:9: 'lr' depends on itself; give it in base or axes",
    ),
    "couple_cycle_rule": (
        GOOD + "couple:\n  batch_size: lr * 1e6\n",
        "study.yaml:9: 'batch_size' depends on itself, through batch_size, lr; give one of them in base or axes",
    ),
    "couple_fraction": (
        GOOD.replace("0.5]", "0.7]") + "couple:\n  batch_size: 64 / (1 - mask_ratio)\n",
        (
            "study.yaml:9: batch_size at mask_ratio 0.7: 213.333333333 is not a whole number; write 213 or "
            "214, or use round, floor or ceil"
        ),
    ),
    "couple_zero": (
        GOOD + "couple:\n  batch_size: 64 / mask_ratio\n",
        "study.yaml:9: '64 / mask_ratio' divides by zero at mask_ratio 0; every cell needs a value",
    ),
    "couple_text": (
        GOOD + "couple:\n  batch_size: model * 2\n",
        "study.yaml:9: 'model * 2' mixes numbers and texts at mask_ratio 0; every cell needs a value",
    ),
    "couple_null": (
        GOOD + "couple:\n  batch_size: data_size / 4\n",
        "study.yaml:9: 'data_size / 4' needs data_size, which is null at mask_ratio 0; every cell needs a value",
    ),
    "couple_sqrt": (
        GOOD + "couple:\n  lr: sqrt(mask_ratio - 1)\n",
        (
            "study.yaml:9: 'sqrt(mask_ratio - 1)' takes the root or logarithm of a negative number or zero at "
            "mask_ratio 0; every cell needs a value"
        ),
    ),
    "couple_small": (
        GOOD + "couple:\n  batch_size: 64 * mask_ratio\n",
        "study.yaml:9: batch_size at mask_ratio 0: 0 is too small; write a count of 2 or more",
    ),
    "couple_nocell": (
        "schema: 1\nbase: {model: ViT-w32d2-4, samples: 16k}\ncouple: {batch_size: samples / 7}\n",
        (
            "study.yaml:3: batch_size: 2285.71428571 is not a whole number; write 2285 or 2286, or use round, "
            "floor or ceil"
        ),
    ),
    "couple_import": (
        GOOD + "couple:\n  lr: __import__('os').system('true')\n",
        (
            "study.yaml:9: '__import__('os').system('true')' uses '__import__('os').system('true')', which is "
            "not allowed; <ALLOWED>"
        ),
    ),
    "couple_attr": (
        GOOD + "couple:\n  lr: model.__class__\n",
        "study.yaml:9: 'model.__class__' uses 'model.__class__', which is not allowed; <ALLOWED>",
    ),
    "couple_lambda": (
        GOOD + 'couple:\n  lr: "(lambda: 1)()"\n',
        "study.yaml:9: '(lambda: 1)()' uses '(lambda: 1)()', which is not allowed; <ALLOWED>",
    ),
    "couple_power": (
        GOOD + "couple:\n  lr: 9 ** 9 ** 9\n",
        "study.yaml:9: '9 ** 9 ** 9' gives a number too large at mask_ratio 0; every cell needs a value",
    ),
    "couple_big": (
        GOOD + "couple:\n  lr: " + " * ".join(["10 ** 30"] * 40) + "\n",
        (
            "study.yaml:9: '10 ** 30 * 10 ** 30 * 10 ** 30 * 10 ** 30 * 10 ** 30 * 10...' gives a number too "
            "large at mask_ratio 0; every cell needs a value"
        ),
    ),
    "couple_walrus": (
        GOOD + "couple:\n  lr: '(a := 1)'\n",
        "study.yaml:9: '(a := 1)' uses '(a := 1)', which is not allowed; <ALLOWED>",
    ),
    "couple_args": (
        GOOD + "couple:\n  lr: sqrt(1, 2)\n",
        "study.yaml:9: 'sqrt(1, 2)' calls 'sqrt' with 2 arguments; it takes one",
    ),
    "couple_max1": (
        GOOD + "couple:\n  lr: max(lr)\n",
        "study.yaml:9: 'max(lr)' calls 'max' with 1 arguments; it takes two or more",
    ),
    "couple_syntax": (
        GOOD + "couple:\n  lr: 4e-6 * * batch_size\n",
        (
            "study.yaml:9: '4e-6 * * batch_size' cannot be read; write arithmetic over settings, as in 256 / "
            "(1 - mask_ratio)"
        ),
    ),
    "couple_list": (
        GOOD + "couple:\n  lr: [1, 2]\n",
        (
            "study.yaml:9: a list of 2 is not an expression; write arithmetic over settings, as in 256 / (1 - "
            "mask_ratio)"
        ),
    ),
    "couple_long": (
        GOOD + "couple:\n  lr: " + "1 + " * 200 + "1\n",
        (
            "study.yaml:9: '1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1...' is longer than 500 "
            "characters; write a shorter one"
        ),
    ),
    "couple_model2": (
        GOOD + "couple:\n  model: \"'ViT-w48d3-4' if mask_ratio else 'ViT-w40d3-4'\"\n",
        (
            "study.yaml:9: model at mask_ratio 0: the width of ViT-w40d3-4 is not a multiple of 16, the width "
            "of its attention heads; write ViT-w32d3-4"
        ),
    ),
    "couple_axis": (
        GOOD + "couple: {mask_ratio: 0.5}\n",
        "study.yaml:8: 'mask_ratio' is also an axis; remove it from axes or from couple",
    ),
    "couple_bool": (
        GOOD + "couple:\n  batch_size: mask_ratio > 0\n",
        "study.yaml:9: batch_size at mask_ratio 0: false is not a count; write 400M, 4e8 or 400000000",
    ),
    # conditions
    "where_syntax": (
        GOOD + "where: mask_ratio <\n",
        (
            "study.yaml:8: 'mask_ratio <' cannot be read; write a condition such as mask_ratio <= 0.5 or "
            "model == 'ViT-B-16'"
        ),
    ),
    "where_constant": (
        GOOD + "where: 1 < 2\n",
        "study.yaml:8: '1 < 2' names no setting; write a condition such as mask_ratio <= 0.5 or model == 'ViT-B-16'",
    ),
    "where_unknown": (
        GOOD + "where: [mask_ratio < 0.6, mask > 2]\n",
        "study.yaml:8: 'mask > 2' names 'mask', which is not a setting; did you mean 'text_mask'? Choices: <SETTINGS>",
    ),
    "where_none": (
        GOOD + "where: mask_ratio > 0.9\n",
        "study.yaml:8: no cell of the grid is left; loosen where or exclude",
    ),
    "where_assign": (
        GOOD + "where: mask_ratio = 0.5\n",
        (
            "study.yaml:8: 'mask_ratio = 0.5' cannot be read; write a condition such as mask_ratio <= 0.5 or "
            "model == 'ViT-B-16'"
        ),
    ),
    "exclude_all": (
        GOOD + "exclude: {mask_ratio: 0.5}\nwhere: mask_ratio > 0\n",
        "study.yaml:9: no cell of the grid is left; loosen where or exclude",
    ),
    "exclude_map_unknown": (
        GOOD + "exclude:\n  - {maskratio: 0.5}\n",
        "study.yaml:9: unknown setting 'maskratio'; did you mean 'mask_ratio'? Choices: <SETTINGS>",
    ),
    "exclude_map_bad": (
        GOOD + "exclude:\n  - {mask_ratio: half}\n",
        "study.yaml:9: 'half' is not a number; write a number from 0 below 1",
    ),
    "where_zero": (
        GOOD + "where: 1 / mask_ratio > 1\n",
        "study.yaml:8: '1 / mask_ratio > 1' divides by zero at mask_ratio 0; every cell needs an answer",
    ),
    "where_order": (
        GOOD + "where: model > 3\n",
        "study.yaml:8: 'model > 3' mixes numbers and texts at mask_ratio 0; every cell needs an answer",
    ),
    "exclude_empty_map": (
        GOOD + "exclude: {}\n",
        (
            "study.yaml:8: an empty mapping names no setting; write a condition such as mask_ratio <= 0.5 or "
            "model == 'ViT-B-16'"
        ),
    ),
    "where_true": (
        GOOD + "where: true\n",
        "study.yaml:8: true is not an expression; write a condition such as mask_ratio <= 0.5 or model == 'ViT-B-16'",
    ),
    # seeds
    "seeds_0": (GOOD + "seeds: 0\n", "study.yaml:8: 0 seeds give no run; write seeds: 3, or a list of seeds"),
    "seeds_axis": (
        GOOD + "  seed: [0, 1]\nseeds: 3\n",
        "study.yaml:9: 'seeds' and the axis 'seed' say the same thing; keep one of them",
    ),
    "seeds_text": (GOOD + "seeds: three\n", "study.yaml:8: 'three' is not a count; write 400M, 4e8 or 400000000"),
    "seeds_twice": (GOOD + "seeds: [0, 1, 0]\n", "study.yaml:8: 0 is given twice on the axis 'seed'; keep one"),
    "seeds_empty": (
        GOOD + "seeds: []\n",
        "study.yaml:8: an empty list says nothing; write at least one value, or leave the key out",
    ),
    "too_many": (
        GOOD
        + "  lr: ["
        + ",".join(f"{i + 1}e-6" for i in range(1000))
        + "]\n  weight_decay: ["
        + ",".join(f"{i + 1}e-6" for i in range(1000))
        + "]\n",
        "study.yaml:6: the axes have 2,000,000 cells; a study takes up to 100,000",
    ),
    # design
    "design": (
        GOOD + "design: one_at_time\n",
        (
            "study.yaml:8: 'one_at_time' is not a design; write full, one_at_a_time, one_at_a_time: {cross: "
            "[axis]}, or grids: {name: {axis: [values]}}"
        ),
    ),
    "oaat_base": (
        (
            "schema: 1\n"
            "base: {batch_size: 64, samples: 16k}\n"
            "axes:\n"
            "  model: [ViT-w32d2-4, ViT-w48d3-4]\n"
            "  mask_ratio: [0, 0.5]\n"
            "design: one_at_a_time\n"
        ),
        "study.yaml:4: one_at_a_time starts from the base, which has no 'model'; add it there",
    ),
    "cross": (
        GOOD + "design:\n  one_at_a_time:\n    cross: [mask]\n",
        "study.yaml:10: 'mask' is not an axis of this study; did you mean 'mask_ratio'? Choices: mask_ratio",
    ),
    "cross_list": (
        GOOD + "design:\n  one_at_a_time: {cross: [[mask_ratio]]}\n",
        "study.yaml:9: a list of 1 is not an axis of this study; did you mean 'mask_ratio'? Choices: mask_ratio",
    ),
    "grids_empty": (GOOD + "design:\n  grids:\n", "study.yaml:9: holds no grid; write grids: {name: {axis: [values]}}"),
    "grids_axis": (
        GOOD + "design:\n  grids:\n    small: {mask: all}\n",
        "study.yaml:10: unknown axis 'mask'; did you mean 'text_mask'? Choices: <SETTINGS>",
    ),
    "grids_all": (
        GOOD + "design:\n  grids:\n    small: {lr: all}\n",
        "study.yaml:10: 'all' takes the values of axes, which has no 'lr'; list the values",
    ),
    "grids_value": (
        GOOD + "design:\n  grids:\n    small: {lr: [0]}\n",
        "study.yaml:10: 0 is out of range; write a number above 0",
    ),
    "grids_no": (
        GOOD + "design:\n  grids:\n    small: [lr]\n",
        "study.yaml:10: a list of 1 gives no axes; write small: {axis: [values]}, or axis: all",
    ),
    "grids_empty_axis": (
        GOOD + "design:\n  grids:\n    small: {lr: []}\n",
        "study.yaml:10: 'lr' has no values here; list some, or leave it out",
    ),
    "grids_lack": (
        (
            "schema: 1\n"
            "base: {batch_size: 64, samples: 16k}\n"
            "axes:\n"
            "  model: [ViT-w32d2-4, ViT-w48d3-4]\n"
            "design:\n"
            "  grids:\n"
            "    one: {mask_ratio: [0]}\n"
            "    two: {model: all}\n"
        ),
        "study.yaml:7: 'one' has no 'model', and neither has base; add it to one of them",
    ),
    "design_null": (
        GOOD + "design:\n",
        (
            "study.yaml:8: null is not a design; write full, one_at_a_time, one_at_a_time: {cross: [axis]}, or "
            "grids: {name: {axis: [values]}}"
        ),
    ),
    # baseline
    "baseline": (
        GOOD + "baseline: {mask: 0}\n",
        "study.yaml:8: unknown setting 'mask'; did you mean 'text_mask'? Choices: <SETTINGS>",
    ),
    "baseline_value": (
        GOOD + "baseline: {mask_ratio: 0.25}\n",
        "study.yaml:8: no run of this study has mask_ratio 0.25; it has 0, 0.5",
    ),
    "baseline_base": (
        GOOD + "baseline: {batch_size: 128}\n",
        "study.yaml:8: no run of this study has batch_size 128; it has 64",
    ),
    "baseline_bad": (
        GOOD + "baseline: {batch_size: big}\n",
        "study.yaml:8: 'big' is not a count; write 400M, 4e8 or 400000000",
    ),
    "baseline_together": (
        GOOD + "  lr: [1e-3, 2e-3]\nexclude: mask_ratio == 0 and lr < 2e-3\nbaseline: {mask_ratio: 0, lr: 1e-3}\n",
        "study.yaml:10: no run of this study has this combination of mask_ratio, lr; loosen where or exclude",
    ),
    # evaluation
    "eval_key": (
        GOOD + "evaluation: {image: 100}\n",
        (
            "study.yaml:8: unknown key 'image' in evaluation; did you mean 'images'? Choices: data, images, "
            "at, templates, sets, linear_probe, means, inference"
        ),
    ),
    "eval_set_named_as_inference": (
        GOOD + "evaluation: {sets: {masked: {folder: a}}}\n",
        "study.yaml:8: 'masked' names the scores of masked inference; give the set another name",
    ),
    "evaluation_on_an_axis": (
        GOOD + "  evaluation: [{images: 100}, {images: 200}]\n",
        "study.yaml:8: evaluation is no axis, as it changes no run; write one evaluation with all of their sets",
    ),
    "eval_at": (
        GOOD + "evaluation:\n  at: [0.5, 50]\n",
        "study.yaml:9: 50 is out of range; write 0.5 for 50 %",
    ),
    "eval_templates": (
        GOOD + "evaluation:\n  templates:\n    - a photo of a {}\n    - a photo\n",
        "study.yaml:11: 'a photo' lacks '{}'; put it where the class name goes, or write imagenet_simple or "
        "openai_imagenet",
    ),
    "eval_data": (
        GOOD + "evaluation: {data: imagenet}\n",
        "study.yaml:8: 'imagenet' is not a data set; Choices: shapes, fashion, webdataset",
    ),
    "eval_both": (
        GOOD.replace("axes:", "  evaluation: {images: 100}\naxes:") + "evaluation: {images: 200}\n",
        "study.yaml:9: 'evaluation' is given in base as well; keep one of them",
    ),
    # data
    "data": (
        in_base("data: shape"),
        "study.yaml:6: 'shape' is not a data set; did you mean 'shapes'? Choices: shapes, fashion, webdataset",
    ),
    "data_two": (
        in_base("data: {shapes: {}, fashion: {}}"),
        "study.yaml:6: a mapping of shapes, fashion is not a data set; name one of shapes, fashion, webdataset",
    ),
    "data_option": (
        in_base("data: {shapes: {pair: 0.5}}"),
        "study.yaml:6: unknown key 'pair' in shapes; did you mean 'pairs'? Choices: pairs, seed",
    ),
    "data_urls": (
        in_base("data: webdataset"),
        (
            "study.yaml:6: webdataset lacks 'urls'; add it: pattern of the tar shards, as in "
            "laion400m/{00000..41455}.tar; paths, URLs or pipe: commands"
        ),
    ),
    "data_path": (
        in_base("data: laion400m/{00000..41455}.tar"),
        "study.yaml:6: 'laion400m/{00000..41455}.tar' is not a data set; "
        "write {webdataset: laion400m/{00000..41455}.tar}",
    ),
    "fashion": (
        in_base("data: {fashion: {folder: 3}}"),
        "study.yaml:6: 3 is not a text; write one, in quotes if YAML would read it otherwise",
    ),
    # budget, resources, figures, score
    "budget": (
        GOOD + "budget: {hours: 5}\n",
        (
            "study.yaml:8: unknown key 'hours' in budget; did you mean 'gpu_hours'? Choices: gpu_hours, "
            "train_flops, runs, price"
        ),
    ),
    "budget_v": (GOOD + "budget: {gpu_hours: much}\n", "study.yaml:8: 'much' is not a number; write a number above 0"),
    "budget_0": (
        GOOD + "budget: {gpu_hours: 0, runs: 0}\n",
        (
            "study.yaml:8: 0 is out of range; write a number above 0\n"
            "study.yaml:8: 0 is too small; write a count of 1 or more"
        ),
    ),
    "budget_n": (
        GOOD + "budget: 5\n",
        "study.yaml:8: 5 gives no keys; budget takes gpu_hours, train_flops, runs, price",
    ),
    "gpus": (
        GOOD + "resources: {gpu: 8}\n",
        "study.yaml:8: unknown key 'gpu' in resources; did you mean 'gpus'? Choices: gpus, device, "
        "flops_per_second, processes, accumulate, activation_checkpointing, compile, stalled, fused, software, "
        "samples_per_second",
    ),
    "software": (
        GOOD + "resources: {software: today}\n",
        "study.yaml:8: 'today' is not a count; write 400M, 4e8 or 400000000",
    ),
    "gpus_v": (GOOD + "resources: {gpus: -1}\n", "study.yaml:8: -1 is too small; write a count of 0 or more"),
    "device": (
        GOOD + "resources: {device: H300}\n",
        (
            "study.yaml:8: 'H300' is not a device; did you mean 'H200'? Choices: cpu, V100, A100, A100-80GB, "
            "A100-40GB, A10G, L4, L40S, H100, H100-PCIe, H200, B200, GB200, MI250X, MI300X, RTX-3090, RTX-4090, "
            "RTX-5090, TPU-v3, "
            "TPU-v4, ..."
        ),
    ),
    "figures": (
        GOOD + "figures: [accuracy]\n",
        (
            "study.yaml:8: 'accuracy' is not a figure; did you mean 'accuracy_vs_hours'? Choices: "
            "accuracy_vs_samples, accuracy_vs_flops, accuracy_vs_hours, speedup, scaling_axes, scaling_curves, "
            "mask_ratios, gains, gains_along_axes, ablations, claims, repeats, error_vs_compute, isoflop, "
            "learning_curves, training_loss, predicted_cost"
        ),
    ),
    "figures_n": (
        GOOD + "figures: []\n",
        "study.yaml:8: an empty list says nothing; write at least one value, or leave the key out",
    ),
    "score": (
        GOOD + "score: zero_shot_top2\n",
        "study.yaml:8: 'zero_shot_top2' is not a score; did you mean 'zero_shot_top5'? Choices: <SCORES>",
    ),
    "question": (
        GOOD + "question: 5\n",
        "study.yaml:8: 5 is not a text; write one, in quotes if YAML would read it otherwise",
    ),
    # what only shows in a cell
    "text_long": (
        in_base("text_length: 64"),
        "study.yaml:6: text_length 64 is more than ViT-w32d2-4 reads (at mask_ratio 0); write 32 or less",
    ),
    "samples_short": (
        GOOD.replace("16k", "32"),
        "study.yaml:4: samples 32 is less than one batch of 64 (at mask_ratio 0); write more samples",
    ),
    "samples_flops_short": (
        GOOD.replace("16k", "1e8 FLOPs"),
        "study.yaml:4: samples 8 is less than one batch of 64 (at mask_ratio 0); write more samples",
    ),
    "samples_flops_tiny": (
        GOOD.replace("16k", "1 FLOPs"),
        "study.yaml:4: samples 1 FLOPs at mask_ratio 0: 0 is too small; write a count of 1 or more",
    ),
    "samples_flops_none": (
        GOOD.replace("16k", "0 FLOPs"),
        "study.yaml:4: '0 FLOPs' is out of range; write FLOPs above 0 and below 1e+36",
    ),
    "samples_flops_of_what_follows": (
        GOOD.replace("16k", "1e12 FLOPs").replace("axes:\n  mask_ratio: [0, 0.5]", "couple:\n  mask_ratio: 0.5"),
        (
            "study.yaml:4: samples 1e12 FLOPs depend on mask_ratio, which follows from others; give mask_ratio in base "
            "or axes"
        ),
    ),
    "samples_flops_coupled": (
        GOOD.replace("  samples: 16k\n", "") + "couple: {samples: \"'1e12 FLOPs'\"}\n",
        (
            "study.yaml:7: samples at mask_ratio 0: 1e12 FLOPs can only be written in base or axes; an expression "
            "has to give samples"
        ),
    ),
    "samples_flops_baseline": (
        GOOD + "baseline: {samples: 1e12 FLOPs}\n",
        (
            "study.yaml:8: 1e12 FLOPs are a different number of samples in each cell; name a setting that marks the "
            "runs to compare with"
        ),
    ),
    "samples_flops_unit": (
        GOOD.replace("16k", "1e12 flop"),
        "study.yaml:4: '1e12 flop' is not a count; write 400M, 4e8 or 400000000",
    ),
    "data_size_short": (
        in_base("data_size: 32"),
        (
            "study.yaml:6: data_size 32 is less than one batch of 64, which would hold a pair twice (at "
            "mask_ratio 0); raise data_size, or lower batch_size"
        ),
    ),
    "warmup": (
        in_base("warmup: 32k"),
        "study.yaml:6: warmup 32000 is longer than the schedule of 16000 samples (at mask_ratio 0); shorten it",
    ),
    "text_long_axis": (
        GOOD.replace("  model: ViT-w32d2-4\n", "  text_length: 77\n")
        + "  model: [ViT-B-32, ViT-w48d3-4, ViT-w32d2-4]\n",
        (
            "study.yaml:3: text_length 77 is more than ViT-w48d3-4 reads (at mask_ratio 0, model "
            "ViT-w48d3-4); write 32 or less"
        ),
    ),
    # several complaints, in the order of their lines
    "several": (
        (
            "schema: 3\n"
            "questio: what?\n"
            "base:\n"
            "  model: RN50\n"
            "  samples: lots\n"
            "  batch_size: no\n"
            "axes:\n"
            "  mask_ratio: [0, 2]\n"
            "where: mask > 1\n"
            "seeds: 0\n"
        ),
        (
            "study.yaml:1: schema 3 is newer than this flipscale, which reads 1; upgrade flipscale\n"
            "study.yaml:2: unknown key 'questio'; did you mean 'question'? Choices: <KEYS>\n"
            "study.yaml:4: RN50 cannot be masked and counted: its image tower is a ResNet, which has no patch "
            "tokens to leave out; choose a model whose towers are open_clip's own, such as ViT-B-32, "
            "ViT-B-16, ViT-L-16\n"
            "study.yaml:5: 'lots' is not a count; write 400M, 4e8 or 400000000\n"
            "study.yaml:6: YAML reads no as false; write false, or 'no' in quotes for text\n"
            "study.yaml:8: 2 is out of range; write a number from 0 below 1\n"
            "study.yaml:9: 'mask > 1' names 'mask', which is not a setting; did you mean 'text_mask'? "
            "Choices: <SETTINGS>\n"
            "study.yaml:10: 0 seeds give no run; write seeds: 3, or a list of seeds"
        ),
    ),
}
"""Name of the case: the file, and the whole message."""


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


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_bad_file_is_told_where_what_and_what_would_be_right(text: str, message: str):
    for name, listed in LISTS.items():
        message = message.replace(name, listed)
    assert complaint(text) == message


def test_there_are_sixty_bad_files_or_more():
    assert len(BAD) >= 60


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


def test_deep_expression_is_a_complaint():
    assert complaint(GOOD + "where: " + "(" * 240 + "lr" + ")" * 240 + "\n") == (
        f"study.yaml:8: '{'(' * 57}...' cannot be read; "
        "write a condition such as mask_ratio <= 0.5 or model == 'ViT-B-16'"
    )


def test_file_that_is_not_there():
    with pytest.raises(StudyError) as error:
        read_study("study.yaml")
    assert str(error.value) == (
        "study.yaml: there is no such file; `flipscale init study.yaml` writes one to start from"
    )


def test_file_whose_name_is_misspelt():
    Path("textures.yaml").write_text(GOOD)
    with pytest.raises(StudyError) as error:
        read_study("texture.yaml")
    assert str(error.value) == "texture.yaml: there is no such file; did you mean textures.yaml?"


def test_folder_in_place_of_a_file():
    Path("study.yaml").mkdir()
    with pytest.raises(StudyError) as error:
        read_study("study.yaml")
    assert str(error.value) == "study.yaml: is a folder; give the study's YAML file"


def test_file_below_a_file():
    Path("study.yaml").write_text(GOOD)
    with pytest.raises(StudyError) as error:
        read_study("study.yaml/other.yaml")
    assert str(error.value) == "study.yaml/other.yaml: cannot be read (Not a directory); check the path and permissions"


def test_file_that_is_not_utf8():
    assert complaint("schema: 1\nquestion: voil\xe0\n".encode("latin-1")) == (
        "study.yaml:2: is not UTF-8 text; save the file as UTF-8"
    )


def test_included_file_that_is_not_there():
    assert complaint("include: other.yaml\n" + GOOD) == (
        "study.yaml:1: there is no file 'other.yaml'; give its path from the folder of this file"
    )


def test_include_of_what_is_no_file_name():
    assert complaint("include: [5]\n" + GOOD) == "study.yaml:1: 5 is not a file's name; write include: other.yaml"


def test_file_that_includes_itself():
    assert complaint("include: study.yaml\n" + GOOD) == (
        "study.yaml:1: 'study.yaml' would include itself; remove this include"
    )


def test_files_that_include_each_other():
    assert complaint("include: other.yaml\n" + GOOD, other="base: {lr: 1e-3}\ninclude: study.yaml\n") == (
        "other.yaml:2: 'study.yaml' would include itself; remove this include"
    )


def test_complaint_about_an_included_value_names_the_included_files_line():
    assert complaint("include: other.yaml\n" + GOOD, other="base:\n  weight_decay: 0.1\n  lr: fast\n") == (
        "other.yaml:3: 'fast' is not a number; write a number above 0"
    )


def test_complaint_about_an_overridden_value_names_the_file_that_has_the_last_word():
    assert complaint("include: other.yaml\n" + in_base("lr: fast"), other="base:\n  lr: 1e-3\n") == (
        "study.yaml:7: 'fast' is not a number; write a number above 0"
    )


def test_cell_complaint_names_the_included_axis():
    text = "schema: 1\ninclude: other.yaml\nbase: {batch_size: 64, samples: 1k}\n"
    assert complaint(text, other="axes:\n  model: [ViT-w32d2-4]\n  text_length: [16, 64]\n") == (
        "other.yaml:3: text_length 64 is more than ViT-w32d2-4 reads (at model ViT-w32d2-4, text_length 64); "
        "write 32 or less"
    )
