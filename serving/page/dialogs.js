// What opens above the page: pasting a chat, sharing, the API key, and the request as a command or a program.

import { read, UnreadableError } from "./formats.js";
import { Component, createRef, html } from "./html.js";
import { asCurl, asPython, hasKey } from "./service.js";
import { asText, linkTo, pack, paint } from "./share.js";
import { nameOf, t } from "./texts.js";

class Dialog extends Component {
  box = createRef();

  componentDidMount() {
    this.opener = document.activeElement;
    this.box.current.showModal();
  }

  componentWillUnmount() {
    const { opener } = this;
    queueMicrotask(() => document.activeElement === document.body && opener?.isConnected && opener.focus());
  }

  render({ id, title, wide, close, children }) {
    return html`<dialog ref=${this.box} id=${id} class=${wide ? "wide" : ""} aria-labelledby="${id}-title" onClose=${close}>
      <h2 id="${id}-title">${title}</h2>
      ${children}
    </dialog>`;
  }
}

/** Copy a text; where the browser does not allow it, as on pages without TLS, select it for the visitor to copy. */
class CopyButton extends Component {
  state = { said: "" };

  render({ text, from, label, primary = false }, { said }) {
    const copy = async () => {
      const copied = await navigator.clipboard?.writeText(text).then(
        () => true,
        () => false,
      );
      if (!copied) document.getElementById(from).select?.() ?? getSelection().selectAllChildren(document.getElementById(from));
      this.setState({ said: t(copied ? "copied" : "selected") });
    };
    return html`<button type="button" autofocus=${primary} class=${primary ? "primary" : ""} onClick=${copy}>${said || label}</button>`;
  }
}

/** Asks for a chat as text, and shows what was found in it; `text` is what is there already. */
export class Paste extends Component {
  state = { text: this.props.text, choice: 0, nobody: new Set() };

  render({ page, close, isDraft }, { text, choice, nobody }) {
    const { on } = page;
    const change = (event) => this.setState({ text: event.target.value, choice: 0, nobody: new Set() });
    const take = async (event) => {
      const [file] = event.target.files;
      if (file) this.setState({ text: await file.text(), choice: 0, nobody: new Set() });
    };
    const toggle = (name) => {
      const others = new Set(nobody);
      if (!others.delete(name)) others.add(name);
      this.setState({ nobody: others });
    };
    const [found, fault] = tryToRead(text, nobody);
    const chat = found?.chats[choice];
    return html`<${Dialog} id="paste" title=${t("paste")} close=${close}>
      <p>${t("pasteHelp")} <label class="file"><input type="file" accept="text/*,.json,.jsonl,.csv,.log" onChange=${take} aria-label=${t("file")} /></label></p>
      <textarea autofocus rows="8" dir="auto" spellcheck="false" aria-label=${t("pasteText")} aria-describedby="paste-found" value=${text} onInput=${change}></textarea>
      <div id="paste-found" class="found ${!found && text.trim() ? "bad" : ""}" role="status">
        ${chat ? html`<${Found} found=${found} chat=${chat} />` : html`<p>${fault}</p>`}
      </div>
      ${found?.names?.length > 2 &&
      html`<fieldset class="names">
        <legend>${t("whoIsThere")}</legend>
        ${found.names.map(
          (name) =>
            html`<label key=${name}><input type="checkbox" checked=${!nobody.has(name)} onChange=${() => toggle(name)} /> ${name}</label>`,
        )}
      </fieldset>`}
      ${found?.chats.length > 1 &&
      html`<label id="paste-which"
        >${t("dialog")}${" "}
        <select value=${choice} onChange=${(event) => this.setState({ choice: Number(event.target.value) })}>
          ${found.chats.map(({ name, messages }, at) => html`<option value=${at}>${name || at + 1} (${messages.length})</option>`)}
        </select></label
      >`}
      <div class="actions">
        <button type="button" onClick=${close}>${t("cancel")}</button>
        ${isDraft && html`<button type="button" onClick=${() => on.keepAsDraft(text)}>${t("pasteKeep")}</button>`}
        <button type="button" class="primary" disabled=${!chat} onClick=${() => on.usePasted(chat.messages)}>${t("pasteUse")}</button>
      </div>
    <//>`;
  }
}

function tryToRead(text, nobody) {
  try {
    return [read(text, nobody), ""];
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    return [null, t(error.key, error.values)];
  }
}

function Found({ found, chat }) {
  const names = [...new Set(chat.messages.map(({ who }) => who))].map(nameOf);
  const some = names.slice(0, 6).join(", ");
  const who = names.length > 6 ? t("andMore", { who: some, n: names.length - 6 }) : some;
  const messages = t("foundMessages", { n: chat.messages.length });
  return html`<p>${t("found", { format: t(found.format), messages, who })}</p>
    ${found.skipped > 0 && html`<p class="fine">${t("skipped", { n: found.skipped })}</p>`}
    ${found.joined > 0 && html`<p class="fine">${t("joined", { n: found.joined })}</p>`}`;
}

/** Shares a result: as text, as a link, and as a picture. `fragment` is of the link, or of the chat if it is null. */
export class Share extends Component {
  state = { fragment: this.props.fragment ?? undefined };
  canvas = createRef();

  async componentDidMount() {
    paint(this.canvas.current, this.props.summary);
    if (this.props.fragment === null) this.setState({ fragment: await pack(this.props.messages) });
  }

  render({ close, summary, line, fragment: fixed }, { fragment }) {
    const link = fragment === undefined || fragment === null ? "" : linkTo(fragment);
    const text = [line || asText(summary), fixed === null ? "" : link].filter(Boolean).join("\n");
    return html`<${Dialog} id="share" title=${t("shareTitle")} close=${close} wide>
      <canvas ref=${this.canvas} role="img" aria-label="${t("picture")}: ${summary.headline}"></canvas>
      <textarea id="share-text" readonly rows="6" dir="auto" aria-label=${t("result")} value=${text}></textarea>
      ${link && html`<input id="share-link" type="text" readonly aria-label=${t("link")} value=${link} />`}
      ${fixed === null && fragment !== undefined && html`<p class="note">${t(link ? "linkWarning" : "linkTooLong")}</p>`}
      <div class="actions">
        <button type="button" onClick=${close}>${t("close")}</button>
        <button type="button" onClick=${() => this.save()}>${t(this.canSend() ? "sharePicture" : "savePicture")}</button>
        ${link && html`<${CopyButton} key="link" text=${link} from="share-link" label=${t("copyLink")} />`}
        <${CopyButton} key="text" text=${text} from="share-text" label=${t("copyResult")} primary />
      </div>
    <//>`;
  }

  canSend() {
    const files = [new File([], "bot-or-human.png", { type: "image/png" })];
    return matchMedia("(pointer: coarse)").matches && (navigator.canShare?.({ files }) ?? false);
  }

  save() {
    this.canvas.current.toBlob(async (blob) => {
      const file = new File([blob], "bot-or-human.png", { type: "image/png" });
      if (this.canSend()) return navigator.share({ files: [file] }).catch(() => {}); // given up by the visitor
      const address = URL.createObjectURL(file);
      Object.assign(document.createElement("a"), { href: address, download: file.name }).click();
      return setTimeout(() => URL.revokeObjectURL(address), 60_000);
    });
  }
}

/** Asks for the API key. */
export function Key({ page, close }) {
  const { on } = page;
  const use = (event) => {
    event.preventDefault();
    on.useKey(event.target.elements.key.value);
  };
  return html`<${Dialog} id="key" title=${t("key")} close=${close}>
    <p>${t("keyHelp")}</p>
    <form onSubmit=${use}>
      <input type="password" name="key" autocomplete="off" spellcheck="false" aria-label=${t("key")} />
      <div class="actions">
        ${hasKey() && html`<button type="button" onClick=${() => on.useKey("")}>${t("keyForget")}</button>`}
        <button type="button" onClick=${close}>${t("cancel")}</button>
        <button type="submit" class="primary">${t("keyUse")}</button>
      </div>
    </form>
  <//>`;
}

/** Shows the chat as a request, in curl or Python. */
export class Code extends Component {
  state = { language: "curl", route: "explain" };

  render({ close, page: { scores } }, { language, route }) {
    const choice = (name, label, options) =>
      html`<select aria-label=${t(label)} onChange=${(event) => this.setState({ [name]: event.target.value })}>
        ${options.map(([value, words]) => html`<option value=${value} selected=${value === this.state[name]}>${t(words)}</option>`)}
      </select>`;
    const body = route === "explain" ? scores.chat() : scores.batch(scores.next(() => false));
    const text = (language === "python" ? asPython : asCurl)(route, body);
    const notes = [
      t(language === "python" ? "needsBentoml" : "needsShell"),
      hasKey() && t("keyFromEnvironment"),
      route === "explain" && t("sameBody"),
    ];
    return html`<${Dialog} id="code" title=${t("codeTitle")} close=${close} wide>
      <div class="tools">
        ${choice("language", "codeLanguage", [["curl", "codeCurl"], ["python", "codePython"]])}
        ${choice("route", "codeRoute", [["explain", "codeExplain"], ["predict_batch", "codeBatch"]])}
      </div>
      <pre id="code-text" tabindex="0" role="region" aria-label=${t("codeRequest")}>${text}</pre>
      <p class="fine">${notes.filter(Boolean).join(" ")}</p>
      <div class="actions">
        <button type="button" onClick=${close}>${t("close")}</button>
        <${CopyButton} key=${text} text=${text} from="code-text" label=${t("copy")} primary />
      </div>
    <//>`;
  }
}
