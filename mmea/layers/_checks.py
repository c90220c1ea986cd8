"""Checks and defaults of arguments that several layers share."""


def check_positive(**sizes: int) -> None:
    """Raise a ValueError for the first size that is no int of 1 or more."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f'{name} must be an int >= 1, got {name}={size}')


def pick_heads(channels: int) -> int:
    """Pick the largest number of heads up to 8 that divides the channels."""
    return max(heads for heads in range(1, 9) if channels % heads == 0)
