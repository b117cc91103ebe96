// A model file in Node: `node node.mjs PACKAGE MODEL THREADS`. Speaks with program.py over stdin and stdout: a line of
// JSON with the number of bytes that follow it, and the bytes.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { load } from "./onnxruntime.mjs";

const [packageFolder, path, threads] = process.argv.slice(2);
const send = (message, bytes = new Uint8Array()) =>
  new Promise((resolve) => {
    process.stdout.write(`${JSON.stringify({ ...message, bytes: bytes.length })}\n`);
    process.stdout.write(bytes, resolve);
  });

async function* requests() {
  let waiting = Buffer.alloc(0);
  let header = null;
  for await (const chunk of process.stdin) {
    waiting = Buffer.concat([waiting, chunk]);
    for (;;) {
      if (header === null) {
        const end = waiting.indexOf("\n");
        if (end < 0) break;
        header = JSON.parse(waiting.subarray(0, end));
        waiting = waiting.subarray(end + 1);
      }
      if (waiting.length < header.bytes) break;
      const bytes = new Uint8Array(waiting.subarray(0, header.bytes));
      waiting = waiting.subarray(header.bytes);
      yield { ...header, bytes };
      header = null;
    }
  }
}

try {
  const library = pathToFileURL(join(packageFolder, "dist", "ort.node.min.mjs")).href;
  const { run, ...facts } = await load({ library, model: readFileSync(path), threads: Number(threads) });
  await send({ ...facts, host: `Node ${process.versions.node}` });
  for await (const request of requests()) {
    const { bytes, ...reply } = await run(request);
    await send(reply, bytes);
  }
} catch (error) {
  await send({ error: String(error.message ?? error) });
}
process.exit();
