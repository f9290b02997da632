// Reads a pasted chat: plain text, the JSON of a request, or dialogs in the You are Bot format.
// A chat is { name, messages: [{ who, text }] }; `who` is an integer or a string, as the service takes it.

/** What was pasted is no chat; the message says why in a sentence. */
export class UnreadableError extends Error {}

/** Return { format, chats } for a pasted text; throws UnreadableError. */
export function read(pasted) {
  const text = pasted.trim();
  if (!text) throw new UnreadableError("Nothing is pasted yet.");
  return /^[[{]/.test(text) && !/^\[[^\]"{]*\][^,\]]/.test(text) ? readJson(text) : readLines(text);
}

// A name before a colon: short, without a colon, not the start of an address or of a time of day. Messengers put the
// time of a message in brackets before it.
const NAMED = /^\s*(?:\[[^\]]*\]\s*)?([^\s:][^:\n]{0,30}?)\s*:(?:\s+|$)(.*)$/u;
const NAMED_TIGHTLY = /^\s*(\p{L}{1,12}|\d{1,2}):(?![/\\\d])(.+)$/u; // "A:hello", but not "http://" or "12:30"

function readLines(text) {
  const messages = [];
  text.split(/\r\n|\r|\n/).forEach((line, number) => {
    const [, who, said] = line.match(NAMED) ?? line.match(NAMED_TIGHTLY) ?? [];
    if (who !== undefined) messages.push({ who, text: said });
    else if (messages.length) messages.at(-1).text += `\n${line}`;
    else if (line.trim()) {
      throw new UnreadableError(
        `Line ${number + 1} does not say who wrote it. Start each message with a name and a colon, such as “A: hello”.`,
      );
    }
  });
  for (const message of messages) message.text = message.text.trim();
  return { format: "plain text", chats: [{ name: "pasted chat", messages }] };
}

function readJson(text) {
  let value;
  try {
    // an identifier of more than 53 bits would be rounded: it is kept as it is written, as a string
    value = JSON.parse(text, (_, item, context) =>
      typeof item === "number" && !Number.isSafeInteger(item) ? (context?.source ?? String(item)) : item,
    );
  } catch (error) {
    throw new UnreadableError(`This looks like JSON, but it is malformed: ${error.message}.`);
  }
  if (isRecord(value) && Array.isArray(value.messages))
    return { format: "a request", chats: [readRequest(value, "messages")] };
  if (isRecord(value) && Array.isArray(value.chats))
    return { format: "a batch request", chats: readRequests(value.chats, "chats") };
  if (isRecord(value)) return { format: "You are Bot dialogs", chats: readDialogs(Object.entries(value)) };
  if (Array.isArray(value) && value.some((item) => Array.isArray(item?.messages))) {
    return { format: "a list of chats", chats: readRequests(value, "") };
  }
  if (Array.isArray(value)) return { format: "a list of messages", chats: readDialogs([["", value]]) };
  throw new UnreadableError("This JSON is no chat.");
}

function readRequests(chats, path) {
  if (!chats.length) throw new UnreadableError("There is no chat in this JSON.");
  return chats.map((chat, at) => {
    if (!isRecord(chat) || !Array.isArray(chat.messages))
      throw new UnreadableError(`${path}[${at}] has no list of messages.`);
    return readRequest(chat, `${path}[${at}].messages`);
  });
}

const readRequest = (chat, path) => ({
  name: String(chat.chat_id ?? "chat"),
  messages: readMessages(chat.messages, path),
});

function readDialogs(entries) {
  if (!entries.length) throw new UnreadableError("There is no dialog in this JSON.");
  return entries.map(([name, messages]) => {
    if (!Array.isArray(messages)) throw new UnreadableError(`“${name}” is no list of messages.`);
    return { name: name || "chat", messages: readMessages(messages, name) };
  });
}

function readMessages(messages, path) {
  if (!messages.length) throw new UnreadableError(`There is no message in ${path || "this list"}.`);
  return messages.map((message, at) => {
    const place = `${path}[${at}]`;
    if (!isRecord(message)) throw new UnreadableError(`${place} is no message.`);
    const who = message.participant_id ?? message.participant_index;
    if (typeof message.text !== "string") throw new UnreadableError(`${place} has no “text”.`);
    if (!Number.isSafeInteger(who) && typeof who !== "string") {
      throw new UnreadableError(`${place} does not say who wrote it: “participant_id” or “participant_index”.`);
    }
    return { who, text: message.text };
  });
}

const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
