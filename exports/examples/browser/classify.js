// Loads an exported ONNX model and classifies images: all that a page of your own needs.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need a server that isolates the page (COOP and COEP headers)

export const SIDE = 32;
export const CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

// model: the address of a file, or its bytes as a Uint8Array.
export function load(model) {
  return ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
}

// bytes: Uint8Array of n images, RGB, channels last, 0 to 255. Returns a Float32Array of n times ten probabilities.
export async function classify(session, bytes) {
  const n = bytes.length / (SIDE * SIDE * 3);
  const image = new ort.Tensor("uint8", bytes, [n, SIDE, SIDE, 3]);
  const { probabilities } = await session.run({ image });
  if (probabilities.dims[1] !== CLASSES.length) throw new Error(`it has ${probabilities.dims[1]} classes, not ten`);
  return probabilities.data;
}

// The median time of one image in milliseconds.
export async function latency(session, bytes, runs = 20, warmUp = 3) {
  const times = [];
  for (let run = 0; run < warmUp + runs; run += 1) {
    const start = performance.now();
    await classify(session, bytes);
    if (run >= warmUp) times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return (times[(runs - 1) >> 1] + times[runs >> 1]) / 2;
}
