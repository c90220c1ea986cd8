"""The page: what stands where, and what calls what. Needs gradio."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from mmea.errors import UserError
from mmea.inference import Predictor

from . import work

__all__ = ['make_page']

HOUR = 3600
WIDTH = 320  # of a picture, at least, in pixels
LISTS = dict(mmseg='Shares of the pixels', mmpretrain='Likeliest classes')
BOXES = ['class', 'score', 'x', 'y', 'width', 'height']
CLICK = 'Click in the photograph to choose the pixel whose reading is drawn.'


def make_page(
    predictor: Predictor, layers: Sequence[str] | None = None
) -> gr.Blocks:
    """Make the page of a model.

    Args:
        predictor (Predictor): Of :func:`mmea.load`.
        layers (Sequence[str] | None): Names of the attention layers that are
            offered. Default: None, all.

    Returns:
        Blocks: Of gradio, for :func:`mmea.app.launch`.

    Raises:
        UserError: The model has no such layer.
    """
    has_layers = work.check_layers(predictor, layers)
    name = Path(str(predictor.cfg.filename)).stem
    task = predictor.cfg.default_scope
    with gr.Blocks(
        title=f'{name} - mmea',
        analytics_enabled=False,
        delete_cache=(HOUR, HOUR),
    ) as page:
        found = gr.State(time_to_live=HOUR)
        looked = gr.State(time_to_live=HOUR)
        gr.Markdown(f'# {escape(name)}')
        with gr.Row(equal_height=True):
            photograph = gr.Image(
                label='Photograph',
                sources=['upload', 'clipboard'],
                format='jpeg',
                buttons=['fullscreen'],
                min_width=WIDTH,
            )
            # The file as it is: mmea reads it, or says why it cannot. Not by
            # a subclass, beside whose module gradio would write a file.
            photograph.preprocess = lambda file: file and file.path
            drawn = _picture('Prediction', 'jpeg', min_width=WIDTH)
        threshold = gr.Slider(
            0,
            1,
            0.3,
            step=0.05,
            label='Lowest score of a box',
            visible=task == 'mmdet',
        )
        if task == 'mmdet':
            table: Any = gr.Dataframe(headers=BOXES, interactive=False)
        else:
            table = gr.Label(
                label=LISTS.get(task), num_top_classes=20, show_heading=False
            )
        layer = gr.Dropdown(
            label='Attention layer whose maps are below', visible=has_layers
        )
        maps = _picture('Maps', 'png', visible=has_layers)

    def show(seen: work.Found | None, threshold: float) -> tuple:
        if seen is None:
            return None, None
        picture, rows = work.draw(predictor, seen, threshold)
        return picture, (
            rows if task == 'mmdet' else {name: x for name, x in rows}
        )

    def read(path: str | None, threshold: float) -> tuple:
        try:
            seen = work.predict(predictor, path) if path else None
        except UserError as error:
            _tell(error)
            seen = None
        return seen, seen and seen.picture, *show(seen, threshold)

    def turn(view: work.Looked | None, name: str | None) -> tuple:
        if view is None:
            return gr.Dropdown(choices=[], value=None, info=''), None
        names = list(view.layers)
        told = [f'Not drawn: {line}.' for line in view.left_out]
        if not names:
            return gr.Dropdown(choices=[], value=None, info=told[0]), None
        name = name if name in names else view.first
        if view.layers[name].reads is not None:
            told.insert(0, CLICK)
        return (
            gr.Dropdown(choices=names, value=name, info=' '.join(told)),
            work.draw_layer(view, name),
        )

    def look(seen: work.Found | None, name: str | None) -> tuple:
        view = None
        if seen and has_layers:
            try:
                view = work.look_at(predictor, seen.path, layers=layers)
            except UserError as error:
                _tell(error)
        return view, *turn(view, name)

    def point(
        seen: work.Found | None, name: str | None, event: gr.SelectData
    ) -> Any:
        if seen is None or not has_layers:
            return gr.skip(), gr.skip(), gr.skip()
        try:
            view = work.look_at(
                predictor, seen.path, pixel=event.index, layers=layers
            )
        except UserError as error:  # the net does not see the margin
            _tell(error)
            return gr.skip(), gr.skip(), gr.skip()
        return view, *turn(view, name)

    # One at a time: maps are taken by hooks, and pictures by one canvas.
    alone = dict(concurrency_id='model', concurrency_limit=1)
    results, pages = [drawn, table], [looked, layer, maps]
    with page:
        for event in (photograph.upload, photograph.clear):
            event(
                read,
                [photograph, threshold],
                [found, photograph, *results],
                show_progress_on=drawn,
                **alone,
            ).then(look, [found, layer], pages, show_progress_on=maps, **alone)
        threshold.change(
            show,
            [found, threshold],
            results,
            trigger_mode='always_last',
            show_progress='hidden',
            **alone,
        )
        turned = dict(show_progress_on=maps, **alone)
        layer.input(turn, [looked, layer], [layer, maps], **turned)
        photograph.select(point, [found, layer], pages, **turned)
    return page


def _picture(label: str, format: str, **kwargs: Any) -> gr.Image:
    return gr.Image(
        label=label,
        show_label=False,  # it would lie over what is drawn
        format=format,
        interactive=False,
        buttons=['download', 'fullscreen'],
        **kwargs,
    )


def _tell(error: UserError) -> None:
    gr.Warning(escape(str(error)), duration=None)
