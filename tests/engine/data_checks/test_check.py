import pytest
from mmengine.config import Config

from mmea.engine.data_checks import check_data
from mmea.errors import UserError


def test_wrappers_of_data_sets_are_looked_into():
    part = dict(data_root='gone', data_prefix=dict(img_path='a'))
    wrapped = dict(
        type='RepeatDataset',
        dataset=dict(type='ConcatDataset', datasets=[part]),
    )
    cfg = Config(dict(x=dict(dataset=wrapped)))
    with pytest.raises(
        UserError, match=r'gone/a \(x.dataset.dataset.datasets.0.data_prefix'
    ):
        check_data(cfg, 'x')
