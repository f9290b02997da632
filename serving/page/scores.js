// The probabilities of a chat and of its beginnings: which are known, and which to ask for next.

const POINTS = 96; // beginnings that are scored; of longer chats every third, every ninth message, and so on
const CHUNK_CHATS = 64; // of one request; the service takes 256

export class Scores {
  #messages = [];
  #written = []; // the messages as JSON
  #known = []; // by length of the beginning: the participants' answers by their identifier
  #wanted = 0;
  #most = 128 * 1024; // characters of a request; the service takes 1 MB, or what MAX_BODY_BYTES says
  version = "";

  /** Go on with these messages; what is known of beginnings that have not changed is kept. */
  keep(messages) {
    let same = 0;
    const is = (at) =>
      messages[at].text === this.#messages[at]?.text && messages[at].who === this.#messages[at].who;
    while (same < messages.length && is(same)) same++;
    this.#known.length = Math.min(this.#known.length, same + 1);
    this.#written.length = Math.min(this.#written.length, same);
    for (let at = same; at < messages.length; at++) {
      // a lone surrogate, half of a character, is no text that JSON can carry
      const text = JSON.stringify(messages[at].text.replace(/\p{Surrogate}/gu, "\uFFFD"));
      const who = JSON.stringify(messages[at].who);
      this.#written.push(`{"message_id": ${at}, "text": ${text}, "participant_id": ${who}}`);
    }
    this.#messages = messages.map(({ who, text }) => ({ who, text }));
  }

  /** Also score the beginnings before and after a message, given by its number from 1; 0 for none. */
  want(number) {
    this.#wanted = number;
  }

  get length() {
    return this.#messages.length;
  }

  /** Return what is known of a beginning: a Map from participant to answer, or undefined. */
  at(count) {
    return this.#known[count];
  }

  /** Return the lengths of the beginnings that are known, in order. */
  get points() {
    return Object.keys(this.#known)
      .map(Number)
      .filter((count) => count <= this.length);
  }

  /** Tell whether every message has its point. */
  get isWhole() {
    return this.length <= POINTS;
  }

  /** Return the lengths of the beginnings to ask for in one request: all of the chat first, then the others not known. */
  next(isKnown = (count) => this.#known[count]) {
    const chunk = [];
    let characters = 0;
    for (const count of this.#plan()) {
      if (isKnown(count)) continue;
      const size = this.#written.slice(0, count).reduce((sum, message) => sum + message.length + 2, 0);
      if (chunk.length && (chunk.length === CHUNK_CHATS || characters + size > this.#most)) break;
      chunk.push(count);
      characters += size;
    }
    return chunk;
  }

  /** Make requests smaller after one was too large; returns false where it held one beginning alone. */
  shrink(counts) {
    this.#most = this.batch(counts).length / 2;
    return counts.length > 1;
  }

  #plan() {
    let step = 1; // an odd one, so that in a chat of two who take turns the points are not all after the same one's
    while (this.length / step > POINTS) step *= 3;
    const plan = new Set([this.length, this.#wanted, this.#wanted - 1, 1]);
    for (let count = step; count < this.length; count += step) plan.add(count);
    return [...plan].filter((count) => count > 0 && count <= this.length);
  }

  /**
   * Return by how much a message, given by its number from 1, moved its own sender, in log odds; null if not known.
   * A first message is compared with `share`, the share of bots that is expected.
   */
  effect(number, share) {
    const { who } = this.#messages[number - 1] ?? {};
    const after = this.at(number)?.get(who);
    if (!after || (number > 1 && !this.at(number - 1))) return null;
    const before = this.at(number - 1)?.get(who)?.is_bot_probability ?? share;
    return logOdds(after.is_bot_probability) - logOdds(before);
  }

  /** Return a beginning of the chat as the JSON of a request. */
  chat(count = this.length) {
    return `{"chat_id": "try", "messages": [\n  ${this.#written.slice(0, count).join(",\n  ")}\n]}`;
  }

  /** Return several beginnings as the JSON of a batch request. */
  batch(counts) {
    return `{"chats": [\n${counts.map((count) => this.chat(count)).join(",\n")}\n]}`;
  }

  /** Take in the answers to `batch(counts)`. Those of another version of the model replace all that is known. */
  learn(counts, predictions) {
    const version = predictions[0].model_version;
    if (version !== this.version) this.#known = [];
    this.version = version;
    predictions.forEach(({ participants }, at) => {
      this.#known[counts[at]] = new Map(participants.map((answer) => [answer.participant_id, answer]));
    });
  }
}

/** Return log odds; near 0 and 1, where nobody sees a difference any more, they are bounded. */
function logOdds(probability) {
  const bounded = Math.min(Math.max(probability, 0.03), 0.97);
  return Math.log(bounded / (1 - bounded));
}
