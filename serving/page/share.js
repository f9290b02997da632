// Sharing: a link that holds the chat in its fragment, which browsers do not send, the result as text, and a picture.

import { meaningOf, nameOf, percent, t } from "./texts.js";
import { explainedOf, reasonsOf, sideOf } from "./verdict.js";

const LONGEST_LINK = 8_000; // characters of a fragment that is made; messengers cut longer links
const LONGEST_READ = 100_000; // of one that is read
const MOST_BYTES = 512 * 1024; // of the chat in it, unpacked
const KEY = "chat=";

/** Return the fragment that holds a chat, without "#"; null where it is too long or the browser cannot pack it. */
export async function pack(messages) {
  if (!globalThis.CompressionStream) return null;
  const people = [...new Set(messages.map(({ who }) => who))];
  const written = JSON.stringify([people, messages.map(({ who, text }) => [people.indexOf(who), text])]);
  const stream = new Blob([written]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const packed = new Uint8Array(await new Response(stream).arrayBuffer());
  const encoded = btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(""));
  const fragment = KEY + encoded.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  return fragment.length <= LONGEST_LINK ? fragment : null;
}

/** Return the messages in a fragment; null if it holds none that can be read, undefined if it is about something else. */
export async function unpack(fragment) {
  if (!fragment.startsWith(KEY)) return undefined;
  if (fragment.length > LONGEST_READ) return null;
  try {
    const encoded = fragment.slice(KEY.length).replaceAll("-", "+").replaceAll("_", "/");
    const packed = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    const [people, turns] = JSON.parse(await inflate(packed));
    const messages = turns.map(([at, text]) => ({ who: people[at], text }));
    const isChat = ({ who, text }) => typeof text === "string" && (typeof who === "string" || Number.isSafeInteger(who));
    return messages.length && messages.every(isChat) ? messages : null;
  } catch {
    return null; // cut, or changed
  }
}

async function inflate(packed) {
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const decoder = new TextDecoder();
  let [text, bytes] = ["", 0];
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    bytes += part.value.length;
    if (bytes > MOST_BYTES) throw new RangeError("too large");
    text += decoder.decode(part.value, { stream: true });
  }
  return text + decoder.decode();
}

/** Return the address of this page with a fragment. */
export const linkTo = (fragment) => `${location.origin}${location.pathname}${fragment && `#${fragment}`}`;

const reasonOf = (signal) => `${meaningOf(signal)}, ${t(signal.than_usual)}`;

/** Return a verdict as text, for instance for a messenger. */
export function asText({ headline, worth, bars, reasons }) {
  const lines = bars.map(({ name, p }) => `${name}: ${t("bar", { p: percent(p) })}`);
  const why = reasons.map((one) => `${one.weight > 0 ? "→" : "←"} ${reasonOf(one)} (${t(sideOf(one.weight))})`);
  return [headline, worth, ...lines, ...why].filter(Boolean).join("\n");
}

// The picture is the same in light and dark.
const [WIDTH, HEIGHT, EDGE] = [1200, 630, 72];
const COLOURS = { page: "#f7f6fb", card: "#ffffff", text: "#1f1c2b", soft: "#5d586d", track: "#e7e5ef" };
const TONES = { bot: "#d9622b", person: "#2f74c8", unsure: "#8a8599" };
const FONT = "system-ui, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

/** Draw a result on a canvas; `goal` is a probability to mark, or null. */
export function paint(canvas, { headline, tone, worth, bars, reasons, goal }) {
  Object.assign(canvas, { width: WIDTH, height: HEIGHT });
  const context = canvas.getContext("2d");
  const right = WIDTH - EDGE;
  const write = (text, x, y, size, { colour = COLOURS.text, weight = 400, align = "left", width = align === "left" ? right - x : x - EDGE } = {}) => {
    Object.assign(context, { fillStyle: colour, font: `${weight} ${size}px ${FONT}`, textAlign: align });
    let shown = text;
    while (context.measureText(shown).width > width && shown.length > 1) shown = `${shown.slice(0, -2)}…`;
    context.fillText(shown, x, y);
  };
  const block = (x, y, width, height, colour, radius = height / 2) => {
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(x, y, Math.max(width, 0), height, radius);
    context.fill();
  };
  block(0, 0, WIDTH, HEIGHT, COLOURS.page, 0);
  block(36, 36, WIDTH - 72, HEIGHT - 72, COLOURS.card, 28);
  block(36, 36, 12, HEIGHT - 72, TONES[tone], [28, 0, 0, 28]);
  write(t("title"), EDGE, 104, 28, { colour: COLOURS.soft, weight: 600 });
  let y = 170;
  for (const line of wrap(context, headline, right - EDGE, `700 56px ${FONT}`).slice(0, 3)) {
    write(line, EDGE, y, 56, { weight: 700 });
    y += 64;
  }
  y -= 18;
  for (const line of wrap(context, worth, right - EDGE, `400 25px ${FONT}`).slice(0, 2)) {
    write(line, EDGE, y, 25, { colour: COLOURS.soft });
    y += 34;
  }
  y += 18;
  for (const { name, p, confidence } of bars.slice(0, 3)) {
    const colour = confidence === "low" ? TONES.unsure : TONES[p >= 0.5 ? "bot" : "person"];
    write(name, EDGE, y + 24, 30, { weight: 600, width: 220 });
    block(EDGE + 240, y, 620, 30, COLOURS.track);
    block(EDGE + 240, y, Math.max(620 * p, 30), 30, colour);
    if (goal !== null) block(EDGE + 240 + 620 * goal, y - 8, 4, 46, COLOURS.text, 2);
    write(t("bar", { p: percent(p) }), right, y + 25, 30, { weight: 700, align: "right", colour });
    y += 56;
  }
  y += 26;
  for (const one of reasons.filter((_, at) => y + 40 * at < HEIGHT - 130)) {
    block(EDGE, y - 15, 16, 16, TONES[sideOf(one.weight)], 4);
    write(`${reasonOf(one)} → ${t(sideOf(one.weight))}`, EDGE + 30, y, 25);
    y += 40;
  }
  write(linkTo(""), right, HEIGHT - 64, 24, { colour: COLOURS.soft, align: "right" });
}

function wrap(context, text, width, font) {
  context.font = font;
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (context.measureText(longer).width <= width || !lines.at(-1)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** Return what the picture and the text show of a page's chat, or of a challenge with its line to share. */
export function summary(page, line) {
  const { verdict, shown, answers, explanation, explained, goal } = page;
  return {
    headline: line || verdict.text,
    tone: verdict.tone,
    worth: line ? "" : page.worth,
    goal,
    bars: shown
      .filter((who) => answers.has(who))
      .map((who) => ({ name: line ? t("me") : nameOf(who), p: answers.get(who).is_bot_probability, confidence: page.confidenceOf(who) })),
    reasons: reasonsOf(explainedOf(explanation, explained)).slice(0, 3),
  };
}
