"use strict";
// The page's moving parts: sorting and filtering tables, the confusion matrix, the two galleries.

const BATCH = 10; // pictures shown at once
const byId = (id) => document.getElementById(id);

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function fill(select, texts, first) {
  const options = texts.map((text, index) => new Option(text, String(index)));
  select.replaceChildren(...(first === undefined ? [] : [new Option(first, "")]), ...options);
}

// Tables

function sortBy(table, column, header) {
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) {
    if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  }
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const value = (row) => row.cells[column].dataset.value;
  const isNumber = [...table.tBodies[0].rows].every((row) => value(row) !== "" && !isNaN(value(row)));
  const compare = isNumber ? (a, b) => a - b : (a, b) => a.localeCompare(b);
  const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a), value(b)));
  table.tBodies[0].append(...(ascending ? rows : rows.reverse()));
}

function setUpGrid(filters) {
  const table = byId(filters.dataset.grid).querySelector("table.grid");
  const rows = [...table.tBodies[0].rows];
  const selects = [...filters.querySelectorAll("select")];
  const count = filters.querySelector(".count");
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = header.querySelector("button");
    if (button) button.addEventListener("click", () => sortBy(table, column, header));
  });
  const apply = () => {
    for (const row of rows) {
      row.hidden = selects.some((select) => select.value && row.cells[select.dataset.column].dataset.value !== select.value);
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  for (const select of selects) {
    const values = new Set(rows.map((row) => row.cells[select.dataset.column].dataset.value));
    select.append(...[...values].sort().map((value) => new Option(value, value)));
    select.addEventListener("change", apply);
  }
  apply();
}

// Predictions and pictures

class TestSet {
  constructor(content) {
    this.name = content.name;
    this.classes = content.classes;
    this.labels = bytes(content.labels);
    this.predictions = content.predictions.map((one) => ({
      name: one.name, classes: bytes(one.classes), confidences: bytes(one.confidences),
    }));
    this.pictures = content.pictures;
    this.places = new Map((content.pictures ? content.pictures.indices : []).map((index, place) => [index, place]));
    this.sheets = (content.pictures ? content.pictures.sheets : []).map((source) => {
      const picture = new Image();
      picture.src = source;
      return picture.decode().then(() => picture);
    });
  }

  draw(index, description) {
    const place = this.places.get(index);
    if (place === undefined) return null;
    const canvas = element("canvas", undefined, { width: 32, height: 32, role: "img", "aria-label": description });
    const { columns, per_sheet: perSheet } = this.pictures;
    const inSheet = place % perSheet;
    this.sheets[Math.floor(place / perSheet)].then((sheet) => {
      const left = 32 * (inSheet % columns);
      const top = 32 * Math.floor(inSheet / columns);
      canvas.getContext("2d").drawImage(sheet, left, top, 32, 32, 0, 0, 32, 32);
    });
    return canvas;
  }

  said(prediction, index) {
    const percent = Math.round((100 * prediction.confidences[index]) / 255);
    return `${this.classes[prediction.classes[index]]} ${percent}\u00a0%`;
  }
}

class Gallery {
  constructor(list, more, count) {
    Object.assign(this, { list, more, count });
    more.addEventListener("click", () => this.append());
  }

  show(testSet, indices, sentence, lines) {
    Object.assign(this, { testSet, indices, sentence, lines, shown: 0 });
    this.list.replaceChildren();
    this.append();
  }

  append() {
    for (const index of this.indices.slice(this.shown, this.shown + BATCH)) {
      const lines = this.lines(index);
      const item = element("li");
      const picture = this.testSet.draw(index, `Image ${index}: ${lines.join(", ")}`);
      if (picture) item.append(picture);
      for (const line of lines) item.append(element("div", line));
      item.append(element("div", `image ${index}`, { class: "index" }));
      this.list.append(item);
    }
    this.shown = Math.min(this.shown + BATCH, this.indices.length);
    this.more.hidden = this.shown === this.indices.length;
    this.count.textContent = `${this.sentence} ${this.shown} of ${this.indices.length} shown.`;
  }
}

// Misclassified images

function confusion(testSet, prediction) {
  const counts = testSet.classes.map(() => testSet.classes.map(() => 0));
  testSet.labels.forEach((label, index) => (counts[label][prediction.classes[index]] += 1));
  return counts;
}

function drawConfusion(testSet, prediction, open) {
  const head = element("tr");
  head.append(element("th", "true \\ predicted", { scope: "col" }));
  for (const name of [...testSet.classes, "right %"]) head.append(element("th", name, { scope: "col" }));
  const rows = confusion(testSet, prediction).map((counts, label) => {
    const row = element("tr");
    row.append(element("th", testSet.classes[label], { scope: "row" }));
    counts.forEach((count, predicted) => {
      const cell = element("td", undefined, label === predicted ? { class: "right" } : {});
      if (label === predicted || count === 0) {
        cell.textContent = String(count);
      } else {
        const description = `${count}: ${testSet.classes[label]} taken for ${testSet.classes[predicted]}`;
        const button = element("button", String(count), { type: "button", "aria-label": description });
        button.addEventListener("click", () => open(label, predicted));
        cell.append(button);
      }
      row.append(cell);
    });
    const total = counts.reduce((sum, count) => sum + count, 0);
    row.append(element("td", total ? ((100 * counts[label]) / total).toFixed(1) : "-"));
    return row;
  });
  const thead = element("thead");
  thead.append(head);
  const tbody = element("tbody");
  tbody.append(...rows);
  byId("confusion").replaceChildren(thead, tbody);
}

function setUpMisclassified(gallery, testSet) {
  const [name, label, predicted, confidence] = ["name", "true", "predicted", "confidence"].map((id) => byId(`wrong-${id}`));
  fill(name, testSet.predictions.map((one) => one.name));
  fill(label, testSet.classes, "any");
  fill(predicted, testSet.classes, "any");
  const show = () => {
    const prediction = testSet.predictions[name.value];
    const least = (255 * Number(confidence.value)) / 100;
    const indices = [];
    testSet.labels.forEach((truth, index) => {
      const given = prediction.classes[index];
      if (given === truth || prediction.confidences[index] < least) return;
      if (label.value !== "" && truth !== Number(label.value)) return;
      if (predicted.value !== "" && given !== Number(predicted.value)) return;
      indices.push(index);
    });
    indices.sort((a, b) => prediction.confidences[b] - prediction.confidences[a] || a - b);
    const lines = (index) => [`true: ${testSet.classes[testSet.labels[index]]}`, `predicted: ${testSet.said(prediction, index)}`];
    gallery.show(testSet, indices, `${indices.length} misclassified images, the most confident first.`, lines);
  };
  const open = (truth, given) => {
    label.value = String(truth);
    predicted.value = String(given);
    show();
    byId("wrong-count").scrollIntoView();
  };
  const redraw = () => {
    drawConfusion(testSet, testSet.predictions[name.value], open);
    show();
  };
  name.onchange = redraw;
  label.onchange = predicted.onchange = confidence.onchange = show;
  redraw();
}

// Images that flip

function mcnemar(first, second) {
  // Two-sided exact binomial test of the discordant pairs.
  const n = first + second;
  let logarithm = -n * Math.log(2);
  let tail = 0;
  for (let k = 0; k <= Math.min(first, second); k += 1) {
    tail += Math.exp(logarithm);
    logarithm += Math.log((n - k) / (k + 1));
  }
  return Math.min(1, 2 * tail);
}

function setUpFlips(gallery, testSet) {
  const [first, second, kind] = ["first", "second", "kind"].map((id) => byId(`flip-${id}`));
  const names = testSet.predictions.map((one) => one.name);
  fill(first, names);
  fill(second, names);
  second.value = String(Math.min(1, names.length - 1));
  const show = () => {
    const [a, b] = [first, second].map((select) => testSet.predictions[select.value]);
    const kinds = { lost: [], won: [], other: [] };
    testSet.labels.forEach((truth, index) => {
      if (a.classes[index] === b.classes[index]) return;
      if (a.classes[index] === truth) kinds.lost.push(index);
      else if (b.classes[index] === truth) kinds.won.push(index);
      else kinds.other.push(index);
    });
    const { lost, won, other } = kinds;
    const indices = (kinds[kind.value] || [...lost, ...won, ...other]).slice().sort((x, y) => x - y);
    const p = mcnemar(lost.length, won.length);
    const sentence =
      `${lost.length + won.length + other.length} of ${testSet.labels.length} images change their class: ` +
      `${lost.length} right to wrong, ${won.length} wrong to right, ${other.length} wrong to another wrong; ` +
      `McNemar's p ${p < 0.001 ? p.toExponential(0) : p.toFixed(3)}.`;
    const lines = (index) => [
      `true: ${testSet.classes[testSet.labels[index]]}`,
      `from: ${testSet.said(a, index)}`,
      `to: ${testSet.said(b, index)}`,
    ];
    gallery.show(testSet, indices, sentence, lines);
  };
  first.onchange = second.onchange = kind.onchange = show;
  show();
}

for (const filters of document.querySelectorAll(".filters")) setUpGrid(filters);
const testSets = JSON.parse(byId("content").textContent).map((content) => new TestSet(content));
const wrongGallery = new Gallery(byId("wrong-gallery"), byId("wrong-more"), byId("wrong-count"));
const flipGallery = new Gallery(byId("flip-gallery"), byId("flip-more"), byId("flip-count"));
const select = byId("wrong-data");
const showTestSet = () => {
  const testSet = testSets[select ? select.value : 0];
  setUpMisclassified(wrongGallery, testSet);
  setUpFlips(flipGallery, testSet);
};
if (select) {
  fill(select, testSets.map((testSet) => testSet.name));
  select.onchange = showTestSet;
}
showTestSet();
