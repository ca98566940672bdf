// Each unit of a network as one cell, at any step of a run: there, fading, gone. Draws what
// compression/plots/unit_life.py gives; holds no state but the step that is shown.

const WHOLE_RUN_MS = 9000;
const LARGEST = 15, SMALLEST = 3, TALLEST = 460; // of a cell; of all rows, in CSS pixels
const ROW_GAP = 4;

/** How much of the units of one departure is left after a step; as Leaving.share_left. */
export function shareLeft(leaving, step) {
  if (step >= leaving.end) return 0;
  const after = leaving.steps.findIndex((each) => each > step);
  if (after < 0) return leaving.shares[leaving.shares.length - 1];
  if (after === 0) return leaving.shares[0];
  const [x0, x1] = [leaving.steps[after - 1], leaving.steps[after]];
  const [y0, y1] = [leaving.shares[after - 1], leaving.shares[after]];
  return y0 + ((y1 - y0) * (step - x0)) / (x1 - x0);
}

/** Bits of each group at the last measured point up to a step. */
function bitsAt(data, step) {
  let bits = {};
  for (const point of data.bits) if (point.step <= step) bits = point.bits;
  return bits;
}

/** Group → unit → its departure. */
function departures(data) {
  const found = new Map(data.groups.map((group) => [group.id, new Map()]));
  for (const leaving of data.leaving) for (const unit of leaving.units) found.get(leaving.group).set(unit, leaving);
  return found;
}

/** The largest cells with which all rows fit, and where each row begins. */
function layout(data, width) {
  const label = Math.min(220, Math.max(90, 0.2 * width));
  const room = width - label;
  for (let cell = LARGEST; ; cell--) {
    const columns = Math.max(1, Math.floor(room / cell));
    let top = 0;
    const rows = data.groups.map((group) => {
      const row = { ...group, top, lines: Math.ceil(group.units / columns) };
      top += Math.max(row.lines * cell, 11) + ROW_GAP;
      return row;
    });
    if (top <= TALLEST || cell === SMALLEST) return { label, cell, columns, rows, height: top };
  }
}

function color(palette, bits) {
  if (bits === undefined) return palette[palette.length - 1];
  return palette[Math.min(palette.length - 1, Math.max(0, Math.round(bits) - 1))];
}

class Picture {
  constructor(root) {
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.slider = root.querySelector("input");
    this.say = root.querySelector("output");
    this.about = root.querySelector(".about");
    this.play = root.querySelector(".play");
    this.step = null; // null: the latest
    this.timer = 0;
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    this.play.addEventListener("click", () => (this.timer ? this.pause() : this.start()));
    root.querySelector(".back").addEventListener("click", () => this.jump(-1));
    root.querySelector(".next").addEventListener("click", () => this.jump(1));
    this.canvas.addEventListener("pointermove", (event) => this.tell(event));
    this.canvas.addEventListener("pointerleave", () => (this.about.textContent = ""));
    this.watcher = new ResizeObserver(() => this.data && this.draw());
    this.watcher.observe(root);
    // colours of text come from the page: draw again when its theme changes
    this.themes = new MutationObserver(() => this.data && this.draw());
    for (let node = root.getRootNode().host ?? root; node; node = node.parentElement)
      this.themes.observe(node, { attributes: true, attributeFilter: ["style", "class"] });
  }

  end() {
    this.pause();
    this.watcher.disconnect();
    this.themes.disconnect();
  }

  take(data) {
    this.data = data;
    this.of = departures(data);
    const moments = data.leaving.flatMap((each) => [each.start, each.end]);
    this.moments = [...new Set([0, ...moments, data.end])].filter((step) => step <= data.end).sort((a, b) => a - b);
    this.slider.max = data.end;
    this.root.querySelector(".ramp").style.background = `linear-gradient(90deg, ${data.palette.slice(1)})`;
    if (this.step !== null && this.step >= data.end) this.step = null;
    this.draw();
  }

  get now() {
    return this.step ?? this.data.end;
  }

  show(step) {
    this.pause();
    this.step = step >= this.data.end ? null : step;
    this.draw();
  }

  /** To the next or the last moment at which units are chosen or gone. */
  jump(direction) {
    const ahead = this.moments.filter((each) => direction * (each - this.now) > 0);
    if (ahead.length) this.show(direction > 0 ? ahead[0] : ahead[ahead.length - 1]);
  }

  start() {
    const from = this.step === null ? 0 : this.step;
    const begun = performance.now();
    const tick = (time) => {
      this.step = from + ((time - begun) / WHOLE_RUN_MS) * this.data.end;
      if (this.step >= this.data.end) {
        this.step = null;
        this.pause();
      } else this.timer = requestAnimationFrame(tick);
      this.draw();
    };
    this.timer = requestAnimationFrame(tick);
    this.label();
  }

  pause() {
    cancelAnimationFrame(this.timer);
    this.timer = 0;
    this.label();
  }

  label() {
    this.play.textContent = this.timer ? "Pause" : "Play";
  }

  draw() {
    const { canvas, data } = this;
    const width = canvas.parentElement.clientWidth;
    if (!width) return;
    const place = (this.place = layout(data, width));
    const scale = window.devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = place.height * scale;
    canvas.style.height = `${place.height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const { color: ink, fontFamily } = getComputedStyle(canvas);
    const bits = bitsAt(data, this.now);
    const size = place.cell - (place.cell > 5 ? 2 : 1);
    let [gone, fading] = [0, 0];
    for (const row of place.rows) {
      pen.globalAlpha = 1;
      pen.fillStyle = ink;
      pen.font = `${Math.min(12, Math.max(9, place.cell))}px ${fontFamily}`;
      pen.textBaseline = "top";
      pen.fillText(shortened(pen, row.id, place.label - 8), 0, row.top);
      for (let unit = 0; unit < row.units; unit++) {
        const x = place.label + (unit % place.columns) * place.cell;
        const y = row.top + Math.floor(unit / place.columns) * place.cell;
        const leaving = this.of.get(row.id).get(unit);
        const left = leaving ? shareLeft(leaving, this.now) : 1;
        if (left === 0) {
          gone++;
          pen.globalAlpha = 0.25;
          pen.strokeStyle = ink;
          pen.lineWidth = 1;
          pen.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
          continue;
        }
        pen.globalAlpha = Math.max(0.12, left);
        pen.fillStyle = color(data.palette, bits[row.id]);
        pen.fillRect(x, y, size, size);
        if (leaving && this.now >= leaving.start) {
          fading++;
          pen.globalAlpha = 0.9;
          pen.strokeStyle = ink;
          pen.lineWidth = place.cell > 8 ? 1.5 : 1;
          pen.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
          pen.beginPath();
          pen.moveTo(x, y + size);
          pen.lineTo(x + size, y);
          pen.stroke();
        }
      }
    }
    this.slider.value = this.now;
    const stage = data.stages.filter((each) => each.start <= this.now).pop();
    const where = `${data.unit === "steps" ? "step" : data.unit} ${Math.round(this.now).toLocaleString("en")} of ${data.total.toLocaleString("en")}`;
    const all = data.groups.reduce((sum, group) => sum + group.units, 0);
    this.say.textContent = `${stage ? `${stage.name}, ` : ""}${where}: ${all - gone - fading} units stay, ${fading} fade, ${gone} gone`;
    this.slider.setAttribute("aria-valuetext", this.say.textContent);
    canvas.setAttribute("aria-label", this.say.textContent);
    Object.assign(canvas.dataset, { gone, fading, step: this.now });
  }

  /** What the cell under the pointer is. */
  tell(event) {
    const { cell, columns, label, rows } = this.place;
    const row = rows.findLast((each) => each.top <= event.offsetY);
    const [column, line] = row ? [Math.floor((event.offsetX - label) / cell), Math.floor((event.offsetY - row.top) / cell)] : [-1, 0];
    const unit = column >= 0 && column < columns ? line * columns + column : -1;
    if (unit < 0 || unit >= (row?.units ?? 0)) {
      this.about.textContent = "";
      return;
    }
    const leaving = this.of.get(row.id).get(unit);
    const width = bitsAt(this.data, this.now)[row.id];
    const weights = width === undefined ? "32-bit floats" : `${Number(width.toFixed(2))} bits a weight`;
    const left = leaving ? shareLeft(leaving, this.now) : 1;
    const life = !leaving
      ? "stays"
      : leaving.start === leaving.end
        ? `removed at step ${leaving.end}`
        : `chosen at step ${leaving.start}, zero after step ${leaving.end}`;
    const share = leaving && left > 0 && left < 1 ? `, ${Math.round(100 * left)} % left` : "";
    this.about.textContent = `${row.id}, unit ${unit}: ${left === 0 ? "" : `${weights}, `}${life}${share}`;
  }
}

function shortened(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let tail = text;
  while (tail && pen.measureText(`…${tail}`).width > width) tail = tail.slice(1);
  return `…${tail}`;
}

const pictures = new WeakMap();

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".units");
  if (!pictures.has(root)) pictures.set(root, new Picture(root));
  const picture = pictures.get(root);
  picture.take(data);
  return () => {
    picture.end();
    pictures.delete(root);
  };
}
