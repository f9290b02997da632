// The verdict: one headline and what it is worth, a bar for each participant, and why.

import { html } from "./html.js";
import { MODEL } from "./data.js";
import { meaningOf, nameOf, percent, signed, t } from "./texts.js";

const SHOWN_SIGNALS = 5; // the others are in the list of all numbers
const SHOWN_CHANGES = 3;
const LEAST_CHANGE = 0.1; // log odds; smaller ones are not worth a line
const OF_LANGUAGE = /(Cyrillic|Latin) letters$/; // signals that say what language a chat is in, not who writes

/**
 * Conclude from the answers, a Map by participant, to a chat: { text, tone ("bot", "person" or "unsure"), who, level,
 * notes, isEarly }. `level` is the confidence that the text has, null where there is none; `notes` say what limits it.
 */
export function conclude(answers, messages) {
  const texts = new Map(); // by speaker
  for (const { who, text } of messages) texts.set(who, (texts.get(who) ?? "") + text);
  const speakers = texts.size;
  const isEarly = messages.length <= MODEL.fewMessages;
  const ranked = [...answers].sort(([, one], [, other]) => other.is_bot_probability - one.is_bot_probability);
  if (!ranked.length) return { text: t("waiting"), tone: "unsure", who: null, level: null, notes: [] };
  const [who, top] = ranked[0];
  const notes = [
    isEarly && t("fewMessages", { n: messages.length }),
    [...texts.values()].some(isForeign) && t("alphabet"),
    !isEarly && speakers === 1 && t("oneSpeaker"),
    speakers > 2 && t("many"),
  ].filter(Boolean);
  const result = (key, tone, level) => ({ text: t(key, { who: nameOf(who) }), tone, who, level, notes, isEarly });
  if (isEarly) return result("tooShort", "unsure", null);
  const bots = ranked.filter(([, { is_bot_probability: p, confidence }]) => p >= 0.5 && confidence !== "low");
  if (bots.length > 1) {
    const names = bots.map(([bot]) => nameOf(bot)).join(", ");
    return { ...result("unsure", "bot", "medium"), text: t("bots", { who: names }) };
  }
  const rest = new Set(ranked.map(([, { confidence }]) => confidence));
  const level = rest.has("low") ? "low" : rest.has("medium") ? "medium" : "high"; // of all: the least
  const degree = (confidence) => (confidence === "high" ? "High" : "Medium");
  if (bots.length) {
    return result(`${speakers === 1 ? "aloneBot" : "bot"}${degree(top.confidence)}`, "bot", top.confidence);
  }
  if (level === "low") return result("unsure", "unsure", "low");
  return result(`${{ 1: "alonePerson", 2: "two" }[speakers] ?? "all"}${degree(level)}`, "person", level);
}

/** Tell whether too few letters are of the two alphabets that the classifier learned from. */
function isForeign(text) {
  const letters = text.match(/\p{L}/gu)?.length ?? 0;
  return (text.match(/[\p{Script=Latin}\p{Script=Cyrillic}]/gu)?.length ?? 0) < letters * MODEL.knownLetters;
}

/** Say how often a verdict of this confidence was right, also in short; "" where there is no verdict. */
export function worth(level, isShort = false) {
  const share = MODEL.accuracy[level];
  if (!level || (isShort && share === undefined)) return "";
  if (share === undefined) return t("worthUnknown");
  const n = Math.round(share * 100);
  const key = isShort ? "worthShort" : level === "low" ? "worthLow" : n > 99 ? "worthMost" : "worth";
  return t(key, { n: Math.min(n, 99) }); // never 100: nothing is right every time
}

/** Return what an explanation says of a participant; undefined where there is none. */
export const explainedOf = (explanation, who) => explanation?.participants.find((one) => one.participant_id === who);

/** Return the side that a weight speaks for. */
export const sideOf = (weight) => (weight > 0 ? "bot" : "person");

/** Return the signals of a participant's explanation to show as reasons. */
export const reasonsOf = (found) => found?.signals.filter(({ name }) => !OF_LANGUAGE.test(name)) ?? [];

/** The headline with what it is worth, and the bars. */
export function Verdict({ page }) {
  const { state, verdict, on } = page;
  return html`<section class="card verdict" id="verdict" aria-labelledby="headline">
    <div class="verdict-head">
      <h2 id="headline" class="headline ${verdict.tone}" dir="auto">${verdict.text}</h2>
      ${page.answers.size > 0 && !page.isGame && html`<button type="button" onClick=${on.share}>${t("shareButton")}</button>`}
    </div>
    <p class="worth">
      ${page.worth}${" "}${state.busy && html`<span class="busy">${t("scoring")}</span>`}
    </p>
    <ul id="bars" class="bars" aria-busy=${String(state.busy)}>
      ${page.shown.map((who) => html`<${Bar} key=${who} who=${who} page=${page} />`)}
    </ul>
    <div id="notes">${verdict.notes.map((note) => html`<p key=${note} class="note">${note}</p>`)}</div>
    <p id="summary" class="unseen" role="status">${state.announced}</p>
  </section>`;
}

function Bar({ who, page }) {
  const { answers, speakers, on, goal } = page;
  const answer = answers.get(who);
  const p = answer?.is_bot_probability ?? 0;
  const tone = !answer ? "none" : `${p >= 0.5 ? "bot" : "person"} ${page.confidenceOf(who)}`;
  const words = answer ? t("bar", { p: percent(p) }) : t(speakers.includes(who) ? "pending" : "silent");
  return html`<li class="bar ${tone} ${page.isStale ? "stale" : ""}">
    <button
      type="button"
      disabled=${!answer}
      aria-pressed=${String(answer !== undefined && who === page.explained)}
      aria-label=${answer ? t("showWhy", { who: nameOf(who), p: percent(p) }) : `${nameOf(who)}: ${words}`}
      onClick=${() => on.choose(who)}
    >
      <span class="name" dir="auto">${nameOf(who)}</span><span class="number">${words}</span>
      <span class="track">
        <span class="fill" style=${{ width: `${p * 100}%` }}></span>
        ${goal !== null && html`<span class="goal" style=${{ left: `${goal * 100}%` }}></span>`}
      </span>
    </button>
  </li>`;
}

/** What went wrong, if something did, and what to do about it. */
export function ProblemBox({ page }) {
  const { problem, wait } = page.state;
  if (!problem) return html`<div id="problem" role="alert"></div>`;
  const { title, explanation, values, status, requestId } = problem;
  return html`<div id="problem" role="alert" class="problem">
    <p>
      <strong>${t(title)}.</strong> ${t(explanation, values)} ${wait > 0 && t("retryIn", { n: wait })}
      ${requestId && html`<span class="fine"> X-Request-ID: ${requestId}</span>`}
    </p>
    ${status === 401 && html`<button type="button" class="primary" onClick=${page.on.key}>${t("enterKey")}</button>`}
    ${![400, 401, 413].includes(status) &&
    title !== "broken" &&
    html`<button type="button" onClick=${page.on.retry}>${t("retry")}</button>`}
  </div>`;
}

/** Why a participant got this answer: the signals that weigh most in a human's words, then the words. */
export function Why({ page }) {
  const { explained: who, explanation } = page;
  if (who === null) return null;
  const found = explainedOf(explanation, who);
  return html`<section class="card why" id="why" aria-labelledby="why-title">
    <h2 id="why-title" dir="auto">${page.isGame ? t("whyYou") : t("why", { who: nameOf(who) })}</h2>
    ${found
      ? html`<${Reasons} found=${found} explanation=${explanation} messages=${page.messages} />`
      : html`<p class="fine">${t(page.state.problem ? "noReasons" : "looking")}</p>`}
  </section>`;
}

function Reasons({ found, explanation, messages }) {
  const name = nameOf(found.participant_id);
  const spans = found.spans.filter((span) => messages[span.message_id]);
  const rest = { name: "rest", label: t("rest"), weight: found.rest };
  const { expected_bot_share: share, method, model_version: version } = explanation;
  return html`<${Signals} signals=${reasonsOf(found).slice(0, SHOWN_SIGNALS)} />
    <h3>${t("words")}</h3>
    ${spans.length ? html`<${Words} spans=${spans} messages=${messages} who=${found.participant_id} />` : t("noWords")}
    <details>
      <summary>${t("allNumbers")}</summary>
      <${Signals} signals=${[...found.signals, rest]} numbers=${true} />
      <p>${t("logOdds", { base: signed(found.base), score: signed(found.score), who: name })}</p>
      ${share !== undefined && html`<p>${t("share", { n: Math.round(share * 100) })}</p>`}
      <p lang="en">${method}</p>
      <p>${t("version", { version })}</p>
    </details>`;
}

/** Signals as bars to the left (a person) and to the right (a bot). */
export function Signals({ signals, numbers = false }) {
  const widest = Math.max(...signals.map(({ weight }) => Math.abs(weight)), 0.1);
  return html`<div class="sides" aria-hidden="true">
      <span class="label">${t("lookedAt")}</span><span class="person">← ${t("person")}</span><span class="bot">${t("bot")} →</span>
    </div>
    <ul class="signals ${numbers ? "numbered" : ""}">
      ${signals.map((signal) => {
        const { name, weight, label = meaningOf(signal) } = signal;
        const side = sideOf(weight);
        return html`<li key=${name}>
          <span class="label ${signal.than_usual ?? ""}">${label}</span>
          <span class="track" aria-hidden="true">
            <span class="fill ${side}" style=${{ width: `${(Math.abs(weight) / widest) * 50}%` }}></span>
          </span>
          ${numbers && html`<span class="number">${signed(weight)}</span>`}
          <span class="unseen">${signal.than_usual && `${t(signal.than_usual)}, `}${t(side === "bot" ? "towardBot" : "towardPerson")}</span>
        </li>`;
      })}
    </ul>`;
}

/** The words of spans, the heaviest first; of a word that is there more than once, the heaviest. */
function Words({ spans, messages, who }) {
  const words = new Map();
  for (const { message_id: at, start, end, weight } of spans) {
    const text = [...messages[at].text].slice(start, end).join("");
    const word = text.toLowerCase().replace(/^\P{L}+|\P{L}+$/gu, "") || text;
    if (!words.has(word)) words.set(word, { text, weight, message: messages[at] });
  }
  return html`<ul class="words">
    ${[...words].map(
      ([word, { text, weight, message }]) => html`<li key=${word} class=${sideOf(weight)}>
        <q dir="auto">${text}</q>
        <span class="unseen">${t(weight > 0 ? "towardBot" : "towardPerson")}</span>
        ${message.who !== who && html`<span class="fine"> ${t("saidBy", { who: nameOf(message.who) })}</span>`}
      </li>`,
    )}
  </ul>`;
}

/** What one message changed, and what in it did. */
export function Effect({ page, message }) {
  const number = page.messages.indexOf(message) + 1;
  const [before, after] = [page.scores.at(number - 1), page.scores.at(number)];
  const answer = after?.get(message.who);
  if (!answer || (number > 1 && !before)) return html`<p class="effect fine">${t("effectPending")}</p>`;
  const at = (answers, who) => percent(answers.get(who).is_bot_probability);
  const [who, was] = [nameOf(message.who), before?.get(message.who)];
  const others = page.shown.filter((other) => other !== message.who && before?.has(other) && after.has(other));
  const [explainedBefore, explainedAfter] = [page.explanationOf(number - 1), page.explanationOf(number)];
  const isKnown = explainedAfter && (number === 1 || explainedBefore);
  return html`<div class="effect">
    <p dir="auto">
      ${was
        ? t("effect", { who, before: at(before, message.who), after: at(after, message.who) })
        : t("effectFirst", { who, after: at(after, message.who) })}
      ${others.map((other) => ` ${t("effectOther", { who: nameOf(other), before: at(before, other), after: at(after, other) })}`)}
    </p>
    ${isKnown
      ? html`<${InIt} number=${number} message=${message} before=${explainedBefore} after=${explainedAfter} />`
      : html`<p class="fine">${t("looking")}</p>`}
  </div>`;
}

function InIt({ number, message, before, after }) {
  const found = explainedOf(after, message.who);
  const changed = changes(explainedOf(before, message.who), found);
  const spans = found.spans.filter((span) => span.message_id === number - 1);
  if (!changed.length && !spans.length) return html`<p class="fine">${t("nothingInIt")}</p>`;
  return html`<p class="fine">${t("inIt")}</p>
    <ul class="words">
      ${changed.map(
        ({ signal, weight }) =>
          html`<li key=${signal.name} class=${sideOf(weight)}>
            <span class=${signal.than_usual}>${meaningOf(signal)}</span> <span class="toward">→ ${t(sideOf(weight))}</span>
          </li>`,
      )}
    </ul>
    ${spans.length > 0 && html`<${Words} spans=${spans.slice(0, SHOWN_CHANGES)} messages=${{ [number - 1]: message }} who=${message.who} />`}`;
}

/**
 * Return the signals whose weights differ most between two explanations of a participant, [{ signal, weight }]. Each
 * lists its heaviest signals: one that is not listed weighs at most as much as the lightest that is, and no more is
 * assumed.
 */
function changes(before, after) {
  const [old, now] = [before?.signals ?? [], after.signals];
  const weightIn = (listed, { name, weight }) => {
    const least = listed.length ? Math.abs(listed.at(-1).weight) : 0;
    return listed.find((one) => one.name === name)?.weight ?? Math.min(Math.max(weight, -least), least);
  };
  const isGone = ({ name }) => !now.some((one) => one.name === name);
  return [...now, ...old.filter(isGone)]
    .map((signal) => ({ signal, weight: weightIn(now, signal) - weightIn(old, signal) }))
    .filter(({ signal, weight }) => Math.abs(weight) >= LEAST_CHANGE && !OF_LANGUAGE.test(signal.name))
    .sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight))
    .slice(0, SHOWN_CHANGES);
}
