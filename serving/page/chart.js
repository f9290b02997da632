// The chart of how each participant's probability moved, message by message.

import { Component, createRef, html } from "./html.js";
import { nameOf, percent, t } from "./texts.js";

const HEIGHT = 180;
const EDGE = { top: 10, bottom: 22, left: 56 };
const LONGEST = 7; // characters of a name at the end of a line
const LABEL = 15; // pixels that a name at the end of a line takes

export class Chart extends Component {
  state = { width: 0, at: 0 };
  box = createRef();

  componentDidMount() {
    this.observer = new ResizeObserver(() => this.setState({ width: this.box.current.clientWidth }));
    this.observer.observe(this.box.current);
  }

  componentWillUnmount() {
    this.observer.disconnect();
  }

  render({ page }, { width, at }) {
    const { scores, shown, messages } = page;
    const points = scores.points;
    const lines = shown
      .map((who, number) => ({ who, number, values: points.filter((n) => scores.at(n).has(who)).map((n) => [n, pOf(n, who)]) }))
      .filter(({ values }) => values.length);
    function pOf(count, who) {
      return scores.at(count).get(who).is_bot_probability;
    }
    const longest = Math.max(...lines.map(({ who }) => shorten(nameOf(who)).length), 1);
    const right = Math.max(240, width) - 14 - longest * 9;
    const [bottom, span] = [HEIGHT - EDGE.bottom, Math.max(scores.length - 1, 1)];
    const x = (count) => EDGE.left + ((scores.length > 1 ? count - 1 : 0.5) / span) * (right - EDGE.left);
    const y = (p) => EDGE.top + (1 - p) * (bottom - EDGE.top);
    const nearest = (event) => {
      const place = event.clientX - this.box.current.getBoundingClientRect().left;
      return points.reduce((best, n) => (Math.abs(x(n) - place) < Math.abs(x(best) - place) ? n : best), points[0] ?? 0);
    };
    const said = (count) =>
      shown.filter((who) => scores.at(count)?.has(who)).map((who) => `${nameOf(who)} ${percent(pOf(count, who))}`);
    const described = lines.map(({ who, values }) => {
      const [[first, before], [last, after]] = [values[0], values.at(-1)];
      return t("moves", { who: nameOf(who), first, last, before: percent(before), after: percent(after) });
    });
    const selected = messages.indexOf(page.state.selected) + 1;
    const vertical = (count, name) =>
      count > 0 && html`<line class=${name} x1=${x(count)} x2=${x(count)} y1=${EDGE.top} y2=${bottom} />`;
    return html`<div class="chart" ref=${this.box}>
      <svg
        width=${Math.max(240, width)}
        height=${HEIGHT}
        role="img"
        aria-label="${t("chartLabel")} ${described.join(" ")}"
        onPointerMove=${(event) => this.setState({ at: nearest(event) })}
        onPointerLeave=${() => this.setState({ at: 0 })}
        onClick=${(event) => page.on.select(messages[nearest(event) - 1])}
      >
        <rect class="half bot" x=${EDGE.left} y=${EDGE.top} width=${right - EDGE.left} height=${y(0.5) - EDGE.top} />
        <rect class="half person" x=${EDGE.left} y=${y(0.5)} width=${right - EDGE.left} height=${bottom - y(0.5)} />
        ${[
          [1, t("bot")],
          [0.5, "50 %"],
          [0, t("person")],
        ].map(
          ([p, words]) =>
            html`<line class="grid" x1=${EDGE.left} x2=${right} y1=${y(p)} y2=${y(p)} />
              <text x=${EDGE.left - 7} y=${y(p) + 4} text-anchor="end">${words}</text>`,
        )}
        ${[...new Set([1, scores.length])].map(
          (count) => html`<text x=${x(count)} y=${HEIGHT - 5} text-anchor="middle">${count}</text>`,
        )}
        ${vertical(selected, "chosen")} ${vertical(at, "cursor")}
        ${lines.map(
          ({ who, number, values }) =>
            html`<g class="line line${number % 3}" key=${who}>
              <polyline points=${values.map(([n, p]) => `${x(n).toFixed(1)},${y(p).toFixed(1)}`).join(" ")} />
              ${(values.length <= 40 ? values : values.slice(-1)).map(
                ([n, p]) => html`<circle cx=${x(n)} cy=${y(p)} r=${n === scores.length ? 4 : 2.5} />`,
              )}
            </g>`,
        )}
        ${ends(lines, y, bottom).map(
          ({ who, last, place }) => html`<text class="name" x=${x(last) + 9} y=${place}>${shorten(nameOf(who))}</text>`,
        )}
      </svg>
      <p class="fine readout">
        ${at && said(at).length ? t("afterMessage", { n: at, what: said(at).join(", ") }) : t(scores.isWhole ? "pointAt" : "thinned")}
      </p>
    </div>`;
  }
}

/** Return where the names at the ends of the lines go, moved apart where they would lie on each other. */
function ends(lines, y, bottom) {
  const found = lines
    .map(({ who, values }) => ({ who, last: values.at(-1)[0], place: y(values.at(-1)[1]) + 4 }))
    .sort((one, other) => one.place - other.place);
  for (let n = 1; n < found.length; n++) found[n].place = Math.max(found[n].place, found[n - 1].place + LABEL);
  for (let n = found.length - 1, low = bottom + 4; n >= 0; n--, low -= LABEL)
    found[n].place = Math.min(found[n].place, low);
  return found;
}

const shorten = (name) => (name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name);
