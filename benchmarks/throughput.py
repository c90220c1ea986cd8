"""Images a second and memory of segmentors: python -m benchmarks.throughput

    python -m benchmarks.throughput \\
        configs/camvid/ea_fpn_mobilenet-v2_1xb4_camvid-240x320.py \\
        benchmarks/peers/smp-fpn_mobilenet-v2_camvid.py

Normalised images of one size in, logits of that size out, float32, random
weights, without attention and with it. Of five rounds of seven steps the
median, and the range of the rounds' medians. Peak memory is beyond weights and
input. On a GPU if there is one.
"""

import argparse
import copy
import statistics

import torch
from mmengine.registry import DefaultScope

import mmea.models  # noqa: F401
from mmea.compare.members import config_with, parse_member
from mmea.compare.report import markdown
from mmea.engine.config import load_config
from mmea.profiling import Step, peak_memory, time_steps
from mmea.registry import MODELS

CONFIG = 'camvid/ea_fpn_mobilenet-v2_1xb4_camvid-240x320.py'
MEMBERS = ('none', 'ExternalAttention2d')
SIZE, ROUNDS = (240, 320), 5


def build(cfg, member: str):
    model = copy.deepcopy(config_with(cfg, parse_member(member)).model)
    model.backbone.init_cfg = None
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(model)


def measure(model, batch: int, mode: str, device: str) -> tuple[str, str]:
    """Images a second and MiB of a step."""
    model = model.to(device)
    meta = dict(img_shape=SIZE, pad_shape=SIZE, ori_shape=SIZE)

    def run(x):
        return model.encode_decode(x, [meta] * batch)

    x = torch.randn(batch, 3, *SIZE, device=device)
    step = Step(model, x, mode=mode, run=run)
    times = [time_steps({0: step}, device, rounds=7)[0] for _ in range(ROUNDS)]
    rates = [batch / seconds for seconds in times]
    memory = peak_memory(step, device) / 2**20
    middle = statistics.median(rates)
    return (
        f'{middle:.1f} ({min(rates):.1f} to {max(rates):.1f})',
        f'{memory:.0f}',
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.throughput',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('configs', nargs='*', default=[CONFIG])
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 4])
    args = parser.parse_args(argv)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    rows = []
    for name in args.configs:
        cfg = load_config(name)
        for member in MEMBERS:
            for batch in args.batches:
                for mode in ('inference', 'training'):
                    model = build(cfg, member)
                    rates, memory = measure(model, batch, mode, device)
                    rows.append(
                        [name, member, str(batch), mode, rates, memory]
                    )
                    print(*rows[-1], flush=True)
    head = ['config', 'attention', 'batch', 'mode', 'images/s', 'MiB']
    where = torch.cuda.get_device_name() if device == 'cuda' else 'cpu'
    print(f'\ntorch {torch.__version__}, {where}\n')
    print('\n'.join(markdown(head, rows)))


if __name__ == '__main__':
    main()
