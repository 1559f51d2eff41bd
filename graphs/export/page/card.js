// What a feature does on other texts, as far as its note tells.

const BINS = { wide: 320, high: 56 };
const listed = (each) => (Array.isArray(each) ? each : []);
const visible = (word) => String(word).replace(/\r\n|\n|\r/g, "↵").replace(/\t/g, "⇥");
const plainly = (word) => visible(word).trim() || "␣";

function card(note, row) {
  const words = (list) => listed(list).map(plainly).join(", ");
  const called = typeof note.label === "string" && note.label !== nodes.label[row] ? note.label : "";
  const facts = [
    ["label", called],
    ["active on", Number.isFinite(note.density) ? `${percent(note.density, 2)} of tokens` : ""],
    ["at most", Number.isFinite(note.act_max) ? number(note.act_max) : ""],
    ["fires on", words(note.fires_on)],
    ["seen among", words(note.context)],
  ].filter(([, text]) => text);
  return [
    make("h3", {}, "What it does elsewhere"),
    make("dl", { class: "facts" }, ...facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])),
    ...histogram(note.histogram, nodes.activation[row]),
    ...examples(listed(note.examples), note.act_max),
    ...effects(note),
  ];
}

// How strongly it fires where it does; counts by their logarithm, or the rare strong ones would not be seen.
function histogram(found, here) {
  const counts = listed(found?.counts).filter((each) => each >= 0 && Number.isFinite(each));
  const [low, end] = listed(found?.edges).filter(Number.isFinite);
  const all = counts.reduce((total, each) => total + each, 0);
  if (!(all > 0) || !(end > low)) return [];
  const top = Math.max(end, here ?? end);
  const place = (value) => (BINS.wide * (value - low)) / (top - low);
  const step = (end - low) / counts.length;
  const most = Math.log1p(Math.max(...counts));
  const bars = counts.map((count, i) => {
    const high = (BINS.high * Math.log1p(count)) / most;
    const between = `${number(low + i * step)} to ${number(low + (i + 1) * step)}: ${count.toLocaleString("en")} of ${all.toLocaleString("en")} tokens`;
    return count > 0 && draw("rect", { x: place(low + i * step) + 0.5, y: BINS.high - high, width: Math.max(place(low + step) - 1, 1), height: high }, draw("title", {}, between));
  });
  const weaker = counts.reduce((total, count, i) => total + (low + (i + 0.5) * step < here ? count : 0), 0);
  const marked = Number.isFinite(here) && here >= low;
  const mark = marked ? [draw("line", { class: "here", x1: place(here), x2: place(here), y1: -4, y2: BINS.high })] : [];
  const label = `histogram of ${all} activations from ${number(low)} to ${number(end)}`;
  return [
    make("figure", { class: "bins", title: "height: the logarithm of the count" },
      draw("svg", { viewBox: `-1 -5 ${BINS.wide + 2} ${BINS.high + 6}`, role: "img", "aria-label": label },
        ...bars.filter((each) => each), draw("line", { class: "floor", x1: 0, x2: BINS.wide, y1: BINS.high, y2: BINS.high }), ...mark),
      make("figcaption", { class: "quiet" }, make("span", {}, number(low)),
        make("span", {}, marked ? `here ${number(here)}, above ${percent(weaker / all, 0)} of ${all.toLocaleString("en")} tokens` : `${all.toLocaleString("en")} activations`),
        make("span", {}, number(top))),
    ),
  ];
}

function examples(found, most) {
  const isWhole = (each) => listed(each?.tokens).length > 0 && listed(each.activations).filter(Number.isFinite).length === each.tokens.length;
  const whole = found.filter(isWhole);
  if (!whole.length) return [];
  const top = Math.max(Number.isFinite(most) ? most : 0, ...whole.flatMap((each) => each.activations.map(Math.abs)), 1e-9);
  // Words of a vocabulary that has no spaces in it stand apart all the same.
  const apart = !whole.some((each) => each.tokens.some((token) => /^[\s▁Ġ]|\s$/.test(token)));
  return [
    make("h3", {}, "Where it is strongest"),
    make("ol", { class: "examples" }, ...whole.map((each) => make("li", {}, ...each.tokens.flatMap((token, i) => [shaded(token, each.activations[i], top, i === each.peak), apart ? " " : ""])))),
  ];
}

function shaded(token, activation, top, peak) {
  if (!activation) return visible(token);
  const hue = activation > 0 ? "raise" : "lower";
  const share = Math.round(12 + 48 * Math.min(1, Math.abs(activation) / top));
  const style = `background:color-mix(in srgb, var(--${hue}) ${share}%, transparent)`;
  return make(peak ? "strong" : "span", { class: "shaded", style, title: number(activation) }, visible(token));
}

function effects(note) {
  const sides = [["promotes", note.promotes, "raise"], ["suppresses", note.suppresses, "lower"]];
  const shown = sides.filter(([, list]) => listed(list).length);
  if (!shown.length) return [];
  return [
    make("div", { class: "effects" }, ...shown.map(([name, list, hue]) =>
      make("div", {}, make("h3", { class: hue }, name), make("ul", {}, ...list.map((word) => make("li", {}, plainly(word))))))),
  ];
}
