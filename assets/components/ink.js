// A drawing as MNIST's digits are: the twin of `from_drawing` in compression/explain/own_image.py, for pages that have no
// Python. The ink is scaled to fit 20 of 28 pixels (Pillow's Lanczos filter, in its integer arithmetic), its centre of mass
// goes to 14, 14 (LeCun, Bottou, Bengio and Haffner 1998, section III.A). tests/test_ink.py compares the two.

const INK = 20 / 28; // of a side
const BITS = 22; // of the filter's coefficients behind the point, as Pillow has them
const LOBES = 3;

/** White ink on black, grey values row by row, as `height` × `width` grey values; `null` where nothing is drawn. */
export function fromDrawing(ink, columns, height, width) {
  const box = inked(ink, columns);
  if (!box) return null;
  const scale = (INK * Math.min(height, width)) / Math.max(box.width, box.height);
  const [wide, high] = [box.width, box.height].map((side) => Math.max(1, even(scale * side)));
  const small = resized(box, wide, high);
  // the centre of mass goes to the middle, as far as all ink stays inside
  const rows = Array.from({ length: high }, (_, y) => sum(small.subarray(y * wide, (y + 1) * wide)));
  const lines = Array.from({ length: wide }, (_, x) => sum(small.filter((_, place) => place % wide === x)));
  const [down, right] = [start(rows, height), start(lines, width)];
  const canvas = new Uint8Array(height * width);
  for (let y = 0; y < high; y++) canvas.set(small.subarray(y * wide, (y + 1) * wide), (down + y) * width + right);
  return canvas;
}

/** The smallest box around all that is not black. */
function inked(ink, columns) {
  let [left, right, top, bottom] = [Infinity, -1, Infinity, -1];
  ink.forEach((value, place) => {
    if (!value) return;
    const [x, y] = [place % columns, Math.floor(place / columns)];
    [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
  });
  if (right < 0) return null;
  const [width, height] = [right - left + 1, bottom - top + 1];
  const pixels = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) pixels.set(ink.slice((top + y) * columns + left, (top + y) * columns + right + 1), y * width);
  return { pixels, width, height };
}

/** As Pillow resizes grey pictures: rows first, rounded to bytes, then columns; a side that stays is left as it is. */
function resized({ pixels, width, height }, wide, high) {
  const across = wide === width ? pixels : filtered(pixels, width, height, wide);
  if (high === height) return across;
  return transposed(filtered(transposed(across, wide, height), height, wide, high), high, wide);
}

/** Every row, `width` long, filtered to `wide` pixels. */
function filtered(pixels, width, height, wide) {
  const result = new Uint8Array(wide * height);
  for (let x = 0; x < wide; x++) {
    const { first, weights } = coefficients(width, wide, x);
    for (let y = 0; y < height; y++) {
      const value = weights.reduce((total, weight, i) => total + weight * pixels[y * width + first + i], 2 ** (BITS - 1));
      result[y * wide + x] = Math.min(255, Math.max(0, value >> BITS));
    }
  }
  return result;
}

/** Which pixels make pixel `x` of `wide`, the first of them and their weights in units of 2^-BITS. */
function coefficients(width, wide, x) {
  const scale = width / wide, stretch = Math.max(scale, 1), reach = LOBES * stretch;
  const centre = (x + 0.5) * scale;
  const first = Math.max(0, Math.trunc(centre - reach + 0.5));
  const end = Math.min(width, Math.trunc(centre + reach + 0.5));
  const raw = Array.from({ length: end - first }, (_, i) => lanczos((i + first - centre + 0.5) / stretch));
  const whole = sum(raw);
  return { first, weights: raw.map((weight) => rounded((weight / whole) * 2 ** BITS)) };
}

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const lanczos = (x) => (-LOBES <= x && x < LOBES ? sinc(x) * sinc(x / LOBES) : 0);
const rounded = (value) => Math.trunc(value + (value < 0 ? -0.5 : 0.5)); // halves away from zero, as C code does
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** To the nearest whole number, halves to the even one, as Python's `round`. */
function even(value) {
  const below = Math.floor(value), rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}

function transposed(pixels, width, height) {
  const result = new Uint8Array(pixels.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) result[x * height + y] = pixels[y * width + x];
  return result;
}

/** Where the first line goes, so that the centre of mass is in the middle of `room` and all lines stay inside. */
function start(mass, room) {
  const all = sum(mass);
  const centre = all ? sum(mass.map((value, place) => value * place)) / all : (mass.length - 1) / 2;
  return Math.min(Math.max(even(room / 2 - centre), 0), room - mass.length);
}
