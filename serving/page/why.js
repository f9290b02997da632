// Says why: the words that weigh, coloured in the messages, and the named signals as bars to the left and to the right.

import { element } from "./dom.js";
import { nameOf, percent, verdict } from "./people.js";

const LEVELS = 4; // of colour
const SHOWN_WORDS = 10;

/** Return the segments to colour for one explained participant: a Map from message to [{ start, end, kind }]. */
export function marksOf(explained, messages) {
  const places = explained.spans
    .map((span) => ({ ...span, message: messages[span.message_id] }))
    .filter(({ message }) => message);
  const byMessage = Map.groupBy(places, ({ message }) => message);
  const cut = [...byMessage].map(([message, spans]) => [message, segments(message.text, spans)]);
  const heaviest = Math.max(...cut.flatMap(([, parts]) => parts.map(({ weight }) => Math.abs(weight))));
  return new Map(
    cut.map(([message, parts]) => [
      message,
      parts.map(({ start, end, weight }) => {
        const level = Math.max(1, Math.ceil((Math.abs(weight) / heaviest) * LEVELS));
        return { start, end, kind: `${weight > 0 ? "bot" : "human"} level${level}` };
      }),
    ]),
  );
}

/** Cut a text where spans begin and end; a part weighs what the spans over it weigh together. */
function segments(text, spans) {
  const units = unitsOf(text);
  const edges = [...new Set(spans.flatMap(({ start, end }) => [start, end]))].sort((one, other) => one - other);
  return edges
    .slice(1)
    .map((end, at) => ({ start: edges[at], end }))
    .map(({ start, end }) => ({ start, end, over: spans.filter((span) => span.start <= start && span.end >= end) }))
    .filter(({ over }) => over.length)
    .map(({ start, end, over }) => ({
      start: units[start],
      end: units[end],
      weight: over.reduce((sum, span) => sum + span.weight, 0),
    }));
}

/** Return where each character of a text is: the service counts characters, JavaScript the halves of some of them. */
function unitsOf(text) {
  const units = [0];
  for (const character of text) units.push(units.at(-1) + character.length);
  return units;
}

/**
 * Return the elements that say why a participant got this answer. `explanation` is that of the chat, with its messages.
 * `move` is about a message that was chosen: { number, message, before, after }, with the answers before and after it,
 * by participant.
 */
export function reasons(explained, explanation, move) {
  const { messages, method, like_training_chats: like } = explanation;
  const name = nameOf(explained.participant_id);
  const rows = [
    ...explained.signals.map((signal) => ({ ...signal, kind: "" })),
    { name: "everything else", weight: explained.rest, kind: "muted" },
  ];
  const widest = Math.max(...rows.map(({ weight }) => Math.abs(weight)), 0.1);
  return [
    element(
      "p",
      {},
      element("strong", {}, `${name} is ${verdict(explained)}`),
      ` (${percent(explained.is_bot_probability)} bot, ${explained.confidence} confidence).`,
    ),
    like !== undefined && element("p", { class: "fine" }, `Like the chats it was trained on: ${like.toFixed(2)} of 1.`),
    move && moved(move),
    element("h3", {}, "What speaks for a person, and what for a bot"),
    element(
      "div",
      { class: "sides", "aria-hidden": "true" },
      element("span", { class: "human" }, "← person"),
      element("span", { class: "bot" }, "bot →"),
    ),
    element("ul", { class: "signals" }, ...rows.map((row) => signalRow(row, widest))),
    element("h3", {}, "Words that weigh most"),
    words(explained, messages),
    element(
      "details",
      {},
      element("summary", {}, "How to read this"),
      element(
        "p",
        {},
        "The numbers are log odds: +0.7 doubles the odds of a bot, −0.7 halves them. A typical participant starts at ",
        signed(explained.base),
        "; with everything added up, ",
        name,
        " gets ",
        signed(explained.score),
        ". The participants are then scored together, which can move the answer.",
      ),
      element("p", {}, method),
    ),
  ];
}

function signalRow({ name, weight, kind }, widest) {
  const side = weight > 0 ? "bot" : "human";
  const fill = element("span", { class: `fill ${side}` });
  fill.style.width = `${(Math.abs(weight) / widest) * 50}%`;
  return element(
    "li",
    { class: kind },
    element("span", { class: "label" }, name),
    element("span", { class: "track", "aria-hidden": "true" }, fill),
    element(
      "span",
      { class: "number" },
      signed(weight),
      element("span", { class: "unseen" }, ` toward ${side === "bot" ? "bot" : "person"}`),
    ),
  );
}

function moved({ number, message, before, after }) {
  const text = message.text.length > 90 ? `${message.text.slice(0, 90)}…` : message.text;
  const changes = [...(after ?? [])].map(([who, answer]) => {
    const was = before?.get(who);
    return `${nameOf(who)} ${was ? `goes from ${percent(was.is_bot_probability)} to` : "starts at"} ${percent(answer.is_bot_probability)}`;
  });
  return element(
    "p",
    { class: "moved" },
    `Message ${number}, by ${nameOf(message.who)}: `,
    element("q", { dir: "auto" }, text || "empty"),
    changes.length ? ` — ${changes.join(", ")}.` : " — its effect is being scored…",
  );
}

function words({ spans, participant_id: who }, messages) {
  const shown = spans.slice(0, SHOWN_WORDS).filter((span) => messages[span.message_id]);
  if (!shown.length) return element("p", { class: "fine" }, "No word weighs anything yet.");
  return element(
    "ul",
    { class: "words" },
    ...shown.map((span) => {
      const message = messages[span.message_id];
      const text = [...message.text].slice(span.start, span.end).join("");
      return element(
        "li",
        { class: span.weight > 0 ? "bot" : "human" },
        element("q", { dir: "auto" }, text),
        ` ${signed(span.weight)}`,
        message.who === who ? null : element("span", { class: "fine" }, ` said by ${nameOf(message.who)}`),
      );
    }),
  );
}

const signed = (weight) => `${weight < 0 ? "−" : "+"}${Math.abs(weight).toFixed(2)}`;
