"""The shape of a model by its name."""

import subprocess
import sys

import pytest

from flipscale.errors import FlipscaleError
from flipscale.settings.architecture import (
    Architecture,
    ImageTower,
    TextTower,
    architecture,
    known_models,
    own_image_size,
)


def test_stock_model_has_the_shape_of_its_open_clip_configuration():
    shape = architecture("ViT-H-14")
    assert shape.name == "ViT-H-14"
    assert shape.embed_dim == 1024
    assert shape.image == ImageTower(
        image_size=224,
        patch_size=14,
        width=1280,
        layers=32,
        heads=16,
        mlp_width=5120,
        layer_scale=False,
        ln_pre=True,
    )
    assert shape.text == TextTower(
        context_length=77, vocab_size=49408, width=1024, layers=24, heads=16, mlp_width=4096, layer_scale=False
    )


def test_mlp_ratio_and_layer_scale_are_read():
    assert architecture("ViT-bigG-14").image.mlp_width == 8192
    assert architecture("ViT-M-16-alt").image.layer_scale
    assert not architecture("ViT-M-16-alt").text.layer_scale
    assert not architecture("ViT-L-14-CLIPA").image.ln_pre
    assert architecture("ViT-L-14-CLIPA").text.context_length == 32


def test_stock_configuration_is_open_clips_own():
    import open_clip

    for name in known_models():
        assert architecture(name).open_clip_config == open_clip.get_model_config(name)


def test_image_size_replaces_the_models_own_and_nothing_else():
    own, other = architecture("ViT-B-16").open_clip_config, architecture("ViT-B-16", 112).open_clip_config
    assert own["vision_cfg"]["image_size"] == 224
    assert other["vision_cfg"].pop("image_size") == 112
    own["vision_cfg"].pop("image_size")
    assert own == other


def test_configuration_is_a_new_dict_each_time():
    architecture("ViT-B-16").open_clip_config["vision_cfg"]["width"] = 1
    assert architecture("ViT-B-16").open_clip_config["vision_cfg"]["width"] == 768


@pytest.mark.parametrize(
    ("name", "embed_dim", "image", "text"),
    [
        ("ViT-w48d3-4", 48, (28, 4, 48, 3, 3, 192), (48, 1, 3)),
        ("ViT-w16d1-7", 32, (28, 7, 16, 1, 1, 64), (32, 1, 2)),
        ("ViT-w128d12-2", 128, (28, 2, 128, 12, 8, 512), (128, 4, 8)),
    ],
)
def test_family_name_gives_width_depth_and_patch(name, embed_dim, image, text):
    shape = architecture(name)
    tower = shape.image
    assert shape.embed_dim == embed_dim
    assert (tower.image_size, tower.patch_size, tower.width, tower.layers, tower.heads, tower.mlp_width) == image
    assert (shape.text.width, shape.text.layers, shape.text.heads) == text
    assert (shape.text.context_length, shape.text.vocab_size) == (32, 49408)


def test_family_is_flip_style():
    config = architecture("ViT-w48d3-4").open_clip_config
    assert config["vision_cfg"]["no_ln_pre"]
    assert config["vision_cfg"]["pos_embed_type"] == "sin_cos_2d"
    assert config["vision_cfg"]["pool_type"] == "avg"
    assert not config["vision_cfg"]["final_ln_after_pool"]
    assert config["text_cfg"]["no_causal_mask"]
    assert config["text_cfg"]["pool_type"] == "argmax"


def test_family_takes_another_image_size():
    assert architecture("ViT-w48d3-4", 32).image.patches == 64


def test_family_model_whose_patches_do_not_divide_its_default_takes_another_image_size():
    assert own_image_size("ViT-w48d3-8") == 28
    assert architecture("ViT-w48d3-8", 64).image.patches == 64
    assert architecture("ViT-w48d3-32", 32).image.patches == 1


@pytest.mark.parametrize(
    ("name", "mask_ratio", "tokens"),
    [
        ("ViT-B-16", 0, 197),
        ("ViT-B-16", 0.5, 99),
        ("ViT-B-16", 0.75, 50),
        ("ViT-w48d3-4", 0.75, 13),
        ("ViT-w48d3-4", 0.99, 2),
    ],
)
def test_tokens_are_the_kept_patches_and_the_class_token(name, mask_ratio, tokens):
    assert architecture(name).tokens(mask_ratio) == tokens


@pytest.mark.parametrize("mask_ratio", [0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("name", "image_size"), [("ViT-w48d3-4", 28), ("ViT-w48d3-4", 40), ("ViT-B-32", 224)])
def test_tokens_are_those_that_open_clips_patch_dropout_leaves(name, image_size, mask_ratio):
    import torch
    from open_clip.transformer import PatchDropout

    shape = architecture(name, image_size)
    left = PatchDropout(mask_ratio)(torch.zeros(1, shape.image.patches + 1, 1)).shape[1]
    assert shape.tokens(mask_ratio) == left


def test_known_models_are_those_of_open_clips_own_towers():
    known = known_models()
    assert {"ViT-B-16", "ViT-L-14-336-quickgelu", "ViT-H-14-CLIPA", "ViT-bigG-14", "ViT-H-14-worldwide"} <= set(known)
    assert not {"RN50", "coca_ViT-B-32", "ViT-B-16-SigLIP", "roberta-ViT-B-32", "ViTamin-B", "EVA02-B-16"} & set(known)
    assert list(known) == sorted(known)
    assert len(known) >= 45
    assert all(isinstance(architecture(name), Architecture) for name in known)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (
            "RN50",
            "RN50 cannot be masked and counted: its image tower is a ResNet, which has no patch tokens to leave out; "
            "choose a model whose towers are open_clip's own, such as ViT-B-32, ViT-B-16, ViT-L-16",
        ),
        (
            "ViT-B-16-SigLIP",
            "its image tower is timm's vit_base_patch16_siglip_224, whose shape its configuration does not give",
        ),
        ("coca_ViT-B-32", "it is a CoCa model, which has a third tower that learns to write captions"),
        ("roberta-ViT-B-32", "its text tower is Hugging Face's roberta-base, whose shape its configuration does not"),
        ("ViT-w50d3-4", "the width of ViT-w50d3-4 is not a multiple of 16, .*; write ViT-w48d3-4"),
        ("ViT-w3d3-4", "write ViT-w16d3-4"),
        (
            "ViT-w48d3-5",
            "ViT-w48d3-5 cuts images into patches of 5 pixels; write image_size 25 or 30, not its default of 28",
        ),
        ("ViT-w48d3-32", "write image_size 32, not its default of 28"),
        ("ViT-B/16", "unknown model 'ViT-B/16', did you mean 'ViT-B-16'?"),
        ("ViT-w48d-4", "did you mean 'ViT-w48d3-4'?"),
        ("ViT-w048d3-4", "unknown model 'ViT-w048d3-4', did you mean 'ViT-w48d3-4'?"),
        ("../model_configs/ViT-B-16", "unknown model"),
    ],
)
def test_name_that_cannot_be_trained_is_refused_with_what_would_be_right(name, complaint):
    with pytest.raises(FlipscaleError, match=complaint):
        architecture(name)


def test_image_size_that_patches_do_not_divide_is_refused():
    with pytest.raises(FlipscaleError, match="ViT-B-16 cuts images into patches of 16 pixels; write image_size 208 or"):
        architecture("ViT-B-16", 220)


def test_neither_architecture_nor_cost_imports_torch_or_open_clip():
    script = (
        "import sys; from flipscale.settings.architecture import known_models\n"
        "from flipscale.cost.arithmetic import cost; known_models()\n"
        "from tests.asked import settings_of; cost(settings_of())\n"
        "print([name for name in ('torch', 'open_clip', 'numpy', 'pandas') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
