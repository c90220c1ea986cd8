"""From a model to a file that runs without Python."""

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from mmea.errors import UserError
from mmea.files import whole
from mmea.layers import switch_to_deploy

from .check import SHAPES, check, picture
from .graph import Graph
from .metadata import describe
from .patches import no_autocast, sizes_kept

__all__ = ['export', 'make_graph', 'write']

#: Batch, height, width of the recording. No multiples of a stride, and no map
#: of it has one row or column, even at stride 128: what holds of 1 alone would
#: be in the graph.
EXAMPLE = (2, 157, 285)


def export(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None = None,
    *,
    out: str | os.PathLike,
    **kwargs: Any,
) -> str:
    """Write a trained model as a graph, and check it against PyTorch.

    Args:
        config (str | PathLike | Config): As of :func:`mmea.inference.load`.
        checkpoint (str | PathLike | None): Likewise. Default: None.
        out (str | PathLike): Where to: ``.onnx`` or ``.pt2``.
        kwargs: Of :func:`write`: size, opset, dtype.

    Returns:
        str: What the file holds, in one line.

    Raises:
        UserError: No such config or checkpoint, or what :func:`write` says.
    """
    from mmea.inference import load

    _check_out(Path(out))  # before anything is built
    loaded = load(config, checkpoint, device='cpu')
    return write(loaded.model, out, meta=loaded.meta, **kwargs)


def write(
    model: nn.Module,
    out: str | os.PathLike,
    *,
    meta: dict | None = None,
    size: tuple[int, int] | None = None,
    opset: int = 18,
    dtype: torch.dtype = torch.uint8,
) -> str:
    """Write a model as a graph, and check it against PyTorch.

    Args:
        model (nn.Module): Of mmseg, mmdet or mmpretrain, on the CPU, in eval
            mode. Unchanged.
        out (str | PathLike): Where to: ``.onnx`` or ``.pt2``.
        meta (dict | None): ``classes`` and ``palette``, which are written
            into the file. Default: None.
        size (tuple[int, int] | None): Height and width, if the graph is for
            one size only. Default: None, for any.
        opset (int): Of ONNX. Default: 18.
        dtype (torch.dtype): Of the images, uint8 or float32. Default: uint8.

    Returns:
        str: What the file holds, in one line.

    Raises:
        UserError: There is no graph of the model or of a part of it, a
            package is missing, or the graph does not compute what the model
            does; then nothing is written.
    """
    out = Path(out)
    _check_out(out)
    if size is not None and min(size) < 1:
        raise UserError(f'--fixed-size must be two ints >= 1, got {size}')
    graph = make_graph(model, size)
    shapes = SHAPES if size is None else ((1, *size), (2, *size))
    hint = '' if size else '; --fixed-size H W exports one size'
    try:
        with whole(out) as part:
            program = _record(graph, size, dtype)
            about = describe(graph, model, meta or {}, program)
            if out.suffix == '.onnx':
                _write_onnx(program, graph, part, opset, about)
            else:
                extra = {'metadata.json': json.dumps(about)}
                torch.export.save(program, part, extra_files=extra)
            check(part, graph, model, shapes, dtype)
    except OSError as error:
        raise UserError(f'cannot write {out}: {error}') from error
    except UserError as error:
        raise UserError(f'{out} is not written: {error}{hint}') from error
    names = ', '.join(graph.names)
    return f'{out}: {names}' + (f' ({graph.note})' if graph.note else '')


def make_graph(model: nn.Module, size: tuple[int, int] | None = None) -> Graph:
    """Make the graph of a model.

    Args:
        model (nn.Module): Of mmseg, mmdet or mmpretrain, in eval mode; a
            copy is folded.
        size (tuple[int, int] | None): Height and width, if fixed.

    Raises:
        UserError: There is no graph of such a model.
    """
    # A package of the stack may be missing; the model is of one that is not.
    kinds = {cls.__name__ for cls in type(model).__mro__}
    folded = copy.deepcopy(model).requires_grad_(False)
    with suppress(ValueError):  # of one that cannot be folded exactly
        switch_to_deploy(folded)
    if 'EncoderDecoder' in kinds:
        from .segmentor import SegmentorGraph

        return SegmentorGraph(folded, size)
    if 'SingleStageDetector' in kinds:
        from .detector import AnchorGraph

        return AnchorGraph(folded)
    if 'TwoStageDetector' in kinds and getattr(model, 'with_rpn', False):
        from .detector import ProposalGraph

        return ProposalGraph(folded)
    if 'ImageClassifier' in kinds:
        from .classifier import ClassifierGraph

        return ClassifierGraph(folded)
    raise UserError(
        f'cannot export a {type(model).__name__}: graphs are made of '
        'segmentors (EncoderDecoder), detectors like RetinaNet, the first '
        'stage of detectors of two, and classifiers (ImageClassifier)'
    )


def _check_out(out: Path) -> None:
    if out.suffix == '.pt2':
        return
    if out.suffix != '.onnx':
        raise UserError(f'--out must end in .onnx or .pt2, got {out}')
    missing = [
        name
        for name in ('onnx', 'onnxruntime', 'onnxscript')
        if find_spec(name) is None
    ]
    if missing:
        raise UserError(
            f'--out FILE.onnx needs {", ".join(missing)}: pip install '
            '"mmea[export]"'
        )


def _record(
    graph: Graph, size: tuple[int, int] | None, dtype: torch.dtype
) -> torch.export.ExportedProgram:
    batch, *sides = EXAMPLE
    height, width = size or sides
    batch = batch if graph.batches else 1
    image = picture(batch, graph.channels, height, width).to(dtype)
    dims: dict[int, Any] = {}
    if graph.batches:
        dims[0] = torch.export.Dim.DYNAMIC
    if size is None:
        dims |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    try:
        with torch.no_grad(), sizes_kept(), no_autocast(), _quiet():
            program = torch.export.export(
                graph, (image,), dynamic_shapes=(dims or None,), strict=False
            )
    except UserError:
        raise
    except Exception as error:  # each part that cannot has its own
        raise UserError(
            f'torch.export cannot follow the model: {_first_line(error)}'
        ) from error

    # Assumptions such as an odd height of a map, which the recording of a
    # pooling leaves and the program does not need: the check looks at others.
    if hasattr(program, '_guards_code'):
        program._guards_code = []
    return program


def _write_onnx(
    program: torch.export.ExportedProgram,
    graph: Graph,
    path: Path,
    opset: int,
    about: dict[str, str],
) -> None:
    try:
        with torch.no_grad(), _quiet():
            torch.onnx.export(
                program,
                (),
                path,
                dynamo=True,
                # The optimiser drops a sum with less than 1e-8, and with it
                # the eps without which a padded token divides 0 by 0.
                # onnxruntime optimises again, and keeps it.
                optimize=False,
                external_data=False,  # one file
                input_names=['image'],
                opset_version=opset,
                output_names=list(graph.names),
                verbose=False,
            )
    except OSError:
        raise
    except Exception as error:
        raise UserError(
            f'no ONNX of opset {opset}: {_first_line(error)}'
        ) from error
    # Of one that it cannot write, torch takes another and warns at most.
    import onnx

    written = onnx.load(path)
    got = {entry.domain: entry.version for entry in written.opset_import}['']
    if got != opset:
        raise UserError(f'no ONNX of opset {opset}: torch writes {got}')
    onnx.helper.set_model_props(written, about)
    onnx.save(written, path)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {lines[0][:300] if lines else ""}'


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporters' remarks on their own workings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)
