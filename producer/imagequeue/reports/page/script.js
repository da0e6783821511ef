"use strict";
// Everything that comes from results is put in place as text (textContent, value), never as markup.

const PART = 200; // cards made at once; the next ones when their place comes near, or at "Show more"

const get = (id) => document.getElementById(id);
const read = (id) => JSON.parse(get(id).textContent);
const cards = read("pictures-data");
const summary = read("summary-data");
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const count = (number) => number.toLocaleString("en");

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// --- a card's facts --------------------------------------------------------------------------------------------------

const labelOf = (card) => (card.classes ? card.classes[0][0] : "");
const probabilityOf = (card) => (card.classes ? card.classes[0][1] : 0);

function verdictOf(card) {
  if (!card.truth || !card.classes) return "unlabelled";
  if (card.rank === 1) return "right";
  return card.rank >= 2 && card.rank <= 5 ? "top5" : "wrong";
}

cards.forEach((card, place) => {
  card.place = place;
  card.text = `${card.id}\n${card.ref}\n${labelOf(card)}`.toLowerCase();
});

// --- choosing and ordering -------------------------------------------------------------------------------------------

const text = new Intl.Collator("en", { numeric: true });
const orders = {
  given: (a, b) => a.place - b.place,
  surest: (a, b) => probabilityOf(b) - probabilityOf(a),
  unsurest: (a, b) => probabilityOf(a) - probabilityOf(b),
  class: (a, b) => text.compare(labelOf(a), labelOf(b)) || probabilityOf(b) - probabilityOf(a),
  id: (a, b) => text.compare(a.id, b.id),
  ref: (a, b) => text.compare(a.ref, b.ref),
  slowest: (a, b) => (b.total || 0) - (a.total || 0),
};

function bound(id, otherwise) {
  const value = get(id).valueAsNumber;
  return (Number.isNaN(value) ? otherwise : value) / 100;
}

function chosen() {
  const words = get("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [label, code, verdict] = ["class", "code", "verdict"].map((id) => get(id).value);
  const [from, to] = [bound("from", 0), bound("to", 100)];
  const probable = from > 0 || to < 1; // then pictures without a class are out
  const keep = (card) =>
    words.every((word) => card.text.includes(word)) &&
    (!label || labelOf(card) === label) &&
    (!code || (card.code || "ok") === code) &&
    (!verdict || verdictOf(card) === verdict) &&
    (!probable || (card.classes && probabilityOf(card) >= from && probabilityOf(card) <= to));
  return cards.filter(keep).sort(orders[get("sort").value]);
}

// --- showing ---------------------------------------------------------------------------------------------------------

let shown = [];
let made = 0;
const end = new IntersectionObserver(
  (seen) => seen.some((one) => one.isIntersecting) && showMore(), { rootMargin: "800px" });

function show() {
  shown = chosen();
  made = 0;
  get("pictures").replaceChildren();
  get("shown").textContent = `${count(shown.length)} of ${count(cards.length)}`;
  showMore();
}

function showMore() {
  const part = shown.slice(made, made + PART);
  get("pictures").append(...part.map(cardElement));
  made += part.length;
  get("more").hidden = made >= shown.length;
  end.unobserve(get("more")); // observed anew, it is looked at again: a wide window may have room for more
  end.observe(get("more"));
  const first = get("pictures").querySelector(".card");
  if (first && !get("pictures").querySelector('.card[tabindex="0"]')) first.tabIndex = 0;
}

function pictureElement(card) {
  const frame = make("span", "frame");
  if (card.thumbnail) {
    const image = make("img");
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = "";
    image.src = card.thumbnail;
    frame.append(image);
  } else {
    frame.append(make("span", "placeholder", card.ref));
  }
  return frame;
}

function probabilityElement(probability) {
  const line = make("span", "probability");
  const meter = make("meter");
  meter.value = probability;
  meter.setAttribute("aria-label", "probability");
  line.append(meter, make("span", "", percent(probability)));
  return line;
}

const VERDICTS = { right: "right", top5: "in the five best", wrong: "wrong" };

function verdictBadge(card) {
  const verdict = verdictOf(card);
  const badge = make("span", `badge ${verdict}`, VERDICTS[verdict]);
  if (verdict !== "right") badge.textContent += `: ${card.truth}`;
  return badge;
}

function cardElement(card) {
  const item = make("li");
  const button = make("button", "card");
  button.type = "button";
  button.tabIndex = -1; // the list is one stop of the Tab key; arrows move in it
  button.dataset.id = card.id;
  button.append(pictureElement(card));
  if (card.classes) {
    button.append(make("span", "label", labelOf(card)), probabilityElement(probabilityOf(card)));
    if (card.truth) button.append(verdictBadge(card));
  } else {
    button.append(make("span", "badge error", card.code || "no class"), make("span", "message", card.message || ""));
  }
  button.append(make("span", "id", card.id));
  button.addEventListener("click", () => detail(card));
  item.append(button);
  return item;
}

// --- one picture -----------------------------------------------------------------------------------------------------

function detail(card) {
  get("detail-title").textContent = labelOf(card) || card.code || "no class";
  const body = get("detail-body");
  body.replaceChildren(pictureElement(card));
  for (const [label, probability, index, wnid] of card.classes || []) {
    body.append(make("div", "", `${label} (${[wnid, index].filter((part) => part !== null).join(", ")})`));
    body.append(probabilityElement(probability));
  }
  const stages = card.stages || {};
  const facts = {
    id: card.id, reference: card.ref, message: card.message, "known class": card.truth, net: card.model,
    worker: card.worker, attempt: card.attempt,
    seconds: card.total && `${card.total.toFixed(3)} in all; ` +
      ["queue", "fetch", "decode", "infer"].map((name) => `${name} ${(stages[name] || 0).toFixed(3)}`).join(", "),
  };
  const list = make("dl");
  for (const [name, value] of Object.entries(facts)) {
    if (value) list.append(make("dt", "", name), make("dd", "", String(value)));
  }
  body.append(list);
  get("detail").showModal();
}

// --- what stays ------------------------------------------------------------------------------------------------------

function fillSelect(id, counts) {
  for (const { name, images } of counts) {
    const option = make("option", "", `${name} (${count(images)})`);
    option.value = name;
    get(id).append(option);
  }
}

function fillTable(id, rows, numbers) {
  for (const row of rows) {
    const line = make("tr");
    row.forEach((cell, column) => line.append(make("td", numbers.includes(column) ? "number" : "", cell ?? "")));
    get(id).tBodies[0].append(line);
  }
}

function fillAccuracy(accuracy) {
  get("accuracy").hidden = get("verdict-field").hidden = false;
  get("accuracy-line").textContent =
    `top-1 ${percent(accuracy.top1)}, top-5 ${percent(accuracy.top5)} of ${count(accuracy.images)} labelled pictures` +
    (accuracy.labelled_errors ? `; ${count(accuracy.labelled_errors)} more ended in an error` : "") +
    (accuracy.unlabelled ? `; ${count(accuracy.unlabelled)} have no label` : "") +
    (accuracy.fewer_than_5 ? `; ${count(accuracy.fewer_than_5)} hold fewer than five classes` : "");
  fillTable("classes", accuracy.classes.map((row) => [row.name, row.images, row.right, row.instead]), [1, 2]);
  fillTable("confusions", accuracy.confusions.map((row) => [row.name, row.said, row.images]), [2]);
}

function start() {
  get("counts").textContent =
    `${count(summary.images)} pictures, ${count(summary.ok)} ok, ${count(summary.error)} ended in an error`;
  fillSelect("class", [...summary.classes].sort((a, b) => text.compare(a.name, b.name)));
  fillSelect("code", summary.codes);
  if (summary.accuracy) fillAccuracy(summary.accuracy);
  const filters = get("filters");
  filters.addEventListener("input", show);
  filters.addEventListener("reset", () => setTimeout(show));
  filters.addEventListener("submit", (event) => event.preventDefault());
  get("more").addEventListener("click", more);
  get("pictures").addEventListener("keydown", move);
  show();
}

function more() {
  const next = made;
  showMore();
  focusCard(next);
}

// --- arrows ----------------------------------------------------------------------------------------------------------

function focusCard(place) {
  const all = get("pictures").children;
  if (!all.length) return;
  const card = all[Math.max(0, Math.min(place, all.length - 1))].firstChild;
  for (const other of get("pictures").querySelectorAll('.card[tabindex="0"]')) other.tabIndex = -1;
  card.tabIndex = 0;
  card.focus();
}

function columns() {
  return getComputedStyle(get("pictures")).gridTemplateColumns.split(" ").length;
}

function move(event) {
  const item = event.target.closest("li");
  if (!item) return;
  const place = [...get("pictures").children].indexOf(item);
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns(), Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return;
  event.preventDefault();
  focusCard(place + steps[event.key]);
}

start();
