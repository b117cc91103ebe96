// An ONNX file in ONNX Runtime for the web, in Node as in a browser.

// library: address of the module; wasmFolder: where a browser finds the WebAssembly files; model: a Uint8Array.
// Returns what is known of the model, and `run`, which takes a batch and returns the output and the seconds it took.
export async function load({ library, wasmFolder, model, threads }) {
  const ort = await import(library);
  ort.env.wasm.numThreads = threads;
  if (wasmFolder) ort.env.wasm.wasmPaths = wasmFolder;
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const [input] = session.inputMetadata;

  async function run({ output, shape, bytes }) {
    const batch = new ort.Tensor(input.type, typedArray(input.type, bytes), shape);
    const start = performance.now();
    const outputs = await session.run({ [input.name]: batch });
    const seconds = (performance.now() - start) / 1000;
    const { data, dims, type } = outputs[output];
    return { seconds, shape: dims, dtype: type, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
  }

  return {
    // ONNX Runtime sets this to 1 where the page or the engine has no shared memory.
    threads: ort.env.wasm.numThreads,
    inputs: session.inputMetadata.map(described),
    outputs: session.outputMetadata.map(described),
    run,
  };
}

function described({ name, type, shape }) {
  return { name, dtype: type, shape: shape.map((side) => (Number.isInteger(side) && side > 0 ? side : null)) };
}

function typedArray(type, bytes) {
  const kinds = { uint8: Uint8Array, int8: Int8Array, float32: Float32Array, float64: Float64Array };
  if (!(type in kinds)) throw new Error(`its input is ${type}, not ${Object.keys(kinds).join(", ")}`);
  const copy = bytes.slice(); // aligned
  return new kinds[type](copy.buffer);
}
