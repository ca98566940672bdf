// A pad to draw on: white ink on black. After each stroke the drawing goes to the page as a PNG of SENT × SENT pixels.

const SENT = 112, INK = 22;

export default function ({ parentElement, setStateValue }) {
  const root = parentElement.querySelector(".pad");
  if (root.dataset.ready) return;
  root.dataset.ready = "yes";
  const canvas = root.querySelector("canvas");
  const pen = canvas.getContext("2d");
  Object.assign(pen, { lineWidth: INK, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
  const blank = () => {
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
  };
  const at = (event) => [(event.offsetX * canvas.width) / canvas.clientWidth, (event.offsetY * canvas.height) / canvas.clientHeight];
  const send = () => {
    const small = document.createElement("canvas");
    small.width = small.height = SENT;
    small.getContext("2d").drawImage(canvas, 0, 0, SENT, SENT);
    setStateValue("drawing", small.toDataURL("image/png"));
  };
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
  });
  canvas.addEventListener("pointerup", send);
  root.querySelector(".clear").addEventListener("click", () => {
    blank();
    setStateValue("drawing", "");
  });
}
