"""The training of a GAN, against a plain loop and on mmengine's Runner."""

import copy

import pytest
import torch
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmea.errors import UserError
from mmea.gan import GANOptimWrapperConstructor, draw_noise, to_pixels
from mmea.registry import MODELS

EAGAN = dict(type='mmea.SAGANExternalAttention2d', num_slots=5)
NETS = dict(
    generator=dict(
        type='mmea.SAGANGenerator',
        num_classes=3,
        noise_channels=5,
        base_channels=2,
        attention=EAGAN,
    ),
    discriminator=dict(
        type='mmea.SAGANDiscriminator',
        num_classes=3,
        base_channels=3,
        attention=EAGAN,
    ),
)
OPTIM = dict(
    generator=dict(optimizer=dict(type='Adam', lr=1e-3, betas=(0.0, 0.9))),
    discriminator=dict(optimizer=dict(type='SGD', lr=1e-2)),
)


def build(**kwargs):
    torch.manual_seed(0)
    return MODELS.build(dict(type='mmea.GAN', **NETS | kwargs))


class Images(Dataset):
    """Images of noise, 32 x 32."""

    metainfo = dict(classes=('a', 'b', 'c'))

    def __len__(self):
        return 11

    def __getitem__(self, i):
        source = torch.Generator().manual_seed(i)
        image = torch.randint(256, (3, 32, 32), generator=source)
        sample = BaseDataElement(gt_label=torch.tensor([i % 3]))
        return dict(inputs=image.byte(), data_samples=sample)


def batch(number, first=0):
    items = [Images()[first + i] for i in range(number)]
    return {key: [item[key] for item in items] for key in items[0]}


@pytest.mark.parametrize('steps', [1, 3])
def test_equals_a_plain_loop(steps):
    """Bit for bit in float64: losses and all that the state_dict holds."""
    model = build(discriminator_steps=steps, seed=7).double()
    make, judge = copy.deepcopy((model.generator, model.discriminator))
    optim = GANOptimWrapperConstructor(copy.deepcopy(OPTIM))(model)
    make_optim = torch.optim.Adam(make.parameters(), 1e-3, (0.0, 0.9))
    judge_optim = torch.optim.SGD(judge.parameters(), 1e-2)
    for iteration in range(3):
        data = batch(2 * steps, first=iteration)
        logs = model.train_step(data, optim)
        noise = draw_noise((7, iteration, 0), [2] * (steps + 1), 5, 3)
        for step, (z, fake_label) in enumerate(noise[:-1]):
            rows = slice(2 * step, 2 * step + 2)
            real = torch.stack(data['inputs'][rows]).double()
            real = (real - 127.5) / 127.5
            label = torch.cat([s.gt_label for s in data['data_samples'][rows]])
            fake = make(z.double(), fake_label).detach()
            score = judge(real, label)
            fake_score = judge(fake, fake_label)
            loss = (1 - score).clamp(min=0).mean()
            loss = loss + (1 + fake_score).clamp(min=0).mean()
            judge_optim.zero_grad()
            loss.backward()
            judge_optim.step()
        z, fake_label = noise[-1]
        make_loss = -judge(make(z.double(), fake_label), fake_label).mean()
        make_optim.zero_grad()
        make_loss.backward()
        make_optim.step()
        for name, want in dict(
            loss=loss + make_loss,
            loss_discriminator=loss,
            loss_generator=make_loss,
            real_score=score.mean(),
            fake_score=fake_score.mean(),
        ).items():
            assert torch.equal(logs[name], want), name
    for ours, plain in ((model.generator, make), (model.discriminator, judge)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, plain.state_dict()[name]), name
        assert all(p.requires_grad for p in ours.parameters())
    assert model.iteration == 3


def train(folder, iters, optim=OPTIM, wrapper='OptimWrapper', **more):
    torch.manual_seed(0)
    cfg = dict(
        model=build(discriminator_steps=2),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Images(),
            sampler=dict(type='InfiniteSampler', seed=1),
            batch_size=4,
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters),
        optim_wrapper=dict(
            constructor='mmea.GANOptimWrapperConstructor',
            type=wrapper,
            **copy.deepcopy(optim),
        ),
        param_scheduler=dict(type='LinearLR', by_epoch=False, end=6),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False)
        ),
        experiment_name=f'{folder.name}{iters}',
        log_level='ERROR',
        default_scope='mmengine',
        randomness=dict(seed=0),
        **more,
    )
    runner = Runner(**cfg)
    runner.train()
    return runner


def test_resume_goes_on_as_if_never_stopped(tmp_path):
    """Weights, buffers, both optimisers, and an average of the weights."""
    ema = dict(custom_hooks=[dict(type='EMAHook', momentum=0.1)])
    whole = train(tmp_path / 'whole', 3, **ema)
    train(tmp_path / 'part', 1, **ema)
    part = train(tmp_path / 'part', 3, resume=True, **ema)
    assert part.iter == 3 and whole.model.iteration == 3
    want, got = whole.model.state_dict(), part.model.state_dict()
    for name, value in want.items():
        assert torch.equal(got[name], value), name
    averages = [
        next(h for h in run.hooks if hasattr(h, 'ema_model')).ema_model
        for run in (whole, part)
    ]
    for name, value in averages[0].state_dict().items():
        assert torch.equal(averages[1].state_dict()[name], value), name
    name = 'module.generator.conv.bias'
    assert not torch.equal(averages[0].state_dict()[name], want[name[7:]])
    for part_name in ('generator', 'discriminator'):
        states = [
            run.optim_wrapper[part_name].state_dict() for run in (whole, part)
        ]
        assert str(states[0]) == str(states[1])


def test_mixed_precision_is_near_float32(tmp_path):
    sgd = dict(optimizer=dict(type='SGD', lr=1e-3))
    optim = dict(generator=sgd, discriminator=sgd)
    start = build().state_dict()
    plain, mixed = (
        train(tmp_path / name, 1, optim, name).model.state_dict()
        for name in ('OptimWrapper', 'mmea.CPUAmpOptimWrapper')
    )
    for net in ('generator', 'discriminator'):
        steps, errors = (
            torch.cat(
                [
                    (a[name] - b[name]).flatten()
                    for name in start
                    if name.startswith(net) and name.endswith('original')
                ]
            ).norm()
            for a, b in ((plain, start), (mixed, plain))
        )
        assert 0 < errors < 0.1 * steps, net


def test_images_of_the_classes_of_data_samples():
    model = build().eval()
    labels = torch.tensor([2, 0])
    samples = [BaseDataElement(gt_label=label[None]) for label in labels]
    torch.manual_seed(3)
    images = model.generate(2, labels)
    torch.manual_seed(3)
    assert torch.equal(model(None, samples), images)
    torch.manual_seed(3)
    found = model(None, samples, 'predict')
    for sample, image in zip(found, images, strict=True):
        assert sample.pred_img.dtype == torch.uint8
        pixels = sample.pred_img.float() / 127.5 - 1
        torch.testing.assert_close(pixels, image, rtol=0, atol=0.5 / 127)
    torch.manual_seed(3)
    same = model.generator(torch.randn(2, 5), labels)
    assert torch.equal(same, images)
    assert model(torch.zeros(3, 3, 32, 32)).shape == (3, 3, 32, 32)


def test_a_validation_depends_on_the_places_of_samples_alone():
    model = build(seed=2).eval()

    def predict(*places):
        samples = [
            BaseDataElement(
                gt_label=torch.tensor([p % 3]), metainfo=dict(sample_idx=p)
            )
            for p in places
        ]
        return [s.pred_img for s in model(None, samples, 'predict')]

    state = torch.random.get_rng_state()
    first, second, third = predict(4, 7, 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    for got, want in zip(predict(1, 4), (third, first)):
        assert (got.int() - want.int()).abs().max() <= 1
    assert not torch.equal(first, third)  # of one class
    # Not the noise of the training.
    (row, _), *_ = draw_noise((2, 4, 0), [1], 5, 0)
    image = model.generate(1, torch.tensor([1]), noise=row)
    assert not torch.equal(to_pixels(image)[0], first)


def test_no_classes():
    nets = copy.deepcopy(NETS)
    for net in nets.values():
        net['num_classes'] = 0
    model = build(**nets)
    optim = GANOptimWrapperConstructor(copy.deepcopy(OPTIM))(model)
    data = dict(inputs=batch(1)['inputs'])
    logs = model.train_step(data, optim)
    assert all(value.isfinite() for value in logs.values())


def test_bad_batches():
    model = build(discriminator_steps=2)
    optim = GANOptimWrapperConstructor(copy.deepcopy(OPTIM))(model)
    data = batch(2)
    data['inputs'][1] = data['inputs'][1][:, :, :24]
    with pytest.raises(UserError, match='3 x 32 x 32 .*gives 3 x 32 x 24'):
        model.train_step(data, optim)
    with pytest.raises(UserError, match='batch of 3 .*discriminator_steps=2'):
        model.train_step(batch(3), optim)
    data = batch(2)
    data['data_samples'][0].gt_label = torch.tensor([3])
    with pytest.raises(UserError, match='label 3, .*num_classes=3'):
        model.train_step(data, optim)
    assert model.iteration == 0


def test_bad_arguments():
    with pytest.raises(ValueError, match='discriminator_steps.*0'):
        build(discriminator_steps=0)
    with pytest.raises(ValueError, match='seed.*-1'):
        build(seed=-1)
    with pytest.raises(ValueError, match='differ in num_classes: 3 and 4'):
        build(discriminator=dict(NETS['discriminator'], num_classes=4))
    with pytest.raises(ValueError, match='generator.optimizer is missing'):
        GANOptimWrapperConstructor(dict(discriminator=OPTIM['discriminator']))
    with pytest.raises(ValueError, match="mode='loss'; .*train_step"):
        build()(None, None, 'loss')
