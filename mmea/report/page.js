// A slider over pictures of one view: each whole number of STEP shows one of
// them, what lies between wipes the next one in from the left.
const STEP = 50;
for (const figure of document.querySelectorAll('.compare')) {
  const slider = figure.querySelector('input');
  const layers = [...figure.querySelectorAll('img')];
  const stops = [...figure.querySelectorAll('button')];
  const show = () => {
    const place = slider.value / STEP;
    layers.forEach((layer, i) => {
      const seen = Math.min(Math.max(place - i + 1, 0), 1);
      if (i) layer.style.clipPath = `inset(0 ${100 * (1 - seen)}% 0 0)`;
    });
    const near = Math.round(place);
    stops.forEach((stop, i) => stop.setAttribute('aria-pressed', i === near));
    slider.setAttribute('aria-valuetext', layers[near].dataset.title);
  };
  slider.addEventListener('input', show);
  stops.forEach((stop) => stop.addEventListener('click', () => {
    slider.value = stop.value;
    show();
  }));
  show();
}
