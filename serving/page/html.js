// How the page is drawn: Preact makes elements of templates (htm), and text of strings, never markup.

import htm from "./vendor/htm.mjs";
import { Component, createRef, h, render } from "./vendor/preact.mjs";

export { Component, createRef, render };
export const html = htm.bind(h);

/** Return whether a press of Enter ends a text; the one that confirms an input method's choice does not. */
export const isEnter = (event) =>
  event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229; // 229: Safari's way to say so
