// Texts to token ids, as the library `tokenizers` does for the three kinds of a run's tokenizer.

const UNKNOWN = 1;
const WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu;
const CHARACTER = /\P{White_Space}\p{M}*/gu;

/** A function from a text to its token ids, without padding. */
export function makeTokenizer({ normalizer, pre_tokenizer, model }) {
  const vocabulary = new Map(Object.entries(model.vocab));
  const ranks = new Map((model.merges ?? []).map((pair, rank) => [pair.join(" "), rank]));
  const pattern = pre_tokenizer.type === "Split" ? CHARACTER : WORD;
  return (text) => {
    let normal = text.replace(/\p{Surrogate}/gu, "\ufffd");
    if (normalizer.type === "Sequence") normal = normal.normalize("NFKC");
    normal = Array.from(normal, (character) => character.toLowerCase()).join(""); // each by itself: no final sigma
    const words = normal.match(pattern) ?? [];
    const parts = model.type === "BPE" ? words.flatMap((word) => merge(word, vocabulary, ranks)) : words;
    const ids = parts.map((part) => vocabulary.get(part) ?? UNKNOWN);
    return ids.length ? ids : [UNKNOWN];
  };
}

/** The parts of a word: of its characters, the pair that was merged first in training is joined first. */
function merge(word, vocabulary, ranks) {
  const parts = Array.from(word);
  for (;;) {
    const found = parts.slice(1).map((part, i) => ranks.get(`${parts[i]} ${part}`) ?? Infinity);
    const first = found.indexOf(Math.min(...found));
    if (first < 0 || found[first] === Infinity) return parts;
    parts.splice(first, 2, parts[first] + parts[first + 1]);
  }
}
