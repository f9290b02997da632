// The list of messages: bubbles in two columns, moved through with the arrow keys, each with its own small tools.

import { button, element } from "./dom.js";
import { nameOf, tint } from "./people.js";

/**
 * Shows messages in a list element. `on` says what happens: select(message), edit(message, text), give(message, who),
 * remove(message). A message is an object { who, text }, and keeps its place on the page for as long as it is the same.
 */
export class Talk {
  #list;
  #on;
  #rows = new Map();
  #messages = [];
  #people = [];
  #editing = null;

  constructor(list, on) {
    this.#list = list;
    this.#on = on;
    list.addEventListener("keydown", (event) => this.#press(event));
    list.addEventListener("focusin", (event) => this.#reach(event.target.closest(".bubble")));
  }

  /** Show messages of participants, one of them perhaps selected, with `marks` (from message to segments) in them. */
  show(messages, people, selected, marks) {
    const gone = new Set(this.#rows.keys());
    // the tools name the participants
    if (JSON.stringify(people) !== JSON.stringify(this.#people))
      for (const row of this.#rows.values()) {
        row.tools?.remove();
        row.tools = null;
      }
    [this.#messages, this.#people] = [messages, [...people]];
    const rows = messages.map((message, at) => {
      gone.delete(message);
      const row = this.#rows.get(message) ?? this.#make(message);
      this.#update(row, message, at, marks.get(message), message === selected);
      return row.item;
    });
    for (const message of gone) this.#rows.delete(message);
    this.#place(rows);
    if (!this.#list.contains(document.activeElement)) this.#reach(this.#rows.get(selected ?? messages.at(-1))?.bubble);
  }

  /** Move the focus to a message. */
  focus(message) {
    this.#rows.get(message)?.bubble.focus();
  }

  /** Scroll a message to the top. */
  reveal(message) {
    this.#rows.get(message)?.item.scrollIntoView({ block: "start" });
  }

  /** Begin to edit a message in its place. */
  edit(message) {
    const row = this.#rows.get(message);
    const area = element("textarea", {
      rows: Math.min(8, message.text.split("\n").length + 1),
      dir: "auto",
      "aria-label": "Edit the message. Enter saves, Escape cancels.",
    });
    area.value = message.text;
    const leave = (save) => {
      if (this.#editing !== message) return;
      this.#editing = null;
      row.editor.remove();
      row.item.classList.remove("editing");
      if (save && area.value !== message.text) this.#on.edit(message, area.value);
      row.bubble.focus();
    };
    area.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") leave(false);
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) leave(true);
      else return;
      event.preventDefault();
    });
    row.editor = element(
      "div",
      { class: "editor" },
      area,
      element(
        "div",
        { class: "actions" },
        button("Cancel", () => leave(false)),
        button("Save", () => leave(true), { class: "primary" }),
      ),
    );
    row.item.classList.add("editing");
    row.item.append(row.editor);
    this.#editing = message;
    area.focus();
  }

  /** Put the rows in order; those that stand right are not touched, so that the focus stays where it is. */
  #place(rows) {
    const kept = new Set(rows);
    for (const item of [...this.#list.children]) if (!kept.has(item)) item.remove();
    let there = this.#list.firstChild;
    for (const item of rows) {
      if (item === there) there = there.nextSibling;
      else this.#list.insertBefore(item, there);
    }
  }

  #make(message) {
    const who = element("span", { class: "who" });
    const bubble = button("", () => this.#on.select(message), { class: "bubble", tabindex: "-1", dir: "auto" });
    const item = element("li", {}, who, bubble);
    const row = { item, who, bubble, shown: null };
    this.#rows.set(message, row);
    return row;
  }

  #update(row, message, at, segments, isSelected) {
    const { item, who, bubble } = row;
    const follows = at > 0 && this.#messages[at - 1].who === message.who;
    const right = this.#people.indexOf(message.who) % 2 === 1;
    const kind = `message ${right ? "right" : "left"} ${tint(this.#people, message.who)}${follows ? " follows" : ""}${isSelected ? " selected" : ""}`;
    if (row.kind !== kind) item.className = `${(row.kind = kind)}${this.#editing === message ? " editing" : ""}`;
    if (who.textContent !== nameOf(message.who)) who.textContent = nameOf(message.who);
    const shown = JSON.stringify([message.text, segments]);
    if (row.shown !== shown) {
      row.shown = shown;
      bubble.replaceChildren(
        element("span", { class: "unseen" }, `${nameOf(message.who)}: `),
        ...marked(message.text, segments),
      );
    }
    bubble.setAttribute("aria-pressed", isSelected);
    if (isSelected !== Boolean(row.tools)) {
      row.tools?.remove();
      row.tools = isSelected ? this.#tools(message) : null;
      if (row.tools) item.append(row.tools);
    }
    if (row.tools) row.tools.querySelector("select").value = this.#people.indexOf(message.who);
  }

  #tools(message) {
    const says = element(
      "select",
      { "aria-label": "Who says it" },
      ...this.#people.map((who, at) => element("option", { value: at }, nameOf(who))),
    );
    says.addEventListener("change", () => this.#on.give(message, this.#people[says.value]));
    return element(
      "div",
      { class: "tools" },
      says,
      button("Edit", () => this.edit(message)),
      button("Delete", () => this.#remove(message)),
    );
  }

  #remove(message) {
    const at = this.#messages.indexOf(message);
    const neighbour = this.#messages[at + 1] ?? this.#messages[at - 1];
    this.#on.remove(message);
    if (neighbour) this.focus(neighbour);
  }

  /** Make a message the one that the Tab key reaches. */
  #reach(bubble) {
    if (!bubble) return;
    for (const other of this.#list.querySelectorAll('.bubble[tabindex="0"]')) other.setAttribute("tabindex", "-1");
    bubble.setAttribute("tabindex", "0");
  }

  #press(event) {
    if (!event.target.classList.contains("bubble") || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.#messages.findIndex((message) => this.#rows.get(message).bubble === event.target);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: this.#messages.length - 1 }[event.key];
    if (to !== undefined) this.focus(this.#messages[to]);
    else if (event.key === "Delete" || event.key === "Backspace") this.#remove(this.#messages[at]);
    else if (event.key === "e" || event.key === "F2") this.edit(this.#messages[at]);
    else return;
    event.preventDefault();
  }
}

function marked(text, segments) {
  if (!text) return [element("i", {}, "empty message")];
  if (!segments?.length) return [text];
  const parts = [];
  let end = 0;
  for (const segment of segments) {
    parts.push(text.slice(end, segment.start));
    parts.push(element("mark", { class: segment.kind }, text.slice(segment.start, segment.end)));
    end = segment.end;
  }
  parts.push(text.slice(end));
  return parts;
}
