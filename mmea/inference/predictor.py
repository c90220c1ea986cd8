"""From a config and a checkpoint to data samples of images."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.structures import BaseDataElement
from torch import nn

from mmea.engine.checkpoint import (
    check_checkpoint,
    load_checkpoint,
    pick_weights,
)
from mmea.engine.config import load_config
from mmea.engine.data_checks.files import data_parts
from mmea.engine.guarded_loaders import guard_pipeline
from mmea.engine.preflight import check_packages, check_test_mode
from mmea.engine.zoo import explain_zoo, find_model
from mmea.errors import UserError, in_one_line

__all__ = ['Predictor', 'load', 'load_model']

Image = str | os.PathLike | np.ndarray


class Predictor:
    """A trained model that predicts on images.

    :func:`load` makes one.

    Args:
        model (nn.Module): A segmentor, detector or classifier of the stack,
            with its weights, on its device.
        cfg (Config): Of its training; ``test_dataloader`` says how images are
            prepared.
        meta (dict): ``classes`` and, of some, ``palette``.
    """

    def __init__(self, model: nn.Module, cfg: Config, meta: dict) -> None:
        self.model: Any = model.eval()
        self.cfg = cfg
        self.meta = meta
        steps = [
            step
            for step in _pipeline(cfg)
            if not _loads_annotations(step['type'])
        ]
        with in_one_line('cannot build test_dataloader.dataset.pipeline'):
            self._load = Compose(steps[:1])
            self._prepare = Compose(steps[1:])
        self.steps: list = self._prepare.transforms  # behind the reading
        self.reader: Any = self._load.transforms[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by id."""
        return tuple(self.meta.get('classes') or ())

    def predict(
        self, images: Image | Sequence[Image], *, batch_size: int = 1
    ) -> Any:
        """Predict on an image or several.

        Args:
            images (str | PathLike | np.ndarray | Sequence): Paths, or arrays
                (H, W, 3) of uint8 in the channel order of OpenCV, BGR; one or
                a list.
            batch_size (int): Images at a time, at most. Detectors pad those of
                one batch to one size; segmentors and classifiers take images
                of one size together. Default: 1.

        Returns:
            BaseDataElement | list[BaseDataElement]: The data samples of mmseg
            (``pred_sem_seg``), mmdet (``pred_instances``) or mmpretrain
            (``pred_label``), in the order given; for one image, its own.

        Raises:
            UserError: An image is missing or cannot be decoded.
            ValueError: ``batch_size`` is no positive int.
        """
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f'batch_size must be an int >= 1, {batch_size=}')
        one = isinstance(
            images, (str, os.PathLike, np.ndarray, torch.Tensor)
        ) or not isinstance(images, Iterable)
        several: Any = images
        listed = [several] if one else list(several)
        found: list[BaseDataElement] = []
        for start in range(0, len(listed), batch_size):
            batch = map(self.read, listed[start : start + batch_size])
            found += self.predict_prepared(list(map(self.prepare, batch)))
        return found[0] if one else found

    def read(self, image: Image) -> dict:
        """Read an image as the config's loader does.

        Args:
            image (str | PathLike | np.ndarray): As of :meth:`predict`.

        Returns:
            dict: ``img``, (H, W, channels), ``img_path`` and sizes.

        Raises:
            UserError: The image is missing or cannot be decoded.
        """
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.dtype != np.uint8 or not image.size:
                raise UserError(
                    'an image must be (H, W, channels) of uint8, got an array '
                    f'{image.shape} of {image.dtype}'
                )
            size = image.shape[:2]
            return dict(
                img=image, img_path=None, img_shape=size, ori_shape=size
            )
        if not isinstance(image, (str, os.PathLike)):
            raise UserError(
                'an image must be a path or an array as OpenCV reads it (BGR, '
                f'numpy.asarray(image)[..., ::-1] of a PIL one), got {image!r}'
            )
        return self._load(dict(img_path=str(image)))

    def prepare(self, read: dict) -> dict:
        """Bring what :meth:`read` gives into the form that the model takes.

        Returns:
            dict: ``inputs`` and ``data_samples``.
        """
        return self._prepare(dict(read, img_id=0))

    @torch.no_grad()
    def predict_prepared(self, batch: list[dict]) -> list[BaseDataElement]:
        """Predict on what :meth:`prepare` has made of images."""
        found: list[Any] = [None] * len(batch)
        for indices in self._groups(batch):
            data = pseudo_collate([batch[i] for i in indices])
            for i, sample in zip(indices, self.model.test_step(data)):
                found[i] = sample
        return found

    def _groups(self, batch: list[dict]) -> Iterator[list[int]]:
        """Yield the places of images that can go through the net together."""
        if self.cfg.default_scope == 'mmdet':  # its preprocessor pads
            yield list(range(len(batch)))
            return
        by_size: dict[tuple, list[int]] = {}
        for i, data in enumerate(batch):
            by_size.setdefault(tuple(data['inputs'].shape), []).append(i)
        yield from by_size.values()


def load(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None = None,
    *,
    device: str | torch.device | None = None,
) -> Predictor:
    """Load a trained model, to predict with it.

    Args:
        config (str | PathLike | Config): Path of a config or the name of one
            mmea ships; or a folder that ``mmea publish`` wrote, or the name
            of a model of the zoo (:func:`mmea.engine.zoo.find_model`).
        checkpoint (str | PathLike | None): Path or address. Default: None,
            the weights published with the config, or the best checkpoint in
            its work dir, or the latest.
        device (str | torch.device | None): Default: None, the GPU, if there
            is one.

    Returns:
        Predictor: With the model in eval mode.

    Raises:
        UserError: No such config or checkpoint, they do not fit, or the
            model is a GAN.
    """
    model, cfg, meta = load_model(config, checkpoint, device=device)
    if hasattr(model, 'generator'):
        raise UserError(
            f'{cfg.filename} is a GAN, which makes images and takes none: '
            'mmea generate makes them, of config and checkpoint, which are '
            'what to hand on, too; docs/gan.md shows it, and how to export'
        )
    return Predictor(model, cfg, meta or _meta(cfg))


def load_model(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None = None,
    *,
    device: str | torch.device | None = None,
) -> tuple[Any, Config, dict]:
    """Load a trained model of any kind.

    Args:
        config, checkpoint, device: As of :func:`load`.

    Returns:
        tuple[nn.Module, Config, dict]: The model in eval mode, its config,
        and what the checkpoint tells of its data set.

    Raises:
        UserError: No such config or checkpoint, or they do not fit.
    """
    if isinstance(config, Config):
        cfg = config
    else:
        path = Path(config)
        if not path.exists():
            path = find_model(str(config)) or path
        if path.is_dir():
            checkpoint = checkpoint or _only(path, '*.safetensors')
            path = _only(path, '*.py')
        try:
            cfg = load_config(str(path))
        except UserError as error:
            if path.exists() or path.suffix:
                raise
            raise UserError(f'{error}; {explain_zoo()}') from error
    check_packages(cfg)
    check_test_mode(cfg)
    if 'generator' not in cfg.get('model', ()):  # a GAN takes no images
        _test_set(cfg)  # or the checkpoint would be read in vain
    if checkpoint is None:
        checkpoint = pick_weights(cfg)
    init_default_scope(cfg.default_scope)
    net = dict(cfg.model)
    if cfg.get('data_preprocessor'):  # as the Runner does
        net.setdefault('data_preprocessor', cfg.data_preprocessor)
    with in_one_line(f'cannot build the model of {cfg.filename}'):
        model = MODELS.build(net)
    check_checkpoint(model, checkpoint, partial=False)
    device = device or get_device()
    stored = load_checkpoint(checkpoint, 'cpu')
    state = stored.get('state_dict', stored)
    model.load_state_dict(
        {name.removeprefix('module.'): x for name, x in state.items()},
        strict=False,
    )
    with in_one_line(f'cannot use the device {device}'):
        if torch.device(device).type == 'cpu':
            model = revert_sync_batchnorm(model)
        model = model.to(device)
    meta = (stored.get('meta') or {}).get('dataset_meta') or {}
    return model.eval(), cfg, meta


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise UserError(
            f'{folder} holds {len(found)} files {pattern}, and a published '
            'folder has one; of a work dir name the config in it'
        )
    return found[0]


def _test_set(cfg: Config) -> ConfigDict:
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    _, first = next(data_parts(dataset, ''), ('', {}))
    if 'pipeline' not in first:
        raise UserError(
            f'{cfg.filename} has no test_dataloader.dataset.pipeline, which '
            'says how an image is prepared; clouds of points are drawn by '
            'mmea test, and docs/point_clouds.md shows how to predict on '
            'others; a model of something else, such as pairs of images, is '
            'used by mmea test'
        )
    return first


def _pipeline(cfg: Config) -> list[dict]:
    return guard_pipeline(_test_set(cfg)['pipeline'], cfg.default_scope)


def _loads_annotations(kind: Any) -> bool:
    name = str(getattr(kind, '__name__', kind)).rpartition('.')[2]
    return name.startswith('Load') and name.endswith('Annotations')


def _meta(cfg: Config) -> dict:
    """Read the classes off the data set of the config, without its files."""
    dataset = dict(_test_set(cfg))
    cls: Any = dataset.pop('type')
    if isinstance(cls, str):
        with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
            cls = registry.get(cls)
    try:
        return cls(**dict(dataset, pipeline=[], lazy_init=True)).metainfo
    except Exception:  # one that looks for its files at once
        return dict(cls._load_metainfo(dataset.get('metainfo')))
