// Classifies an image file with an exported ONNX model: node classify.mjs MODEL IMAGE
import { readFileSync } from "node:fs";
import ort from "onnxruntime-web";
import sharp from "sharp";

const CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const [model, file] = process.argv.slice(2);
if (file === undefined) {
  console.error("usage: node classify.mjs MODEL IMAGE");
  process.exit(1);
}

const session = await ort.InferenceSession.create(readFileSync(model));
const picture = sharp(file).removeAlpha().toColourspace("srgb").resize(32, 32, { fit: "fill" });
const bytes = new Uint8Array(await picture.raw().toBuffer()); // (32, 32, 3), 0 to 255
const image = new ort.Tensor("uint8", bytes, [1, 32, 32, 3]);
const { probabilities } = await session.run({ image });

const ranked = CLASSES.map((name, index) => [name, probabilities.data[index]]).sort((a, b) => b[1] - a[1]);
for (const [name, share] of ranked.slice(0, 3)) console.log(`${name.padEnd(12)} ${(100 * share).toFixed(1)}%`);
