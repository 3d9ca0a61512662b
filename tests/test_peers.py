"""Checkpoints of the peers: every naming, every option that changes a number, every bad file.

`golden/` holds small models of Hugging Face and timm with their float64 results, made by
`golden/make_peers.py`; `fixtures/` of the peers' folder holds more, where it is there.
"""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import refvit
from refvit.checkpoints import load_model
from refvit.files import read_tensors, write_tensors
from refvit.images import Preprocess
from refvit.models import VARIANTS, parameter_shapes
from refvit.resize import bicubic

GOLDEN = Path(__file__).parent / "golden"
PEERS = sorted(path.name for path in GOLDEN.iterdir() if (path / "peer.npz").exists())
FIXTURES = ("hf_vit_tiny", "hf_deit_distilled_tiny", "hf_swin_tiny",
            "timm_vit_tiny", "timm_deit_distilled", "timm_swin_tiny")  # fmt: skip
BOUNDS = [(np.float32, 1e-5), (np.float64, 1e-10)]


def peer(name):
    return np.load(GOLDEN / name / "peer.npz")


@pytest.fixture
def copy(tmp_path):
    """A function that copies a golden checkpoint to a folder that may be changed."""

    def made(name):
        return Path(shutil.copytree(GOLDEN / name, tmp_path / name))

    return made


def change(folder, edit):
    """Rewrite the tensors of a checkpoint: `edit` takes and returns the mapping."""
    tensors, metadata = read_tensors(folder / "model.safetensors")
    write_tensors(folder / "model.safetensors", edit(tensors), metadata)


def settings(folder, **changed):
    about = json.loads((folder / "config.json").read_text()) | changed
    (folder / "config.json").write_text(json.dumps(about))


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
def test_logits_equal_the_peers(name, dtype, bound):
    known = peer(name)
    logits = refvit.load(GOLDEN / name)(
        known["pixels"].astype(dtype), interpolate_pos_encoding=name == "hf_vit_wide"
    )
    assert logits.dtype == dtype
    assert np.abs(logits - known["logits"]).max() <= bound


@pytest.mark.parametrize("name", PEERS)
def test_hidden_states_and_heads_equal_the_peers(name):
    known = peer(name)
    model = refvit.load(GOLDEN / name).at(*known["pixels"].shape[2:])
    values = model.trace(known["pixels"].astype(np.float64))
    sites = set(known.files) - {"pixels", "logits"}
    assert sites
    for site in sites:
        assert np.abs(values[site] - known[site]).max() <= 1e-10, site


@pytest.mark.parametrize("name", FIXTURES)
@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
def test_logits_equal_the_fixtures(shared, name, dtype, bound):
    folder = shared / "fixtures" / name
    logits = refvit.load(folder)(np.load(folder / "input.npy").astype(dtype))
    assert np.abs(logits - np.load(folder / "logits_f64.npy")).max() <= bound


@pytest.mark.parametrize("name", [name for name in FIXTURES if name.startswith("hf")])
def test_old_and_new_names_of_hugging_face_are_one(shared, name, tmp_path):
    folder = shared / "fixtures" / name
    shutil.copy(folder / "config.json", tmp_path)
    shutil.copy(folder / "model.v5names.safetensors", tmp_path / "model.safetensors")
    old, new = refvit.load(folder), refvit.load(tmp_path)
    assert all(np.array_equal(a, new.params[name]) for name, a in old.params.items())
    assert old.labels[3] == "c3"


KEYMAPS = {  # of the peers' folder: name without its ending, and the variant it is
    "hf_vit-base-patch16-224.transformers5_saved": "vit_base",
    "hf_vit-base-patch16-224.transformers5_module": "vit_base",
    "hf_deit-small-patch16-224.transformers5_saved": "deit_small",
    "hf_deit-tiny-distilled-patch16-224.transformers5_module": "deit_tiny_distilled",
    "hf_swin-tiny-patch4-window7-224.transformers5_saved": "swin_tiny",
    "timm_deit_tiny_patch16_224": "deit_tiny",
    "timm_deit_tiny_distilled_patch16_224": "deit_tiny_distilled",
    "timm_swin_tiny_patch4_window7_224": "swin_tiny",
}


@pytest.mark.parametrize("name", KEYMAPS)
def test_a_lone_file_of_a_published_model_tells_its_architecture(shared, name):
    """The names and shapes of a real release: what is inferred is the variant, to the tensor."""
    from refvit.peers.infer import infer
    from refvit.peers.load import configuration, flat_patches
    from refvit.peers.names import named

    entries = json.loads((shared / "fixtures" / "keymaps" / f"{name}.json").read_text())
    tensors = {k: np.broadcast_to(np.float32(0), shape[:-1]) for k, shape in entries.items()}
    found = named(tensors, name)
    family, fields, _ = infer(found, name)
    config = configuration(family, fields, name)
    shapes = {key: tensor.shape for key, tensor in found.tensors.items()}
    weight = found.tensors["patch_embed.weight"]
    shapes["patch_embed.weight"] = flat_patches(weight, config, name).shape
    assert shapes == parameter_shapes(config)
    assert shapes == parameter_shapes(VARIANTS[KEYMAPS[name]])
    heads = (config.heads, VARIANTS[KEYMAPS[name]].heads)
    assert heads[0] == heads[1]
    assert config.image == (224, 224)


def test_the_two_heads_are_averaged_and_one_token_alone_is_not():
    model, known = refvit.load(GOLDEN / "hf_deit"), peer("hf_deit")
    values = model.trace(known["pixels"])
    assert np.allclose(model(known["pixels"]), (values["head"] + values["head_dist"]) / 2)
    plain = refvit.load(GOLDEN / "hf_deit_token")
    assert plain.config.tokens == 6
    assert "head_dist.weight" not in plain.params.map(lambda t: t)._tensors


def test_padding_and_rolling_are_in_the_order_of_the_naming():
    """The same weights under the other rule give other logits: 9 does not divide by 4."""
    import dataclasses

    model, known = refvit.load(GOLDEN / "hf_swin"), peer("hf_swin")
    other = dataclasses.replace(model, config=dataclasses.replace(model.config, rule="timm"))
    apart = np.abs(other(known["pixels"]) - known["logits"]).max()
    assert apart > 1e-3


def test_layer_scale_is_a_gain_and_q_and_k_are_normalised():
    config = refvit.load(GOLDEN / "timm_vit_options").config
    assert (config.layer_scale, config.qk_norm, config.registers) == (True, True, 2)
    assert (config.pool, config.fc_norm, config.gelu) == ("mean", True, "tanh")
    assert config.image == (16, 24)


def test_a_model_at_its_own_size_is_itself_and_another_is_bicubic(copy):
    model, known = refvit.load(GOLDEN / "hf_vit"), peer("hf_vit")
    assert np.array_equal(model.at(16, 16)(known["pixels"]), model(known["pixels"]))
    with pytest.raises(ValueError, match=r"for that size take model.at\(40, 24\)"):
        model(np.zeros((1, 3, 40, 24), np.float32))
    folder = copy("hf_vit_wide")
    settings(folder, interpolate_pos_encoding=True)
    wide = peer("hf_vit_wide")
    assert np.abs(refvit.load(folder)(wide["pixels"]) - wide["logits"]).max() <= 1e-5
    with pytest.raises(ValueError, match="not one patch"):
        model.at(4, 16)


@pytest.mark.parametrize(("old", "new"), [(3, 7), (7, 3), (5, 5), (1, 4)])
def test_bicubic_weights_sum_to_one_and_keep_a_line_inside(old, new):
    matrix = bicubic(old, new)
    assert np.allclose(matrix.sum(1), 1)
    place = (np.arange(new) + 0.5) * old / new - 0.5
    inside = (place >= 1) & (place <= old - 3)
    assert np.allclose((matrix @ np.arange(old))[inside], place[inside])


@pytest.mark.parametrize("name", ["hf_vit", "hf_swin", "timm_deit"])
def test_shards_are_one_checkpoint(copy, name):
    folder = copy(name)
    tensors, _ = read_tensors(folder / "model.safetensors")
    names = list(tensors)
    half = len(names) // 2
    files = {"model-00001-of-00002.safetensors": names[:half],
             "model-00002-of-00002.safetensors": names[half:]}  # fmt: skip
    for file, held in files.items():
        write_tensors(folder / file, {k: tensors[k] for k in held}, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {k: f for f, held in files.items() for k in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    known = peer(name)
    assert np.abs(refvit.load(folder)(known["pixels"]) - known["logits"]).max() <= 1e-5
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00002"):
        refvit.load(folder)


def write_bfloat16(path, tensors):
    """A safetensors file of bfloat16, which NumPy cannot make: the upper halves of float32."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = (tensor.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        ends = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": ends}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_widths_of_floats_come_to_float32(copy, dtype):
    folder = copy("hf_vit")
    tensors, _ = read_tensors(folder / "model.safetensors")
    if dtype == "bfloat16":
        write_bfloat16(folder / "model.safetensors", tensors)
        bits = {k: t.view(np.uint32) & np.uint32(0xFFFF0000) for k, t in tensors.items()}
        wanted = {k: t.view(np.float32) for k, t in bits.items()}
    else:
        with np.errstate(under="ignore"):
            wanted = {k: t.astype(dtype) for k, t in tensors.items()}
        change(folder, lambda _: wanted)
    model = refvit.load(folder)
    for ours, theirs in (("head.weight", "classifier.weight"), ("norm.bias", "vit.layernorm.bias")):
        assert model.params[ours].dtype == np.float32
        assert np.array_equal(model.params[ours], wanted[theirs].astype(np.float32))


def test_a_lone_file_is_inferred_and_says_so(tmp_path):
    for name, known in (("timm_vit", {"heads": 3}), ("hf_vit", {"heads": 3, "eps": 1e-3})):
        file = tmp_path / f"{name}.safetensors"
        shutil.copy(GOLDEN / name / "model.safetensors", file)
        with pytest.raises(ValueError, match=r"the number of heads .* refvit.load\(path, heads="):
            refvit.load(file)
        model, about = refvit.load(file, **known), refvit.load(GOLDEN / name).config
        assert model.config == about
        assert "inferred from names" in model.notes[0]
    file = tmp_path / "swin.safetensors"
    shutil.copy(GOLDEN / "timm_swin" / "model.safetensors", file)
    model, known = refvit.load(file), peer("timm_swin")
    assert "so that the last stage is one window" in model.notes[1]
    assert np.abs(model(known["pixels"]) - known["logits"]).max() <= 1e-5, "at its own size"


def official(tensors):
    """timm's Swin under the names of the official release, buffers and all."""
    named = {k.replace("head.fc.", "head."): t for k, t in tensors.items()}
    named = {k.replace("layers.1.downsample", "layers.0.downsample"): t for k, t in named.items()}
    for i, side in ((0, 9), (1, 5)):
        windows = math.ceil(side / 4) ** 2
        named[f"layers.{i}.blocks.1.attn_mask"] = np.zeros((windows, 16, 16), np.float32)
        named[f"layers.{i}.blocks.0.attn.relative_position_index"] = np.zeros((16, 16), np.int64)
    return named


def test_the_official_names_of_swin_are_timms_and_buffers_are_ignored(copy):
    folder = copy("timm_swin")
    ours = refvit.load(folder)
    change(folder, official)
    again = refvit.load(folder)
    assert all(np.array_equal(t, again.params[name]) for name, t in ours.params.items())
    (folder / "config.json").unlink()
    lone = refvit.load(folder / "model.safetensors")
    assert lone.config.image == (24, 24), "three windows of four patches of two, from the mask"
    assert lone.preprocess.resize == math.floor(24 / 0.875)


def test_a_backbone_gives_features_and_leaves_its_pooler(copy):
    folder = copy("hf_vit")
    before = refvit.load(folder).trace(peer("hf_vit")["pixels"])

    def bare(tensors):
        kept = {k.removeprefix("vit."): t for k, t in tensors.items() if "classifier" not in k}
        return kept | {"pooler.dense.weight": np.ones((24, 24), np.float32)}

    change(folder, bare)
    settings(folder, architectures=["ViTModel"])
    model = refvit.load(folder)
    assert (model.config.classes, model.labels) == (0, ())
    assert np.array_equal(model(peer("hf_vit")["pixels"]), before["norm"][:, 0])
    assert any("pooler.dense.weight" in note for note in model.notes)
    settings(folder, architectures=["ViTForImageClassification"])
    with pytest.raises(ValueError, match=r"2 tensors are missing: head.weight, head.bias.*classes"):
        refvit.load(folder)


def drop(name):
    return lambda tensors: {k: t for k, t in tensors.items() if k != name}


WRONG = [  # checkpoint, what is changed, what the line says
    (
        "hf_vit",
        drop("vit.layernorm.bias"),
        r"1 tensor is missing: norm.bias; likely cause: global_pool and fc_norm",
    ),
    (
        "timm_swin",
        lambda t: t | {"layers.0.blocks.0.attn.bias_tabel": t["norm.bias"]},
        r"1 tensor is unexpected: layers.0.blocks.0.attn.bias_tabel",
    ),
    (
        "hf_swin",
        lambda t: t | {"classifier.weight": np.zeros((7, 24), np.float32)},
        r"classifier.weight has shape \[7, 24\], wanted \[5, 24\]; likely cause: the number of cl",
    ),
    (
        "hf_vit",
        lambda t: t | {"vit.embeddings.position_embeddings": np.zeros((1, 9, 24), np.float32)},
        r"vit.embeddings.position_embeddings has shape \[1, 9, 24\], wanted \[1, 5, 24\]; likely "
        r"cause: image_size, patch_size",
    ),
    (
        "timm_deit",
        lambda t: {k.replace("attn.proj.weight", "attn.projj.weight"): v for k, v in t.items()},
        r"missing: blocks.0.attn.proj.weight, .*, the nearest there is blocks.0.attn.projj.weight",
    ),
    (
        "timm_deit",
        lambda t: t | {"norm.bias": t["norm.bias"].astype(np.int32)},
        "norm.bias has dtype int32, wanted floats",
    ),
    (
        "hf_vit",
        lambda t: t | {"vit.encoder.layer.0.attention.attention.query.bias": t["classifier.bias"]}
        | {"vit.layers.0.attention.q_proj.bias": t["classifier.bias"]},
        "are two names of one tensor",
    ),
    (
        "hf_vit",
        drop("vit.layers.1.mlp.fc2.weight"),
        r"1 tensor is missing: vit.layers.1.mlp.fc2.weight; likely cause: a file that is not whole",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "edit", "message"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_tensor_is_named_with_its_shapes_and_cause(copy, name, edit, message):
    folder = copy(name)
    change(folder, edit)
    with pytest.raises(ValueError, match=message) as error:
        refvit.load(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


UNSUPPORTED = [
    ("hf_vit", {"hidden_act": "relu"}, "activation 'relu' is not supported; gelu"),
    ("hf_vit", {"model_type": "vitdet2"}, "model_type or architecture 'vitdet2' is not supported"),
    ("hf_vit", {"qkv_bias": False}, "likely cause: qkv_bias"),
    ("hf_vit", {"num_hidden_layers": 3}, "likely cause: the number of layers"),
    ("hf_vit", {"num_hidden_layers": 1}, "likely cause: the number of layers"),
    ("hf_vit", {"hidden_size": "24"}, r"config.json': hidden_size is a whole number, got '24'"),
    ("hf_swin", {"depths": 2}, r"config.json': depths is a list of whole numbers, got 2"),
    ("timm_swin", {"architecture": "swinv2_tiny"}, "'swinv2_tiny' is not supported"),
    ("timm_vit", {"architecture": "maxvit_tiny"}, "'maxvit_tiny' is not supported"),
    ("hf_vit", {"num_attention_heads": 5}, r"shape \[24, 24\], wanted \[20, 24\]; .*num_att"),
    ("timm_vit", {"num_heads": 5}, "width 24 is not a multiple of 5 heads"),
    ("hf_vit", {"patch_size": 4}, "see patch_size, num_channels"),
    ("hf_swin", {"window_size": 3}, "likely cause: window_size"),
    ("hf_swin", {"depths": [2]}, "as many of each as stages"),
    ("timm_vit", {"global_pool": "map"}, "global_pool 'map' is not supported"),
    ("timm_vit", {"final_norm": False}, "final_norm False is not supported"),
    ("timm_vit", {"global_pool": "avg"}, None),
]


@pytest.mark.parametrize(("name", "changed", "message"), UNSUPPORTED)
def test_settings_that_are_not_supported_or_do_not_fit_are_refused(copy, name, changed, message):
    folder = copy(name)
    settings(folder, **changed)
    if message is None:
        assert refvit.load(folder).config.pool == "mean"
        return
    with pytest.raises(ValueError, match=message):
        refvit.load(folder)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("hf_vit", Preprocess((16, 16), resize=(16, 16))),
        ("hf_swin", Preprocess((18, 18), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic",
                               (18, 18))),
        ("hf_deit", Preprocess((16, 16), resample="bicubic", resize=(18, 18))),
        ("timm_vit", Preprocess((16, 16), resample="bicubic", resize=17, centre="round")),
        ("timm_deit", Preprocess((16, 16), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic",
                                 17, "round")),
    ],
)  # fmt: skip
def test_without_settings_images_are_made_as_the_class_makes_them(name, wanted):
    got = refvit.load(GOLDEN / name).preprocess
    assert (got.size, got.resize, got.resample, got.centre) == (
        wanted.size, wanted.resize, wanted.resample, wanted.centre,
    )  # fmt: skip
    assert np.allclose([got.mean, got.std], [wanted.mean, wanted.std])


def hub_config(name, width, depth=2, **more):
    """What refvit makes of timm's hub settings: an architecture's name, and shapes."""
    from refvit.peers import timm
    from refvit.peers.infer import infer
    from refvit.peers.names import named

    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 197, width), "head.weight": (10, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, 16, 16), "norm.weight": (width,)}
    shapes |= {f"blocks.{i}.attn.qkv.weight": (3 * width, width) for i in range(depth)}
    shapes |= {f"blocks.{i}.mlp.fc1.weight": (4 * width, width) for i in range(depth)}
    found = named({k: np.broadcast_to(np.float32(0), s) for k, s in shapes.items()}, "hub")
    family, inferred, _ = infer(found, "hub")
    return timm.read_config({"architecture": name, **more}, family, inferred, found)


@pytest.mark.parametrize(
    ("name", "width", "wanted"),
    [  # timm 1.0.31
        ("vit_tiny_patch16_224", 192, {"heads": 3, "gelu": "erf", "eps": 1e-6}),
        ("vit_base_patch16_clip_224", 768, {"heads": 12, "eps": 1e-5}),
        ("vit_base_patch16_gap_224", 768, {"heads": 16}),
        ("vit_so400m_patch16_siglip_gap_256", 1152, {"heads": 16, "gelu": "tanh"}),
        ("vit_so400m_patch14_siglip_gap_224", 1152, {"heads": 16, "gelu": "erf"}),
        ("vit_base_patch32_siglip_gap_256", 768, {"heads": 12, "gelu": "tanh"}),
        ("vit_giantopt_patch16_siglip_gap_256", 1536, {"heads": 16, "gelu": "tanh"}),
        ("vit_giant_patch14_clip_224", 1408, {"heads": 16, "eps": 1e-5}),
        ("vit_betwixt_patch16_gap_256", 640, {"heads": 10}),
        ("vit_little_patch16_reg4_gap_256", 320, {"heads": 5}),
        ("deit3_medium_patch16_224", 512, {"heads": 8}),
    ],
)
def test_names_of_timms_hub_are_enough(name, width, wanted):
    """Its config.json names an architecture and a pretrained_cfg, and no sizes."""
    about = {"global_pool": "token", "pretrained_cfg": {"input_size": [3, 224, 224]}}
    fields = hub_config(name, width, **about)
    assert {key: fields[key] for key in wanted} == wanted
    assert (fields["width"], fields["depth"], fields["image"]) == (width, 2, (224, 224))


def test_what_a_name_does_not_tell_is_asked_for():
    with pytest.raises(ValueError, match="the number of heads of 'vit_new_224' is neither in"):
        hub_config("vit_new_224", 288)
    assert hub_config("vit_new_224", 288, embed_dim=288)["heads"] == 12, "timm's default"
    for more in ({"block_fn": "ResPostBlock"}, {"model_args": {"sparkle": 1}}):
        with pytest.raises(ValueError, match=r"is not supported|does not know"):
            hub_config("vit_tiny_patch16_224", 192, **more)
    with pytest.raises(ValueError, match="activation 'quick_gelu' is not supported"):
        hub_config("vit_base_patch16_clip_quickgelu_224", 768)


@pytest.mark.parametrize(
    ("cfg", "wanted"),
    [
        ({"crop_pct": 1.0}, {"resize": 16, "fit": "squash"}),
        ({"crop_pct": 0.9, "crop_mode": "squash"}, {"resize": (17, 17), "fit": "squash"}),
        ({"mean": [0.1] * 3}, {"resize": 18, "std": (0.229, 0.224, 0.225)}),
    ],
)
def test_pretrained_cfg_decides_the_images(copy, cfg, wanted):
    folder = copy("timm_vit")
    settings(folder, pretrained_cfg=cfg)
    ready = refvit.load(folder).preprocess
    assert {key: getattr(ready, key) for key in wanted} == wanted
    settings(folder, pretrained_cfg={"crop_mode": "border"})
    with pytest.raises(ValueError, match=r"crop_mode 'border' .* is not supported"):
        refvit.load(folder)


def test_an_oblong_timm_model_covers_both_sides():
    ready = Preprocess((16, 24), resize=(16, 24), fit="cover", centre="round")
    tall, wide = (np.zeros((h, w, 3), np.uint8) for h, w in ((60, 30), (30, 90)))
    assert ready._resized(30, 60) == (24, 48)
    assert ready._resized(90, 30) == (48, 16)
    assert ready(tall).shape == ready(wide).shape == (3, 16, 24)


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        ({"image_processor_type": "ViTImageProcessorFast"}, {"resample": "bilinear"}),
        ({"feature_extractor_type": "DeiTFeatureExtractor"}, {"resize": (21, 21)}),
        ({"image_mean": 0.4, "image_std": 0.2}, {"mean": (0.4,) * 3, "resample": "bicubic"}),
        ({"do_resize": False, "do_center_crop": True}, {"resize": 0, "centre": "floor"}),
        ({"do_resize": False}, {"resize": 0, "centre": "exact"}),
    ],
)
def test_a_processor_is_the_one_that_is_named(copy, about, wanted):
    folder = copy("hf_swin")
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    ready = refvit.load(folder).preprocess
    for key, value in wanted.items():
        found = getattr(ready, key)
        assert found == (pytest.approx(value) if key == "mean" else value), key
    if ready.centre == "exact":
        with pytest.raises(ValueError, match="18 x 18 is wanted, not resized; this one has 20 x"):
            ready(np.zeros((20, 18, 3), np.uint8))


HOSTILE = [
    ("hf_vit", {"num_attention_heads": 0}, "num_attention_heads is at least 1"),
    ("hf_vit", {"layer_norm_eps": True}, "layer_norm_eps is a number, got True"),
    ("hf_vit", {"interpolate_pos_encoding": "x"}, "interpolate_pos_encoding is true or false"),
    ("hf_vit", {"image_size": "big"}, "image_size is a whole number or a list of two, got 'big'"),
    ("hf_swin", {"num_heads": [2, "3"]}, "num_heads is a list of whole numbers"),
    ("timm_vit", {"patch_size": 0}, "patch_size is at least 1"),
    ("timm_vit", {"pretrained_cfg": "x"}, "another type"),
]


@pytest.mark.parametrize(("name", "changed", "message"), HOSTILE)
def test_a_field_of_the_wrong_kind_is_named_with_its_file(copy, name, changed, message):
    folder = copy(name)
    settings(folder, **changed)
    with pytest.raises(ValueError, match=message) as error:
        refvit.load(folder)
    assert str(folder) in str(error.value)


def test_settings_without_end_and_layers_without_beginning_are_refused_at_once(copy):
    folder = copy("timm_swin")
    change(folder, lambda t: t | {"layers.99999999.blocks.0.norm1.bias": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="layers up to 99999999 but none is 2"):
        refvit.load(folder)
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is not JSON"):
        refvit.load(folder)


def test_what_is_beyond_float32_is_not_finite(copy):
    folder = copy("timm_vit")
    change(folder, lambda t: t | {"norm.bias": np.full(24, 1e300)})
    with pytest.raises(ValueError, match=r"norm.bias is not finite in float32"):
        refvit.load(folder)


def test_what_is_known_is_checked_against_the_fields_there_are(tmp_path):
    file = tmp_path / "vit.safetensors"
    shutil.copy(GOLDEN / "timm_vit" / "model.safetensors", file)
    with pytest.raises(ValueError, match="a vit has no 'head_count'"):
        refvit.load(file, heads=3, head_count=3)
    assert refvit.load(file, heads=3, image=16).config.image == (16, 16)
    with pytest.raises(ValueError, match="says its configuration itself"):
        refvit.load("nano_vit", heads=3)


def test_a_directory_of_weights_alone_is_a_lone_file_and_pickles_are_never_read(copy):
    folder = copy("timm_swin")
    (folder / "config.json").unlink()
    assert "inferred" in refvit.load(folder).notes[0]
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    with pytest.raises(FileNotFoundError, match=r"there is weights.safetensors; name the file"):
        refvit.load(folder)
    (folder / "weights.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"there is pytorch_model.bin, which refvit does"):
        refvit.load(folder)
    (folder / "w.pth").write_bytes(b"PK\x03\x04 not a tensor file")
    with pytest.raises(ValueError, match="is a pickle, which can run code and is never read"):
        refvit.load(folder / "w.pth")


def test_a_file_with_its_settings_beside_it_is_its_directory(copy):
    folder = copy("hf_vit")
    beside = load_model(folder / "model.safetensors")
    assert beside.config == refvit.load(folder).config
    assert "inferred" not in " ".join(beside.notes)
