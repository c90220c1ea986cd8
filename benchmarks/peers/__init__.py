"""Networks of another library in mmea's comparison, on the same data.

    pip install segmentation-models-pytorch
    python -m mmea.compare benchmarks/peers/smp-fpn_mobilenet-v2_camvid.py \\
        --no-cost --members none control ExternalAttention2d --seeds 0 1 2 \\
        --out benchmarks/results/peers

Beside the rows of benchmarks/results/start: images, their order, augmentation,
optimiser, schedule, backbone and the weights that it starts from are the same.
"""

import segmentation_models_pytorch as smp
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead

from mmea.engine.checkpoint import load_checkpoint
from mmea.models.build_attention import build_attention
from mmea.registry import MODELS

__all__ = ['Logits', 'SMPNet']


@MODELS.register_module()
class SMPNet(BaseModule):
    """Return the logits of a network of segmentation_models.pytorch.

    Args:
        arch (str): A class of the package, such as 'FPN'.
        checkpoint (str): Weights of its encoder, a file or an address.
        attention (dict | None): A member of mmea in front of its last layer.
        **kwargs: Of the class.
    """

    def __init__(self, arch, checkpoint, attention=None, **kwargs):
        super().__init__()
        self.checkpoint = checkpoint
        self.net = getattr(smp, arch)(encoder_weights=None, **kwargs)
        head = self.net.segmentation_head
        head.insert(0, build_attention(attention, head[0].in_channels))

    def init_weights(self):
        self.net.encoder.load_state_dict(load_checkpoint(self.checkpoint))

    def forward(self, x):
        # The package takes sizes that its strides divide.
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % 32, 0, -height % 32))
        return (self.net(padded)[..., :height, :width],)


@MODELS.register_module()
class Logits(BaseDecodeHead):
    """Hand on the logits that the backbone made."""

    def __init__(self, **kwargs):
        super().__init__(init_cfg=None, **kwargs)
        del self.conv_seg

    def forward(self, inputs):
        return inputs[-1]
