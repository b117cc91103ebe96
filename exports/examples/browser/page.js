// The page: pictures and models come in, probabilities and latencies go out.
import { CLASSES, SIDE, classify, latency, load } from "./classify.js";

const RELEASED = new URL("../../", import.meta.url);
const byId = (id) => document.getElementById(id);
const models = new Map(); // by name: what `load` takes, and the session once it is loaded
let image = null;
let latest = 0; // the number of the latest classification: an older one shows nothing
let running = Promise.resolve();

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function addModel(name, source, chosen) {
  models.set(name, { source, session: null });
  const box = element("input", undefined, { type: "checkbox", value: name });
  box.checked = chosen;
  box.addEventListener("change", show);
  const label = element("label");
  label.append(box, ` ${name}`);
  byId("models").append(label);
}

async function addReleasedModels() {
  const answer = await fetch(new URL("manifest.json", RELEASED));
  if (!answer.ok) throw new Error(`exports/manifest.json: the server answers ${answer.status}; it must serve exports/.`);
  const names = (await answer.json()).models.map((entry) => entry.file).filter((file) => file.endsWith(".onnx"));
  names.forEach((name, number) => addModel(name, new URL(name, RELEASED).href, number < 2));
}

// The middle square at 32 by 32 pixels, as RGB bytes.
async function toBytes(file) {
  const bitmap = await createImageBitmap(file);
  const side = Math.min(bitmap.width, bitmap.height);
  const context = byId("picture").getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, SIDE, SIDE);
  context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  const pixels = context.getImageData(0, 0, SIDE, SIDE).data;
  return Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => pixels[4 * Math.floor(i / 3) + (i % 3)]);
}

function card(name, probabilities, milliseconds) {
  const section = element("section");
  const rows = CLASSES.map((label, index) => [label, probabilities[index]]).sort((a, b) => b[1] - a[1]);
  const table = element("table");
  for (const [label, probability] of rows) {
    const row = table.insertRow();
    const percent = `${(100 * probability).toFixed(1)} %`;
    row.append(element("th", label, { scope: "row" }));
    const bar = element("td");
    bar.append(element("meter", undefined, { value: probability, "aria-label": `${label}: ${percent}` }));
    row.append(bar, element("td", percent));
  }
  section.append(element("h2", name), element("p", `${milliseconds.toFixed(2)} ms`, { class: "note" }), table);
  return section;
}

// One classification after the other: a session cannot run twice at once.
function show() {
  latest += 1;
  const number = latest;
  running = running.then(() => showNow(number));
  return running;
}

async function showNow(number) {
  if (number !== latest) return;
  const chosen = [...byId("models").querySelectorAll("input:checked")].map((box) => box.value);
  if (!image || !chosen.length) {
    byId("results").replaceChildren();
    byId("status").textContent = image ? "Choose a model." : "";
    return;
  }
  const cards = [];
  const failures = [];
  for (const name of chosen) {
    byId("status").textContent = `${name} …`;
    const model = models.get(name);
    try {
      model.session ??= await load(model.source);
      cards.push(card(name, await classify(model.session, image), await latency(model.session, image)));
    } catch (error) {
      failures.push(`${name} cannot be run: ${String(error.message ?? error).split("\n")[0]}`);
    }
    if (number !== latest) return;
  }
  byId("results").replaceChildren(...cards);
  byId("status").textContent = failures.join(" ");
}

async function take(files) {
  for (const file of files) {
    try {
      if (file.name.endsWith(".onnx")) {
        addModel(file.name, new Uint8Array(await file.arrayBuffer()), true);
      } else {
        image = await toBytes(file);
        byId("seen").hidden = false;
      }
    } catch {
      byId("status").textContent = `${file.name} is neither a picture that this browser reads nor an .onnx file.`;
      return;
    }
  }
  await show();
}

byId("file").addEventListener("change", (event) => take(event.target.files));
for (const kind of ["dragover", "dragleave", "drop"]) {
  byId("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });
}
addReleasedModels().catch((error) => {
  byId("status").textContent = `The released models are not here: ${error.message}`;
});
