"""Causal attention (CATT) around the layers of LXMERT, over transformers.

    pip install mmea[onedl-det,lxmert]  # not beside mmpretrain

    from transformers import LxmertForQuestionAnswering
    from examples.lxmert_catt import add_catt

    model = LxmertForQuestionAnswering.from_pretrained(...)
    add_catt(model.lxmert)

Each modality reads its own sample (IS) and a dictionary of other samples (CS).
Both streams go through the layers of the two modalities together, and are
joined at the end. The names of the parameters are those of the authors' code
and of transformers, so that weights of either load.

Source: arXiv:2103.03493; the authors' LXMERT + CATT, commit 452dfcc.
"""

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import LxmertConfig, LxmertModel
from transformers.models.lxmert import modeling_lxmert as hf

__all__ = [
    'CATTCrossLayer',
    'CATTEncoder',
    'CATTLayer',
    'add_catt',
    'kmeans_dictionary',
]

FORMS = ('ft', 'ft_large', 'ft_same')
CROSSES = ('g2g', 'g2l')


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f'{name} must be one of {", ".join(choices)}, got {value!r}'
        )


class CATTLayer(hf.LxmertLayer):
    """Let the tokens of a modality read their own sample, and a context.

    Args:
        config (LxmertConfig): Of the layer.
        shared (bool): One set of weights for both. Default: False.
    """

    def __init__(self, config: LxmertConfig, shared: bool = False) -> None:
        super().__init__(config)
        self.shared = shared
        if shared:
            self.register_load_state_dict_pre_hook(_rename)
        else:
            self.FTattention = hf.LxmertCrossAttentionLayer(config)
            self.FTintermediate = hf.LxmertIntermediate(config)
            self.FToutput = hf.LxmertOutput(config)

    def read(
        self, x: Tensor, context: Tensor, context_mask: Tensor | None
    ) -> Tensor:
        """Return what the tokens (B, N, C) read in the context (B, K, C).

        The mask (B, 1, 1, K) is added to the logits.
        """
        if self.shared:
            attention, att = self.attention, self.attention.self
            inter, output = self.intermediate, self.output
        else:
            attention, att = self.FTattention, self.FTattention.att
            inter, output = self.FTintermediate, self.FToutput
        out = attention.output(att(x, context, context_mask)[0], x)
        return output(inter(out), out)


def _rename(module: nn.Module, state: dict, prefix: str, *args) -> None:
    # The authors' name, where both streams share the weights.
    old = f'{prefix}attention.att.'
    for name in [name for name in state if name.startswith(old)]:
        rest = name.removeprefix(old)
        state[f'{prefix}attention.self.{rest}'] = state.pop(name)


class CATTCrossLayer(hf.LxmertXLayer):
    """Let two modalities read each other, in both streams.

    Args:
        config (LxmertConfig): Of the layer.
        shared (bool): One set of weights for both streams. Default: False.
        cross (str): What asks in the CS stream: 'g2g', the stream itself, or
            'g2l', the IS stream. Default: 'g2g', as published.
    """

    def __init__(
        self, config: LxmertConfig, shared: bool = False, cross: str = 'g2g'
    ) -> None:
        super().__init__(config)
        _check('cross', cross, CROSSES)
        self.cross = cross
        names = [name for name, _ in self.named_children()]
        self.prefix = '' if shared else 'M_'
        if not shared:
            for name, child in hf.LxmertXLayer(config).named_children():
                self.add_module(self.prefix + name, child)
        self.parts = tuple(names)

    def forward(
        self,
        lang: Tensor,
        lang_mask: Tensor | None,
        visn: Tensor,
        visn_mask: Tensor | None,
        memory_lang: Tensor,
        memory_visn: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return both modalities of the IS stream, then of the CS stream."""
        masks = lang_mask, visn_mask
        own = self._run('', (lang, visn), (lang, visn), masks)
        memories = memory_lang, memory_visn
        asking = memories if self.cross == 'g2g' else (lang, visn)
        across = self._run(self.prefix, asking, memories, masks)
        return *own, *across

    def _run(
        self, prefix: str, asking: tuple, asked: tuple, masks: tuple
    ) -> tuple[Tensor, Tensor]:
        # The layers of one stream, for the methods of transformers' layer.
        stream = SimpleNamespace(
            **{name: getattr(self, prefix + name) for name in self.parts}
        )
        read = stream.visual_attention
        lang = read(asking[0], asked[1], masks[1])[0]
        visn = read(asking[1], asked[0], masks[0])[0]
        lang, visn = hf.LxmertXLayer.self_att(
            stream, lang, masks[0], visn, masks[1]
        )
        return hf.LxmertXLayer.output_fc(stream, lang, visn)


class CATTEncoder(hf.LxmertEncoder):
    """Encode two modalities as LXMERT does, with CATT around its layers.

    Args:
        config (LxmertConfig): Of the encoder.
        form (str): Which layers of one modality read a dictionary too: 'ft',
            the last ones, with weights of their own; 'ft_large', all, those
            after the first reading what the one before has read; 'ft_same',
            as that, with the weights of the IS stream. Default: 'ft'.
        cross (str): See :class:`CATTCrossLayer`. Default: 'g2g'.
        lang_size (int): Entries of the dictionary of words. Default: 500.
        visn_size (int): Of regions. Default: 500.
        published (bool): Start the CS stream of each cross layer from the
            layers of one modality again, as the published loop does: only the
            last cross layer's reaches the output, and the weights ``M_...``
            of the others get no gradient. ``False`` passes the stream on.
            Default: True.

    The dictionaries ``ML`` and ``MV``, (1, K, C), start as uniform numbers in
    [0, 0.01), as published; :func:`kmeans_dictionary` makes better ones.

    Raises:
        ValueError: Unknown ``form`` or ``cross``, a size below 1, or no
            layers of a modality.
    """

    def __init__(
        self,
        config: LxmertConfig,
        *,
        form: str = 'ft',
        cross: str = 'g2g',
        lang_size: int = 500,
        visn_size: int = 500,
        published: bool = True,
    ) -> None:
        super().__init__(config)
        _check('form', form, FORMS)
        _check('cross', cross, CROSSES)
        for name, size in dict(
            lang_size=lang_size, visn_size=visn_size
        ).items():
            if size < 1:
                raise ValueError(f'{name} must be at least 1, got {size}')
        if not (len(self.layer) and len(self.r_layers) and len(self.x_layers)):
            raise ValueError(
                'config must have l_layers, r_layers and x_layers of at least '
                f'1, got {len(self.layer)}, {len(self.r_layers)}, '
                f'{len(self.x_layers)}'
            )
        shared = form == 'ft_same'
        for layers in (self.layer, self.r_layers):
            first = len(layers) - 1 if form == 'ft' else 0
            for i in range(first, len(layers)):
                layers[i] = CATTLayer(config, shared)
        for i in range(len(self.x_layers)):
            self.x_layers[i] = CATTCrossLayer(config, shared, cross)
        self.published = published
        width = config.hidden_size
        self.ML = nn.Parameter(torch.rand(1, lang_size, width) / 100)
        self.MV = nn.Parameter(torch.rand(1, visn_size, width) / 100)
        self.fc_lang = nn.Linear(2 * width, width)
        self.fc_visn = nn.Linear(2 * width, width)

    def forward(
        self,
        lang_feats: Tensor,
        lang_attention_mask: Tensor | None,
        visual_feats: Tensor,
        visual_pos: Tensor,
        visual_attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
    ) -> tuple[tuple, tuple, None]:
        """Encode; arguments and results are those of LxmertEncoder.

        The last hidden states are the joined streams; the others are not
        kept, and neither are the attentions.
        """
        if output_attentions:
            raise ValueError(
                'output_attentions=True: CATTEncoder keeps no attentions; '
                'leave it out'
            )
        masks = lang_attention_mask, visual_attention_mask
        visn = self.visn_fc(visual_feats, visual_pos)
        lang, read_lang = _encode(self.layer, lang_feats, masks[0], self.ML)
        visn, read_visn = _encode(self.r_layers, visn, masks[1], self.MV)
        across = read_lang, read_visn
        for layer in self.x_layers:
            start = (read_lang, read_visn) if self.published else across
            lang, visn, *across = layer(lang, masks[0], visn, masks[1], *start)
        lang = self.fc_lang(torch.cat([lang, across[0]], 2))
        visn = self.fc_visn(torch.cat([visn, across[1]], 2))
        return ((visn,), None), ((lang,), None), None


def _encode(
    layers: nn.ModuleList, x: Tensor, mask: Tensor | None, dictionary: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the layers of one modality; return both streams."""
    context, context_mask = dictionary.expand(len(x), -1, -1), None
    for layer in layers:
        own = layer(x, mask)[0]
        if isinstance(layer, CATTLayer):
            context, context_mask = layer.read(x, context, context_mask), mask
        x = own
    return x, context


def add_catt(model: LxmertModel, **kwargs) -> LxmertModel:
    """Put CATT around the layers of a model, which keeps its weights.

    Args:
        model (LxmertModel): Changed in place; ``model.lxmert`` of one that
            answers questions.
        **kwargs: Of :class:`CATTEncoder`.

    Returns:
        LxmertModel: ``model``.
    """
    if not isinstance(model, LxmertModel):
        raise TypeError(
            'model must be a LxmertModel, such as the part .lxmert of a '
            f'LxmertForQuestionAnswering, got {type(model).__name__}'
        )
    old = model.encoder
    new = CATTEncoder(model.config, **kwargs)
    new.apply(model._init_weights)
    new.load_state_dict(old.state_dict(), strict=False)
    place = next(old.parameters())
    model.encoder = new.to(place.device, place.dtype).train(old.training)
    return model


def kmeans_dictionary(tokens: Tensor, size: int, seed: int = 0) -> Tensor:
    """Make a dictionary of the centres of tokens, by scikit-learn.

    Args:
        tokens (Tensor): (N, C) with N of at least ``size``, of many samples.
        size (int): Entries K.
        seed (int): Default: 0.

    Returns:
        Tensor: (1, K, C), for ``encoder.ML.data`` or ``encoder.MV.data``.
    """
    if tokens.ndim != 2 or not 1 <= size <= len(tokens):
        raise ValueError(
            'tokens must be (N, C), and size at least 1 and at most N, got '
            f'{tuple(tokens.shape)} and size={size}'
        )
    from sklearn.cluster import MiniBatchKMeans

    means = MiniBatchKMeans(size, random_state=seed, n_init=1)
    means.fit(tokens.detach().cpu().double().numpy())
    return torch.from_numpy(means.cluster_centers_)[None].to(tokens)
