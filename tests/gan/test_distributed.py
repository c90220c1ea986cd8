"""Two processes by gloo, against one with the batches of both."""

import copy
import os

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import nn

from mmea.gan import GANDistributed, GANOptimWrapperConstructor

from .test_gan import batch, build

STEPS = 3
OPTIM = dict(
    generator=dict(optimizer=dict(type='Adam', lr=1e-3, betas=(0.0, 0.9))),
    # Larger steps end all gradients.
    discriminator=dict(optimizer=dict(type='SGD', lr=1e-4)),
)


def train_share(rank, number):
    """Losses and weights of a process, in float64, norms frozen.

    Process 1 begins with other weights, which it must not keep.
    """
    model = build(discriminator_steps=2, seed=5).double()
    if rank:
        nn.init.normal_(model.generator.conv.bias)
    model = GANDistributed(model)
    assert is_model_wrapper(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = frozen.__get__(module)
    optim = GANOptimWrapperConstructor(copy.deepcopy(OPTIM))(model)
    assert isinstance(optim['generator'], OptimWrapper)
    losses = []
    for iteration in range(STEPS):
        # A loader of one process has the batches of two by turns.
        data = {
            key: values[rank::number]
            for key, values in batch(8, first=iteration).items()
        }
        logs = model.train_step(data, optim)
        losses.append({name: value.item() for name, value in logs.items()})
    return losses, model.module.state_dict()


def frozen(norm, x):
    """A batch norm with its running statistics."""
    return nn.functional.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False,
        0.0, norm.eps,
    )  # fmt: skip


def run_a_rank(rank, folder):
    os.environ['LOCAL_RANK'] = str(rank)  # mmengine asks for it
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', f'file://{folder}/store', rank=rank, world_size=2
    )
    torch.save(train_share(rank, 2), folder / f'{rank}.pt')
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path, processes):
    torch.multiprocessing.start_processes(
        run_a_rank,
        (tmp_path,),
        nprocs=2,
        start_method=processes.get_start_method(),
    )
    want_losses, want = train_share(0, 1)
    for rank in range(2):
        losses, got = torch.load(tmp_path / f'{rank}.pt')
        for ours, theirs in zip(losses, want_losses, strict=True):
            for name, value in theirs.items():
                assert abs(ours[name] - value) < 1e-10, name
        for name, value in want.items():
            torch.testing.assert_close(
                got[name], value, rtol=1e-9, atol=1e-9, msg=name
            )
    # Both networks have moved.
    start = build(discriminator_steps=2, seed=5).double().state_dict()
    for name in ('generator.conv.bias', 'discriminator.linear.bias'):
        assert (want[name] - start[name]).abs().max() > 1e-4, name
