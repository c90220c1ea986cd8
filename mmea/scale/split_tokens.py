from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.distributed import ProcessGroup

from mmea.ops import TokenStats

from .exchange import Size, answering

__all__ = ['split_tokens']


@contextmanager
def split_tokens(
    model: nn.Module, process_group: ProcessGroup | None = None
) -> Iterator[None]:
    """Let each process hold a part of the tokens of each image.

    Inside the block a layer's softmax over tokens is that over the parts of
    all processes: one all-gather of 2 S numbers for each image and layer, and
    in the backward pass, in which every process has to take part, one
    all-reduce of S. Parts may be of any size, also without a valid token;
    parameters get the gradient of this process's part, to be summed.

    In training, too. Norms are as they are: a batch norm that trains should
    be an ``nn.SyncBatchNorm`` of the same processes.

    Args:
        model (nn.Module): The same in each process.
        process_group (ProcessGroup | None): Default: None, all processes.

    Raises:
        ValueError: The model has no such layer.
    """

    def answer(
        name: str, logits: Tensor, mask: Tensor | None, size: Size
    ) -> TokenStats:
        return TokenStats.of(logits, mask).over(process_group)

    with answering(model, answer):
        yield
