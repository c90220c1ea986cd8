"""The kernels compile for GPUs that are not here, and spill no register.

What a launch hands a kernel is compiled as at a launch, by Triton's own
ptxas, whose log is read.
"""

import contextlib
import io
import re
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('triton', minversion='3.4')
POINTERS = {
    torch.float32: '*fp32',
    torch.bfloat16: '*bf16',
    torch.bool: '*i1',
    torch.int32: '*i32',
}
# A100, H100 and B200.
GPUS = pytest.mark.parametrize('capability', [80, 90, 100])


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))


def empty(*shape, dtype=torch.float32):
    return torch.empty(*shape, device='meta', dtype=dtype)


def make(dtype=torch.bfloat16, slots=64, tokens=128**2, **kwargs):
    """Tokens, memories, bias and mask of the published size."""
    x = empty(1, 512, tokens, dtype=dtype)
    if kwargs.get('channels_last'):
        x = empty(1, tokens, 512, dtype=dtype).mT
    memories = empty(slots, 512), empty(slots, 512)
    masked = kwargs.get('masked')
    mask = empty(1, tokens, dtype=torch.bool) if masked else None
    return x, *memories, empty(512), mask


def record(monkeypatch, module, names):
    """Keep what is launched instead of launching it."""
    calls = []

    class Recorder:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            return lambda *args, **kwargs: calls.append(
                (self.kernel, args, kwargs)
            )

    for name in names:
        monkeypatch.setattr(module, name, Recorder(getattr(module, name)))
    return calls


def compile_call(call, capability):
    """Compile for a GPU; bytes spilled and of shared memory."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel, args, kwargs = call
    options = {'num_warps', 'num_stages'} & kwargs.keys()
    options = {name: kwargs[name] for name in options}
    values = dict(zip(kernel.arg_names, args)) | kwargs
    signature, constants, attributes = {}, {}, {}
    for i, param in enumerate(kernel.params):
        value = values[param.name]
        number = isinstance(value, int)
        if isinstance(value, torch.Tensor):
            signature[param.name] = POINTERS[value.dtype]
        elif param.is_constexpr or value is None or (number and value == 1):
            signature[param.name] = 'constexpr'
            constants[i,] = value
            continue
        else:
            signature[param.name] = 'i32' if number else 'fp32'
        # Triton's launch looks for multiples of 16.
        if not number or value % 16 == 0:
            attributes[i,] = [['tt.divisibility', 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    log = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton.knobs.nvidia, 'dump_ptxas_log', True)
        patch.setattr(triton.knobs.compilation, 'always_compile', True)
        with contextlib.redirect_stdout(log):
            compiled = triton.compile(
                source,
                target=GPUTarget('cuda', capability, 32),
                options=options,
            )
    (spilled,) = re.findall(r'(\d+) bytes spill stores', log.getvalue())
    return SimpleNamespace(
        name=kernel.__name__,
        spilled=int(spilled),
        shared=compiled.metadata.shared,
        ptx=compiled.asm['ptx'],
    )


def launch_inference(monkeypatch, **kwargs):
    from mmea.ops.external_attention_kernels import inference, launch

    calls = record(monkeypatch, launch, inference.__all__)
    inputs = make(**kwargs)
    launch.infer(
        *inputs, eps=1e-9, residual=True, relu=True, dtype=inputs[0].dtype
    )
    assert len(calls) == 3
    return calls


def check_inference(calls, capability):
    # What tensor cores are called by; small products by the first everywhere.
    products = {80: (), 90: ('wgmma.mma_async',), 100: ('tcgen05.mma',)}
    products = 'mma.sync', *products[capability]
    for call in calls:
        found = compile_call(call, capability)
        assert found.spilled == 0, found.name
        # The least that any GPU from Ampere on has for a block.
        assert found.shared <= 99 * 1024, found.name
        half = call[1][0].dtype == torch.bfloat16
        if half and found.name != 'combine':
            assert any(name in found.ptx for name in products), found.name


@GPUS
def test_inference(monkeypatch, capability):
    check_inference(launch_inference(monkeypatch), capability)


VARIANTS = {
    'channels last': dict(channels_last=True),
    'mask, odd': dict(masked=True, tokens=65**2),
    'large': dict(tokens=256**2),
    'S=128': dict(slots=128),
    'large, S=128': dict(slots=128, tokens=256**2),
    'S=20': dict(slots=20),
    'float32': dict(dtype=torch.float32),
    'float32, S=128': dict(dtype=torch.float32, slots=128),
}


@pytest.mark.slow
@GPUS
@pytest.mark.parametrize('variant', VARIANTS)
def test_variants_of_inference(monkeypatch, capability, variant):
    calls = launch_inference(monkeypatch, **VARIANTS[variant])
    check_inference(calls, capability)


def launch_training(monkeypatch, norm=True, **kwargs):
    from mmea.ops.external_attention_kernels import (
        inference,
        launch,
        launch_training,
        training,
    )

    calls = record(monkeypatch, launch, inference.__all__)
    x, *rest, mask = make(**kwargs)
    weight = empty(512) if norm else None
    options = dict(
        eps=1e-9, norm_eps=1e-5, residual=True, relu=True, dtype=x.dtype
    )
    others = record(monkeypatch, launch_training, training.__all__)
    out, saved = launch_training.train(x, *rest, weight, mask, **options)
    launch_training.go_back(out, x, *rest[:2], weight, mask, saved, **options)
    assert len(calls) == 3 and len(others) == 5 + norm
    return [*calls, *others]


def check_training(calls, capability, backward=64):
    for call in calls:
        found = compile_call(call, capability)
        allowed = backward if found.name.startswith('grad_') else 0
        assert found.spilled <= allowed, (found.name, found.spilled)
        assert found.shared <= 99 * 1024, (found.name, found.shared)


@GPUS
def test_training(monkeypatch, capability):
    check_training(launch_training(monkeypatch), capability)


@pytest.mark.slow
@GPUS
@pytest.mark.parametrize('variant', VARIANTS)
def test_variants_of_training(monkeypatch, capability, variant):
    calls = launch_training(monkeypatch, **VARIANTS[variant])
    # The product of S x S without tensor cores: 284 bytes, in grad_softmax.
    worst = (variant, capability) == ('float32, S=128', 80)
    check_training(calls, capability, 320 if worst else 64)
