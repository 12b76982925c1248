// The model on the server that this page comes from.

export const place = "The model runs on the server: it is sent the small picture and the text.";

async function ask(address, options) {
  const response = await fetch(address, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `The server answers ${response.status} ${response.statusText}.`);
  return answer;
}

/** Returns the model's card. */
export const load = () => ask("model");

/** Probabilities of an example, and those with each of its modalities alone, the others being neutral. */
export function predict(inputs) {
  const body = new FormData();
  for (const [name, value] of Object.entries(inputs)) if (value !== undefined) body.append(name, value);
  body.append("missing", "neutral");
  body.append("alone", "true");
  return ask("predict", { method: "POST", body });
}
