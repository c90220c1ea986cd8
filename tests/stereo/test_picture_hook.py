import math

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from PIL import Image

from mmea.stereo import DisparityPictureHook


def test_draws_what_there_is(tmp_path):
    """The error's colours, unknown pixels, and a pair without truth."""
    path = tmp_path / 'left.png'
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(path)
    truth = torch.full((20, 30), 9.0)
    truth[:10] = math.nan
    found = torch.full((20, 30), 11.0)
    sample = BaseDataElement(metainfo=dict(img_path=str(path)))
    sample.set_data(dict(pred_disparity=found, gt_disparity=truth))
    hook = DisparityPictureHook(max_error=4)
    hook.samples = [sample]
    figure = hook.make_figure({})
    pictures = [ax for ax in figure.axes if ax.images]
    titles = [ax.get_title() for ax in pictures]
    assert titles == ['left', 'truth', 'prediction', 'error, mean 2.00']
    left, *planes = (ax.images[0] for ax in pictures)
    assert left.get_array().shape == (20, 30, 3)  # of a scaled data set
    for plane, value in zip(planes, (9, 11, 2)):
        array = np.ma.filled(plane.get_array().astype(float), np.nan)
        assert np.nanmax(array) == np.nanmin(array) == value
    assert [p.get_clim() for p in planes] == [(0, 11), (0, 11), (0, 4)]
    figure.savefig(tmp_path / 'a.png')
    del sample.gt_disparity
    figure = hook.make_figure({})
    titles = [ax.get_title() for ax in figure.axes if ax.images]
    assert titles == ['left', 'prediction']
    with pytest.raises(ValueError, match='max_error'):
        DisparityPictureHook(max_error=-1)
