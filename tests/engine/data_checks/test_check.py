import pytest
from mmengine.config import Config

from mmea.engine.data_checks import (
    check_data,
    has_labels,
    use_labels_if_any,
)
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


class TestLabels:
    """Whether predictions are compared with any."""

    @staticmethod
    def config(root, **metric):
        prefix = dict(img_path='images', seg_map_path='labels')
        dataset = dict(type='X', data_root=str(root), data_prefix=prefix)
        metric = dict(type='IoUMetric', **metric)
        return Config(
            dict(
                test_dataloader=dict(dataset=dataset), test_evaluator=[metric]
            )
        )

    @pytest.fixture
    def root(self, tmp_path):
        (tmp_path / 'images').mkdir()
        (tmp_path / 'images/a.jpg').touch()
        return tmp_path

    def test_none_are_needed_where_none_are_compared(self, root):
        cfg = self.config(root, format_only=True)
        assert not has_labels(cfg, 'test_dataloader')
        check_data(cfg, 'test_dataloader')
        cfg = self.config(root)
        assert has_labels(cfg, 'test_dataloader')
        with pytest.raises(UserError, match='labels .*seg_map_path. is miss'):
            check_data(cfg, 'test_dataloader')
        (root / 'images/a.jpg').unlink()
        with pytest.raises(UserError, match='images .*img_path. is empty'):
            check_data(self.config(root, format_only=1), 'test_dataloader')

    @pytest.mark.parametrize(
        ('file', 'found'),
        [
            (None, False),
            ('labels/x.txt', False),
            ('labels/a.png', True),
            ('labels/city/a.png', True),
        ],
    )
    def test_found_or_predictions_only(self, root, file, found):
        if file:
            (root / file).parent.mkdir(parents=True)
            (root / file).touch()
        cfg = self.config(root, output_dir='out')
        use_labels_if_any(cfg, 'test_dataloader')
        assert has_labels(cfg, 'test_dataloader') == found

    def test_who_writes_nothing_compares(self, root):
        cfg = self.config(root)
        use_labels_if_any(cfg, 'test_dataloader')
        assert has_labels(cfg, 'test_dataloader')

    def test_elsewhere_than_on_this_disk(self, root):
        cfg = self.config(root, output_dir='out')
        cfg.test_dataloader.dataset.backend_args = dict(backend='http')
        use_labels_if_any(cfg, 'test_dataloader')
        assert has_labels(cfg, 'test_dataloader')
