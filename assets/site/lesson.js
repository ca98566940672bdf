// A lesson of the site: draws the recorded figure, and another one when its control moves. The words about a figure come with
// it, as HTML that was made from the lesson's text when the site was built.

import { html } from "../components/front.js";

const place = document.getElementById("figure");
const control = document.getElementById("control");
const dark = matchMedia("(prefers-color-scheme: dark)");
const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };

/** The figure in the page's colours, as wide as its place. */
function layout(figure) {
  const look = getComputedStyle(document.documentElement);
  const [text, grid] = ["--st-text-color", "--st-border-color"].map((name) => look.getPropertyValue(name).trim());
  const axes = Object.keys(figure.layout).filter((name) => /^[xy]axis\d*$/.test(name));
  const colored = axes.map((name) => [name, { gridcolor: grid, linecolor: grid, ...figure.layout[name] }]);
  const font = { color: text, family: "Report, system-ui, sans-serif", size: 12 };
  return { ...figure.layout, ...Object.fromEntries(colored), font, autosize: true, dragmode: false };
}

function table({ head, rows, left_out: more }) {
  const row = (name, cells) => html("tr", {}, ...cells.map((cell) => html(name, {}, cell)));
  const drawn = html("table", {}, html("thead", {}, row("th", head)), html("tbody", {}, ...rows.map((cells) => row("td", cells))));
  return more ? [drawn, html("p", { class: "caption" }, `${more} more rows are left out.`)] : [drawn];
}

function show(frame) {
  Plotly.react(place, frame.figure.data, layout(frame.figure), CONFIG);
  for (const part of ["idea", "formula", "caption"]) document.getElementById(part).innerHTML = frame[part];
  document.getElementById("table").replaceChildren(...table(frame.table));
  if (control) control.nextElementSibling.value = frame.position;
}

try {
  const answer = await fetch(place.dataset.recorded);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const { frames, start } = await answer.json();
  const at = () => frames[control ? Number(control.value) : start];
  place.replaceChildren();
  control?.addEventListener("input", () => show(at()));
  dark.addEventListener("change", () => show(at()));
  show(at());
} catch (problem) {
  place.replaceChildren(html("p", { class: "problem" }, `The figure could not be loaded: ${problem.message}`));
}
