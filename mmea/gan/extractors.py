"""Networks that tell of an image what a metric of images compares."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from mmea.errors import EXTRAS, UserError, in_one_line
from mmea.layers._checks import check_choice, check_int, check_positive
from mmea.registry import DATASETS, MODELS

__all__ = [
    'FidelityExtractor',
    'MobileNetV2Extractor',
    'TrainedHereExtractor',
    'build_extractor',
    'name_of',
]

#: Of ImageNet, in values of 0 to 255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class _Extractor(nn.Module):
    """Images, uint8 (B, 3, H, W), RGB, to features or class probabilities."""

    #: What the results of a metric are named with.
    name: str

    def __init__(self, out: str) -> None:
        super().__init__()
        check_choice('out', out, ('features', 'probabilities'))
        self.out = out

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, D) and logits of classes (B, K)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        features, logits = self.see(images)
        if self.out == 'features':
            return features
        return logits.double().softmax(1)


@MODELS.register_module()
class MobileNetV2Extractor(_Extractor):
    """Take torchvision's MobileNetV2, with ImageNet's 1,000 classes.

    Args:
        weights (str): Path of its state dict, such as torchvision's
            ``mobilenet_v2-b0353104.pth``.
        out (str): 'features' (B, 1280), or 'probabilities' (B, 1000).
            Default: 'features'.
        size (int): Images are scaled to it, as a square. Default: 224, that
            of its training; 96 takes a fifth of the time, and other numbers
            come of it.

    Raises:
        UserError: The file cannot be read, or holds another network.
    """

    name = 'mobilenet_v2'
    mean: Tensor
    std: Tensor

    def __init__(
        self, weights: str, out: str = 'features', size: int = 224
    ) -> None:
        super().__init__(out)
        check_positive(size=size)
        from torchvision.models import mobilenet_v2

        self.size = size
        self.net = mobilenet_v2(weights=None).requires_grad_(False)
        with in_one_line(f'cannot use weights={weights} for MobileNetV2'):
            state = torch.load(weights, 'cpu', weights_only=True)
            self.net.load_state_dict(state)
        self.register_buffer('mean', torch.tensor(MEAN)[:, None, None])
        self.register_buffer('std', torch.tensor(STD)[:, None, None])

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = F.interpolate(
            images.float(), 2 * [self.size], mode='bilinear', antialias=True
        )
        x = self.net.features((x - self.mean) / self.std).mean((2, 3))
        return x, self.net.classifier(x)


@MODELS.register_module()
class TrainedHereExtractor(_Extractor):
    """Train a small network on the classes of real images, and take that.

    Numbers of it are comparable with each other where data and arguments are
    the same, and with nothing else. It is trained at its first use, on the
    CPU, by a seed of its own: torch's random numbers are left alone.

    Args:
        dataset (dict | Dataset): Real images with ``gt_label``, and
            ``classes`` in its ``metainfo``, such as
            ``dict(type='mmea.ClassFolders', ...)``.
        out (str): 'features' (B, 64), or 'probabilities' (B, K). Default:
            'features'.
        max_iters (int): Steps of the training. Default: 500.
        batch_size (int): Default: 64.
        seed (int): Default: 0.

    Raises:
        ValueError: An argument is out of its range.
    """

    name = 'trained_here'

    def __init__(
        self,
        dataset: Any,
        out: str = 'features',
        max_iters: int = 500,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(out)
        check_positive(max_iters=max_iters, batch_size=batch_size)
        check_int(0, seed=seed)
        self.dataset = dataset
        self.max_iters = max_iters
        self.batch_size = batch_size
        self.seed = seed
        self.net: nn.Sequential | None = None

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.net is None:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.manual_seed(self.seed)
                self.net = self._train().to(images.device)
        features = self.net[:-1](images.float() / 127.5 - 1)
        return features, self.net[-1](features)

    def _train(self) -> nn.Sequential:
        data = self.dataset
        if isinstance(data, dict):
            data = DATASETS.build(data)
        widths = 3, 32, 64, 64
        blocks = [
            nn.Sequential(
                nn.Conv2d(*pair, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(pair[1]),
                nn.ReLU(),
            )
            for pair in zip(widths, widths[1:])
        ]
        head = nn.Linear(widths[-1], len(data.metainfo['classes']))
        net = nn.Sequential(
            *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        total, right = self.max_iters, 0.0
        for i in range(total):
            optimizer.param_groups[0]['lr'] = 3e-3 * (1 - i / total)
            places = torch.randint(len(data), (self.batch_size,)).tolist()
            items = [data[place] for place in places]
            images = torch.stack([item['inputs'] for item in items])
            labels = torch.cat([x['data_samples'].gt_label for x in items])
            logits = net(images.float() / 127.5 - 1)
            optimizer.zero_grad()
            F.cross_entropy(logits, labels).backward()
            optimizer.step()
            hits = (logits.argmax(1) == labels).double().mean().item()
            right += (hits - right) * max(0.05, 1 / (i + 1))
        print_log(
            f'Trained a network on the classes of {len(data)} images to '
            f'measure by: {right:.0%} right in the last of {total} batches',
            'current',
        )
        return net.eval().requires_grad_(False)


@MODELS.register_module()
class FidelityExtractor(_Extractor):
    """Take the Inception network of torch-fidelity, that of published FIDs.

    The package fetches the weights at the first use, 91 MB.

    Args:
        out (str): 'features' (B, 2048), or 'probabilities' (B, 1008), those
            of the published inception score. Default: 'features'.

    Raises:
        UserError: The package torch-fidelity is missing.
    """

    name = 'inception_v3'

    def __init__(self, out: str = 'features') -> None:
        super().__init__(out)
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import (
                FeatureExtractorInceptionV3,
            )
        except ImportError as error:
            raise UserError(
                f'FidelityExtractor needs torch-fidelity ({error}); install '
                f'the extra {EXTRAS["torch_fidelity"]} of mmea'
            ) from error
        self.net = FeatureExtractorInceptionV3(
            'inception-v3-compat', ['2048', 'logits_unbiased']
        )

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(images)


def build_extractor(extractor: Any) -> Callable[[Tensor], Tensor]:
    """Build what a metric names, and put it in evaluation mode.

    Args:
        extractor (dict | Callable): A dict is built as a model.

    Returns:
        Callable: Of images, uint8 (B, 3, H, W), RGB.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(extractor, dict):
        extractor = MODELS.build(extractor)
    if not callable(extractor):
        raise TypeError(
            f'extractor must be a dict or a function of images, got '
            f'{extractor=}'
        )
    if isinstance(extractor, nn.Module):
        extractor.eval()
    return extractor


def name_of(extractor: Any) -> str:
    """Name an extractor, for the name of a result: numbers depend on it."""
    own = getattr(extractor, 'name', None)
    kind = getattr(extractor, '__name__', type(extractor).__name__)
    return own if isinstance(own, str) else kind
