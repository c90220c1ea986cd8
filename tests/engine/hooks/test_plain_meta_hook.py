"""What a user puts into metainfo comes back from a checkpoint."""

from collections import OrderedDict, defaultdict
from enum import Enum
from pathlib import PurePosixPath

import numpy as np
import torch

import mmea
from mmea.engine.checkpoint import load_checkpoint
from mmea.engine.hooks import PlainMetaHook


class Kind(str, Enum):
    ROAD = 'road'


def test_every_type_comes_back(tmp_path):
    palette = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    meta = dict(
        classes=('road', 'car'),
        palette=palette,
        ids=range(2),
        thing=frozenset({1}),
        names=defaultdict(list, road=['a', 'b']),
        ordered=OrderedDict(a=1),
        path=PurePosixPath('/x'),
        scalar=np.uint8(3),
        mixed=np.array(['a', 1], object),
        text=np.array(['a', 'bc']),
        kind={Kind.ROAD: None},
        weight=torch.ones(2),
        nested=[dict(a=range(1))],
    )
    checkpoint = dict(
        state_dict={},
        meta=dict(iter=1, dataset_meta=meta),
        message_hub=dict(runtime_info=dict(dataset_meta=dict(meta), iter=1)),
    )
    PlainMetaHook().before_save_checkpoint(None, checkpoint)
    assert meta['ids'] == range(2)  # the data set's own is left alone
    path = tmp_path / 'x.pth'
    torch.save(checkpoint, path)
    found = load_checkpoint(path)
    assert found['meta']['mmea_version'] == mmea.__version__
    for got in (
        found['meta']['dataset_meta'],
        found['message_hub']['runtime_info']['dataset_meta'],
    ):
        assert np.array_equal(got.pop('palette'), palette)
        assert got.pop('text').tolist() == ['a', 'bc']
        assert torch.equal(got.pop('weight'), torch.ones(2))
        assert got == dict(
            classes=('road', 'car'),
            ids=[0, 1],
            thing=[1],
            names=dict(road=['a', 'b']),
            ordered=dict(a=1),
            path='/x',
            scalar=3,
            mixed=['a', 1],
            kind={str(Kind.ROAD): None},
            nested=[dict(a=[0])],
        )


def test_checkpoints_without_a_data_set():
    checkpoint = dict(state_dict={}, meta={}, message_hub=None)
    PlainMetaHook().before_save_checkpoint(None, checkpoint)
    assert checkpoint == dict(state_dict={}, meta={}, message_hub=None)
