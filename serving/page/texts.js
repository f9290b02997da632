// How the page says what it says: texts in a language (texts/), names, numbers and plurals.

import { TEXTS } from "./data.js";

export const LANGUAGES = Object.keys(TEXTS);

/** Return the language that a browser prefers among those of the page. */
export const preferred = () =>
  (navigator.languages ?? [navigator.language]).map((tag) => tag.slice(0, 2)).find((tag) => LANGUAGES.includes(tag)) ?? "en";

let language = "en";
let plural = new Intl.PluralRules(language);

export function setLanguage(name) {
  language = name;
  plural = new Intl.PluralRules(name);
  Object.assign(document.documentElement, { lang: name });
  document.title = t("title");
}

/** Return a text with its values; of several forms ("message|messages") the one for `values.n`. */
export function t(key, values = {}) {
  const forms = TEXTS[language][key].split("|");
  const form = { one: 0, few: 1 }[plural.select(values.n ?? 1)] ?? forms.length - 1;
  return forms[Math.min(form, forms.length - 1)].replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? values[name].toLocaleString(language) : values[name],
  );
}

/** Return what a signal of an explanation looks at, in the page's language. */
export const meaningOf = ({ meaning }) => meaning[language];

let names = new Map();

/** Say which participants are shown under other names than their identifiers: a Map from identifier to name. */
export const setNames = (others) => {
  names = others;
};

/** Return a participant's identifier as a name to show. */
export const nameOf = (who) => names.get(who) ?? (String(who) || t("noName"));

/** Write a probability in per cent. */
export function percent(probability) {
  if (probability < 0.01) return "<1\u00A0%";
  if (probability > 0.99) return ">99\u00A0%";
  return `${Math.round(probability * 100)}\u00A0%`;
}

/** Write log odds with their sign. */
export const signed = (weight) =>
  `${weight < 0 ? "−" : "+"}${Math.abs(weight).toLocaleString(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
