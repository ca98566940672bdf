// A Plotly figure that changes in place: st.plotly_chart makes a new one of every change, hidden until it is drawn.
//
// data = { figure: the figure as JSON, config, alt, plotly: address of plotly.min.js }

let loading;

/** Plotly, once for the page. */
function plotly(address) {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error(`${address} did not load`));
    document.head.append(script);
  });
  return loading;
}

/** What figures leave to the page, as a template's layout: typeface, colours and grid, as st.plotly_chart has them. */
function themed(root) {
  const style = getComputedStyle(root);
  const of = (name) => style.getPropertyValue(`--st-${name}`).trim();
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  // Plotly reads no color-mix(): the browser works it out
  const pen = document.createElement("canvas").getContext("2d");
  const plain = (color) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return `rgba(${r},${g},${b},${(a / 255).toFixed(3)})`;
  };
  const [text, page, line] = [of("text-color"), of("background-color"), of("border-color-light")].map(plain);
  const muted = plain(`color-mix(in srgb, ${text} 72%, transparent)`);
  const font = (size, color) => ({ size: size * rem, color, family: of("font") });
  const axis = (standoff) => ({
    gridcolor: line, zerolinecolor: line, tickfont: font(0.75, muted),
    title: { font: font(0.875, muted), standoff: standoff * rem },
  });
  return {
    font: font(0.75, muted),
    legend: { font: font(0.75, text) },
    hoverlabel: { bgcolor: page, bordercolor: line, font: font(0.75, text) },
    margin: { pad: 0.5 * rem },
    xaxis: { ...axis(1.25), showgrid: false },
    yaxis: axis(1.5),
  };
}

const isPlain = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** What any of the objects says, the later ones before the earlier. */
function merged(...objects) {
  const result = {};
  for (const each of objects)
    for (const [key, value] of Object.entries(each ?? {}))
      result[key] = isPlain(value) && isPlain(result[key]) ? merged(result[key], value) : value;
  return result;
}

class Chart {
  constructor(root) {
    this.root = root;
    this.box = root.querySelector(".drawing");
    this.width = 0;
    this.drawing = Promise.resolve(); // Plotly draws in steps: one drawing begins when the last has ended
    this.watcher = new ResizeObserver(() => {
      if (this.drawn && root.clientWidth !== this.width) this.draw();
    });
    this.watcher.observe(root);
    this.themes = new MutationObserver(() => this.drawn && this.draw());
    for (let node = root; node; node = node.parentElement)
      this.themes.observe(node, { attributes: true, attributeFilter: ["style", "class"] });
  }

  async take(data) {
    this.figure = JSON.parse(data.figure);
    this.config = data.config;
    this.root.setAttribute("aria-label", data.alt);
    this.box.style.height = `${this.figure.layout.height}px`; // from the start: what is below does not move
    this.plotly = await plotly(data.plotly);
    if (!this.ended) this.draw();
  }

  draw() {
    this.drawn = true;
    this.width = this.root.clientWidth;
    this.drawing = this.drawing
      .then(() => this.ended || this.plotly.react(this.box, ...this.dressed()))
      .catch((error) => console.error(error)); // one figure that fails does not stop the next
  }

  /** The figure in the page's look and width; "uirevision": what a visitor zoomed to or hid stays so. */
  dressed() {
    const { data, layout } = this.figure;
    const template = { layout: merged(themed(this.root), layout.template?.layout) };
    return [data, { ...layout, template, width: this.width, uirevision: "same" }, this.config];
  }

  end() {
    this.ended = true;
    this.watcher.disconnect();
    this.themes.disconnect(); // no Plotly.purge: a drawing that goes on would miss what it takes away
  }
}

const charts = new WeakMap();

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".live-chart");
  if (!charts.has(root)) charts.set(root, new Chart(root));
  const chart = charts.get(root);
  chart.take(data);
  return () => {
    chart.end();
    charts.delete(root);
  };
}
