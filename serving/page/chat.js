// The chat: bubbles in two columns, moved through with the arrow keys, and the line to write in.

import { Component, createRef, html, isEnter } from "./html.js";
import { nameOf, t } from "./texts.js";
import { Effect, sideOf } from "./verdict.js";

const LEVELS = [0.12, 0.4, 0.9, 1.8]; // log odds from which a message is tinted
const STRENGTHS = ["0%", "12%", "22%", "34%", "46%"]; // of the tint

export function Messages({ page }) {
  const { messages } = page.state;
  return html`${page.messages.length > 0 &&
    html`<p class="legend fine">
      ${t("legend")} <span class="bot">${t("towardBot")}</span> <span class="person">${t("towardPerson")}</span>
    </p>`}
    <ol
      id="messages"
      class="messages"
      aria-label=${t("messages")}
      aria-describedby="messages-help"
      onKeyDown=${(event) => press(event, page)}
    >
      ${messages.map((message, at) => html`<${Message} key=${message.id} message=${message} at=${at} page=${page} />`)}
    </ol>
    <p id="messages-help" class="unseen">${t("messagesHelp")}</p>`;
}

function Message({ message, at, page }) {
  const { state, scores, on } = page;
  const [isSelected, isEdited] = [state.selected === message, state.editing === message];
  const isReached = state.messages.includes(state.reached) ? state.reached === message : at === state.messages.length - 1;
  const effect = page.isGame && message.who !== page.shown[0] ? null : scores.effect(at + 1, page.share);
  const level = effect === null ? 0 : LEVELS.filter((least) => Math.abs(effect) >= least).length;
  const kinds = [
    state.people.indexOf(message.who) % 2 === 1 ? "right" : "left",
    state.messages[at - 1]?.who === message.who && "follows",
    isSelected && "selected",
    level && sideOf(effect),
  ];
  return html`<li data-id=${message.id} class="message ${kinds.filter(Boolean).join(" ")}">
    <span class="who" dir="auto">${nameOf(message.who)}</span>
    ${isEdited
      ? html`<${Editor} message=${message} on=${on} />`
      : html`<button
          type="button"
          class="bubble"
          style=${{ "--strength": STRENGTHS[level] }}
          dir="auto"
          aria-expanded=${String(isSelected)}
          tabindex=${isReached ? 0 : -1}
          onClick=${() => on.select(isSelected ? null : message)}
          onFocus=${() => on.reach(message)}
        >
          <span class="unseen">${nameOf(message.who)}: </span>${marked(message.text, page.marks(at))}
        </button>`}
    ${isSelected &&
    !isEdited &&
    html`<div class="about">
      <${Effect} page=${page} message=${message} />
      ${!page.isGame && html`<${Tools} message=${message} page=${page} />`}
    </div>`}
  </li>`;
}

function Tools({ message, page }) {
  const { state, on } = page;
  return html`<div class="tools">
    <select aria-label=${t("speaker")} onChange=${(event) => on.give(message, state.people[event.target.value])}>
      ${state.people.map((who, at) => html`<option value=${at} selected=${who === message.who}>${nameOf(who)}</option>`)}
    </select>
    <button type="button" onClick=${() => on.startEdit(message)}>${t("edit")}</button>
    <button type="button" onClick=${() => on.remove(message)}>${t("remove")}</button>
  </div>`;
}

class Editor extends Component {
  area = createRef();

  componentDidMount() {
    this.area.current.focus();
  }

  render({ message, on }) {
    const save = () => on.endEdit(message, this.area.current.value);
    const keys = (event) => {
      event.stopPropagation();
      if (event.key === "Escape") on.endEdit(message, null);
      else if (isEnter(event)) save();
      else return;
      event.preventDefault();
    };
    return html`<div class="editor">
      <textarea
        ref=${this.area}
        rows=${Math.min(8, message.text.split("\n").length + 1)}
        dir="auto"
        aria-label=${t("editing")}
        defaultValue=${message.text}
        onKeyDown=${keys}
      ></textarea>
      <div class="actions">
        <button type="button" onClick=${() => on.endEdit(message, null)}>${t("cancel")}</button>
        <button type="button" class="primary" onClick=${save}>${t("save")}</button>
      </div>
    </div>`;
  }
}

function press(event, page) {
  if (!event.target.classList.contains("bubble") || event.ctrlKey || event.metaKey || event.altKey) return;
  const { on, isGame } = page;
  const { messages, reached } = page.state;
  const at = messages.indexOf(reached);
  const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: messages.length - 1 }[event.key];
  if (to !== undefined) on.focus(messages[to]);
  else if (isGame) return;
  else if (event.key === "Delete" || event.key === "Backspace") on.remove(messages[at]);
  else if (event.key === "e" || event.key === "F2") on.startEdit(messages[at]);
  else return;
  event.preventDefault();
}

function marked(text, segments) {
  if (!text) return html`<i>${t("emptyMessage")}</i>`;
  const parts = [];
  let end = 0;
  for (const segment of segments) {
    parts.push(text.slice(end, segment.start));
    parts.push(html`<mark class=${sideOf(segment.weight)}>${text.slice(segment.start, segment.end)}</mark>`);
    end = segment.end;
  }
  return [...parts, text.slice(end)];
}

/** Cut a text where spans of words begin and end: [{ start, end, weight }], each with what the spans over it weigh. */
export function segments(text, spans) {
  const units = [0]; // the service counts characters, JavaScript the halves of some of them
  for (const character of text) units.push(units.at(-1) + character.length);
  const edges = [...new Set(spans.flatMap(({ start, end }) => [start, end]))].sort((one, other) => one - other);
  return edges
    .slice(1)
    .map((end, at) => ({ end, start: edges[at] }))
    .map(({ start, end }) => ({ start, end, over: spans.filter((span) => span.start <= start && span.end >= end) }))
    .filter(({ over }) => over.length)
    .map(({ start, end, over }) => ({
      start: units[start],
      end: units[end],
      weight: over.reduce((sum, { weight }) => sum + weight, 0),
    }));
}

/** The line to write in, with whoever says it above. */
export function Composer({ page }) {
  const { state, on } = page;
  return html`<div class="composer">
    ${!page.isGame && html`<${Speakers} page=${page} />`}
    <div class="write">
      <textarea
        id="draft"
        rows="1"
        dir="auto"
        aria-label=${t("draft")}
        aria-describedby="draft-help"
        placeholder=${t("placeholder")}
        value=${state.draft}
        onInput=${on.input}
        onKeyDown=${(event) => {
          if (!isEnter(event)) return;
          event.preventDefault();
          on.add();
        }}
      ></textarea>
      <button type="button" id="add" class="primary" disabled=${!state.draft.trim()} onClick=${on.add}>${t("add")}</button>
    </div>
    <p id="draft-help" class="fine ${state.hint ? "hint" : ""}" role="status">${state.hint || t("draftHelp")}</p>
  </div>`;
}

function Speakers({ page }) {
  const { state, on } = page;
  return html`<fieldset class="speakers">
    <legend>${t("speaker")}</legend>
    ${state.people.map(
      (who, at) =>
        html`<label key=${who}>
          <input type="radio" name="speaker" value=${at} checked=${who === state.speaker} onChange=${() => on.speak(who)} />
          <span dir="auto">${nameOf(who)}</span>
        </label>`,
    )}
    <button type="button" class="plus" aria-label=${t("addParticipant")} title=${t("addParticipant")} onClick=${on.addPerson}>
      +
    </button>
  </fieldset>`;
}
