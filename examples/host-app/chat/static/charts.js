// Small drawings of what happened in the last minutes.

import { el, svg } from './dom.js';

const MINUTES = 10;
const BARS = 60;
const WIDTH = 600;
const HEIGHT = 96;

// bars draws one bar for each ten seconds. points are {at, value}; join makes one value of those of a bar. Without
// points there is only the text nothing.
export function bars(box, points, now, join, caption, nothing) {
  if (points.length === 0) {
    box.replaceChildren(el('p', { class: 'nothing', text: nothing }));
    return;
  }
  const width = (MINUTES * 60e3) / BARS;
  const values = new Array(BARS).fill(0);
  for (const { at, value } of points) {
    const i = BARS - 1 - Math.floor((now - at) / width);
    if (i >= 0 && i < BARS) values[i] = join(values[i], value);
  }
  const top = Math.max(...values, 1e-9);
  const step = WIDTH / BARS;
  const drawn = values.map((v, i) => {
    const h = v && Math.max(3, (v / top) * (HEIGHT - 8));
    return svg('rect', { class: 'bar', x: i * step + 1.5, y: HEIGHT - h, width: step - 3, height: h, rx: 1.5 });
  });
  box.replaceChildren(el('figure', {},
    svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': caption },
      svg('line', { class: 'axis', x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }), ...drawn),
    el('figcaption', { text: caption })));
}

export const recent = (points, now) => points.filter(({ at }) => now - at < MINUTES * 60e3);
