// The asks of a method as sliders: one handle or two, an optional ask behind a switch, alternatives behind a choice. One
// module for notebooks and pages: plain data in, an element out, a call for each move of a person.
//
//   const form = sliders((field, value) => …);      // a <div>; value: a number, [low, high], or null (switched off)
//   form.build(controls); form.show(values);        // values: field → the same
//
// controls = [{field, label, kind: "slider" | "range", low, high, step, default, percent, optional, alternative, help, why}]
// Names and numbers go in as text alone. Colours are the page's --st-… variables (explore.css).
import { html } from "./front.js";

let count = 0; // of elements with an id on this page
export const fresh = () => `cx-${++count}-${Math.random().toString(36).slice(2, 8)}`;

/** A number as its control shows it: shares in percent, at most four digits that count. */
export function shown(control, value) {
  if (value === null || value === undefined) return "off";
  if (Array.isArray(value)) {
    const [low, high] = value.map((each) => shown(control, each));
    return low === high ? low : `${low} to ${high}`;
  }
  return control.percent ? `${+(100 * value).toPrecision(4)} %` : String(+value.toPrecision(6));
}

class Slider {
  constructor(control, move) {
    this.control = control;
    const id = fresh();
    this.output = html("output", { class: "cx-value" });
    this.why = html("p", { class: "cx-note", id: `${id}-why` }, control.why || "");
    this.why.hidden = !control.why;
    const ends = control.kind === "range" ? ["from", "to"] : [""];
    this.handles = ends.map((end) => this.handle(end, id));
    const name = html("span", { class: "cx-label", title: control.help }, control.label);
    const head = html("div", { class: "cx-head" }, name, this.output);
    if (control.optional && !control.alternative) {
      this.on = html("input", { type: "checkbox", "aria-label": `Use ${control.label}` });
      this.on.addEventListener("change", () => move(control.field, this.on.checked ? control.default : null));
      name.prepend(this.on, " ");
    }
    this.element = html("div", { class: "cx-ask", role: "group", "aria-label": control.label, "data-field": control.field }, head);
    for (const [i, handle] of this.handles.entries()) {
      handle.addEventListener("input", () => {
        const values = this.handles.map((each) => Number(each.value));
        if (values.length === 2 && values[0] > values[1]) values[1 - i] = values[i];
        const value = values.length === 2 ? values : values[0];
        this.show(value);
        move(control.field, value);
      });
      this.element.append(ends[i] ? html("label", { class: "cx-end" }, html("span", {}, ends[i]), handle) : handle);
    }
    this.element.append(this.why);
  }

  handle(end, id) {
    const { low, high, step, label, help } = this.control;
    const name = end ? `${label}, ${end}` : label;
    const about = this.control.why ? { "aria-describedby": `${id}-why` } : {};
    const input = html("input", { type: "range", min: low, max: high > low ? high : low + step, step, "aria-label": name, title: help, ...about });
    input.disabled = high <= low;
    return input;
  }

  show(value) {
    const off = value === null || value === undefined;
    if (this.on) this.on.checked = !off;
    this.element.classList.toggle("cx-off", off);
    this.output.textContent = shown(this.control, value);
    const ends = off ? this.control.default : value;
    for (const [i, handle] of this.handles.entries()) {
      const end = Array.isArray(ends) ? ends[i] : ends;
      if (Number(handle.value) !== end) handle.value = end;
      handle.disabled = off || this.control.high <= this.control.low;
      handle.setAttribute("aria-valuetext", shown(this.control, end));
      const { low, high } = this.control;
      handle.style.setProperty("--at", `${high > low ? (100 * (Math.min(high, Math.max(low, end)) - low)) / (high - low) : 0}%`);
    }
  }
}

/** The alternatives, of which one counts, as a row of radio buttons; below it the slider of that one. */
class Alternatives {
  constructor(controls, move) {
    this.sliders = new Map(controls.map((control) => [control.field, new Slider(control, move)]));
    const name = fresh();
    this.radios = new Map();
    const row = html("div", { class: "cx-choice", role: "radiogroup", "aria-label": "How much is removed, by" });
    for (const control of controls) {
      const radio = html("input", { type: "radio", name, value: control.field });
      radio.addEventListener("change", () => move(control.field, control.default));
      this.radios.set(control.field, radio);
      row.append(html("label", { title: control.help }, radio, html("span", {}, control.label)));
    }
    this.element = html("div", {}, row, ...[...this.sliders.values()].map((slider) => slider.element));
  }

  show(values) {
    const active = [...this.sliders.keys()].find((field) => values[field] !== null && values[field] !== undefined);
    for (const [field, slider] of this.sliders) {
      slider.element.hidden = field !== active;
      this.radios.get(field).checked = field === active;
      if (field === active) slider.show(values[field]);
    }
  }
}

/** The form as an element with `build(controls)` and `show(values)`; `move(field, value)` is called at each move. */
export function sliders(move) {
  const element = html("div", { class: "cx-sliders" });
  let parts = [], alternatives = null;
  const build = (controls) => {
    const either = controls.filter((control) => control.alternative);
    alternatives = either.length ? new Alternatives(either, move) : null;
    parts = controls.filter((control) => !control.alternative).map((control) => new Slider(control, move));
    element.replaceChildren(...(alternatives ? [alternatives.element] : []), ...parts.map((part) => part.element));
  };
  const show = (values) => {
    alternatives?.show(values);
    for (const part of parts) part.show(values[part.control.field]);
  };
  return Object.assign(element, { build, show });
}
