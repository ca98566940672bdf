// Rows of bars, one a layer or a part: plain data in, an element out. Needs front.js and bars.css, no network.
//
//   bars([{label, value, text, hover, before?, diamond?}, …], { color, dense, most })
//
// A wide pale bar for the value before (the dense model), in it a narrow one in the method's colour; a diamond for a second
// value on the same scale. Widths are shares of the largest value, or of `most`, so
// that the element fits any page, printed ones too.

import { html, svg } from "./front.js";

const ROW = 22, DENSE = 16, BAR = 8;
const LETTER = 6.4; // pixels of a letter of the texts, which stand to the right of the bars

const largest = (rows) => Math.max(...rows.flatMap((row) => [row.value, row.before ?? 0, row.diamond ?? 0]), 0) || 1;

export function bars(rows, { color, dense = "#8a919c", most = largest(rows) }) {
  const share = (value) => `${((100 * value) / most).toFixed(3)}%`;
  const list = html("div", { class: "bars" });
  list.style.paddingRight = `${12 + LETTER * Math.max(...rows.map((row) => row.text.length), 0)}px`;
  for (const row of rows) {
    const picture = svg("svg", { height: ROW, role: "img", "aria-label": `${row.label}: ${row.hover}` });
    picture.append(svg("title", {}, row.hover));
    const bar = (value, height, fill, opacity) =>
      svg("rect", { x: 0, y: (ROW - height) / 2, width: share(value), height, fill, "fill-opacity": opacity });
    if (typeof row.before === "number") picture.append(bar(row.before, DENSE, dense, 0.3));
    picture.append(bar(row.value, BAR, color, 1));
    const end = Math.max(row.value, row.diamond ?? 0);
    if (row.diamond) {
      const place = svg("svg", { x: share(row.diamond), y: ROW / 2, width: 1, height: 1, overflow: "visible" });
      place.append(svg("path", { d: "M0 -5L5 0L0 5L-5 0Z", fill: "none", stroke: color, "stroke-width": 2 }));
      picture.append(place);
    }
    picture.append(svg("text", { x: share(end), dx: row.diamond ? 11 : 6, y: ROW / 2 + 4 }, row.text));
    list.append(html("span", { class: "bars-label", title: row.label }, row.label), picture);
  }
  return list;
}
