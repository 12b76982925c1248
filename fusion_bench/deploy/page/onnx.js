// The model in this browser, by ONNX Runtime: raw inputs in, probabilities out, no server.

import { fit } from "./image.js";
import * as ort from "./ort.js";
import { makeTokenizer } from "./tokens.js";

export const place = "The model runs in this browser: image and text do not leave the device.";

let card, session;
const tokenizers = {};

async function get(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response;
}

/** The runtime's WebAssembly; some servers unpack .gz files by themselves. */
async function runtime() {
  const packed = await (await get("ort.wasm.gz")).blob();
  const [first, second] = new Uint8Array(await packed.slice(0, 2).arrayBuffer());
  if (first !== 0x1f || second !== 0x8b) return packed.arrayBuffer();
  return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** Loads the model, and returns its card. */
export async function load() {
  card = await (await get("card.json")).json();
  const texts = card.inputs.filter((input) => input.has_tokenizer);
  await Promise.all(
    texts.map(async ({ name }) => {
      tokenizers[name] = makeTokenizer(await (await get(`tokenizer-${encodeURIComponent(name)}.json`)).json());
    }),
  );
  ort.env.wasm.numThreads = 1; // more need headers that plain servers do not send
  ort.env.wasm.wasmBinary = await runtime();
  session = await ort.InferenceSession.create(await (await get("model.onnx")).arrayBuffer());
  return card;
}

/** Token ids of a text, padded and cut to the model's length. */
export function tokens(name, text) {
  const { shape } = card.inputs.find((input) => input.name === name);
  const ids = new Int32Array(shape[0]);
  ids.set(tokenizers[name](text).slice(0, shape[0]));
  return ids;
}

/** One example's array of a modality: a file, a text, or null for its neutral value. */
async function values({ name, kind, shape, dtype, neutral }, given) {
  if (given === null && neutral === null) throw new Error(`The model needs the input "${name}".`);
  if (kind === "tokens") return tokens(name, given ?? neutral);
  const channels = shape.at(-1);
  const pixels = given && (await fit(given, shape)).data;
  const Type = dtype === "uint8" ? Uint8Array : Float32Array;
  const size = shape.reduce((a, b) => a * b);
  return Type.from({ length: size }, (_, i) => {
    const channel = i % channels;
    return pixels ? pixels[((i - channel) / channels) * 4 + channel] : neutral[channel];
  });
}

/** softmax(logits / temperature), by class. */
function probabilities(logits) {
  const scaled = Array.from(logits, (logit) => logit / card.calibration.temperature);
  const highest = Math.max(...scaled);
  const raised = scaled.map((logit) => Math.exp(logit - highest));
  const sum = raised.reduce((a, b) => a + b);
  return Object.fromEntries(card.class_names.map((name, i) => [name, raised[i] / sum]));
}

/** Probabilities of an example, and those with each of its modalities alone, the others being neutral. */
export async function predict(inputs) {
  const given = card.inputs.map(({ name }) => inputs[name] ?? null);
  const isPossible = (alone) => card.inputs.every(({ neutral }, i) => i === alone || neutral !== null);
  const alone = card.inputs.map((_, i) => i).filter((i) => given[i] !== null && isPossible(i));
  const rows = [given, ...alone.map((only) => given.map((value, i) => (i === only ? value : null)))];
  const feeds = {};
  for (const [i, input] of card.inputs.entries()) {
    const arrays = await Promise.all(rows.map((row) => values(input, row[i])));
    const joined = new arrays[0].constructor(arrays.length * arrays[0].length);
    arrays.forEach((array, row) => joined.set(array, row * array.length));
    feeds[input.name] = new ort.Tensor(input.dtype, joined, [rows.length, ...input.shape]);
  }
  const { logits } = await session.run(feeds);
  const count = card.class_names.length;
  const found = rows.map((_, row) => probabilities(logits.data.subarray(row * count, (row + 1) * count)));
  const by_name = card.inputs.map(({ name }, i) => [name, found[alone.indexOf(i) + 1] ?? null]);
  by_name.forEach((entry, i) => alone.includes(i) || (entry[1] = null));
  return { probabilities: found[0], alone: Object.fromEntries(by_name) };
}
