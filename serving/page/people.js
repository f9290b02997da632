// How participants and their probabilities are called.

/** Return a participant's identifier as a name to show. */
export const nameOf = (who) => String(who) || "(no name)";

/** Return the class that gives a participant its colour, by its place among them. */
export const tint = (people, who) => `tint${people.indexOf(who) % 6}`;

/** Return those who take part in a chat, in the order of their first message. */
export const speakersOf = (messages) => [...new Set(messages.map(({ who }) => who))];

/** Write a probability in per cent. */
export function percent(probability) {
  if (probability < 0.01) return "under 1 %";
  if (probability > 0.99) return "over 99 %";
  return `${Math.round(probability * 100)} %`;
}

/** Say an answer in words. */
export function verdict({ is_bot_probability: probability, confidence }) {
  if (confidence === "low") return "hard to tell";
  return `${confidence === "high" ? "very likely" : "probably"} a ${probability >= 0.5 ? "bot" : "person"}`;
}
