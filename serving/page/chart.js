// The chart of how each participant's probability moved, message by message.

import { shape } from "./dom.js";
import { nameOf, percent, tint } from "./people.js";

const HEIGHT = 190;
const EDGE = { top: 10, bottom: 24, left: 52 };
const NAME = { longest: 6, character: 9, space: 14 }; // at the end of a line: characters, and pixels
const LABEL = 15; // pixels that a name at the end of a line takes

/** Draws into a container; `on.point(count)` is called where the pointer is (0 when it leaves), `on.select(count)` for a click. */
export class Chart {
  #container;
  #on;
  #data = null;
  #cursor = null;

  constructor(container, on) {
    this.#container = container;
    this.#on = on;
    container.addEventListener("pointermove", (event) => this.#point(this.#nearest(event)));
    container.addEventListener("pointerleave", () => this.#point(0));
    container.addEventListener("click", (event) => this.#data && this.#on.select(this.#nearest(event)));
    new ResizeObserver(() => this.#data && this.#draw()).observe(container);
  }

  /** Show the known points of the scores for these participants, with a line at a selected message (0 for none). */
  show(scores, people, selected) {
    const points = scores.points;
    const lines = people
      .map((who) => ({
        who,
        values: points
          .filter((count) => scores.at(count).has(who))
          .map((count) => [count, scores.at(count).get(who).is_bot_probability]),
      }))
      .filter(({ values }) => values.length);
    const longest = Math.max(...lines.map(({ who }) => shorten(nameOf(who)).length));
    const right = NAME.space + longest * NAME.character;
    this.#data = { lines, people, points, length: scores.length, selected, right };
    this.#draw();
  }

  #draw() {
    const { lines, people, length, selected } = this.#data;
    const width = Math.max(240, this.#container.clientWidth);
    const [bottom, right] = [HEIGHT - EDGE.bottom, width - this.#data.right];
    const grid = [
      [1, "bot"],
      [0.5, "50 %"],
      [0, "person"],
    ].flatMap(([probability, words]) => [
      shape("line", { class: "grid", x1: EDGE.left, x2: right, y1: this.#y(probability), y2: this.#y(probability) }),
      shape("text", { class: "axis", x: EDGE.left - 8, y: this.#y(probability) + 4, "text-anchor": "end" }, words),
    ]);
    const middle = this.#y(0.5);
    const halves = [
      shape("rect", {
        class: "half bot",
        x: EDGE.left,
        y: EDGE.top,
        width: right - EDGE.left,
        height: middle - EDGE.top,
      }),
      shape("rect", {
        class: "half human",
        x: EDGE.left,
        y: middle,
        width: right - EDGE.left,
        height: bottom - middle,
      }),
    ];
    const ticks = [...new Set([1, length])].map((count) =>
      shape("text", { class: "axis", x: this.#x(count), y: HEIGHT - 6, "text-anchor": "middle" }, count),
    );
    this.#cursor = shape("line", { class: "cursor", y1: EDGE.top, y2: bottom });
    const chosen = selected
      ? [shape("line", { class: "chosen", x1: this.#x(selected), x2: this.#x(selected), y1: EDGE.top, y2: bottom })]
      : [];
    const drawn = lines.map(({ who, values }) => {
      const places = values.map(
        ([count, probability]) => `${this.#x(count).toFixed(1)},${this.#y(probability).toFixed(1)}`,
      );
      const dots = values.length <= 40 ? values : [values.at(-1)];
      return shape(
        "g",
        { class: `line ${tint(people, who)}` },
        shape("polyline", { points: places.join(" ") }),
        ...dots.map(([count, probability]) =>
          shape("circle", { cx: this.#x(count), cy: this.#y(probability), r: count === length ? 4 : 2.5 }),
        ),
      );
    });
    const description = lines
      .map(({ who, values }) => {
        const [first, last] = [values[0], values.at(-1)];
        return `${nameOf(who)} goes from ${percent(first[1])} after message ${first[0]} to ${percent(last[1])} after message ${last[0]}.`;
      })
      .join(" ");
    this.#container.replaceChildren(
      shape(
        "svg",
        {
          width,
          height: HEIGHT,
          viewBox: `0 0 ${width} ${HEIGHT}`,
          role: "img",
          "aria-label": `Probability of being a bot. ${description}`,
        },
        ...halves,
        ...grid,
        ...ticks,
        ...chosen,
        this.#cursor,
        ...drawn,
        ...this.#names(lines, people),
      ),
    );
  }

  /** Return the names at the ends of the lines, moved apart where they would lie on each other. */
  #names(lines, people) {
    const ends = lines
      .map(({ who, values }) => ({ who, at: values.at(-1) }))
      .map((end) => ({ ...end, y: this.#y(end.at[1]) + 4 }))
      .sort((one, other) => one.y - other.y);
    for (let n = 1; n < ends.length; n++) ends[n].y = Math.max(ends[n].y, ends[n - 1].y + LABEL);
    for (let n = ends.length - 1, low = HEIGHT - EDGE.bottom + 4; n >= 0; n--, low -= LABEL)
      ends[n].y = Math.min(ends[n].y, low);
    return ends.map(({ who, at, y }) =>
      shape("text", { class: `name ${tint(people, who)}`, x: this.#x(at[0]) + 9, y }, shorten(nameOf(who))),
    );
  }

  #x(count) {
    const { length } = this.#data;
    const width = Math.max(240, this.#container.clientWidth) - EDGE.left - this.#data.right;
    return EDGE.left + (length > 1 ? ((count - 1) / (length - 1)) * width : width / 2);
  }

  #y(probability) {
    return EDGE.top + (1 - probability) * (HEIGHT - EDGE.top - EDGE.bottom);
  }

  #nearest(event) {
    if (!this.#data) return 0;
    const x = event.clientX - this.#container.getBoundingClientRect().left;
    return this.#data.points.reduce(
      (best, count) => (Math.abs(this.#x(count) - x) < Math.abs(this.#x(best) - x) ? count : best),
      this.#data.points[0] ?? 0,
    );
  }

  #point(count) {
    if (!this.#data) return;
    this.#cursor.classList.toggle("on", count > 0);
    if (count) for (const end of ["x1", "x2"]) this.#cursor.setAttribute(end, this.#x(count));
    this.#on.point(count);
  }
}

const shorten = (name) => (name.length > NAME.longest ? `${name.slice(0, NAME.longest - 1)}…` : name);
