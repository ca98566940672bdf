// Networks as ONNX files, run in the browser by onnxruntime-web on one thread: no headers of a server are needed, no worker.

const RUNTIME = new URL("../runtime/", import.meta.url);
const sessions = new Map(); // file → promise of its session
let runtime; // promise of the module

async function loaded() {
  const ort = await import(new URL("ort.wasm.bundle.min.mjs", RUNTIME).href);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", RUNTIME).href };
  return ort;
}

/** The session of an ONNX file, loaded once; the first one loads the runtime. */
export function session(file) {
  runtime ??= loaded();
  if (!sessions.has(file)) sessions.set(file, runtime.then((ort) => ort.InferenceSession.create(new URL(file, document.baseURI).href)));
  return sessions.get(file);
}

/** Grey values of 0 to 255 as a network takes them. */
export const normalised = (pixels, { mean, std }) => Float32Array.from(pixels, (value) => (value / 255 - mean) / std);

export function softmax(logits) {
  const top = Math.max(...logits), powers = Array.from(logits, (value) => Math.exp(value - top));
  const whole = powers.reduce((sum, each) => sum + each, 0);
  return powers.map((each) => each / whole);
}

/** What a network answers to a grey picture: logits, probabilities, and the milliseconds of the network itself. */
export async function classify(file, pixels, data) {
  const [network, ort] = await Promise.all([session(file), runtime]);
  const picture = new ort.Tensor("float32", normalised(pixels, data), [1, 1, data.side, data.side]);
  const start = performance.now();
  const answer = await network.run({ [network.inputNames[0]]: picture });
  const ms = performance.now() - start;
  const logits = Array.from(answer[network.outputNames[0]].data);
  return { logits, shares: softmax(logits), ms };
}
