"""The teacher's logits of images: computed once, and found again only where they are still right."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_images import DIGITS, digits, processor, tiny_vit

import distill_helpers as dh
from distill_helpers.targets import cache as target_cache


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(target_cache, "SHARD_SIZE", 4)


def label(teacher, images, **options):
    return dh.precompute_teacher_image_logits(teacher, images, device="cpu", progress=False, **options)


def folders(cache):
    return {path.name for path in cache.iterdir()}


def test_they_are_the_teachers_logits_and_read_back_without_the_teacher(tmp_path):
    teacher, (images, _) = tiny_vit(), digits(10)
    expected = dh.predict_image_logits(teacher, images)
    torch.testing.assert_close(label(teacher, images, batch_size=3), expected)
    first = label(teacher, images, cache_dir=tmp_path)
    calls = []
    teacher.model.register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(label(teacher, images, cache_dir=tmp_path, batch_size=2), first)
    as_pillow = [Image.fromarray(image) for image in images]
    assert torch.equal(label(teacher, as_pillow, cache_dir=tmp_path), first)
    assert calls == []
    assert len(folders(tmp_path)) == 1
    torch.testing.assert_close(first, expected)


def test_a_damaged_shard_is_computed_again_alone(tmp_path):
    teacher, (images, _) = tiny_vit(), digits(10)
    first = label(teacher, images, cache_dir=tmp_path)
    shard = sorted(tmp_path.rglob("*.safetensors"))[1]
    save_file({name: tensor + 1 for name, tensor in load_file(shard).items()}, shard)
    seen = []
    teacher.model.register_forward_hook(lambda _module, _inputs, output: seen.append(len(output.logits)))
    torch.testing.assert_close(label(teacher, images, cache_dir=tmp_path), first)
    assert seen == [4]


def test_the_key_covers_pixels_order_processor_and_weights(tmp_path):
    teacher, (images, _) = tiny_vit(), digits(6)
    changed = [image.copy() for image in images]
    changed[5][7, 7] ^= 1
    for number, (own, own_images) in enumerate(
        [
            (teacher, images),
            (teacher, changed),
            (teacher, images[::-1]),
            (tiny_vit(seed=1), images),
            (teacher._replace(processor=processor(rescale_factor=1 / 128)), images),
            (teacher._replace(processor=processor(resample=0)), images),
            (teacher._replace(processor=processor(do_normalize=False)), images),
        ],
        start=1,
    ):
        label(own, own_images, cache_dir=tmp_path)
        assert len(folders(tmp_path)) == number


def test_bad_input_is_refused_before_any_work():
    teacher, (images, _) = tiny_vit(), digits(6)
    teacher.model.register_forward_hook(lambda *_: pytest.fail("the teacher has worked"))
    with pytest.raises(ValueError, match="row 5: the image has values that are not finite"):
        label(teacher, [*images[:5], np.full((8, 8), np.nan)])
    with pytest.raises(ValueError, match="reorder your labels"):
        label(teacher, images, label_names=DIGITS[::-1])
    with pytest.raises(TypeError, match="must be an ImageClassifier, got ViTForImageClassification"):
        label(teacher.model, images)
    with pytest.raises(ValueError, match="non-empty list of images"):
        label(teacher, [])


def test_logits_that_are_not_finite_are_refused_with_their_row():
    teacher, (images, _) = tiny_vit(), digits(6)

    def spoil(_module, _inputs, output):
        output.logits[-1] = torch.nan

    teacher.model.register_forward_hook(spoil)
    with pytest.raises(ValueError, match="row 1: the teacher's logits are not finite"):
        label(teacher, images, batch_size=2)
