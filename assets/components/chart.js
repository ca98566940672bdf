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

/** What figures leave to the page: its typeface, colours and grid, as st.plotly_chart has them. */
function themed(root) {
  const style = getComputedStyle(root);
  const of = (name) => style.getPropertyValue(`--st-${name}`).trim();
  const ink = `color-mix(in srgb, ${of("text-color")} 60%, transparent)`;
  const font = (size, color) => ({ size, color, family: of("font") });
  // Plotly reads no color-mix: let the browser work it out
  const canvas = document.createElement("canvas").getContext("2d");
  const plain = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return `rgba(${r},${g},${b},${(a / 255).toFixed(3)})`;
  };
  const [muted, line, text, page] = [ink, of("border-color-light"), of("text-color"), of("background-color")].map(plain);
  const axis = (standoff) => ({
    gridcolor: line, zerolinecolor: line, tickfont: font(12, muted),
    title: { font: font(14, muted), standoff },
  });
  return {
    font: font(12, muted),
    legend: { font: font(12, text) },
    hoverlabel: { bgcolor: page, bordercolor: line, font: font(12, muted) },
    xaxis: { ...axis(20), showgrid: false },
    yaxis: axis(24),
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
    this.box = root.querySelector(".plot");
    this.width = 0;
    this.watcher = new ResizeObserver(() => {
      if (this.drawn && root.clientWidth !== this.width) this.draw();
    });
    this.watcher.observe(root);
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
    const { data, layout } = this.figure;
    this.width = this.root.clientWidth;
    this.drawn = true;
    const { template, ...own } = layout;
    // "uirevision": what a visitor zoomed to or hid stays so
    const whole = merged(themed(this.root), template?.layout, own, { width: this.width, uirevision: "same" });
    this.plotly.react(this.box, data, whole, this.config);
  }

  end() {
    this.ended = true;
    this.watcher.disconnect();
    this.plotly?.purge(this.box);
  }
}

const charts = new WeakMap();

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".chart");
  if (!charts.has(root)) charts.set(root, new Chart(root));
  const chart = charts.get(root);
  chart.take(data);
  return () => {
    chart.end();
    charts.delete(root);
  };
}
