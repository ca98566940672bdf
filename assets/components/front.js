// The front of a score against a cost, as an SVG that answers to the pointer, to touch and to the keyboard. One module for
// the app, notebooks and reports: plain data in, an element out, an event "pick" for each run that is picked.
//
//   const chart = front(data, { picked: "run-7" });      // a <figure>
//   chart.addEventListener("pick", (event) => event.detail.id);
//   chart.update(data); chart.pick("run-8");
//
// data = {
//   alt, x: {title, range: [low, high] as log10, ticks: [[value, text], …]}, y: {title, unit, range: [bottom, top]},
//   front: [[x, y], …] from left to right, lines: [{color, points: [[x, y], …]}, …],
//   marks: [{id, x, y, symbol, color, opacity, size, text}, …] (without an id: cannot be picked; the last is on top),
//   legend: [{label, color, symbol}, …]
// }
// It needs no network and no style of its own but front.css, whose colours are the page's --st-… variables.

const SVG = "http://www.w3.org/2000/svg";
const NEAR = 26; // pixels around a mark within which the pointer is on it
const HEIGHT = { wide: 440, narrow: 340 }, NARROW = 560;
const PAD = { top: 12, right: 24, bottom: 48, left: 72 };

/** Corners on a circle of radius 1, the first one `turn` of a circle from the top, to the right. */
const ring = (corners, turn = 0) =>
  Array.from({ length: corners }, (_, i) => {
    const angle = 2 * Math.PI * (i / corners + turn);
    return [Math.sin(angle), -Math.cos(angle)];
  });
const STAR = ring(10).map(([x, y], i) => (i % 2 ? [0.45 * x, 0.45 * y] : [1.15 * x, 1.15 * y]));
const ARM = 0.36;
const CROSS = [
  [-ARM, -1], [ARM, -1], [ARM, -ARM], [1, -ARM], [1, ARM], [ARM, ARM], [ARM, 1], [-ARM, 1], [-ARM, ARM], [-1, ARM], [-1, -ARM], [-ARM, -ARM],
];
const CORNERS = {
  square: ring(4, 1 / 8).map(([x, y]) => [1.2 * x, 1.2 * y]), diamond: ring(4).map(([x, y]) => [1.25 * x, 1.25 * y]),
  "triangle-up": ring(3).map(([x, y]) => [1.2 * x, 1.2 * y]), "triangle-down": ring(3, 1 / 2), "triangle-left": ring(3, 3 / 4),
  pentagon: ring(5), hexagon: ring(6), octagon: ring(8, 1 / 16), star: STAR, cross: CROSS,
  hourglass: [[-0.9, -0.9], [0.9, -0.9], [-0.9, 0.9], [0.9, 0.9]], bowtie: [[-0.9, -0.9], [-0.9, 0.9], [0.9, -0.9], [0.9, 0.9]],
};

/** An SVG element with attributes; texts go in by textContent alone, so that no name becomes markup. */
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** An HTML element with attributes; children are nodes or text. */
export function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of several values; `change` is called with its place. */
export function options(label, names, change) {
  const buttons = names.map((name) => html("button", { type: "button" }, name));
  const press = (place) => buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(i === place)));
  buttons.forEach((button, place) => button.addEventListener("click", () => (press(place), change(place))));
  press(0);
  return html("div", { class: "options", role: "group", "aria-label": label }, ...buttons);
}

/** How to read the fronts of one set of runs, only what is on one of them. */
export function reading(fronts) {
  const notes = ["Up and to the left is better; the line is the front. Faint: another run costs no more and is at least as good."];
  if (fronts.some((each) => each.hidden)) notes.push("Triangles at the bottom edge: runs whose score is worse still.");
  if (fronts.some((each) => each.lines.length)) notes.push("Thin lines of dots: single runs that are read at several bit-widths.");
  if (fronts.some((each) => each.seeds)) notes.push("Small marks: single seeds, around the mark of their mean.");
  return notes.join(" ");
}

/** A marker of a method, `size` pixels wide, around the origin. */
export function marker(symbol, size, attributes = {}) {
  const radius = size / 2;
  const corners = CORNERS[symbol];
  if (!corners) return svg("circle", { r: radius, ...attributes });
  return svg("polygon", { points: corners.map((at) => at.map((v) => (v * radius).toFixed(2)).join(",")).join(" "), ...attributes });
}

/** A marker by itself, as legends and tables have it. */
export function badge({ symbol, color }, size = 12) {
  const box = svg("svg", { class: "badge", width: size + 4, height: size + 4, viewBox: `${-size / 2 - 2} ${-size / 2 - 2} ${size + 4} ${size + 4}`, "aria-hidden": "true" });
  box.append(marker(symbol, size, { fill: color }));
  return box;
}

/** Round numbers between two ends, some `count` of them. */
export function ticks(low, high, count) {
  const [from, to] = low < high ? [low, high] : [high, low];
  const rough = (to - from) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((each) => each * power >= rough) ?? 10);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const values = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + 1e-9 * step; i++) values.push([i * step, (i * step).toFixed(digits)]);
  return values;
}

class Front {
  constructor(data, picked) {
    this.element = html("figure", { class: "front" });
    this.legend = html("div", { class: "front-legend" });
    this.plot = html("div", { class: "front-plot" });
    this.tip = html("div", { class: "front-tip", role: "status" });
    this.tip.hidden = true;
    this.element.append(this.legend, this.plot);
    this.picked = picked;
    this.plot.addEventListener("pointermove", (event) => this.show(this.nearest(event)));
    this.plot.addEventListener("pointerleave", () => this.show(null));
    this.plot.addEventListener("click", (event) => this.choose(this.nearest(event)));
    this.watcher = new ResizeObserver(() => this.plot.clientWidth && this.plot.clientWidth !== this.width && this.draw());
    this.watcher.observe(this.plot);
    this.update(data);
  }

  update(data) {
    this.data = data;
    this.legend.replaceChildren(...data.legend.map((each) => html("span", {}, badge(each), each.label)));
    this.draw();
  }

  pick(id) {
    this.picked = id;
    this.draw();
  }

  choose(mark) {
    if (!mark?.id) return;
    this.element.dispatchEvent(new CustomEvent("pick", { detail: { id: mark.id }, bubbles: true }));
  }

  x(value) {
    const [low, high] = this.data.x.range;
    return PAD.left + ((Math.log10(value) - low) / (high - low)) * (this.width - PAD.left - PAD.right);
  }

  y(value) {
    const [bottom, top] = this.data.y.range;
    return this.height - PAD.bottom - ((value - bottom) / (top - bottom)) * (this.height - PAD.top - PAD.bottom);
  }

  draw() {
    const active = this.plot.getRootNode().activeElement; // of the page, or of the shadow that a notebook puts it in
    const focused = active && this.plot.contains(active) ? active.dataset.id : null;
    this.width = this.plot.clientWidth || 640;
    this.height = this.width < NARROW ? HEIGHT.narrow : HEIGHT.wide;
    const picture = svg("svg", { viewBox: `0 0 ${this.width} ${this.height}`, role: "group", "aria-label": this.data.alt });
    picture.append(this.axes(), this.lines(), this.ring(), ...this.data.marks.map((mark) => this.mark(mark)));
    this.plot.replaceChildren(picture, this.tip);
    if (focused) [...picture.querySelectorAll("[data-id]")].find((each) => each.dataset.id === focused)?.focus();
  }

  axes() {
    const { width, height, data } = this;
    const [left, right, top, bottom] = [PAD.left, width - PAD.right, PAD.top, height - PAD.bottom];
    const group = svg("g", { class: "axes", "aria-hidden": "true" });
    for (const [value, text] of ticks(...data.y.range, height / 50)) {
      group.append(svg("line", { x1: left, x2: right, y1: this.y(value), y2: this.y(value) }));
      group.append(svg("text", { x: left - 8, y: this.y(value) + 4, "text-anchor": "end" }, `${text}${data.y.unit}`));
    }
    let end = -Infinity; // of the last label: those that would touch it are left out
    for (const [value, text] of data.x.ticks) {
      const at = this.x(value), half = 3.6 * text.length;
      if (at < left - 1 || at > right + 1) continue;
      group.append(svg("line", { x1: at, x2: at, y1: top, y2: bottom }));
      if (at - half < end + 6 || at + half > width) continue;
      group.append(svg("text", { x: at, y: bottom + 18, "text-anchor": "middle" }, text));
      end = at + half;
    }
    group.append(svg("text", { class: "title", x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, data.x.title));
    const turned = `translate(13 ${(top + bottom) / 2}) rotate(-90)`;
    group.append(svg("text", { class: "title", transform: turned, "text-anchor": "middle" }, data.y.title));
    return group;
  }

  /** The front, a step to the right then up; below it what else single runs are. */
  lines() {
    const group = svg("g", { class: "lines", "aria-hidden": "true" });
    for (const line of this.data.lines) {
      const points = line.points.map(([x, y]) => [this.x(x), this.y(y)]);
      if (points.length) group.append(svg("path", { d: `M${points.join("L")}`, stroke: line.color, "stroke-opacity": 0.6 }));
    }
    const steps = this.data.front.map(([x, y], i) => (i ? `H${this.x(x)}V${this.y(y)}` : `M${this.x(x)} ${this.y(y)}`));
    if (steps.length > 1) group.append(svg("path", { class: "best", d: steps.join("") }));
    return group;
  }

  ring() {
    const mark = this.data.marks.find((each) => each.id && each.id === this.picked);
    return mark ? svg("rect", { class: "ring", x: this.x(mark.x) - 13, y: this.y(mark.y) - 13, width: 26, height: 26, rx: 3 }) : svg("g");
  }

  mark(mark) {
    const place = { transform: `translate(${this.x(mark.x)} ${this.y(mark.y)})`, class: "mark" };
    const named = { role: mark.id ? "button" : "img", "aria-label": mark.text, "data-id": mark.id };
    const group = svg("g", { ...place, ...named, tabindex: 0 });
    if (mark.id) group.setAttribute("aria-pressed", String(mark.id === this.picked));
    group.append(marker(mark.symbol, mark.size, { fill: mark.color, "fill-opacity": mark.opacity }));
    group.addEventListener("focus", () => this.show(mark));
    group.addEventListener("blur", () => this.show(null));
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.choose(mark);
    });
    return group;
  }

  nearest(event) {
    const box = this.plot.getBoundingClientRect();
    const scale = this.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const far = (mark) => Math.hypot(this.x(mark.x) - x, this.y(mark.y) - y);
    const closest = this.data.marks.reduce((best, mark) => (!best || far(mark) < far(best) ? mark : best), null);
    return closest && far(closest) <= NEAR ? closest : null;
  }

  show(mark) {
    this.tip.hidden = !mark;
    this.plot.classList.toggle("on-mark", Boolean(mark?.id));
    if (!mark) return;
    this.tip.textContent = mark.text;
    const [x, y] = [this.x(mark.x), this.y(mark.y)];
    const wide = Math.min(300, this.width - 16);
    this.tip.style.width = `${wide}px`;
    this.tip.style.left = `${Math.max(8, Math.min(this.width - wide - 8, x - wide / 2))}px`;
    const above = y - 20 - this.tip.offsetHeight;
    this.tip.style.top = `${above > 0 ? above : y + 20}px`;
  }
}

/** The chart as an element with `update(data)` and `pick(id)`; it dispatches "pick" with `detail.id`. */
export function front(data, { picked = "" } = {}) {
  const chart = new Front(data, picked);
  return Object.assign(chart.element, { update: (next) => chart.update(next), pick: (id) => chart.pick(id) });
}
