// The visitor's digit before the dense and a compressed network: both answer after each stroke, and while it is drawn.

import { bars } from "../components/bars.js";
import { badge, html } from "../components/front.js";
import { fromDrawing } from "../components/ink.js";
import { pad } from "../components/pad.js";
import { classify } from "./classify.js";

const FIGURE_SPACE = "\u2007"; // as wide as a digit: numbers that change stay in their place
const percent = (share) => `${(100 * share).toFixed(1).padStart(5, FIGURE_SPACE)} %`;
const largest = (shares) => shares.indexOf(Math.max(...shares));

/** One network: what it is, what it answers, its bytes and milliseconds. */
function panel(classes) {
  const [name, about, facts] = [html("h3"), html("p", { class: "caption" }), html("dl", { class: "facts" })];
  const [answer, chart, size, smaller] = [html("strong", { class: "answer" }), html("div"), html("strong"), html("span", { class: "note" })];
  let color;
  const show = (result) => {
    const first = result ? largest(result.shares) : -1;
    answer.textContent = result ? classes[first] : "–";
    chart.replaceChildren(bars(classes.map((label, i) => {
      const share = result ? result.shares[i] : 0;
      return { label, value: share, text: result ? percent(share) : "", hover: result ? percent(share).trim() : "nothing drawn" };
    }), { color, most: 1 }));
    time.textContent = result ? `${result.ms.toFixed(1)} ms` : "–";
  };
  const time = html("dd", { class: "time" });
  const is = (model) => {
    color = model.method.color;
    name.replaceChildren(badge(model.method), model.title);
    about.textContent = model.request;
    [size.textContent, smaller.textContent] = [model.packed, model.smaller];
    const rows = [["ONNX file", model.onnx], ["Test accuracy", model.score], ["MACs", model.macs]].map(([label, value]) => [label, html("dd", {}, value)]);
    facts.replaceChildren(...[...rows, ["This answer", time]].map(([label, value]) => html("div", {}, html("dt", {}, label), value)));
  };
  const element = html("article", { class: "network" }, name, about, html("div", { class: "saying" }, html("span", {}, "says"), answer, html("div", { class: "size" }, size, smaller)), chart, facts);
  return { element, is, show };
}

/** Grey pixels on a canvas of their own size. */
function paint(canvas, pixels) {
  const pen = canvas.getContext("2d"), image = pen.createImageData(canvas.width, canvas.height);
  image.data.forEach((_, i) => (image.data[i] = i % 4 === 3 ? 255 : pixels ? pixels[i >> 2] : 0));
  pen.putImageData(image, 0, 0);
}

const decoded = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Fill the section: the pad and the examples on the left, both networks beside each other on the right. */
export function digits(section, data) {
  const [status, input] = [section.querySelector(".status"), section.querySelector(".input")];
  const panels = [panel(data.classes), panel(data.classes)];
  let [model, current, waiting, busy] = [data.models.find((each) => each.id === data.first), null, false, false];
  section.querySelector(".networks").replaceChildren(...panels.map((each) => each.element));
  input.width = input.height = data.side;

  const both = () => [data.dense, model];
  /** Show answers to the latest picture; those in between are left out while the networks are busy. */
  async function look(pixels) {
    current = pixels;
    waiting = true;
    if (busy) return;
    busy = true;
    try {
      while (waiting) {
        waiting = false;
        const seen = current;
        paint(input, seen);
        const answers = [];
        for (const each of both()) answers.push(seen ? await classify(each.file, seen, data) : null);
        panels.forEach((each, i) => each.show(answers[i]));
        status.textContent = seen ? verdict(answers.map(({ shares }) => data.classes[largest(shares)])) : "Draw a digit, or take one of the examples.";
      }
    } catch (problem) {
      status.textContent = `The networks cannot run in this browser: ${problem.message}`;
    } finally {
      busy = false;
    }
  }
  const verdict = ([dense, small]) => (dense === small ? `Both say ${dense}.` : `They differ: the dense network says ${dense}, the compressed one ${small}.`);
  const seen = (small) => {
    const pixels = small.getContext("2d").getImageData(0, 0, small.width, small.height).data;
    return fromDrawing(pixels.filter((_, i) => i % 4 === 0), small.width, data.side, data.side);
  };
  const drawing = pad(section.querySelector(".pad"), {
    drawn: (small) => look(small && seen(small)),
    moving: (small) => busy || look(seen(small)),
  });

  section.querySelector(".examples").append(...data.examples.map(({ label, pixels }) => {
    const picture = html("canvas", { width: data.side, height: data.side });
    const button = html("button", { type: "button", "aria-label": `Example: a handwritten ${label}` }, picture);
    paint(picture, decoded(pixels));
    button.addEventListener("click", () => (drawing.blank(), look(decoded(pixels))));
    return button;
  }));

  const choice = section.querySelector("select");
  choice.replaceChildren(...data.models.map((each) => html("option", { value: each.id }, `${each.title}: ${each.smaller}, ${each.score}`)));
  choice.value = model.id;
  const describe = () => panels.forEach((each, i) => (each.is(both()[i]), each.show(null)));
  choice.addEventListener("change", () => {
    model = data.models.find((each) => each.id === choice.value);
    describe();
    look(current);
  });
  describe();
  paint(input, null);
  status.textContent = "Loading the runtime: you can draw already.";
  const warm = Promise.all(both().map((each) => classify(each.file, new Uint8Array(data.side ** 2), data))); // the first pass of a session is slower
  warm.then(() => look(current), (problem) => (status.textContent = `The networks cannot run in this browser: ${problem.message}`));
}
