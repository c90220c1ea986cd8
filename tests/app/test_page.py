"""The page in a real Chromium: photographs in, clicks, what is shown."""

import contextlib
import io
import re
import shutil
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmea import app
from mmea.app import work

from ..conftest import free_port
from .conftest import make_segmentor

pytest.importorskip('gradio', reason='no gradio (extra app)')
pytestmark = pytest.mark.slow  # some 10 s to import, start and click

SIZE = 163, 241
FILES = 'img[src*="/file="]'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return tmp_path_factory.mktemp('page')


@pytest.fixture(scope='module')
def segmentor(root):
    model = make_segmentor(root)
    image = cv2.imread(f'{root}/data/images/training/0.jpg')
    cv2.imwrite(f'{root}/a <b>.png', cv2.resize(image, SIZE[::-1]))
    return model


@pytest.fixture(scope='module')
def served(segmentor, detected):
    """Addresses of two pages, and the hosts that their servers look up."""
    from mmea.app.page import make_page

    hosts, look_up = set(), socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as end:
        patch.setattr(
            socket,
            'getaddrinfo',
            lambda host, *args, **kwargs: (
                hosts.add(host) or look_up(host, *args, **kwargs)
            ),
        )
        folder = end.enter_context(app.own_folder())
        urls = []
        for model in (segmentor, detected[0]):
            page = make_page(model)
            port = int(free_port())
            urls.append(app.launch(page, '127.0.0.1', port))
            end.callback(page.close)
        yield urls
        assert list(Path(folder).rglob('*.png'))
    assert not Path(folder).exists()
    assert hosts <= {'127.0.0.1', 'localhost'}


@pytest.fixture
def visit(served, browser):
    """Open a page; at the end nothing was asked of another host."""
    asked, opened = [], []

    def start(number):
        page = browser.new_page(viewport=dict(width=1280, height=900))
        page.on('request', lambda request: asked.append(request.url))
        page.on('pageerror', lambda error: asked.append(str(error)))
        opened.append(page)
        page.goto(served[number])
        return page

    yield start
    for page in opened:
        page.close()
    own = (*served, 'data:', 'blob:')
    assert asked and not [url for url in asked if not url.startswith(own)]


def picture(page, number):
    """Load the file of a picture that is shown."""
    url = page.locator(FILES).nth(number).get_attribute('src')
    image = Image.open(io.BytesIO(page.request.get(url).body()))
    return np.asarray(image.convert('RGB')).astype(int)


def drop(page, path):
    page.set_input_files('input[type=file]', path)


def wait(page, number):
    page.wait_for_function(
        f"document.querySelectorAll('{FILES}').length == {number}"
    )


def test_segmentation(visit, segmentor, root):
    page = visit(0)
    path = f'{root}/a <b>.png'
    drop(page, path)
    wait(page, 3)
    found = work.predict(segmentor, path)
    drawn, rows = work.draw(segmentor, found)
    for number, want in enumerate((found.picture, drawn)):
        got = picture(page, number)  # a JPEG
        assert got.shape == want.shape
        assert np.abs(got - want).mean() < 8
    text = page.inner_text('body')
    for name, share in rows[:20]:
        assert f'{name}\n{share:.0%}' in text.replace('\n\n', '\n')
    centre = work.look_at(segmentor, path)
    want = work.draw_layer(centre, centre.first)
    assert np.array_equal(picture(page, 2), want)

    # A click in the photograph, which is shown as large as it is.
    box = page.locator(FILES).first.bounding_box()
    before = page.locator(FILES).nth(2).get_attribute('src')
    click = int(box['x'] + 200), int(box['y'] + 120)
    page.mouse.click(*click)
    x, y = (int(c - box[axis] + 0.5) for c, axis in zip(click, 'xy'))
    page.wait_for_function(
        f"document.querySelectorAll('{FILES}')[2].src != '{before}'"
    )
    there = work.look_at(segmentor, path, pixel=(x, y))
    assert np.array_equal(
        picture(page, 2), work.draw_layer(there, there.first)
    )
    hint = page.get_by_text('Click in the photograph')
    assert hint.is_visible()

    # Another layer, which has slots.
    neck = 'neck.1.attentions.1'
    page.get_by_label('Attention layer').click()
    page.get_by_role('option', name=neck).click()
    hint.wait_for(state='detached')
    assert np.array_equal(picture(page, 2), work.draw_layer(there, neck))

    page.set_viewport_size(dict(width=400, height=800))
    assert page.evaluate('document.documentElement.scrollWidth') == 400


def test_what_cannot_be_read(visit, root):
    page = visit(0)
    drop(page, f'{root}/a <b>.png')
    wait(page, 3)
    (root / 'bad.jpg').write_bytes(b'no picture')
    page.get_by_label('Remove').first.click()
    wait(page, 0)
    drop(page, f'{root}/bad.jpg')
    page.get_by_text('cannot decode the image bad.jpg').wait_for()
    assert page.locator(FILES).count() == 0
    shutil.copy(f'{root}/a <b>.png', root / 'good.png')
    drop(page, f'{root}/good.png')
    wait(page, 3)


def test_threshold_of_boxes(visit, detected, root, segmentor, monkeypatch):
    monkeypatch.setattr(work, 'predict', lambda model, path: detected[1])
    page = visit(1)
    drop(page, f'{root}/a <b>.png')
    wait(page, 2)  # it has no attention, and no maps

    cells = page.get_by_role('gridcell')
    cat = cells.filter(has_text='cat')
    cat.wait_for()
    both = cells.filter(has_text=re.compile('.')).all_inner_texts()
    assert both == 'dog 0.8 3 4 30 10 cat 0.4 1 2 10 20'.split()
    before = picture(page, 1)
    slider = page.locator('input[type=range]')
    for _ in range(3):  # to 0.45
        slider.press('ArrowRight')
    cat.wait_for(state='detached')
    assert cells.filter(has_text=re.compile('.')).all_inner_texts() == both[:6]
    assert (picture(page, 1) != before).any()
