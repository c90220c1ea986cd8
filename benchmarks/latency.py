"""Seconds an image of exported models, in three engines.

    python -m benchmarks.latency [CONFIG ...] [--size 512] [--threads 1]

The same graph, from an image of uint8 to labels and scores, attention folded:
PyTorch runs it as it is, by torch.compile, and onnxruntime from the file of
`mmea export`, its values checked. Random weights, batch 1, float32, on a CPU;
the engines take turns. Of three rounds of five turns each the median, and the
range of the rounds' medians.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import onnxruntime
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope

import mmea
from mmea.compare.report import markdown
from mmea.export import write
from mmea.export.check import picture
from mmea.export.writer import make_graph
from mmea.profiling import time_steps
from mmea.registry import MODELS

CONFIGS = (
    'mobilenet_v2/ea_fpn_mobilenet-v2_4xb4-160k_ade20k-512x512.py',
    'ea_fpn_ade20k.py',
    'eanet/eanet_r50-d8_4xb4-160k_ade20k-512x512.py',
)
ENGINES = ('PyTorch', 'torch.compile', 'onnxruntime')
ROUNDS = 3


def build(name):
    """Build the model of a config with random weights, in eval mode."""
    cfg = Config.fromfile(mmea.config(name))
    cfg.model.pop('pretrained', None)
    cfg.model.backbone.init_cfg = None
    cfg.model.test_cfg = dict(mode='whole')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return revert_sync_batchnorm(MODELS.build(cfg.model)).eval()


def make_steps(name, size, threads, folder):
    model = build(name)
    graph = make_graph(model)
    image = picture(1, 3, size, size)
    file = Path(folder, 'model.onnx')
    write(model, file, size=(size, size))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        file, options, ['CPUExecutionProvider']
    )
    compiled = torch.compile(graph)
    inputs = dict(image=image.numpy())
    runs = (
        lambda: graph(image),
        lambda: compiled(image),
        lambda: session.run(None, inputs),
    )
    return dict(zip(ENGINES, runs))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='*', default=CONFIGS)
    parser.add_argument('--size', type=int, default=512)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lines = []
    for name in args.configs:
        with tempfile.TemporaryDirectory() as folder:
            steps = make_steps(name, args.size, args.threads, folder)
        rounds = [time_steps(steps) for _ in range(ROUNDS)]
        cells = []
        for engine in ENGINES:
            times = [1e3 * times[engine] for times in rounds]
            middle = statistics.median(times)
            cells.append(f'{middle:.0f} ({min(times):.0f}-{max(times):.0f})')
        lines.append([Path(name).stem, *cells])
        print(*lines[-1], flush=True)
    print('\n'.join(markdown([f'ms, {args.size} px', *ENGINES], lines)))


if __name__ == '__main__':
    main()
