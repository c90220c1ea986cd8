from typing import Any

from torch import Tensor, nn

from .images import Images, input_channels

__all__ = ['TOLERANCE', 'Graph', 'distance']

#: Largest difference of a score between a graph and PyTorch.
TOLERANCE = 1e-3


class Graph(nn.Module):
    """A model as a function from images to tensors.

    A subclass implements :meth:`compute` and, from the stack's own way to
    predict, :meth:`predict`.

    Args:
        model (nn.Module): Of the stack, in eval mode.

    Shapes:
        Images (B, C, H, W), values 0..255, of three channels in RGB, to the
        tensors that ``names`` names.
    """

    #: What the model is for, in words.
    task = ''
    #: Of the outputs, in order.
    names: tuple[str, ...] = ('labels', 'scores')
    #: What the graph leaves out, for the user; '' if nothing.
    note = ''
    #: Whether B may be another number than 1.
    batches = True

    model: Any

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.images = Images(model.data_preprocessor)
        self.channels = input_channels(model)
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.images(image)
        with self.images.mask(image, x):
            return self.compute(x, image.shape[-2], image.shape[-1])

    def compute(self, x: Tensor, height: int, width: int) -> tuple:
        """Compute the outputs.

        Args:
            x (Tensor): (B, C, H', W'), normalised and padded.
            height, width (int): Of the images, in pixels.
        """
        raise NotImplementedError

    @staticmethod
    def predict(model: Any, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs by the stack, data preprocessor included.

        Args:
            model (nn.Module): As of the constructor, its attention not
                folded.
            image (Tensor): (B, C, H, W), uint8, in RGB.
        """
        raise NotImplementedError

    def compare(self, got: list[Tensor], want: tuple[Tensor, ...]) -> str:
        """Tell how outputs differ from those of :meth:`predict`; '' if not."""
        labels, scores = got
        if problem := distance('scores', scores, want[1]):
            return problem
        other = (labels != want[0]) & (self.margin(want[1]) > TOLERANCE)
        return f'{int(other.sum())} labels differ' if other.any() else ''

    def margin(self, scores: Tensor) -> Tensor:
        """Compute how clear each label is, from (B, classes, ...) scores."""
        best = scores.topk(min(2, scores.shape[1]), dim=1).values
        return best[:, 0] - best[:, -1]


def distance(
    name: str, got: Tensor, want: Tensor, limit: float = TOLERANCE
) -> str:
    """Tell how far two tensors are from each other; '' if within a limit."""
    if got.shape != want.shape:
        return f'{name} are {tuple(got.shape)}, not {tuple(want.shape)}'
    # Not `worst > limit`, which NaN would pass.
    worst = (got - want).abs().max().item() if want.numel() else 0.0
    return '' if worst < limit else f'{name} differ by {worst:.3g}'


def samples(cls: type, image: Tensor, **meta: Any) -> list:
    """Make a data sample of a stack for each image of a batch."""
    size = tuple(image.shape[-2:])
    return [
        cls(metainfo=dict(img_shape=size, ori_shape=size, **meta))
        for _ in range(len(image))
    ]


def softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Compute labels and scores from logits (B, classes, ...)."""
    # onnxruntime's own, over channels, takes longer than the net before it.
    powers = (logits - logits.amax(1, keepdim=True)).exp()
    return logits.argmax(1), powers / powers.sum(1, keepdim=True)
