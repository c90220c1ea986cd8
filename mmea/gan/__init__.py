"""GANs with attention: SAGAN, and EAGAN, its external-attention form.

A wing: what it registers is named ``mmea.X`` as all else, and README.md tells
what is where. Its attention layers are members of the family and live with
them, in :mod:`mmea.layers`.

Source: arXiv:1805.08318, arXiv:2105.02358.
"""

from .discriminator import SAGANDiscriminator
from .distributed import GANDistributed
from .extractors import (
    FidelityExtractor,
    MobileNetV2Extractor,
    TrainedHereExtractor,
)
from .frechet_distance import FrechetDistance, frechet_distance
from .gan import GAN
from .generator import SAGANGenerator
from .image_folders import CIFAR10, ClassFolders
from .inception_score import InceptionScore, inception_score
from .noise import draw_noise, interpolate, to_pixels
from .optim_wrappers import GANOptimWrapperConstructor
from .sample_hook import GANSampleHook
from .samples import draw_rows, sample_rows, walk_rows, write_samples
from .spectral_norm import SpectralNorm, add_spectral_norm

__all__ = [
    'CIFAR10',
    'ClassFolders',
    'FidelityExtractor',
    'FrechetDistance',
    'GAN',
    'GANDistributed',
    'GANOptimWrapperConstructor',
    'GANSampleHook',
    'InceptionScore',
    'MobileNetV2Extractor',
    'SAGANDiscriminator',
    'SAGANGenerator',
    'SpectralNorm',
    'TrainedHereExtractor',
    'add_spectral_norm',
    'draw_noise',
    'draw_rows',
    'frechet_distance',
    'inception_score',
    'interpolate',
    'sample_rows',
    'to_pixels',
    'walk_rows',
    'write_samples',
]
