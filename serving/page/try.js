// The page: holds the chat, asks for its scores when it changes, and shows what comes back.

import { Chart } from "./chart.js";
import { Talk } from "./chat.js";
import { button, element, find } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { read, UnreadableError } from "./formats.js";
import { nameOf, percent, speakersOf, tint, verdict } from "./people.js";
import { Scores } from "./scores.js";
import { asCurl, asPython, hasKey, post, Problem, sent, setKey } from "./service.js";
import { marksOf, reasons } from "./why.js";

const TYPING = 250; // ms without a key press until the chat is scored
const SETTLED = 400; // ms after that until it is explained
const RETRIES = 5; // by itself, when the service is busy or gone
const UNLIKE = 0.5; // of 1, as in models/classifier.py; below, the expert for other games than the training game says more
const FEW_WORDS = 8; // in a whole chat; most chats that the classifier learned from have more

const state = {
  messages: [],
  people: ["A", "B"],
  speaker: "A",
  chosen: null, // the participant to explain
  selected: null, // the message to explain
  explanation: null,
  problem: null,
  retries: 0,
  answers: new Map(), // the last answers for the whole chat, perhaps of a moment ago
};
const scores = new Scores();
const draft = find("draft");
let timer = 0;
let asking = new AbortController();
let undo = null;

const talk = new Talk(find("messages"), {
  select: (message) => choose(message.who, state.selected === message ? null : message),
  edit: (message, text) =>
    change(() => {
      message.text = text;
    }),
  give: (message, who) =>
    change(() => {
      message.who = who;
    }),
  remove: (message) =>
    change(() => {
      state.messages = state.messages.filter((other) => other !== message);
      if (state.selected === message) state.selected = null;
    }, "Message deleted."),
});
const chart = new Chart(find("chart"), {
  point: (count) => readOut(count),
  select: (count) => {
    const message = state.messages[count - 1];
    if (message) choose(state.chosen ?? message.who, message);
  },
});

/** Return the messages, and the one that is being written as the last. */
function written() {
  return draft.value.trim() ? [...state.messages, { who: state.speaker, text: draft.value.trim() }] : state.messages;
}

/** Change the chat, show it, and ask for its scores; `said` offers to undo it. */
function change(make, said = "") {
  const { people, speaker } = state;
  const before = { messages: state.messages.map((message) => ({ ...message })), people, speaker, draft: draft.value };
  make();
  undo = said ? before : null;
  find("undo-text").textContent = said;
  find("undo").hidden = !said;
  state.retries = 0;
  show();
  askSoon(0);
}

/** Put another chat in place of this one. */
function replace(messages, said) {
  change(() => {
    setDraft("");
    state.messages = messages.map((message) => ({ ...message }));
    const people = speakersOf(messages);
    for (const spare of ["A", "B"]) if (people.length < 2 && !people.includes(spare)) people.push(spare);
    Object.assign(state, { people, speaker: people[0], selected: null, chosen: null, explanation: null });
    if (messages.length) state.speaker = next(messages.at(-1).who);
  }, said);
  find("scroll").scrollTop = 0;
}

/** Return who comes after a participant. */
function next(who) {
  return state.people[(state.people.indexOf(who) + 1) % state.people.length];
}

function setDraft(text) {
  draft.value = text;
  find("add").disabled = !text.trim();
}

function addDraft() {
  const text = draft.value.trim();
  if (!text) return;
  setDraft("");
  change(() => {
    state.messages.push({ who: state.speaker, text });
    state.speaker = next(state.speaker);
  });
  find("scroll").scrollTop = find("scroll").scrollHeight;
}

/** Explain a participant's answer, and what a message changed. */
function choose(who, message) {
  Object.assign(state, { chosen: who, selected: message });
  show();
  if (message && matchMedia("(max-width: 40rem)").matches) requestAnimationFrame(() => talk.reveal(message)); // above the reasons
  askSoon(0);
}

function askSoon(wait) {
  asking.abort();
  busy(true);
  clearTimeout(timer);
  timer = setTimeout(ask, wait);
}

/** Show whether the answers are about to change. */
function busy(is) {
  find("busy").hidden = !is;
  find("bars").ariaBusy = is;
}

/** Ask for the scores that are not known, the whole chat's first, and then for the reasons. */
async function ask() {
  clearTimeout(timer);
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  scores.keep(written());
  scores.want(state.messages.indexOf(state.selected) + 1);
  busy(scores.length > 0);
  if (!scores.length) {
    state.problem = null;
    Object.assign(state, { explanation: null, answers: new Map() });
    return show();
  }
  const asked = await Promise.allSettled([askScores(signal), askReasons(signal)]);
  if (signal.aborted) return undefined;
  busy(false);
  const error = asked.find(({ status }) => status === "rejected")?.reason;
  if (error && !(error instanceof Problem)) throw error;
  if (error) fail(error);
  else Object.assign(state, { problem: null, retries: 0 });
  return show();
}

async function askScores(signal) {
  for (let counts = scores.next(); counts.length; counts = scores.next()) {
    const { predictions } = await post("predict_batch", scores.batch(counts), signal);
    signal.throwIfAborted();
    scores.learn(counts, predictions);
    show();
  }
}

async function askReasons(signal) {
  const body = scores.chat();
  if (state.explanation?.body === body) return;
  await pause(state.chosen === null ? SETTLED : SETTLED / 2, signal);
  const answer = await post("explain", body, signal);
  signal.throwIfAborted();
  state.explanation = { ...answer, body, messages: written().map((message) => ({ ...message })) };
  show();
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
  problem.wait = problem.retryAfter && state.retries < RETRIES ? Math.max(problem.retryAfter, 2 ** state.retries) : 0;
  if (!problem.wait) return;
  state.retries += 1;
  timer = setTimeout(ask, problem.wait * 1000);
}

// What is shown. Everything is drawn once for a frame, however often it changes.

let drawing = 0;
function show() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    draw();
  });
}

function draw() {
  const { messages, people, selected, chosen } = state;
  const latest = scores.at(scores.length);
  if (latest) state.answers = latest;
  const explained =
    chosen === null ? null : state.explanation?.participants.find(({ participant_id: who }) => who === chosen);
  find("empty").hidden = messages.length > 0;
  find("clear").hidden = messages.length === 0;
  talk.show(messages, people, selected, explained ? marksOf(explained, marked()) : new Map());
  drawSpeakers();
  drawBars();
  drawNotes();
  drawProblem();
  find("history").hidden = scores.length === 0 || scores.points.length === 0;
  if (!find("history").hidden) chart.show(scores, people, selected ? messages.indexOf(selected) + 1 : 0);
  readOut(0);
  drawReasons(explained);
  find("open-code").disabled = !sent.size;
  find("open-key").textContent = hasKey() ? "API key: set" : "API key";
}

/** Return the messages that the explanation is about, as far as they are the same now. */
function marked() {
  const { messages } = state.explanation;
  return written().map((message, at) =>
    messages[at]?.text === message.text && messages[at].who === message.who ? message : null,
  );
}

function drawSpeakers() {
  const fieldset = find("speakers");
  const key = JSON.stringify(state.people);
  if (fieldset.dataset.people !== key) {
    fieldset.dataset.people = key;
    const radios = state.people.map((who, at) => {
      const radio = element("input", { type: "radio", name: "speaker", value: at });
      radio.addEventListener("change", () => {
        state.speaker = who;
        if (draft.value.trim()) askSoon(0);
      });
      return element("label", { class: tint(state.people, who) }, radio, element("span", {}, nameOf(who)));
    });
    const more = button("+", addParticipant, {
      class: "more",
      "aria-label": "Add a participant",
      title: "Add a participant",
    });
    fieldset.replaceChildren(fieldset.querySelector("legend"), ...radios, more);
  }
  fieldset.querySelectorAll("input")[state.people.indexOf(state.speaker)].checked = true;
}

function addParticipant() {
  let number = state.people.length;
  const name = (at) => (at < 26 ? String.fromCharCode(65 + at) : `P${at + 1}`);
  while (state.people.includes(name(number))) number += 1;
  state.people = [...state.people, name(number)];
  state.speaker = name(number);
  show();
  draft.focus();
}

const rows = new Map();
function drawBars() {
  const { people, answers, chosen } = state;
  const stale = scores.length > 0 && !scores.at(scores.length);
  const speakers = speakersOf(written());
  const bars = people.map((who) => {
    const row = rows.get(who) ?? makeRow(who);
    const answer = answers.get(who);
    const probability = answer?.is_bot_probability ?? 0;
    const words = answer ? verdict(answer) : speakers.includes(who) ? "no answer yet" : "has not written yet";
    row.item.className = `bar ${tint(people, who)} ${probability >= 0.5 ? "bot" : "human"} ${answer?.confidence ?? "none"}${stale ? " stale" : ""}`;
    row.fill.style.width = `${probability * 100}%`;
    row.number.textContent = answer ? `${percent(probability)} bot` : "";
    row.words.textContent = answer ? `${words} · ${answer.confidence} confidence` : words;
    row.press.disabled = !answer;
    row.press.setAttribute("aria-pressed", who === chosen);
    row.press.setAttribute(
      "aria-label",
      answer
        ? `${nameOf(who)}: ${percent(probability)} bot, ${words}, ${answer.confidence} confidence. Show why.`
        : `${nameOf(who)} ${words}`,
    );
    return row.item;
  });
  const list = find("bars");
  if (bars.length !== list.children.length || bars.some((item, at) => item !== list.children[at]))
    list.replaceChildren(...bars);
  const summary = stale
    ? ""
    : people
        .filter((who) => answers.has(who))
        .map(
          (who) => `${nameOf(who)}: ${verdict(answers.get(who))}, ${percent(answers.get(who).is_bot_probability)} bot.`,
        )
        .join(" ");
  if (summary) announce(summary);
}

function makeRow(who) {
  const row = {
    fill: element("span", { class: "fill" }),
    number: element("span", { class: "number" }),
    words: element("span", { class: "words" }),
  };
  row.press = button("", () => choose(state.chosen === who && !state.selected ? null : who, null));
  row.press.append(
    element("span", { class: "avatar" }, nameOf(who)),
    row.number,
    row.words,
    element("span", { class: "track" }, row.fill),
  );
  row.item = element("li", {}, row.press);
  rows.set(who, row);
  return row;
}

let announcing = 0;
function announce(summary) {
  clearTimeout(announcing);
  announcing = setTimeout(() => {
    if (find("summary").textContent !== summary) find("summary").textContent = summary;
  }, 1000);
}

/** Say what is not known. */
function drawNotes() {
  const all = written();
  const words = all.reduce((sum, { text }) => sum + text.split(/\s+/).filter(Boolean).length, 0);
  const speakers = speakersOf(all).length;
  const notes = [];
  if (!all.length) notes.push("As you write, the bars move, and a chart shows what each message changed.");
  else if (state.answers.size) {
    if (words < FEW_WORDS)
      notes.push(`Only ${words === 1 ? "one word" : `${words} words`} so far: too few to rely on the answer.`);
    const like = state.explanation?.like_training_chats;
    if (like < UNLIKE) notes.push(`Unlike the chats it was trained on (like them: ${like.toFixed(2)} of 1).`);
    if (speakers === 1) notes.push("Only one participant has written so far. The other side's words count, too.");
    if (speakers > 2)
      notes.push(
        "The classifier was trained on chats of two, with at most one bot. With more participants, rely on it less.",
      );
    if (state.chosen === null) notes.push("Choose a bar or a message to see why.");
  }
  const key = notes.join("\n");
  const box = find("notes");
  if (box.dataset.shown === key) return;
  box.dataset.shown = key;
  box.replaceChildren(
    ...notes.map((note) => element("p", { class: /^(Choose|As you)/.test(note) ? "fine" : "note" }, note)),
  );
}

function drawProblem() {
  const box = find("problem");
  const { problem } = state;
  if (box.hidden && !problem) return;
  box.hidden = !problem;
  if (!problem) return box.replaceChildren();
  if (box.shown === problem) return undefined;
  box.shown = problem;
  const again =
    problem.status === 400 || problem.status === 413
      ? null
      : button("Try again", () => {
          state.retries = 0;
          ask();
        });
  const key = problem.status === 401 ? button("Enter a key", openKey, { class: "primary" }) : null;
  const wait = problem.wait ? ` Trying again in ${problem.wait} s.` : "";
  return box.replaceChildren(
    element("p", {}, element("strong", {}, `${problem.title}.`), ` ${problem.explanation}${wait}`),
    element("div", { class: "actions" }, key ?? again),
  );
}

function readOut(count) {
  const known = count ? scores.at(count) : null;
  find("readout").textContent = known
    ? `After message ${count}: ${[...known].map(([who, answer]) => `${nameOf(who)} ${percent(answer.is_bot_probability)}`).join(", ")}`
    : `Point at the chart for the numbers.${scores.isWhole ? "" : " Of a long chat, not every message has a point."}`;
}

function drawReasons(explained) {
  const box = find("why");
  const { chosen, selected, messages } = state;
  box.hidden = chosen === null;
  if (box.hidden) return;
  find("why-title").textContent = `Why ${nameOf(chosen)}?`;
  if (!explained) {
    find("why-body").replaceChildren(
      element("p", { class: "fine" }, state.problem ? "There is no answer to explain yet." : "Looking at the words…"),
    );
    return;
  }
  const number = messages.indexOf(selected) + 1;
  const open = find("why-body").querySelector("details")?.open ?? false;
  const move = number ? { number, message: selected, before: scores.at(number - 1), after: scores.at(number) } : null;
  find("why-body").replaceChildren(...reasons(explained, state.explanation, move).filter(Boolean));
  find("why-body").querySelector("details").open = open;
}

// Writing.

draft.addEventListener("input", () => {
  find("add").disabled = !draft.value.trim();
  state.retries = 0;
  askSoon(TYPING);
});
draft.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  addDraft();
});
draft.addEventListener("paste", (event) => {
  const pasted = event.clipboardData.getData("text/plain");
  let found;
  try {
    found = read(pasted);
  } catch {
    return; // it is a text
  }
  if (found.chats.length === 1 && found.chats[0].messages.length < 2) return;
  event.preventDefault();
  openPaste(pasted);
});
find("add").addEventListener("click", () => {
  addDraft();
  draft.focus();
});
find("clear").addEventListener("click", () => {
  replace([], "Chat cleared.");
  draft.focus();
});
find("undo-button").addEventListener("click", () => {
  const before = undo;
  change(() => {
    setDraft(before.draft);
    Object.assign(state, {
      messages: before.messages,
      people: before.people,
      speaker: before.speaker,
      selected: null,
      chosen: null,
    });
  });
  draft.focus();
});
find("close-why").addEventListener("click", closeReasons);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]") && state.chosen !== null) closeReasons();
});
window.addEventListener("online", () => {
  if (state.problem) ask();
});

function closeReasons() {
  const { selected, chosen } = state;
  const inside = find("why").contains(document.activeElement);
  choose(null, null);
  if (inside && selected) talk.focus(selected);
  else if (inside) rows.get(chosen)?.press.focus();
}

// Examples.

for (const [at, example] of EXAMPLES.entries()) {
  find("examples").append(element("option", { value: at }, example.title));
  const card = button("", () => replace(example.messages, ""));
  card.append(element("strong", {}, example.title), element("span", {}, example.about));
  find("example-cards").append(element("li", {}, card));
}
find("examples").addEventListener("change", () => {
  const example = EXAMPLES[find("examples").value];
  find("examples").value = "";
  if (example) replace(example.messages, state.messages.length ? "Example loaded." : "");
});

// Pasting a chat.

let found = null;
function openPaste(text = "") {
  find("paste-text").value = text;
  find("paste-keep").hidden = !text;
  readPasted();
  find("paste").showModal();
}

function readPasted() {
  found = null;
  let says;
  try {
    found = read(find("paste-text").value);
    const chats = found.chats.length;
    says = `Recognised as ${found.format}${chats > 1 ? ` with ${chats} chats` : ""}.`;
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    says = error.message;
  }
  const choice = find("paste-choice");
  choice.replaceChildren(
    ...(found?.chats ?? []).map(({ name, messages }, at) =>
      element("option", { value: at }, `${name} (${messages.length})`),
    ),
  );
  find("paste-which").hidden = (found?.chats.length ?? 0) < 2;
  find("paste-found").classList.toggle("bad", !found && find("paste-text").value.trim() !== "");
  find("paste-use").disabled = !found;
  find("paste-found").textContent = says;
  describePasted();
}

function describePasted() {
  if (!found) return;
  const { messages } = found.chats[find("paste-choice").value];
  const names = speakersOf(messages).map(nameOf);
  const who = names.length > 6 ? `${names.slice(0, 6).join(", ")} and ${names.length - 6} more` : names.join(", ");
  find("paste-found").textContent =
    `${find("paste-found").textContent.split(". ")[0].replace(/\.$/, "")}. ${messages.length === 1 ? "1 message" : `${messages.length} messages`} by ${who}.`;
}

find("open-paste").addEventListener("click", () => openPaste());
let reading = 0;
find("paste-text").addEventListener("input", () => {
  cancelAnimationFrame(reading); // a pasted text may come as an event for each of its lines
  reading = requestAnimationFrame(readPasted);
});
find("paste-choice").addEventListener("change", describePasted);
find("paste-cancel").addEventListener("click", () => find("paste").close());
find("paste-keep").addEventListener("click", () => {
  const { selectionStart: start, selectionEnd: end } = draft;
  draft.setRangeText(find("paste-text").value, start, end, "end");
  find("paste").close();
  draft.dispatchEvent(new Event("input"));
  draft.focus();
});
find("paste-use").addEventListener("click", () => {
  const { messages } = found.chats[find("paste-choice").value];
  find("paste").close();
  draft.focus();
  replace(messages, state.messages.length ? "Chat replaced." : "");
});

// The API key.

function openKey() {
  find("key-text").value = "";
  find("key-forget").hidden = !hasKey();
  find("key").showModal();
}

function useKey(text) {
  setKey(text);
  find("key-text").value = "";
  find("key").close();
  state.retries = 0;
  show();
  if (scores.length || written().length) ask();
}

find("open-key").addEventListener("click", openKey);
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(find("key-text").value);
});
find("key-forget").addEventListener("click", () => useKey(""));
find("key-cancel").addEventListener("click", () => find("key").close());

// The request as a command or a program.

function drawCode() {
  const radios = [...find("code").querySelectorAll('input[name="route"]')];
  for (const radio of radios) radio.disabled = !sent.has(radio.value);
  if (radios.find((radio) => radio.checked).disabled) radios.find((radio) => !radio.disabled).checked = true;
  const route = radios.find((radio) => radio.checked).value;
  const python = find("code").querySelector('input[name="language"]:checked').value === "python";
  find("code-text").textContent = (python ? asPython : asCurl)(route, sent.get(route));
  const key = hasKey() ? " The key is read from the environment variable API_KEY." : "";
  const same = route === "explain" ? " The same body, sent to /predict, gives the probabilities alone." : "";
  find("code-note").textContent = `${python ? "Needs the package bentoml." : "For sh, bash or zsh."}${key}${same}`;
  find("code-copy").textContent = "Copy";
}

find("open-code").addEventListener("click", () => {
  drawCode();
  find("code").showModal();
});
find("code").addEventListener("change", drawCode);
find("code-close").addEventListener("click", () => find("code").close());
find("code-copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(find("code-text").textContent);
    find("code-copy").textContent = "Copied";
  } catch {
    // the clipboard is there for pages of this machine and of TLS only
    getSelection().selectAllChildren(find("code-text"));
    find("code-copy").textContent = "Selected: press Ctrl+C";
  }
});

show();
