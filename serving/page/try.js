// The page: holds the chat, asks for its scores when it changes, and shows what comes back.

import { begin, End, Goal, GOAL, goalOf, goOn, headline, invite, invited, isWhole, judged, lineOf, MODES, names, YOU } from "./challenge.js";
import { Chart } from "./chart.js";
import { Composer, Messages, segments } from "./chat.js";
import { Code, Key, Paste, Share } from "./dialogs.js";
import { read, UnreadableError } from "./formats.js";
import { html, render } from "./html.js";
import { CHATS, MODEL } from "./data.js";
import { Scores } from "./scores.js";
import { hasKey, post, Problem, setKey } from "./service.js";
import { summary, unpack } from "./share.js";
import { LANGUAGES, nameOf, percent, preferred, setLanguage, setNames, t } from "./texts.js";
import { conclude, explainedOf, ProblemBox, Verdict, Why, worth } from "./verdict.js";

const TYPING = 250; // ms without a key press until the chat is scored
const SETTLED = 400; // ms after that until it is explained
const RETRIES = 5; // by itself, when the service is busy or gone
const KEPT = 30; // explanations

const empty = () => ({ messages: [], people: ["A", "B"], speaker: "A", draft: "" });
const state = {
  ...empty(),
  language: preferred(),
  mode: "chat", // or one of MODES
  games: {}, // the challenges, by mode
  friends: {}, // the results to beat, { p, n }, by mode
  chat: null, // the visitor's chat during a challenge
  chosen: null, // the participant to explain, if not the one of the headline
  selected: null, // the message to explain
  reached: null, // the message that the Tab key reaches
  editing: null,
  explanation: null, // the last one of the whole chat, with its messages
  answers: new Map(), // the last answers for the whole chat, perhaps of a moment ago
  problem: null,
  wait: 0, // seconds until the next try
  retries: 0,
  busy: false,
  hint: "",
  undo: null,
  dialog: null,
  announced: "",
};
const scores = new Scores();
const explanations = new Map(); // by the chat as JSON
let timer = 0;
let asking = new AbortController();
let lastId = 0;

function say(who, text) {
  lastId += 1;
  return { who, text, id: lastId };
}
const isGame = () => state.mode !== "chat";
const game = () => state.games[state.mode];
const speakersOf = (messages) => [...new Set(messages.map(({ who }) => who))];

/** Return the messages to score: in a chat, the one that is being written is the last. */
function written() {
  if (isGame()) return judged(state.messages);
  const text = state.draft.trim();
  return text ? [...state.messages, { who: state.speaker, text }] : state.messages;
}

/** Change the chat, show it, and ask for its scores; `said` offers to undo it. */
function change(make, said = "") {
  const { people, speaker, draft } = state;
  const before = { messages: state.messages.map((message) => ({ ...message })), people, speaker, draft };
  make();
  state.undo = said ? { said, before } : null;
  state.retries = 0;
  draw();
  askSoon(0);
}

/** Put another chat in place of this one. */
function replace(messages, said) {
  change(
    () => {
      const people = speakersOf(messages);
      for (const spare of ["A", "B"]) if (people.length < 2 && !people.includes(spare)) people.push(spare);
      forget();
      Object.assign(state, { messages: messages.map(({ who, text }) => say(who, text)), people, draft: "" });
      state.speaker = messages.length ? next(messages.at(-1).who) : people[0];
    },
    state.messages.length || state.draft ? said : "",
  );
  scrollTo(0, 0);
  document.getElementById("scroll").scrollTop = 0;
}

const forget = () =>
  Object.assign(state, { selected: null, chosen: null, reached: null, editing: null, explanation: null, answers: new Map(), hint: "" });

/** Return who comes after a participant. */
const next = (who) => state.people[(state.people.indexOf(who) + 1) % state.people.length];

/** Scroll to the last message. */
function revealLast() {
  const items = document.querySelectorAll(".message");
  items[items.length - 1]?.scrollIntoView({ block: "nearest" });
}

/** Begin or go on with a challenge, or go back to the chat. */
function setMode(mode) {
  if (mode === state.mode) return;
  if (state.mode === "chat") state.chat = { ...empty(), ...pick(state) };
  state.mode = mode;
  forget();
  Object.assign(state, { undo: null, problem: null });
  if (isGame()) {
    state.games[mode] ??= begin(state.language, say);
    Object.assign(state, { messages: game().messages, people: ["script", YOU], speaker: YOU, draft: "" });
  } else Object.assign(state, state.chat);
  draw();
  revealLast();
  askSoon(0);
}

const pick = ({ messages, people, speaker, draft }) => ({ messages, people, speaker, draft });

// Asking.

function askSoon(wait) {
  asking.abort();
  state.busy = written().length > 0;
  clearTimeout(timer);
  timer = setTimeout(ask, wait);
  show();
}

/** Ask for the scores that are not known, the whole chat's first, and then for the reasons. */
async function ask() {
  clearTimeout(timer);
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  scores.keep(written());
  scores.want(state.messages.indexOf(state.selected) + 1);
  state.busy = scores.length > 0;
  if (!scores.length) {
    Object.assign(state, { problem: null, explanation: null, answers: new Map() });
    return show();
  }
  const asked = await Promise.allSettled([askScores(signal), askReasons(signal)]);
  if (signal.aborted) return undefined;
  state.busy = false;
  const error = asked.find(({ status }) => status === "rejected")?.reason;
  if (error && !(error instanceof Problem)) throw error;
  if (error) fail(error);
  else Object.assign(state, { problem: null, retries: 0 });
  return show();
}

async function askScores(signal) {
  for (let counts = scores.next(); counts.length; counts = scores.next()) {
    try {
      const { predictions } = await post("predict_batch", scores.batch(counts), signal);
      if (signal.aborted) return;
      scores.learn(counts, predictions);
    } catch (error) {
      if (error.status !== 413) throw error;
      const isOne = scores.length === 1;
      if (!scores.shrink(counts)) throw isOne ? Object.assign(error, { explanation: "tooLargeWhyOne" }) : error;
    }
    if (isGame() && scores.at(scores.length)) {
      goOn(state.mode, game(), scores.at(scores.length).get(YOU).is_bot_probability, say);
      state.messages = game().messages;
      draw();
      revealLast();
      if (game().over) document.getElementById("end-title").focus();
    }
    show();
  }
}

async function askReasons(signal) {
  const number = scores.length && state.messages.indexOf(state.selected) + 1;
  const counts = [scores.length, number, number - 1].filter((count) => count > 0);
  const bodies = [...new Set(counts.map((count) => scores.chat(count)))];
  if (!explanations.has(bodies[0])) await pause(SETTLED, signal);
  for (const body of bodies) {
    const isNew = !explanations.has(body);
    if (isNew) {
      const answer = await post("explain", body, signal);
      if (explanations.size >= KEPT) explanations.clear();
      explanations.set(body, answer);
    }
    if (signal.aborted) return;
    if (body === bodies[0]) state.explanation = { ...explanations.get(body), messages: written().map((one) => ({ ...one })) };
    draw();
    if (isNew && number > 0) revealSelected(); // what is said about it has grown
  }
}

function pause(wait, signal) {
  return new Promise((resolve, reject) => {
    const waiting = setTimeout(resolve, wait);
    signal.addEventListener("abort", () => {
      clearTimeout(waiting);
      reject(signal.reason);
    });
  });
}

function fail(problem) {
  state.problem = problem;
  state.wait = problem.retryAfter && state.retries < RETRIES ? Math.max(problem.retryAfter, 2 ** state.retries) : 0;
  if (!state.wait) return;
  state.retries += 1;
  timer = setTimeout(ask, state.wait * 1000);
}

/** A fault of the page itself must not look like one of the service. */
function breakDown() {
  Object.assign(state, { problem: new Problem("broken"), wait: 0, busy: false });
  try {
    draw();
  } catch {
    document.getElementById("app").textContent = `${t("broken")}. ${t("brokenWhy")}`;
  }
}
addEventListener("error", ({ error }) => error && breakDown());
addEventListener("unhandledrejection", breakDown);

// What a visitor does.

const itemOf = (message) => document.querySelector(`[data-id="${message?.id}"]`);
const revealSelected = () => itemOf(state.selected)?.scrollIntoView({ block: "nearest" });
const focus = (message) => itemOf(message)?.querySelector(".bubble").focus();

const on = {
  write(text) {
    Object.assign(state, { draft: text, retries: 0, hint: "" });
    if (isGame()) return show();
    return askSoon(TYPING);
  },
  add() {
    const text = state.draft.trim();
    if (!text) return;
    if (isGame() && (game().over || game().messages.at(-1).who === YOU)) return;
    if (state.mode === "stay" && !isWhole(text)) {
      state.hint = t("whole");
      return show();
    }
    change(() => {
      state.messages = [...state.messages, say(state.speaker, text)];
      if (isGame()) game().messages = state.messages;
      else state.speaker = next(state.speaker);
      Object.assign(state, { draft: "", reached: null });
    });
    document.getElementById("draft")?.focus({ preventScroll: true });
    revealLast();
  },
  again() {
    state.games[state.mode] = null;
    const { mode } = state;
    state.mode = "";
    setMode(mode);
    document.getElementById("draft").focus();
  },
  speak(who) {
    state.speaker = who;
    if (state.draft.trim()) askSoon(0);
    else show();
  },
  addPerson() {
    let number = state.people.length;
    const name = (at) => (at < 26 ? String.fromCharCode(65 + at) : `P${at + 1}`);
    while (state.people.includes(name(number))) number += 1;
    Object.assign(state, { people: [...state.people, name(number)], speaker: name(number) });
    draw();
    document.getElementById("draft").focus();
  },
  select(message) {
    Object.assign(state, { selected: message ?? null, reached: message ?? state.reached });
    if (message) state.chosen = isGame() ? null : message.who;
    draw();
    revealSelected();
    askSoon(0);
  },
  choose(who) {
    state.chosen = who;
    draw();
    document.getElementById("why")?.scrollIntoView({ block: "nearest" });
  },
  reach(message) {
    if (state.reached === message) return;
    state.reached = message;
    show();
  },
  focus,
  startEdit(message) {
    Object.assign(state, { selected: message, editing: message });
    draw();
  },
  endEdit(message, text) {
    if (state.editing !== message) return;
    state.editing = null;
    if (text === null || text === message.text) draw();
    else change(() => Object.assign(message, { text }));
    focus(message);
  },
  give: (message, who) => change(() => Object.assign(message, { who })),
  remove(message) {
    const at = state.messages.indexOf(message);
    const neighbour = state.messages[at + 1] ?? state.messages[at - 1];
    change(() => {
      state.messages = state.messages.filter((other) => other !== message);
      if (state.selected === message) state.selected = null;
      state.reached = neighbour ?? null;
    }, t("deleted"));
    focus(neighbour);
  },
  clear() {
    replace([], t("cleared"));
    document.getElementById("draft").focus();
  },
  undo() {
    const { before } = state.undo;
    change(() => {
      forget();
      Object.assign(state, before);
    });
    document.getElementById("draft").focus();
  },
  example: ({ messages }) => replace(messages.map((text, at) => ({ who: "AB"[at % 2], text })), t("replaced")),
  /** Take what is in the box now; a chat that got in at once, pasted, dropped or from a phone's keyboard, is asked about. */
  input({ target }) {
    const { draft } = state;
    const end = draft.length - (target.value.length - target.selectionEnd);
    let start = 0;
    while (start < end && draft[start] === target.value[start]) start += 1;
    const text = target.value.slice(start, target.selectionEnd);
    if (isGame() || !isChat(text)) on.write(target.value);
    else open(Paste, { text, isDraft: true, place: [start, end] });
  },
  keepAsDraft(text) {
    const [start, end] = state.dialog.props.place;
    open(null);
    on.write(state.draft.slice(0, start) + text + state.draft.slice(end));
    document.getElementById("draft").focus();
  },
  usePasted(messages) {
    open(null);
    replace(messages, t("replaced"));
    document.getElementById("draft").focus({ preventScroll: true });
  },
  share() {
    const page = pageOf();
    const over = isGame() ? game().over : null;
    const line = over ? lineOf(state.mode, over) : "";
    open(Share, { summary: summary(page, line), messages: page.messages, line, fragment: over && invite(state.mode, over) });
  },
  key: () => open(Key),
  useKey(text) {
    setKey(text);
    open(null);
    state.retries = 0;
    if (written().length) ask();
  },
  retry() {
    state.retries = 0;
    ask();
  },
  language(name) {
    if (name === state.language) return;
    Object.assign(state, { language: name, hint: "", undo: null });
    setLanguage(name);
    if (isGame() && state.messages.length === 1) on.again();
    draw();
  },
};

function isChat(text) {
  try {
    const { chats } = read(text);
    return chats.length > 1 || chats[0].messages.length > 1;
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    return error.key === "strayHeader"; // a chat, of which the dialog says what is wrong; else it is a text
  }
}

function open(kind, props = {}) {
  state.dialog = kind && { kind, props };
  draw();
}

// What is shown. Everything is drawn once for a frame, however often it changes.

let drawing = 0;
function show() {
  drawing ||= requestAnimationFrame(draw);
}

function draw() {
  cancelAnimationFrame(drawing);
  drawing = 0;
  setNames(isGame() ? names() : new Map());
  const page = pageOf();
  announce(page);
  render(html`<${App} page=${page} />`, document.getElementById("app"));
  keep();
}

/** Return all that is shown and can be done, for the parts of the page. */
function pageOf() {
  const latest = scores.at(scores.length);
  if (latest && scores.length) state.answers = latest;
  const { answers, explanation } = state;
  const messages = written();
  const concluded = conclude(answers, messages);
  const verdict = isGame() ? { ...concluded, ...headline(state.mode, game(), answers.get(YOU)), notes: [] } : concluded;
  const who = isGame() ? YOU : (state.chosen ?? concluded.who);
  const explained = answers.has(who) ? who : null;
  return {
    state,
    on,
    scores,
    answers,
    messages,
    explanation,
    explained,
    verdict,
    worth: isGame() ? t("scriptNote") : worth(concluded.level),
    isGame: isGame(),
    game: game(),
    goal: isGame() ? goalOf(state.mode) : null,
    shown: isGame() ? [YOU] : state.people,
    speakers: speakersOf(messages),
    confidenceOf: (one) => (!isGame() && concluded.isEarly ? "low" : answers.get(one).confidence),
    share: explanation?.expected_bot_share ?? MODEL.share,
    isStale: scores.length > 0 && !latest,
    explanationOf: (count) => explanations.get(scores.chat(count)),
    marks: marksOf(explanation, explained, messages),
  };
}

/** Return a function from a message's place to the segments to mark in it, for one participant. */
function marksOf(explanation, who, messages) {
  const spans = explainedOf(explanation, who)?.spans ?? [];
  const isSame = (at) => messages[at]?.text === explanation.messages[at]?.text;
  return (at) => {
    const own = spans.filter((span) => span.message_id === at);
    return own.length && isSame(at) ? segments(messages[at].text, own) : [];
  };
}

let announcing = 0;
function announce({ isStale, answers, verdict, shown }) {
  if (isStale || !answers.size) return;
  const bars = shown.filter((who) => answers.has(who)).map((who) => `${nameOf(who)} ${percent(answers.get(who).is_bot_probability)}`);
  const said = `${verdict.text}. ${bars.join(", ")}.`;
  if (said === state.announced) return;
  clearTimeout(announcing);
  announcing = setTimeout(() => {
    state.announced = said;
    show();
  }, 1000);
}

function App({ page }) {
  const isEmpty = !page.isGame && !state.messages.length;
  const isQuiet = isEmpty && !page.messages.length;
  return html`<${Top} isQuiet=${isQuiet} />
    <main>
      <section class="card talk" aria-label=${page.isGame ? t(state.mode) : t("chat")}>
        ${page.isGame ? html`<${Goal} page=${page} />` : !isEmpty && html`<${Toolbar} page=${page} />`}
        <div id="scroll" class="scroll">${isEmpty ? html`<${Welcome} page=${page} />` : html`<${Messages} page=${page} />`}</div>
        <div class="bottom">
          ${!isQuiet && html`<${Strip} page=${page} />`}
          <${ProblemBox} page=${page} />
          ${state.undo &&
          html`<div class="undo">
            <span>${state.undo.said}</span><button type="button" onClick=${on.undo}>${t("undo")}</button>
          </div>`}
          ${page.isGame && game().over ? html`<${End} page=${page} />` : html`<${Composer} page=${page} />`}
        </div>
      </section>
      <div class="side">
        ${isQuiet
          ? html`<${Invitation} />`
          : html`<${Verdict} page=${page} /><${Why} page=${page} />
              ${scores.points.length > 0 &&
              html`<section class="card" aria-labelledby="history-title">
                <h2 id="history-title">${t("history")}</h2>
                <${Chart} page=${page} />
              </section>`}`}
      </div>
    </main>
    <${Footer} />
    ${state.dialog && html`<${state.dialog.kind} ...${state.dialog.props} page=${page} close=${() => open(null)} />`}`;
}

function Top({ isQuiet }) {
  const mode = (name, href) =>
    html`<a class="button ${state.mode === name ? "primary" : "quiet"}" href=${href} aria-current=${state.mode === name ? "page" : null}>${t(name)}</a>`;
  return html`<header class="top ${isQuiet ? "" : "brief"}">
    <h1>${t("title")}</h1>
    <p class="tagline">${t("subtitle", { n: MODEL.chats })}</p>
    <nav aria-label=${t("modes")}>${mode("chat", "#")} ${MODES.map((name) => mode(name, `#${name}`))}</nav>
    <div class="languages" role="group" aria-label=${t("language")}>
      ${LANGUAGES.map(
        (name) =>
          html`<button type="button" lang=${name} aria-pressed=${String(name === state.language)} onClick=${() => on.language(name)}>
            ${name.toUpperCase()}
          </button>`,
      )}
    </div>
  </header>`;
}

function Toolbar() {
  const { examples } = CHATS[state.language];
  const load = (event) => {
    const { value } = event.target;
    event.target.value = "";
    on.example(examples[value]);
  };
  return html`<div class="toolbar">
    <select id="examples" aria-label=${t("examples")} onChange=${load}>
      <option value="">${t("examples")}…</option>
      ${examples.map(({ title }, at) => html`<option value=${at}>${title}</option>`)}
    </select>
    <button type="button" onClick=${() => open(Paste, { text: "" })}>${t("paste")}</button>
    <button type="button" onClick=${on.clear}>${t("clear")}</button>
  </div>`;
}

function Welcome() {
  const [first, ...others] = CHATS[state.language].examples;
  return html`<div class="welcome">
    <h2>${t("lead")}</h2>
    <div class="actions">
      <button type="button" class="primary" onClick=${() => on.example(first)}>${t("start")}</button>
      <button type="button" onClick=${() => open(Paste, { text: "" })}>${t("paste")}</button>
    </div>
    <p class="fine">${t("dropHere")}</p>
    <p>${t("otherExamples")}</p>
    <ul class="chips">
      ${others.map((example) => html`<li><button type="button" onClick=${() => on.example(example)}>${example.title}</button></li>`)}
    </ul>
    <p class="fine">${t("orWrite")}</p>
  </div>`;
}

function Invitation() {
  return html`<section class="card invitation" aria-labelledby="invitation-title">
    <h2 id="invitation-title">${t("challengeLead")}</h2>
    <p>${t("challengeAbout", { p: percent(GOAL) })}</p>
    <a class="button primary" href="#pass">${t("pass")}</a>
    <p class="fine">${t("stayAbout")}</p>
    <a class="button" href="#stay">${t("stay")}</a>
  </section>`;
}

/** The verdict in short above the line to write in, where the screen is too small for both. */
function Strip({ page }) {
  const { verdict, answers, shown } = page;
  const bars = shown.filter((who) => answers.has(who)).slice(0, 3);
  return html`<button type="button" class="strip ${verdict.tone}" onClick=${() => document.getElementById("verdict").scrollIntoView()}>
    <strong dir="auto">${verdict.text} <span class="fine">${!page.isGame && worth(verdict.level, true)}</span></strong>
    ${bars.map((who) => {
      const p = answers.get(who).is_bot_probability;
      return html`<span class="mini ${p >= 0.5 ? "bot" : "person"} ${page.confidenceOf(who)}" key=${who}>
        <span dir="auto">${nameOf(who)}</span>
        <span class="track"><span class="fill" style=${{ width: `${p * 100}%` }}></span></span> ${percent(p)}
      </span>`;
    })}
  </button>`;
}

function Footer() {
  return html`<footer>
    <p class="fine">${t("footer")}</p>
    <button type="button" class="quiet" disabled=${!scores.length} onClick=${() => open(Code)}>${t("code")}</button>
    ${MODEL.needsKey && html`<button type="button" class="quiet" onClick=${on.key}>${t(hasKey() ? "keySet" : "key")}</button>`}
    ${MODEL.docsAreOpen && html`<a class="button quiet" href="./">${t("docs")}</a>`}
  </footer>`;
}

// What stays in this tab: the chat, the challenges and the language survive a reload and a way back.

const STORED = "try";

function keep() {
  const { language, games } = state;
  try {
    sessionStorage.setItem(STORED, JSON.stringify({ language, games, chat: isGame() ? state.chat : pick(state) }));
  } catch {
    // no place, or not allowed: then a reload begins anew
  }
}

function restore() {
  const stored = JSON.parse(sessionStorage.getItem(STORED) ?? "null");
  if (!stored) return;
  const renew = ({ who, text }) => say(who, text);
  const { chat } = stored;
  Object.assign(state, { language: stored.language, ...chat, messages: chat.messages.map(renew) });
  for (const mode of MODES)
    if (stored.games[mode]) state.games[mode] = { ...stored.games[mode], messages: stored.games[mode].messages.map(renew) };
}

/** Do what the fragment of the address says: begin a challenge, or show the chat that came with a link. */
async function follow() {
  const fragment = location.hash.slice(1);
  const messages = await unpack(fragment);
  const { mode = "chat", friend } = invited(fragment) ?? {};
  if (friend) state.friends[mode] = friend;
  setMode(mode);
  if (messages === undefined) return show();
  history.replaceState(null, "", location.pathname + location.search); // what is written from now on is not in the link
  if (messages) replace(messages, t("fromLink"));
  else Object.assign(state, { problem: new Problem("linkBroken", { status: 400 }) });
  show();
}

function takeFile(event) {
  event.preventDefault();
  const [file] = event.dataTransfer?.files ?? [];
  if (event.type !== "drop" || !file || isGame()) return;
  file.text().then((text) => open(Paste, { text }));
}

addEventListener("hashchange", follow);
addEventListener("dragover", takeFile);
addEventListener("drop", takeFile);
addEventListener("online", () => state.problem && ask());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !state.dialog && state.selected) {
    const message = state.selected;
    on.select(null);
    focus(message);
  }
});

try {
  restore();
} catch {
  sessionStorage.removeItem(STORED); // of another version of the page
}
setLanguage(state.language);
document.getElementById("app").replaceChildren();
draw();
follow();
if (written().length) askSoon(0);
