// A report: builds the page from the JSON in #data. Every name goes in as text (append, textContent), none as markup.

import { bars } from "../components/bars.js";
import { badge, front, html, options, reading } from "../components/front.js";

const COLUMNS = ["Run", "Method", "Packed size", "Smaller", "Score", "Change", "MACs", "BOPs"];
const STRONG = 0.5; // of a cell: its number is dark on orange, white on blue
const report = JSON.parse(document.getElementById("data").textContent);

const section = (title, ...children) => html("section", { class: "part" }, html("h3", {}, title), ...children);
const caption = (text) => (text ? html("p", { class: "caption" }, text) : null);
const titled = (run) => [run.name, run.request].filter(Boolean).join(": ");

function table(data, name = "") {
  const side = (place) => (data.numeric?.[place] ? { class: "number" } : {});
  const row = (cells) => html("tr", {}, ...cells.map((cell, i) => html("td", side(i), cell)));
  const head = html("tr", {}, ...data.head.map((cell, i) => html("th", { scope: "col", ...side(i) }, cell)));
  const drawn = html("table", {}, html("thead", {}, head), html("tbody", {}, ...data.rows.map(row)));
  return html("div", { class: "scroll" }, drawn, name ? download([data.head, ...data.rows], name) : null);
}

/** Rows as CSV; what a spreadsheet would read as a formula is defused. */
function download(rows, name) {
  const cell = (value) => `"${(/^[=+\-@]/.test(value) ? `'${value}` : value).replaceAll('"', '""')}"`;
  return saved(rows.map((row) => row.map(cell).join(",")).join("\n"), "text/csv", `${name}.csv`, "CSV");
}

function saved(text, kind, name, label) {
  return html("a", { class: "save", download: name, href: `data:${kind};charset=utf-8,${encodeURIComponent(text.toWellFormed?.() ?? text)}` }, label);
}

const folded = (label, ...children) => html("details", {}, html("summary", {}, label), ...children);

function pairs(rows) {
  return html("dl", {}, ...rows.flatMap(([name, value]) => [html("dt", {}, name), html("dd", {}, value)]));
}

/** The picked run in a few figures. */
function card(run, verdict) {
  const tags = run.tags.map((tag) => html("span", { class: "tag" }, tag));
  const figures = run.figures.map((each) => html("div", {}, html("span", { class: "label" }, each.label), html("strong", {}, each.value), html("span", { class: "note" }, each.note)));
  return html(
    "aside", { class: "card", "aria-live": "polite" },
    html("p", { class: "method" }, badge(run.method), run.method.label, ...tags),
    html("h3", {}, run.name || run.request), run.name ? caption(run.request) : null,
    html("p", {}, verdict), html("div", { class: "figures" }, ...figures),
    html("p", { class: "caption" }, [run.about, run.paper].filter(Boolean).join(" ")),
    ...run.caveats.map((text) => html("p", { class: "caption" }, text)),
  );
}

function layerPart(run) {
  const { layers } = run;
  if (layers.problem) return section("Which layers shrank?", html("p", { class: "problem" }, layers.problem));
  const place = html("div");
  const title = html("p", { class: "caption" });
  const look = { color: run.method.color };
  const show = (at) => {
    const measured = layers.measures[at].title;
    title.textContent = `${measured[0].toUpperCase()}${measured.slice(1)}. Pale: dense, fp32; in it, the compressed layer.`;
    place.replaceChildren(bars(layers.measures[at].rows, look));
  };
  show(0);
  return section("Which layers shrank?", caption(layers.sentence), options("Measure", layers.measures.map((each) => each.label), show), place, title, caption(layers.note), folded("Table of all layers", table(layers.table, `${run.id}-layers`)));
}

function ledgerPart(run) {
  return section("Where are the bytes of its file?", caption(run.ledger.sentence), bars(run.ledger.rows, { color: run.method.color }), folded("Table", table(run.ledger.table, `${run.id}-ledger`)));
}

function classesPart(run) {
  if (!run.classes) return null;
  const { names, cells, sentences, note } = run.classes;
  const long = names.some((name) => name.length > 3);
  const head = html("tr", {}, html("td", {}), ...names.map((name) => html("th", { scope: "col", title: name }, html("span", {}, name))));
  const drawn = cells.map((row, i) => html("tr", {}, html("th", { scope: "row", title: names[i] }, html("span", {}, names[i])), ...row.map(cell)));
  return section(
    "Which classes got worse?", html("p", {}, sentences.join(" ")),
    html("div", { class: "scroll" }, html("table", { class: `matrix${long ? " long" : ""}` }, html("caption", {}, "Row: class. Column: answer."), html("thead", {}, head), html("tbody", {}, ...drawn))),
    caption(note), folded("Table of changes", table(run.classes.table, `${run.id}-classes`)),
  );
}

/** How many images more or fewer, on a colour that says how much worse or better that is. */
function cell({ change, strength, hover }) {
  const text = change ? `${change > 0 ? "+" : "−"}${Math.abs(change)}` : "";
  const drawn = html("td", { title: hover }, text);
  const color = strength > 0 ? "224, 123, 0" : "43, 123, 186";
  if (strength) drawn.style.backgroundColor = `rgba(${color}, ${Math.abs(strength).toFixed(2)})`;
  if (Math.abs(strength) > STRONG) drawn.style.color = strength > 0 ? "#1f2933" : "#ffffff";
  return drawn;
}

function picturesPart(run) {
  if (!run.pictures.length) return null;
  const figures = run.pictures.map(({ picture, caption: text }) =>
    html("figure", {}, picture ? html("img", { src: report.pictures[picture], alt: text }) : null, html("figcaption", {}, text)));
  return section("What does it answer?", html("div", { class: "pictures" }, ...figures));
}

function requestParts(run) {
  return [
    section("Before and after", table(run.comparison, `${run.id}-comparison`)),
    section("The budget", caption(`${run.budget.sentence}.`), pairs(run.budget.rows), folded("As a file", html("pre", {}, run.budget.file)), saved(run.budget.file, "application/json", run.budget.name, `Save ${run.budget.name}`)),
    section("Where it comes from", pairs(run.provenance)),
  ];
}

/** Scroll a long list to a row that is not in sight; the page itself stays. */
function bringIntoView(row, box) {
  if (!box) return;
  const seen = row.offsetTop > box.scrollTop + row.offsetHeight && row.offsetTop + row.offsetHeight < box.scrollTop + box.clientHeight;
  if (!seen) box.scrollTop = row.offsetTop - box.clientHeight / 2;
}

/** The run that the address names after #, else the first one. */
const named = (runs) => (runs.find((each) => location.hash === `#${encodeURIComponent(each.id)}`) ?? runs[0]).id;

/** The runs of one model and data set: a front, a list, and everything about the picked one. */
function subject(data) {
  let [picked, axis] = [named(data.runs), 0];
  const chart = front(data.fronts[axis], { picked });
  const aside = html("div"), details = html("div", { class: "details" });
  const rows = data.runs.map((run) => {
    const name = html("button", { type: "button", class: "run" }, badge(run.method), titled(run));
    name.addEventListener("click", () => pick(run.id));
    return html("tr", {}, html("td", {}, name, ...run.tags.map((tag) => html("span", { class: "tag" }, tag))), html("td", {}, run.method.label), ...run.row.map((value) => html("td", { class: "number" }, value)));
  });
  const columns = COLUMNS.map((name) => (name === "Score" ? data.metric : name));
  const head = html("tr", {}, ...columns.map((name, i) => html("th", { scope: "col", class: i > 1 ? "number" : "" }, name)));
  const list = html("table", { class: "runs" }, html("thead", {}, head), html("tbody", {}, ...rows));
  const csv = [[...columns, "id"], ...data.runs.map((run) => [titled(run), run.method.label, ...run.row, run.id])];

  function pick(id) {
    picked = id;
    const run = data.runs.find((each) => each.id === id);
    const verdict = data.fronts[axis].marks.find((mark) => mark.id === id)?.verdict ?? "";
    chart.pick(id);
    rows.forEach((row, i) => {
      row.classList.toggle("picked", data.runs[i].id === id);
      if (data.runs[i].id === id) bringIntoView(row, list.parentElement);
      row.querySelector("button").setAttribute("aria-pressed", String(data.runs[i].id === id));
    });
    aside.replaceChildren(card(run, verdict));
    const parts = [picturesPart(run), layerPart(run), ledgerPart(run), classesPart(run), ...requestParts(run)];
    details.replaceChildren(html("h2", {}, titled(run)), html("div", { class: "parts" }, ...parts.filter(Boolean)));
  }
  const along = (at) => ((axis = at), chart.update(data.fronts[at]), pick(picked));
  chart.addEventListener("pick", (event) => pick(event.detail.id));
  pick(picked);
  const costs = options("Cost", data.fronts.map((each) => each.label), along);
  return html(
    "section", { class: "subject" }, html("h2", {}, `${data.metric} against cost${report.subjects.length > 1 ? `: ${data.title}` : ""}`),
    html("div", { class: "two" }, html("div", {}, costs, chart, caption(`${reading(data.fronts)} Pick a point or a row to see its network.`)), aside),
    html("div", { class: "scroll list" }, list), download(csv, "runs"), details,
  );
}

function missing(rows) {
  const lines = rows.map(({ run, problem }) => html("li", {}, html("strong", {}, run), ` – ${problem}`));
  return html("section", { class: "missing", role: "note" }, html("h2", {}, "Not in this report"), html("ul", {}, ...lines));
}

const main = document.querySelector("main");
main.replaceChildren(...report.subjects.map(subject));
if (report.missing.length) main.append(missing(report.missing));
