import torch.nn.functional as F
from torch import Tensor

__all__ = ['from_blocks', 'to_windows']


def to_windows(x: Tensor, block_size: int, halo_size: int = 0) -> Tensor:
    """Cut a map into blocks, each with what is around it.

    Args:
        x (Tensor): (B, h, D, H, W), any H and W.
        block_size (int): Side b of the blocks; the last ones may reach over
            the border.
        halo_size (int): Pixels on each side of a block. Default: 0.

    Returns:
        Tensor: (B, h, nH, nW, D, side, side), side = b + 2 halo_size, zero
        outside the map. Contiguous.
    """
    height, width = x.shape[3:]
    side = block_size + 2 * halo_size
    x = F.pad(
        x,
        (
            halo_size,
            halo_size + -width % block_size,
            halo_size,
            halo_size + -height % block_size,
        ),
    )
    x = x.unfold(3, side, block_size).unfold(4, side, block_size)
    return x.permute(0, 1, 3, 4, 2, 5, 6).contiguous()


def from_blocks(blocks: Tensor, height: int, width: int) -> Tensor:
    """Put blocks together, (B, h, nH, nW, D, b, b) to (B, h, D, H, W)."""
    x = blocks.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4)
    return x[..., :height, :width]
