// Reads a pasted chat, whatever it was copied or exported from. A chat is { name, messages: [{ who, text }] }; `who` is
// an integer or a string, as the service takes it. What nobody said (notices, "image omitted") is left out and counted:
// it must not end up in somebody's mouth.

/** What was pasted is no chat; `key` and `values` are of a text that says why (texts.js). */
export class UnreadableError extends Error {
  constructor(key, values = {}) {
    super(key);
    Object.assign(this, { key, values });
  }
}

const unreadable = (key, values) => {
  throw new UnreadableError(key, values);
};

/**
 * Return { format, chats, skipped, joined, names } for a pasted text; throws UnreadableError.
 *
 * `skipped` is the number of messages and lines that nobody said; `joined`, of lines without a name in plain text, which
 * belong to the message before them; `names`, the possible names in plain text, of which those in `nobody` are none.
 */
export function read(pasted, nobody = new Set()) {
  const text = pasted.replace(/^\uFEFF/, "").trim();
  if (!text) unreadable("nothingPasted");
  if (/^[[{]/.test(text) && !/^\[[^\]"{]*\][^,\]]/.test(text)) return readJson(text);
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.replace(MARKS, ""));
  for (const reader of [readStamped, readBlocks, readTable]) {
    const found = reader(lines, text);
    if (found) return found;
  }
  return readLines(lines, nobody);
}

const MARKS = /^[\u200E\u200F\u202A-\u202E\u2066-\u2069\uFEFF]+/; // direction marks before a line or a text
const TIME = "\\d{1,2}[:.]\\d{2}(?:[:.]\\d{2})?(?:\\s?[apAP]\\.?\\s?[mM]\\.?)?";
const DATE = "\\d{1,4}[./-]\\d{1,2}(?:[./-]\\d{1,4}|\\.)?"; // WhatsApp copies messages without the year
const pattern = (source, flags = "iu") => new RegExp(source, flags);

// What a messenger writes in place of a message.
const PLACEHOLDER = pattern(
  "^(?:<[^<>]*(?:omitted|attached|медиа|пропущен|опущен)[^<>]*>|\\[ [^\\]]* \\]|(?:image|video|audio|sticker|gif|document|contact card|voice message) omitted" +
    "|(?:изображение|видео|аудиофайл|стикер|gif|документ|карточка контакта) (?:опущен|пропущен|отсутству|не добавлен)\\p{L}*" +
    "|.*\\((?:file attached|файл добавлен)\\)|(?:this message was deleted|you deleted this message" +
    "|(?:данное|это) сообщение удалено|вы удалили (?:данное|это) сообщение)\\.?)$",
);
const FORWARDED = /^\[(?:forwarded from|переслано от) /iu;
const ASIDE = /[\s\u200E]*(?:<(?:this message was edited|сообщение изменено)>|\((?:edited|изменено)\))$/gimu;
// A time in brackets at the start of a line that begins no message: whose the line is would be a guess.
const STRAY = `^[\\s,]*\\[[^\\]]*${TIME}\\]`;

/** Collects messages and leaves out what nobody said; `add` begins a message, `more` goes on with it. */
class Collector {
  messages = [];
  skipped = 0;
  #said = null;

  /** Begin a message of somebody, or with `who` null one of nobody. */
  add(who, text) {
    this.#finish();
    const name = who?.trim().replace(/^~\s*/, ""); // WhatsApp's mark of somebody who is no contact
    this.#said = { who: name && !MARKS.test(text) ? name : null, lines: [text] };
  }

  /** Go on with the message, unless the line looks like the `stray` header of another. */
  more(line, stray) {
    if (stray.test(line)) unreadable("strayHeader", { line: line.trim() });
    if (this.#said) this.#said.lines.push(line);
    else if (line.trim()) this.skipped += 1;
  }

  #finish() {
    if (!this.#said) return;
    const { who, lines } = this.#said;
    this.#said = null;
    const kept = lines.filter((line, at) => at === 0 || !PLACEHOLDER.test(line.trim()));
    const text = kept.join("\n").trim().replace(ASIDE, "").trim();
    const isSaid = who !== null && text && !PLACEHOLDER.test(text) && !FORWARDED.test(text);
    this.skipped += lines.length - kept.length || Number(!isSaid);
    if (isSaid) this.messages.push({ who, text });
  }

  result(format) {
    this.#finish();
    if (!this.messages.length) return null;
    return { format, chats: [{ name: "", messages: this.messages }], skipped: this.skipped };
  }
}

// WhatsApp ("12/11/2025, 14:03 - Anna: hi" and "[12.11.25, 14:03:22] Anna: hi") and logs ("[14:03] <Anna> hi").
const STAMPED = pattern(`^(?:\\[(?:${DATE},?\\s+)?${TIME}\\]|${DATE},?\\s+${TIME})(?:\\s*[-–—:]\\s*|\\s*)(\\S.*)?$`);
const STRAYED = pattern(STRAY);
const SAID_STAMPED = /^(?:<([^<>]{1,128})>\s*|([^:"“”«»]{1,128}?)\s*:(?:\s|$))(.*)$/u;

function readStamped(lines) {
  const headers = lines.filter((line) => SAID_STAMPED.test(line.match(STAMPED)?.[1] ?? ""));
  if (headers.length < 2 && headers[0] !== lines[0]) return null;
  const found = new Collector();
  for (const line of lines) {
    const stamped = line.match(STAMPED);
    const [, nick, name, text] = stamped?.[1]?.match(SAID_STAMPED) ?? [];
    if (stamped) found.add(nick ?? name ?? null, text ?? "");
    else found.more(line, STRAYED);
  }
  return found.result("formatStamped");
}

// A name and a time, then lines of text: Telegram, Discord and Slack. What is copied from the last two may have a tag after
// the name, and each part on a line of its own. With each: what begins a message, what is not said, what must not be left.
const DAY = "[Tt]oday|[Yy]esterday|[Сс]егодня|[Вв]чера|(?:[Ll]ast\\s+)?(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day";
const headerOf = (rest) => pattern(`^[^\\S\\n]*(\\S.{0,127}?)${rest}[^\\S\\n]*$`, "mu");
const GAP = "\\s[^\\S\\n]*"; // at most one line break
const TAG = `(?:${GAP}(?:✓\\s*)?(?:APP|BOT|БОТ|ПРИЛОЖЕНИЕ))?`;
// Below a message: reactions, and the day before the next header.
const MONTH_DAY = "(?:\\p{L}+\\s+\\d{1,2},|\\d{1,2}\\.?\\s+\\p{L}+)\\s+\\d{4}(?:\\s+г\\.)?";
const REACTION = "(?:\\p{Extended_Pictographic}\\S*|:[\\w+-]+:)\\s?\\d+";
const UNSAID = pattern(`(\\S) *(?:\\n+ *(?:${REACTION}|[—– ]*${MONTH_DAY}[—– ]*(?!\\s*\\S)))+$`, "gimu");
const BLOCKS = [
  [
    "formatTelegram",
    headerOf(`, \\[${DATE},?\\s+${TIME}\\]`),
    /^(\s*)\[?(?:in reply to|в ответ) .*\n/iu,
    pattern(`${STRAY}|\\[${DATE},?\\s+${TIME}\\]$`),
  ],
  [
    "formatDiscord",
    headerOf(`${TAG}${GAP}[—–]${GAP}(?:(?:${DAY})(?:\\s+(?:at|в))?,?\\s+|${DATE},?\\s+)?${TIME}`),
    UNSAID,
    pattern(`${STRAY}|(?:^|\\s)[—–]\\s+(?:\\S+\\s+){0,4}${TIME}\\s*$`),
  ],
  [
    "formatSlack",
    headerOf(`${TAG}(?:\\n?[^\\S\\n]{2,}${TIME}|[^\\S\\n]+\\[${TIME}\\])`),
    UNSAID,
    pattern(`${STRAY}|^\\s{2,}${TIME}\\s*$`),
  ],
];
const TIME_AGAIN = pattern(`^(?:${TIME}$|\\[${TIME}\\](?=\\s*\\S))`); // the next message of the same one

function readBlocks(lines) {
  for (const [format, header, unsaid, stray] of BLOCKS) {
    const [before, ...parts] = lines.join("\n").split(header); // each name and what follows it
    if (parts.length < 4 && (before || !parts.length)) continue;
    const found = new Collector();
    for (const line of before.split("\n")) found.more(line, stray);
    for (let at = 0; at < parts.length; at += 2) {
      found.add(parts[at], "");
      const text = parts[at + 1].replace(unsaid, (_, kept) => {
        found.skipped += 1;
        return kept;
      });
      for (const line of text.split("\n")) {
        if (format !== "formatTelegram" && TIME_AGAIN.test(line)) found.add(parts[at], line.replace(TIME_AGAIN, ""));
        else found.more(line, stray);
      }
    }
    return found.result(format);
  }
  return null;
}

// Tables with a line of column names.

const TEXTS = ["text", "content", "message", "value", "body", "msg", "utterance"];
const WHOS = ["participant_id", "participant_index", "user_profile", "from", "sender_name", "sender", "author", "role", "user"].concat(
  ["username", "user_name", "name", "speaker", "participant", "who", "from_id"],
);

function readTable(lines, text) {
  const separator = [",", ";", "\t"].find((sign) => lines[0].split(sign).length > 1);
  if (!separator || lines.length < 2) return null;
  const [head, ...rows] = cells(text, separator);
  const names = head.map((name) => name.trim().toLowerCase());
  const find = (wanted) => names.indexOf(wanted.find((name) => names.includes(name)));
  const [who, said] = [find(WHOS), find(TEXTS)];
  if (who < 0 || said < 0) return null;
  const found = new Collector();
  rows.forEach((row, at) => {
    if (row.length < 2 && !row[0]?.trim()) return;
    const isWhole = row.length > Math.max(who, said) && !row.slice(head.length).some(Boolean);
    if (!isWhole) unreadable("tableMalformed", { row: at + 2 }); // a cell with a separator or a line break in it is cut
    found.add(row[who], row[said]);
  });
  return found.result("formatTable");
}

/** Split a table (RFC 4180) into rows of cells. */
function cells(text, separator) {
  const rows = [[]];
  const cell = new RegExp(`(?:"((?:[^"]|"")*)"|((?:[^"${separator}\\r\\n][^${separator}\\r\\n]*)?))(${separator}|\\r\\n|\\r|\\n|$)`, "y");
  while (cell.lastIndex < text.length) {
    const [, quoted, bare, end] = cell.exec(text) ?? unreadable("tableMalformed", { row: rows.length });
    rows.at(-1).push(quoted?.replaceAll('""', '"') ?? bare);
    if (end && end !== separator) rows.push([]);
  }
  return rows;
}

// Plain text. A name before a colon: not the start of an address or of a time of day.
const NAMED = /^\s*([^\s:][^:]{0,63}?)\s*:(?:\s+|$)(.*)$/u;
const NAMED_TIGHTLY = /^\s*(\p{L}{1,12}|\d{1,2}):(?![/\\\d])(.+)$/u; // "A:hello", but not "http://" or "12:30"

function readLines(lines, nobody) {
  const named = lines.map((line) => line.match(NAMED) ?? line.match(NAMED_TIGHTLY));
  const names = new Map(); // to the number of lines
  for (const match of named) if (match) names.set(match[1], (names.get(match[1]) ?? 0) + 1);
  for (const [name, count] of names) if (count === 1 && !looksLikeName(name, names)) names.delete(name);
  const messages = [];
  let [skipped, joined] = [0, 0];
  lines.forEach((line, at) => {
    const [, who, said] = named[at] ?? [];
    if (names.has(who) && (!nobody.has(who) || !messages.length)) messages.push({ who, text: said });
    else if (PLACEHOLDER.test(line.trim())) skipped += 1;
    else if (messages.length) {
      messages.at(-1).text += `\n${line}`;
      joined += line.trim() ? 1 : 0;
    } else if (line.trim()) unreadable("noNameInLine", { line: at + 1 });
  });
  const kept = messages.map(({ who, text }) => ({ who, text: text.trim() })).filter(({ text }) => !PLACEHOLDER.test(text));
  if (!kept.length) unreadable("noMessages");
  skipped += messages.length - kept.length;
  return { format: "formatPlain", chats: [{ name: "", messages: kept }], skipped, joined, names: [...names.keys()] };
}

/** Tell whether a word before a colon that occurs once is a name: "note: bring money" is a message of Anna's. */
function looksLikeName(name, names) {
  if (name.length > 30 || name.split(/\s+/).length > 3 || /["“”«»!?,;]/.test(name)) return false;
  const isSmall = (one) => /^\p{Ll}/u.test(one);
  return !isSmall(name) || [...names.keys()].every(isSmall);
}

// JSON: requests, You are Bot dialogs, Telegram's result.json, the shape of OpenAI, exports of Slack and Discord.

function readJson(text) {
  const value = parse(text);
  const found = { skipped: 0 };
  const chats = (list, path) =>
    list.map((chat, at) =>
      Array.isArray(turnsOf(chat))
        ? readChat(chat, `${path}[${at}].messages`, found)
        : unreadable("noList", { place: `${path}[${at}]` }),
    );
  if (Array.isArray(value)) {
    if (value.some((item) => Array.isArray(turnsOf(item)))) found.chats = chats(value, "");
    else found.chats = [readChat({ messages: value }, "", found)];
  } else if (Array.isArray(turnsOf(value))) found.chats = [readChat(value, "messages", found)];
  else if (Array.isArray(value.chats)) found.chats = chats(value.chats, "chats");
  else if (Array.isArray(value.chats?.list)) found.chats = chats(value.chats.list, "chats.list");
  else found.chats = readDialogs(Object.entries(value), found);
  found.chats = found.chats.filter(({ messages }) => messages.length);
  if (!found.chats.length) unreadable("noDialog");
  return { format: "formatJson", ...found };
}

const turnsOf = (chat) => chat?.messages ?? chat?.conversations ?? chat?.conversation;

function parse(text) {
  // an identifier of more than 53 bits would be rounded: it is kept as it is written, as a string
  const exact = (_, item, context) =>
    typeof item === "number" && !Number.isSafeInteger(item) ? (context?.source ?? String(item)) : item;
  try {
    return JSON.parse(text, exact);
  } catch (error) {
    const lines = text.split(/\r?\n/).filter((line) => line.trim());
    try {
      if (lines.length > 1) return lines.map((line) => JSON.parse(line, exact)); // one value a line
    } catch {
      // the first error says more
    }
    return unreadable("jsonMalformed", { error: error.message });
  }
}

function readDialogs(entries, found) {
  if (!entries.length) unreadable("noDialog");
  return entries.map(([name, messages]) =>
    Array.isArray(messages)
      ? { ...readChat({ messages }, name, found), name }
      : unreadable("noList", { place: `“${name}”` }),
  );
}

function readChat(chat, path, found) {
  let turns = turnsOf(chat);
  if (!turns.length) unreadable(path ? "noMessage" : "noMessages", { place: path });
  if (turns.every((turn) => turn?.timestamp_ms)) turns = [...turns].sort((a, b) => a.timestamp_ms - b.timestamp_ms);
  const messages = turns.map((turn, at) => readTurn(turn, `${path}[${at}]`)).filter(Boolean);
  found.skipped += turns.length - messages.length;
  return { name: String(chat.chat_id ?? chat.name ?? chat.title ?? chat.id ?? ""), messages };
}

const NOBODY = /^(?:system|developer|tool|function)$/;
const SAID = /^(?:message|default|reply|text|generic|0|19)$/i; // kinds of entries that somebody said

/** Return a message; null for an entry that nobody said, such as somebody's joining, and for one without text. */
function readTurn(turn, place) {
  if (typeof turn !== "object" || turn === null || Array.isArray(turn)) unreadable("noTurn", { place });
  if ((turn.type !== undefined && !SAID.test(turn.type)) || /^(?:channel|group)_/.test(turn.subtype ?? "")) return null;
  const textKey = TEXTS.find((key) => typeof turn[key] === "string" || (turn[key] && typeof turn[key] === "object"));
  const text = textKey === undefined ? null : textOf(turn[textKey]);
  if (text === null) {
    if (TEXTS.some((key) => turn[key] === null) || turn.files || turn.attachments || turn.photo || turn.photos) return null;
    unreadable("noText", { place });
  }
  const who = WHOS.filter((key) => key !== textKey).map((key) => nameOf(turn[key])).find((name) => name !== undefined);
  if (who === undefined) unreadable("noWho", { place });
  if (NOBODY.test(who) || turn.forwarded_from) return null;
  // in a request an empty text is a turn; in an export it is a picture or the like
  return text || "participant_id" in turn || "participant_index" in turn ? { who, text } : null;
}

/** Return a text that may be in parts: strings, or objects with a text; null where no part is one. */
function textOf(value) {
  if (typeof value === "string") return value;
  const parts = Array.isArray(value) ? value : (value.parts ?? [value]);
  const texts = parts.map((part) => (typeof part === "string" ? part : part?.text)).filter((text) => typeof text === "string");
  return texts.length || !parts.length ? texts.join("") : null;
}

function nameOf(value) {
  if (Number.isSafeInteger(value) || typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return undefined;
  return nameOf(value.real_name ?? value.global_name ?? value.nickname ?? value.name ?? value.username ?? value.role ?? value.id);
}
