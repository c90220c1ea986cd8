"""What a swap did."""

from dataclasses import dataclass, field

__all__ = ['Site', 'SwapReport']


@dataclass
class Site:
    """One attention module of a model, and what became of it.

    ``reason`` is why it was left, or what to know about the replacement;
    ``params`` counts parameters before and after, trained or not.
    """

    name: str
    source: str
    target: str = ''
    reason: str = ''
    params: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        text = f'{self.name} ({self.source})'
        if self.target:
            text += ' -> {}, parameters {:,} -> {:,}'.format(
                self.target, *self.params
            )
        return f'{text}: {self.reason}' if self.reason else text


@dataclass
class SwapReport:
    """The report of :func:`swap_attention`; ``print`` shows all of it.

    ``params`` are the trained parameters of the whole model before and after,
    ``macs`` its multiply-accumulates, where they were counted. ``unused``
    names the sources of rules that matched nothing, or nothing that an
    earlier rule had left them.
    """

    replaced: list[Site] = field(default_factory=list)
    left: list[Site] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    params: tuple[int, int] = (0, 0)
    macs: tuple[int, int] | None = None

    def __str__(self) -> str:
        lines = [f'Attention replaced: {len(self.replaced)}']
        lines += [f'  {site}' for site in self.replaced]
        lines += [f'Attention left: {len(self.left)}']
        lines += [f'  {site}' for site in self.left]
        lines += [f'A rule was not used: {name}' for name in self.unused]
        lines += ['Trained parameters: {:,} -> {:,}'.format(*self.params)]
        if self.macs:
            lines += ['Multiply-accumulates: {:,} -> {:,}'.format(*self.macs)]
        return '\n'.join(lines)
