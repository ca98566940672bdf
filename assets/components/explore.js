// The panel of `cx.explore` in a notebook cell (anywidget): a method's asks as sliders, their forecast, runs and the front
// of these. All that is computed comes from the kernel as plain data (compression/widgets/panel.py); what a person does
// goes there as a message (compression/widgets/messages.py).
import { badge, front, html } from "./front.js";
import { fresh, sliders } from "./sliders.js";

const PATIENCE = 1500; // milliseconds after which the panel says that the kernel is busy
const ENDED = ["done", "failed", "cancelled", "lost"];

/** Messages about the form, one at a time: while the kernel works on one, of each control only the newest waits. */
class Line {
  constructor(model, quiet) {
    Object.assign(this, { model, quiet, view: fresh(), n: 0, open: false, waiting: new Map() });
  }

  put(key, message) {
    this.waiting.delete(key);
    this.waiting.set(key, message);
    this.next();
  }

  next() {
    if (this.open || !this.waiting.size) return;
    const [key, message] = this.waiting.entries().next().value;
    this.waiting.delete(key);
    this.open = true;
    this.model.send({ ...message, view: this.view, n: ++this.n });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.quiet(true), PATIENCE);
  }

  /** Whether what the kernel says now is about the newest that a person did here. */
  settles({ view, n }) {
    if (view !== this.view || n !== this.n) return !this.open && !this.waiting.size;
    clearTimeout(this.timer);
    this.quiet(false);
    this.open = false;
    this.next();
    return !this.open;
  }
}

class Panel {
  constructor(model, root) {
    this.model = model;
    this.line = new Line(model, (busy) => this.busy(busy));
    this.picked = "";
    const id = fresh();
    this.title = html("h3", { class: "cx-title", id });
    this.select = html("select", { "aria-label": "Method" });
    this.select.addEventListener("change", () => this.line.put("method", { kind: "method", name: this.select.value }));
    this.sentence = html("p", { class: "cx-note" });
    this.sliders = sliders((field, value) => this.line.put(field, { kind: "move", field, value }));
    this.training = html("div", { class: "cx-training" });
    this.extras = html("p", { class: "cx-note" });
    this.figures = html("div", { class: "cx-figures", role: "status", "aria-label": "Forecast" });
    this.basis = html("p", { class: "cx-note" });
    this.problem = html("p", { class: "cx-problem", role: "alert" });
    this.time = html("span", { class: "cx-note" });
    this.buttons = html("div", { class: "cx-buttons" });
    this.start = this.button("Start run", "start", "cx-primary");
    this.pause = this.button("Pause", "pause");
    this.resume = this.button("Resume", "resume");
    this.cancel = this.button("Cancel", "cancel");
    this.buttons.append(this.start, this.pause, this.resume, this.cancel, this.time);
    this.progress = html("div", { class: "cx-progress", role: "status" });
    this.bar = html("progress", { max: 1, value: 0, "aria-label": "Progress of the run" });
    this.status = html("span", {});
    this.progress.append(this.bar, this.status);
    this.trouble = html("p", { class: "cx-problem", role: "alert" });
    this.place = html("div", { class: "cx-front" });
    this.runs = html("div", { class: "cx-runs" });
    const form = html("section", { class: "cx-form", "aria-label": "Budget" },
      html("label", { class: "cx-method" }, html("span", { class: "cx-label" }, "Method"), this.select), this.sentence,
      this.sliders, this.training, this.extras);
    const answer = html("section", { class: "cx-answer", "aria-label": "Forecast" },
      html("h4", {}, "Before any training, this comes to"), this.figures, this.problem, this.basis);
    const course = html("section", { class: "cx-course", "aria-label": "Runs" },
      this.buttons, this.trouble, this.progress, this.place, this.runs);
    const columns = html("div", { class: "cx-columns" }, form, html("div", {}, answer, course));
    this.element = html("div", { class: "cx-explore", role: "region", "aria-labelledby": id }, this.title, columns);
    // JupyterLab takes arrows and letters for its cells, unless the element that has the focus says otherwise
    this.element.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
    root.append(this.element);
    this.drawForm();
    this.drawAnswer();
    this.drawLive();
  }

  button(text, action, style = "") {
    const button = html("button", { type: "button", class: style }, text);
    button.addEventListener("click", () => this.model.send({ kind: "press", action }));
    return button;
  }

  busy(busy) {
    this.element.classList.toggle("cx-waiting", busy);
    this.element.setAttribute("aria-busy", String(busy));
    if (busy) this.basis.textContent = "The kernel does not answer: it is busy with a cell, or was restarted (run this cell again then).";
  }

  drawForm() {
    const fields = this.model.get("fields");
    if (!fields.controls) return; // the kernel is about to fill it
    this.title.textContent = fields.title;
    this.select.replaceChildren(...fields.methods.map(({ name, label }) => html("option", { value: name }, label)));
    this.select.value = fields.method;
    this.sentence.textContent = fields.sentence;
    this.sliders.build(fields.controls);
    this.numbers = new Map(fields.training.map((field) => [field.field, this.number(field)]));
    const labels = fields.training.map((field) =>
      html("label", { title: field.help }, html("span", { class: "cx-label" }, field.label), this.numbers.get(field.field)));
    this.training.replaceChildren(...labels, ...(fields.note ? [html("p", { class: "cx-note" }, fields.note)] : []));
    this.extras.textContent = fields.extras ? `Also set: ${fields.extras}` : "";
    this.label = fields.methods.find(({ name }) => name === fields.method)?.label ?? fields.method;
    this.show(this.model.get("answer").values);
  }

  number({ field, low, high, label }) {
    const input = html("input", { type: "number", min: low, max: high, step: "any", "aria-label": label });
    input.addEventListener("change", () => {
      if (input.value.trim() !== "") this.line.put(field, { kind: "move", field, value: Number(input.value) });
    });
    return input;
  }

  show(values) {
    if (!values) return;
    this.sliders.show(values);
    for (const [field, input] of this.numbers ?? []) if (input.value === "" || Number(input.value) !== values[field]) input.value = values[field];
  }

  drawAnswer() {
    const answer = this.model.get("answer");
    if (!answer.values) return;
    const settled = this.line.settles(answer);
    const cells = answer.figures.map(({ label, value, note }) =>
      html("div", {}, html("div", { class: "cx-note" }, label), html("div", { class: "cx-figure" }, value), html("div", { class: "cx-note" }, note)));
    this.figures.replaceChildren(...cells);
    this.problem.textContent = answer.problem;
    this.problem.hidden = !answer.problem;
    this.basis.textContent = [answer.basis, ...answer.notes].filter(Boolean).join(" ");
    this.time.textContent = answer.time;
    this.possible = answer.possible;
    if (settled) this.show(answer.values);
    this.enable();
  }

  enable() {
    const { runs = [], busy = "" } = this.model.get("live");
    const state = runs[0]?.state ?? "";
    this.start.textContent = busy === "start" ? "Starting…" : `Start ${this.label ?? ""} run`;
    this.start.disabled = Boolean(busy) || !this.possible;
    this.start.title = this.possible ? "In a process of its own: it goes on when the notebook is closed" : "This budget cannot be met: see above";
    this.pause.hidden = !["running", "queued"].includes(state);
    this.resume.hidden = !["paused", "failed", "cancelled", "lost"].includes(state);
    this.cancel.hidden = !["running", "queued", "paused"].includes(state);
    for (const each of [this.pause, this.resume, this.cancel]) each.disabled = Boolean(busy);
  }

  drawLive() {
    const live = this.model.get("live");
    if (!live.runs) return;
    this.enable();
    const [newest] = live.runs;
    this.trouble.textContent = live.problem || newest?.error || "";
    this.trouble.hidden = !this.trouble.textContent;
    this.progress.hidden = !newest || ENDED.includes(newest.state);
    if (newest) {
      this.bar.value = newest.progress;
      this.status.textContent = newest.status;
    }
    if (!live.runs.some((run) => run.id === this.picked)) this.picked = newest?.id ?? "";
    this.drawFront(live.front);
    this.drawRuns(live.runs);
  }

  drawFront(data) {
    if (!data) {
      this.chart = null;
      const text = this.model.get("live").runs.length ? "The first points come when the dense model has been measured." :
        "No run yet. Move the sliders until the forecast suits you, then start one: its score and size appear here, beside the dense model's.";
      this.place.replaceChildren(html("p", { class: "cx-empty" }, text));
      return;
    }
    const same = JSON.stringify(data);
    if (this.chart && same === this.drawn) return;
    this.drawn = same;
    if (this.chart) return void this.chart.update(data);
    this.chart = front(data, { picked: this.picked });
    this.chart.addEventListener("pick", (event) => this.pick(event.detail.id));
    this.place.replaceChildren(this.chart);
  }

  pick(id) {
    this.picked = id;
    this.chart?.pick(id);
    this.drawRuns(this.model.get("live").runs);
  }

  /** The runs as rows; below them what the picked one means, and its budget for the sliders. */
  drawRuns(runs) {
    if (!runs.length) return void this.runs.replaceChildren();
    const row = (run) => {
      const name = html("button", { type: "button", class: "cx-run", "aria-pressed": String(run.id === this.picked), title: run.id },
        badge(run.method), html("span", {}, `${run.method.label}, ${run.label}`));
      name.addEventListener("click", () => this.pick(run.id));
      const cells = [run.state, run.score, run.size, run.smaller].map((text) => html("td", {}, text));
      return html("tr", run.id === this.picked ? { class: "cx-picked" } : {}, html("td", {}, name), ...cells);
    };
    const head = html("tr", {}, ...["Run", "State", "Score", "Size", ""].map((text) => html("th", {}, text)));
    const table = html("table", {}, html("thead", {}, head), html("tbody", {}, ...runs.map(row)));
    const mark = this.model.get("live").front?.marks.find((each) => each.id === this.picked);
    const use = html("button", { type: "button" }, "Move the sliders to its budget");
    use.addEventListener("click", () => this.line.put("use", { kind: "use", run: this.picked }));
    const about = html("div", { class: "cx-about", role: "status" }, html("span", {}, mark ? mark.verdict : ""), use);
    const active = this.runs.getRootNode().activeElement;
    const focused = active && this.runs.contains(active) ? active.title : "";
    this.runs.replaceChildren(html("div", { class: "cx-scroll" }, table), about);
    if (focused) [...this.runs.querySelectorAll(".cx-run")].find((each) => each.title === focused)?.focus();
  }

  /** Native controls in the shade of the page: dark where its background is. */
  shade() {
    const [red, green, blue] = (getComputedStyle(this.element).backgroundColor.match(/[\d.]+/g) ?? [255, 255, 255]).map(Number);
    this.element.style.colorScheme = 0.299 * red + 0.587 * green + 0.114 * blue < 128 ? "dark" : "light";
  }
}

function render({ model, el }) {
  const panel = new Panel(model, el);
  const listeners = { "change:fields": () => panel.drawForm(), "change:answer": () => panel.drawAnswer(), "change:live": () => panel.drawLive() };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  const shade = () => panel.shade();
  const watcher = new MutationObserver(shade);
  for (const each of [document.documentElement, document.body]) watcher.observe(each, { attributes: true });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", shade);
  requestAnimationFrame(shade);
  return () => {
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    watcher.disconnect();
    system.removeEventListener("change", shade);
  };
}

export default { render };
