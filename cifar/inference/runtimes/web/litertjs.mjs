// A TFLite file in LiteRT.js, in a browser. It classifies single images: its run takes no other batch size.

// library: name of the module; wasmFolder: where its WebAssembly files are; model: a Uint8Array.
// Returns what is known of the model, and `run`, which takes a batch and returns the output and the seconds it took.
export async function load({ library, wasmFolder, model, threads }) {
  const { loadAndCompile, loadLiteRt, Tensor } = await import(library);
  const { liteRtWasm } = await loadLiteRt(wasmFolder, { threads: threads > 1 });
  const options = { accelerator: "wasm", cpuOptions: { numThreads: threads } };
  const compiled = await loadAndCompile(model, options);
  const kinds = { uint8: Uint8Array, int8: Int8Array, float32: Float32Array };
  const [{ dtype, shape: ofOne }] = compiled.getInputDetails();

  async function run({ output, shape, bytes }) {
    const at = compiled.getOutputDetails().findIndex(({ name }) => name === output);
    const images = shape[0];
    const size = bytes.length / images;
    let seconds = 0;
    let results = null;
    for (let image = 0; image < images; image += 1) {
      const elements = new kinds[dtype](bytes.slice(image * size, (image + 1) * size).buffer);
      const start = performance.now();
      const input = new Tensor(elements, Array.from(ofOne));
      const outputs = await compiled.run(input);
      const data = outputs[at].toTypedArray();
      seconds += (performance.now() - start) / 1000;
      results ??= new data.constructor(images * data.length);
      results.set(data, image * data.length);
      input.delete();
      for (const tensor of outputs) tensor.delete();
    }
    const type = Object.keys(kinds).find((name) => kinds[name] === results.constructor);
    return { seconds, shape: [images, results.length / images], dtype: type, bytes: new Uint8Array(results.buffer) };
  }

  return {
    threads: threads > 1 ? Math.min(threads, liteRtWasm.getThreadCount()) : 1,
    inputs: compiled.getInputDetails().map(described),
    outputs: compiled.getOutputDetails().map(described),
    run,
  };
}

function described({ name, dtype, shape }) {
  return { name, dtype, shape: Array.from(shape) };
}
