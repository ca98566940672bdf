// The first page of the site: the visitor's digit, and the front of every collection of finished runs. Every name goes in as
// text (append, textContent), none as markup.

import { badge, front, html, options, reading } from "../components/front.js";
import { digits } from "./digits.js";

const data = JSON.parse(document.getElementById("data").textContent);
document.getElementById("stopped").remove();

/** The picked run in a few figures, with the way to its report. */
function card(run, id, verdict, report) {
  const figures = run.figures.map((each) => html("div", {}, html("span", { class: "label" }, each.label), html("strong", {}, each.value), html("span", { class: "note" }, each.note)));
  return html(
    "aside", { class: "card", "aria-live": "polite" }, html("p", { class: "method" }, badge(run.method), run.method.label),
    html("h3", {}, run.name), html("p", { class: "caption" }, run.request), html("p", {}, verdict), html("div", { class: "figures" }, ...figures),
    html("p", {}, html("a", { class: "report", href: `${report}#${encodeURIComponent(id)}` }, "Layers, bytes, classes and budget: its report")),
  );
}

/** The front of one collection. */
function collection({ report, runs, fronts }) {
  const marks = fronts[0].marks.filter((each) => each.id);
  let [picked, axis] = [(marks.find((each) => !each.beaten) ?? marks[0]).id, 0];
  const chart = front(fronts[axis], { picked });
  const aside = html("div");
  const pick = (id) => {
    picked = id;
    chart.pick(id);
    aside.replaceChildren(card(runs[id], id, fronts[axis].marks.find((each) => each.id === id)?.verdict ?? "", report));
  };
  chart.addEventListener("pick", (event) => pick(event.detail.id));
  const costs = options("Cost", fronts.map((each) => each.label), (at) => ((axis = at), chart.update(fronts[at]), pick(picked)));
  pick(picked);
  const note = html("p", { class: "caption" }, `${reading(fronts)} Hover or Tab for a run, click or Enter to pick it.`);
  return html("div", { class: "two" }, html("div", {}, costs, chart, note), aside);
}

/** The section of fronts: a collection is fetched when it is chosen. */
function fronts(section) {
  const [choice, place] = [section.querySelector("select"), section.querySelector(".place")];
  const show = async () => {
    const { name } = data.collections[choice.selectedIndex];
    try {
      const answer = await fetch(`fronts/${encodeURIComponent(name)}.json`);
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const stored = await answer.json();
      if (data.collections[choice.selectedIndex].name === name) place.replaceChildren(...stored.subjects.map(collection));
    } catch (problem) {
      place.replaceChildren(html("p", { class: "problem" }, `The runs could not be loaded: ${problem.message}`));
    }
  };
  choice.addEventListener("change", show);
  show();
}

if (data.digits) digits(document.getElementById("digits"), data.digits);
if (data.collections.length) fronts(document.getElementById("fronts"));
