"""Pictures of a GAN, in a training and by themselves."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmea.errors import UserError
from mmea.gan import (
    GANSampleHook,
    draw_noise,
    interpolate,
    sample_rows,
    to_pixels,
    walk_rows,
    write_samples,
)

from .test_gan import build, train


def test_rows_are_images_of_the_noise():
    model = build()
    model.discriminator.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.random.get_rng_state()
    rows = sample_rows(model, [2, 0], 3, seed=4)
    walk = walk_rows(model, [1], 5, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    # As it was: in training, but for what was not.
    assert model.generator.blocks[0].training
    assert not model.discriminator.blocks[0].training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert rows.shape == (2, 3, 3, 32, 32) and rows.dtype == torch.uint8
    noise = [z for z, _ in draw_noise((4,), [1, 1, 1], 5, 0)]
    model.eval()
    for label, row in zip((2, 0), rows):
        for z, image in zip(noise, row):
            one = model.generate(1, torch.tensor([label]), noise=z)
            off = image.int() - to_pixels(one)[0].int()
            assert off.abs().max() <= 1
    middle = interpolate(noise[0][0], noise[1][0], 5)[2:3]
    one = to_pixels(model.generate(1, torch.tensor([1]), noise=middle))
    assert (walk[0, 2].int() - one[0].int()).abs().max() <= 1
    ends = sample_rows(model, [1], 2, seed=4)[0]
    assert (walk[0, [0, -1]].int() - ends.int()).abs().max() <= 1


def test_written_images(tmp_path):
    model = build()
    write_samples(model, {1: 'b', 0: 'a'}, tmp_path, number=2, steps=3)
    assert sorted(
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob('*.png')
    ) == ['a/0000.png', 'a/0001.png', 'b/0000.png', 'b/0001.png', 'grid.png',
          'walk.png']  # fmt: skip
    rows = sample_rows(model, [1, 0], 2)
    image = np.asarray(Image.open(tmp_path / 'a/0001.png'))
    assert np.array_equal(image, rows[1, 1].permute(1, 2, 0).numpy())


SMALL = dict(type='mmea.GANSampleHook', interval=2, num_images=2, num_steps=3)


def test_hook_leaves_the_training_alone(tmp_path):
    plain = train(tmp_path / 'plain', 3)
    drawn = train(tmp_path / 'drawn', 3, custom_hooks=[SMALL])
    for name, value in plain.model.state_dict().items():
        assert torch.equal(drawn.model.state_dict()[name], value), name
    folder = tmp_path / 'drawn/samples'
    assert {p.name for p in folder.iterdir()} == {
        f'iter_{n}{end}.png' for n in (0, 2, 3) for end in ('', '_walk')
    }
    first, last = (
        np.asarray(Image.open(folder / f'iter_{n}.png')) for n in (0, 3)
    )
    assert first.shape == last.shape and (first != last).any()


def test_hook_draws_the_average(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        'mmea.gan.sample_hook.sample_rows',
        lambda model, *args: seen.append(model) or sample_rows(model, *args),
    )
    hooks = [dict(type='EMAHook', momentum=0.1), dict(SMALL, interval=1)]
    runner = train(tmp_path, 2, custom_hooks=hooks)
    average = next(h for h in runner.hooks if hasattr(h, 'ema_model'))
    assert len(seen) == 3
    assert all(model is average.ema_model.module for model in seen)


def test_hook_refuses_other_classes():
    def start(*others):
        loaders = (
            SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=c)))
            for c in (('cat', 'dog', 'hen'), others)
        )
        names = 'train_dataloader', 'val_dataloader'
        runner = SimpleNamespace(val_loop=1, **dict(zip(names, loaders)))
        GANSampleHook().before_train(runner)

    start('cat', 'dog', 'hen')
    start('cat', 'dog')  # the last has no images: no label is another's
    with pytest.raises(UserError, match="class 1 is 'dog' in .* and 'hen' in"):
        start('cat', 'hen')


def test_hook_bad_arguments():
    for name in ('interval', 'num_images', 'num_classes'):
        with pytest.raises(ValueError, match=f'{name} must be'):
            GANSampleHook(**{name: 0})
    with pytest.raises(ValueError, match='num_steps must be 0, or 2'):
        GANSampleHook(num_steps=1)
