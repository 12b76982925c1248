// The page: fields for the inputs that it can take, and the classes by their calibrated probability.

import { small } from "./image.js";
import { load, place, predict } from "./model.js";

const DELAY = 200; // ms without a key before a text is read
const ROWS = 10; // classes that are shown at first

const find = (id) => document.getElementById(id);
let card, latest, shown = ROWS, running = false, waiting = false, timer;
const values = {};

/** An element with properties and children; texts are never read as HTML. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const isImage = ({ kind, dtype, shape }) => kind === "grid" && dtype === "uint8" && [1, 3].includes(shape[2]);
const isText = ({ kind, has_tokenizer }) => kind === "tokens" && has_tokenizer;
const listed = (words, last) => [words.slice(0, -1).join(", "), words.at(-1)].filter(Boolean).join(` ${last} `);
const title = (name) => name[0].toUpperCase() + name.slice(1);
const ranked = (found) => Object.entries(found).sort(([, a], [, b]) => b - a);

function percent(probability) {
  if (probability < 0.001) return "< 0.1 %";
  return probability > 0.999 ? "> 99.9 %" : `${(100 * probability).toFixed(1)} %`;
}

function fail(error) {
  find("error").textContent = error?.message ?? "";
}

// Inputs

function imageField(input) {
  const [height, width] = input.shape;
  const file = make("input", { type: "file", accept: "image/*" });
  const hint = make("span", {}, make("strong", {}, "Choose an image"));
  hint.append(make("span", { className: "fine" }, ", drop or paste it"), make("span", { className: "coarse" }, " or take a photo"));
  const preview = make("img", { alt: `The chosen ${input.name}`, hidden: true });
  const drop = make("label", { className: "drop" }, file, hint, preview);
  const pixels = make("img", { alt: `The ${input.name} at the size of the model` });
  const remove = make("button", { type: "button" }, "Remove");
  const seen = make("div", { className: "seen", hidden: true }, pixels);
  seen.append(make("span", {}, `What the model sees: ${width} × ${height} pixels`), remove);
  file.setAttribute("aria-label", `Choose an image: ${input.name}`);

  async function show(chosen) {
    let fitted;
    drop.chosen = chosen;
    try {
      fitted = chosen && (await small(chosen, input.shape));
    } catch (error) {
      return fail(error);
    }
    if (drop.chosen !== chosen) return; // another one was chosen meanwhile
    for (const [image, source] of [[preview, chosen], [pixels, fitted]]) {
      URL.revokeObjectURL(image.src);
      if (source) image.src = URL.createObjectURL(source);
    }
    hint.hidden = Boolean(chosen);
    preview.hidden = seen.hidden = !chosen;
    drop.classList.toggle("full", Boolean(chosen));
    values[input.name] = fitted;
    file.value = "";
    update();
  }
  file.onchange = () => file.files[0] && show(file.files[0]);
  remove.onclick = () => show().then(() => file.focus());
  preview.onload = () => preview.classList.toggle("tiny", preview.naturalHeight < 100);
  drop.ondragover = () => drop.classList.add("over");
  drop.ondragleave = () => drop.classList.remove("over");
  drop.show = show;
  return make("div", { className: "field" }, make("span", { className: "name" }, title(input.name)), drop, seen);
}

function textField(input) {
  const area = make("textarea", { id: `text-${input.name}`, rows: 3, maxLength: card.max_characters });
  if (input.neutral) area.placeholder = `If empty, as neutral: ${input.neutral}`;
  area.oninput = () => {
    values[input.name] = area.value.trim() ? area.value : undefined;
    clearTimeout(timer);
    timer = setTimeout(update, DELAY);
  };
  const chips = (input.examples ?? []).map((text) => {
    const chip = make("button", { type: "button" }, text);
    chip.onclick = () => {
      area.value = text;
      area.oninput();
    };
    return chip;
  });
  const name = make("label", { className: "name", htmlFor: area.id }, title(input.name));
  return make("div", { className: "field" }, name, area, make("div", { className: "chips" }, ...chips));
}

function otherField({ name, kind, shape, neutral }) {
  const what = `This page cannot take ${name} (${kind}, ${shape.join(" × ")})`;
  const note = neutral === null ? `${what}, and the model needs it.` : `${what}: it stays neutral.`;
  return make("div", { className: "field" }, make("span", { className: "name" }, title(name)), make("p", { className: "note" }, note));
}

/** An image that is dropped beside its place, or pasted, goes to the first image. */
function takeImages() {
  const take = (data, event) => {
    const target = event.target.closest?.(".drop") ?? document.querySelector(".drop");
    const image = [...(data?.files ?? [])].find((file) => file.type.startsWith("image/"));
    target?.classList.remove("over");
    if (data?.files.length) event.preventDefault();
    if (image) target?.show(image);
    else if (data?.files.length) fail(new Error("This file is no image."));
  };
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer, event);
  });
  document.addEventListener("paste", (event) => take(event.clipboardData, event));
}

// Answer

/** Asks the model, once at a time, for what is given now. */
async function update() {
  if (running) return void (waiting = true);
  const lacking = card.inputs.filter(({ name, neutral }) => values[name] === undefined && neutral === null);
  const isEmpty = !Object.values(values).some((value) => value !== undefined);
  if (isEmpty || lacking.length) {
    latest = undefined;
    return show(lacking.map(({ name }) => name));
  }
  running = true;
  find("answer").setAttribute("aria-busy", "true");
  try {
    latest = await predict(values);
    fail();
    show();
  } catch (error) {
    fail(error);
    find("classes").classList.add("stale");
  }
  find("answer").removeAttribute("aria-busy");
  running = false;
  if (waiting) {
    waiting = false;
    update();
  }
}

function show(lacking = []) {
  find("classes").hidden = find("more").hidden = !latest;
  if (!latest) {
    const ways = [card.inputs.some(isImage) && "choose an image", card.inputs.some(isText) && "type a text"];
    const hint = lacking.length ? `Still needed: ${listed(lacking, "and")}.` : `To start, ${listed(ways.filter(Boolean), "or")}.`;
    const ways_of = card.inputs.length > 1 ? ", by all inputs together and by each alone" : "";
    const answer = `The answer appears here: the classes by calibrated probability${ways_of}.`;
    find("status").replaceChildren(make("p", {}, hint), make("p", {}, answer));
    return;
  }
  const { probabilities } = latest;
  const given = Object.keys(values).filter((name) => values[name] !== undefined);
  const alone = given.length > 1 ? Object.entries(latest.alone).filter(([, found]) => found) : [];
  const rows = ranked(probabilities);
  const best = make("p", { className: "best" }, `${rows[0][0]}, ${percent(rows[0][1])}`);
  const said = alone.map(([name, found]) => `${title(name)} alone: ${ranked(found)[0][0]}, ${percent(ranked(found)[0][1])}.`);
  const neutral = card.inputs.map(({ name }) => name).filter((name) => !given.includes(name));
  if (neutral.length) said.push(`Neutral: ${listed(neutral, "and")}.`);
  find("status").replaceChildren(best, make("p", {}, said.join(" ")));

  const columns = [[alone.length ? "Together" : "Probability", probabilities]];
  columns.push(...alone.map(([name, found]) => [`${title(name)} alone`, found]));
  const heads = ["Class", ...columns.map(([name]) => name)].map((name) => make("th", { scope: "col" }, name));
  const body = rows.slice(0, shown).map(([name]) => {
    const cells = columns.map(([, found]) => {
      const fill = make("i");
      fill.style.width = `${100 * found[name]}%`;
      const cell = make("td", {}, percent(found[name]), make("div", { className: "bar" }, fill));
      cell.classList.toggle("alone", found !== probabilities);
      cell.classList.toggle("top", name === ranked(found)[0][0]);
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
  });
  const head = make("thead", {}, make("tr", {}, ...heads));
  find("classes").replaceChildren(head, make("tbody", {}, ...body));
  find("classes").classList.remove("stale");
  find("more").hidden = rows.length <= ROWS;
  find("more").textContent = shown > ROWS ? `Show the ${ROWS} best` : `Show all ${rows.length} classes`;
}

// Model

function describe() {
  const { inputs, class_names: classes, provenance, test_accuracy: accuracy } = card;
  const { commit, version, started, device } = provenance.environment;
  const some = classes.length > 12 ? [...classes.slice(0, 10), `${classes.length - 10} more`] : classes;
  const measured = accuracy == null ? null : `${(100 * accuracy).toFixed(2)} %`;
  document.title = `${card.strategy} · fusion_bench`;
  find("title").textContent = card.strategy;
  find("lead").textContent = `Classifies by ${listed(inputs.map(({ name }) => name), "and")}: ${listed(some, "or")}.`;
  find("place").textContent = place;
  const facts = {
    Probabilities: `calibrated by temperature, ${card.calibration.temperature.toFixed(3)}`,
    Data: provenance.data,
    Captions: provenance.captions,
    Trained: [started?.slice(0, 10), device].filter(Boolean).join(", "),
    Images: inputs.some(isImage) ? card.image_rule : null,
    Code: [version && `fusion_bench ${version}`, commit && `commit ${commit}`, card.licence].filter(Boolean).join(", "),
  };
  const brief = [card.run, measured && `test accuracy ${measured}`, commit && `commit ${commit}`, card.licence];
  find("about").firstChild.textContent = brief.filter(Boolean).join(" · ");
  for (const [name, fact] of Object.entries(facts)) {
    if (fact) find("about").lastChild.append(make("dt", {}, name), make("dd", {}, fact));
  }
  find("about").hidden = false;
}

try {
  card = await load();
  describe();
  const field = (input) => (isImage(input) ? imageField : isText(input) ? textField : otherField)(input);
  find("inputs").append(...card.inputs.map(field));
  find("inputs").onsubmit = (event) => event.preventDefault();
  find("more").onclick = () => {
    shown = shown > ROWS ? ROWS : Infinity;
    show();
  };
  takeImages();
  update();
} catch (error) {
  find("status").replaceChildren();
  fail(error);
}
