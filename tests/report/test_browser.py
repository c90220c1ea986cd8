"""The page in a real Chromium, clicked through."""

import pytest

from mmea.report import write_report

from .conftest import NAME


@pytest.fixture(scope='module')
def pages(trained):
    """Of one training and of two."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        for dirs in (['work'], ['work', 'two']):
            out = trained / f'{len(dirs)}.html'
            write_report(dirs, out, num=2, device='cpu')
            found[len(dirs)] = out
    return found


@pytest.fixture
def visit(browser, pages):
    """Open a page; at the end nothing was asked for and nothing complained."""
    told, opened = [], []

    def start(number, **kwargs):
        page = browser.new_page(**kwargs)
        page.on('console', lambda message: told.append(message.text))
        page.on('pageerror', lambda error: told.append(str(error)))
        page.on('request', lambda request: told.append(request.url))
        opened.append(page)
        page.goto(pages[number].as_uri())
        return page

    yield start
    for page in opened:
        page.close()
    own = [path.as_uri() for path in pages.values()]
    assert not [
        text for text in told if text not in own and text[:5] != 'data:'
    ]


@pytest.mark.parametrize('number', [1, 2])
@pytest.mark.parametrize('width', [400, 1280])
@pytest.mark.parametrize('colours', ['light', 'dark'])
def test_fits(visit, number, width, colours):
    page = visit(
        number, viewport=dict(width=width, height=800), color_scheme=colours
    )
    root = 'document.documentElement'
    assert page.evaluate(f'{root}.scrollWidth') == width
    # Every link leads to what is there, every curve is drawn in the ink.
    for link in page.query_selector_all('nav a'):
        assert page.query_selector(link.get_attribute('href'))
    ink = page.evaluate(
        f'getComputedStyle({root}.querySelector("body")).color'
    )
    text = page.query_selector('svg text')
    assert text.evaluate('e => getComputedStyle(e).fill') == ink
    assert sum(map(int, ink[4:-1].split(','))) > 600 or colours == 'light'


def test_slider_by_mouse_and_keys(visit):
    page = visit(2)
    figure = page.locator('.compare').first
    pictures, slider = figure.locator('.layers'), figure.locator('input')

    def state():
        return (
            slider.input_value(),
            slider.get_attribute('aria-valuetext'),
            figure.locator('[aria-pressed=true]').inner_text(),
        )

    assert state() == ('150', 'prediction B', 'prediction B')
    seen = {'prediction B': pictures.screenshot()}
    box = slider.bounding_box()
    page.mouse.click(box['x'] + 2, box['y'] + box['height'] / 2)
    assert state() == ('0', 'image', 'image')
    seen['image'] = pictures.screenshot()
    for _ in range(25):
        slider.press('ArrowRight')
    assert slider.input_value() == '25'
    seen['half'] = pictures.screenshot()
    figure.get_by_text('truth').click()
    assert state() == ('50', 'truth', 'truth')
    seen['truth'] = pictures.screenshot()
    assert len(set(seen.values())) == 4
    slider.press('End')
    assert pictures.screenshot() == seen['prediction B']
    # From there the tabulator leads to the first of the buttons.
    slider.press('Tab')
    page.keyboard.press('Enter')
    assert state() == ('0', 'image', 'image')


def test_names_are_text(visit):
    page = visit(2)
    assert page.get_by_role('rowheader', name=NAME, exact=True).count() == 1
    assert page.locator('b', has_text='wall').count() == 0


def test_nothing_can_be_loaded(browser, pages):
    """The policy of the page holds, whatever a name would smuggle in."""
    page = browser.new_page()
    failed = []
    page.on('requestfailed', lambda request: failed.append(request.failure))
    page.goto(pages[1].as_uri())
    page.evaluate(
        'new Promise(done => { const image = new Image();'
        'image.onerror = done; image.src = "http://127.0.0.1:9/a.png"; })'
    )
    page.close()
    assert failed == ['csp']
