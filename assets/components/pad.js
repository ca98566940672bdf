// A pad to draw on: white ink on black. One module for the app and for pages without a server:
//
//   pad(root, { drawn: (small) => …, moving: (small) => … });   // root: the element .pad of pad.html
//
// After each stroke `drawn` gets the drawing as a canvas of SENT × SENT pixels, `null` once it is cleared; `moving` gets it
// while the pen moves. In the app (the default export) the drawing goes to the page as a PNG.

const SENT = 112, INK = 22;

export function pad(root, { drawn, moving = () => {} }) {
  const canvas = root.querySelector("canvas");
  const pen = canvas.getContext("2d");
  Object.assign(pen, { lineWidth: INK, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
  const blank = () => {
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
  };
  const at = (event) => [(event.offsetX * canvas.width) / canvas.clientWidth, (event.offsetY * canvas.height) / canvas.clientHeight];
  const small = document.createElement("canvas");
  small.width = small.height = SENT;
  const copy = small.getContext("2d", { willReadFrequently: true });
  const shrunk = () => (copy.drawImage(canvas, 0, 0, SENT, SENT), small);
  blank();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pen.beginPath();
    pen.moveTo(...at(event));
    pen.lineTo(...at(event)); // a dot is ink, too
    pen.stroke();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    pen.lineTo(...at(event));
    pen.stroke();
    moving(shrunk());
  });
  canvas.addEventListener("pointerup", () => drawn(shrunk()));
  root.querySelector(".clear").addEventListener("click", () => {
    blank();
    drawn(null);
  });
  return { blank };
}

export default function ({ parentElement, setStateValue }) {
  const root = parentElement.querySelector(".pad");
  if (root.dataset.ready) return;
  root.dataset.ready = "yes";
  pad(root, { drawn: (small) => setStateValue("drawing", small ? small.toDataURL("image/png") : "") });
}
