// The challenge: pass for a bot against a script, or answer politely and stay a person. The script's side is not judged.

import { CHATS } from "./data.js";
import { html } from "./html.js";
import { percent, t } from "./texts.js";
import { explainedOf, reasonsOf, Signals } from "./verdict.js";

export const MODES = ["pass", "stay"];
export const YOU = "you";
const SCRIPT = "script";
export const GOAL = 0.92; // the probability to pass
const MOST = 6; // messages of the visitor's
const TOLD = 3; // signals at the end
const LEAST_WORDS = 5; // of a whole sentence
const WHOLE = /^["«“(]?\p{Lu}.*[.?!…]["»”)]*$/su;

/** Names to show for the two sides. */
export const names = () => new Map([[YOU, t("you")], [SCRIPT, t("script")]]);

/** Return the probability to pass, or to stay below. */
export const goalOf = (mode) => (mode === "pass" ? GOAL : 0.5);

/** Begin a challenge: { script, messages, over }, in one of the scripts of a language. */
export function begin(language, say) {
  const { scripts } = CHATS[language];
  const script = scripts[Math.floor(Math.random() * scripts.length)];
  return { script, messages: [say(SCRIPT, script[0])], over: null };
}

/** Tell whether an answer is a whole sentence, as "stay a person" asks for. */
export const isWhole = (text) => WHOLE.test(text.trim()) && text.trim().split(/\s+/).length >= LEAST_WORDS;

const ownOf = (messages) => messages.filter(({ who }) => who === YOU).length;

/** Return the messages to score: up to the last one of the visitor's. */
export function judged(messages) {
  return messages.slice(0, messages.map(({ who }) => who).lastIndexOf(YOU) + 1);
}

/** Go on after the visitor's last message got its probability: the challenge is over, or the script says its next line. */
export function goOn(mode, game, p, say) {
  const n = ownOf(game.messages);
  if (game.over || game.messages.at(-1).who !== YOU) return;
  const isPast = p > GOAL;
  if (mode === "pass" && (isPast || n === MOST)) game.over = { n, p, won: isPast };
  else if (mode === "stay" && (isPast || n === MOST)) game.over = { n, p, won: p < goalOf(mode) };
  else game.messages = [...game.messages, say(SCRIPT, game.script[n])];
}

/** Return the headline of a challenge: { text, tone }. */
export function headline(mode, game, answer) {
  if (game.over) return { text: titleOf(mode, game.over), tone: game.over.p >= 0.5 ? "bot" : "person" };
  if (!answer) return { text: t("youStart"), tone: "unsure" };
  if (answer.confidence === "low") return { text: t("youUnsure"), tone: "unsure" };
  const isBot = answer.is_bot_probability >= 0.5;
  return { text: t(isBot ? "youBot" : "youPerson"), tone: isBot ? "bot" : "person" };
}

const titleOf = (mode, { won, n }) => t({ pass: won ? "wonPass" : "lostPass", stay: won ? "wonStay" : "lostStay" }[mode], { n });

/** Return the fragment that invites to a challenge with one's result in it: per cent and the number of messages. */
export const invite = (mode, { n, p }) => `${mode}=${Math.min(p * 100, 99.9).toFixed(1)}-${n}`;

/** Return the challenge that a fragment invites to, { mode, friend: { p, n } or null }; null if it is about something else. */
export function invited(fragment) {
  const [mode, result = ""] = fragment.split("=");
  const [, share, n] = result.match(/^(\d\d?(?:\.\d)?)-([1-9])$/) ?? [];
  return MODES.includes(mode) ? { mode, friend: n <= MOST ? { p: share / 100, n: Number(n) } : null } : null;
}

/** Return the line to share about a challenge that is over. */
export const lineOf = (mode, { won, n, p }) =>
  t({ pass: won ? "linePass" : "lineLostPass", stay: won ? "lineStay" : "lineLostStay" }[mode], { n, p: percent(p) });

/** Say what the challenge asks for, and how many messages are left. */
export function Goal({ page }) {
  const { game } = page;
  const { mode, friends } = page.state;
  const friend = friends[mode];
  const goal = { p: percent(GOAL), n: MOST };
  return html`<p class="goal-text">
    ${t(mode === "pass" ? "goalPass" : "goalStay", goal)}
    <strong>${!game.over && ` ${t("left", { n: MOST - ownOf(game.messages) })}`}</strong>
    ${friend && html`<br /><em>${t(mode === "pass" ? "friendPass" : "friendStay", { n: friend.n, p: percent(friend.p) })}</em>`}
  </p>`;
}

/** The end: what it came to, what gave it away, and what to do next. */
export function End({ page }) {
  const { game } = page;
  const { mode } = page.state;
  const { n, p } = game.over;
  const isBot = p >= 0.5 && (mode === "stay" || game.over.won);
  const told = reasonsOf(explainedOf(page.explanation, YOU)).filter(({ weight }) => weight > 0 === isBot).slice(0, TOLD);
  const other = MODES.find((one) => one !== mode);
  return html`<div class="end" role="group" aria-labelledby="end-title">
    <h2 id="end-title" tabindex="-1">${titleOf(mode, game.over)}</h2>
    <p>${t("endedAt", { n, p: percent(p) })}</p>
    ${told.length > 0 &&
    html`<h3>${t(isBot ? "gaveAway" : "gaveAwayHuman")}</h3>
      <${Signals} signals=${told} />`}
    <div class="actions">
      <button type="button" class="primary" onClick=${page.on.share}>${t("shareButton")}</button>
      <button type="button" onClick=${page.on.again}>${t("again")}</button>
      <a class="button" href="#${other}">${t(other === "pass" ? "tryPass" : "tryStay")}</a>
    </div>
  </div>`;
}
