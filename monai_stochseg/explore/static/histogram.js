// SPDX-License-Identifier: Apache-2.0
// The distribution of a structure's volume over the samples, drawn as SVG; its bars pick samples.

import { $, h, number, options, percent, s, unitName } from "./dom.js";

const WIDTH = 320;
const LEFT = 8;
const RIGHT = 312;
const PLOT = 110;
const ROW = 14;

// Puts labels into as few rows as they need not to overlap.
function rowsOf(labels, x) {
  const full = [];
  return labels.map((label) => {
    const half = 3.1 * label.text.length + 4;
    const middle = Math.min(Math.max(x(label.value), LEFT + half), RIGHT - half);
    let row = full.findIndex((end) => end < middle - half);
    if (row < 0) row = full.push(0) - 1;
    full[row] = middle + half;
    return { ...label, middle, row };
  });
}

export function makeHistogram({ set }) {
  const structures = h("select", { id: "structure", onchange: (event) => set({ structure: Number(event.target.value), bar: null }) });
  const figure = s("svg", { id: "histogram-figure", role: "group", "aria-labelledby": "histogram-title" });
  const words = h("p", { id: "histogram-words", class: "quiet" });
  const readerWords = h("p", { id: "histogram-readers", class: "quiet" });
  $("histogram").replaceChildren(h("h2", { id: "histogram-title" }, "Distribution"), h("label", { class: "field wide" }, "Structure ", structures), figure, words, readerWords);
  let key = "";

  function pick(bar, state) {
    if (state.bar === bar) set({ bar: null });
    else set({ bar, overlay: "sample" });
  }

  function draw(state, data) {
    const { median, low, high, edges, shares, samples } = data.histograms[state.structure];
    const unit = unitName(data.unit);
    const readers = data.readers.map((reader, index) => ({ value: reader.volumes[state.structure], text: data.readers.length > 3 ? `r${index + 1}` : reader.name }))
      .filter(({ value }) => Number.isFinite(value)).sort((a, b) => a.value - b.value);
    const values = [...edges, low, high, median, ...readers.map(({ value }) => value)];
    let [from, to] = [Math.min(...values), Math.max(...values)];
    const pad = to > from ? 0.02 * (to - from) : Math.max(Math.abs(to) * 0.1, 1);
    [from, to] = [from - pad, to + pad];
    const x = (value) => LEFT + ((value - from) / (to - from)) * (RIGHT - LEFT);
    const labels = rowsOf(readers, x);
    const top = ROW * (1 + Math.max(-1, ...labels.map(({ row }) => row))) + 10;
    const floor = top + PLOT;
    const most = Math.max(...shares, 1e-9);
    const chosen = new Set(state.overlay === "sample" ? [state.sample] : []);
    const parts = [s("rect", { class: "interval", x: x(low), y: top, width: Math.max(x(high) - x(low), 1), height: PLOT })];
    shares.forEach((share, bar) => {
      const count = samples[bar].length;
      const height = (share / most) * (PLOT - 6);
      const [a, b] = edges[bar + 1] > edges[bar] ? [x(edges[bar]), x(edges[bar + 1])] : [x(edges[bar]) - 8, x(edges[bar]) + 8];
      const name = `${number(edges[bar])} to ${number(edges[bar + 1])} ${unit}: ${percent(share)}, ${count} ${count === 1 ? "sample" : "samples"}`;
      const shape = s("rect", { x: a + 0.75, y: floor - height, width: Math.max(b - a - 1.5, 1), height });
      if (!count) {
        parts.push(s("g", { class: "bar", "data-bar": bar, "data-count": 0 }, shape));
        return;
      }
      const act = (event) => {
        if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        pick(bar, state);
        figure.querySelector(`[data-bar="${bar}"]`)?.focus();
      };
      const here = samples[bar].some((sample) => chosen.has(sample));
      parts.push(s("g", {
        class: `bar${here ? " here" : ""}`, role: "button", tabindex: 0, "data-bar": bar, "data-count": count, "aria-label": name, "aria-pressed": state.bar === bar, onclick: act, onkeydown: act,
      }, s("title", {}, name), s("rect", { class: "hit", x: a, y: top, width: b - a, height: PLOT }), shape));
    });
    parts.push(s("line", { class: "axis", x1: LEFT, x2: RIGHT, y1: floor, y2: floor }));
    const upright = (value, from, type = "") => s("line", { class: type, x1: x(value), x2: x(value), y1: from, y2: floor });
    parts.push(s("g", { class: "median", "data-median": median }, upright(median, top, "halo"), upright(median, top)));
    for (const { value, text, middle, row } of labels) {
      const y = 11 + ROW * row;
      parts.push(s("g", { class: "reader", "data-reader": text }, upright(value, y + 3, "halo"), upright(value, y + 3), s("text", { x: middle, y, "text-anchor": "middle" }, text)));
    }
    const volume = state.overlay === "sample" ? data.samples[state.sample]?.volumes[state.structure] : null;
    if (Number.isFinite(volume)) {
      const at = x(volume);
      parts.push(s("path", { class: "current", id: "histogram-current", "data-value": volume, d: `M${at} ${floor + 1}l-6 10h12z` }));
    }
    const scale = [from + pad, (from + to) / 2, to - pad];
    scale.forEach((value, index) => parts.push(s("text", { class: "tick", x: x(value), y: floor + 25, "text-anchor": ["start", "middle", "end"][index] }, `${number(value)}${index === 2 ? ` ${unit}` : ""}`)));
    figure.setAttribute("viewBox", `0 0 ${WIDTH} ${floor + 30}`);
    figure.replaceChildren(...parts);
    words.replaceChildren(h("span", { class: "swatch line" }), ` median ${number(median)} ${unit}   `, h("span", { class: "swatch band" }), ` 90 % interval ${number(low)} to ${number(high)} ${unit}`);
    readerWords.textContent = data.readers.map((reader, index) => `${data.readers.length > 3 ? `r${index + 1}: ` : ""}${reader.name} ${number(reader.volumes[state.structure])} ${unit}`).join(" · ");
    readerWords.hidden = !data.readers.length;
  }

  return {
    render({ state, data }) {
      $("histogram").hidden = !data?.histograms.length;
      if (!data?.histograms.length) {
        key = "";
        return;
      }
      options(structures, data.structures.map(({ name }, index) => [String(index), name]), String(state.structure));
      const now = JSON.stringify([data.id, state.structure, state.bar, state.overlay, state.sample]);
      if (now === key && figure.dataset.drawn) return;
      key = now;
      figure.dataset.drawn = "yes";
      draw(state, data);
    },
  };
}
