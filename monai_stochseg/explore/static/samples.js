// SPDX-License-Identifier: Apache-2.0
// The samples: their order, the slider through them, and the numbers of what is shown.

import { $, h, number, options, percent, unitName } from "./dom.js";
import { volumes } from "./state.js";

export const clusterColour = (index) => `var(--cluster-${index % 6})`;

function ends(order, run, data) {
  if (order === "likelihood") return ["most likely", "least likely"];
  if (order === "distance") return ["nearest", "farthest"];
  const structure = /^volume-(\d+)$/.exec(order ?? "")?.[1];
  if (structure === undefined || run.length < 2) return ["first", "last"];
  const [a, b] = [run[0], run.at(-1)].map((sample) => data.samples[sample].volumes[structure]);
  return a <= b ? ["smallest", "largest"] : ["largest", "smallest"];
}

export function makeSamples({ set, step }) {
  const orders = h("select", { id: "order", onchange: (event) => set({ order: event.target.value, overlay: "sample", sample: null }) });
  let run = [];
  const slider = h("input", {
    type: "range", id: "sample-slider", min: 0, step: 1, "aria-label": "Sample, in the chosen order",
    oninput: (event) => set({ overlay: "sample", sample: run[Number(event.target.value)] }),
  });
  const previous = h("button", { type: "button", id: "previous", "aria-label": "Previous sample", onclick: () => step(-1) }, "◀");
  const next = h("button", { type: "button", id: "next", "aria-label": "Next sample", onclick: () => step(1) }, "▶");
  const ticks = h("div", { class: "ticks", id: "ticks", "aria-hidden": "true" });
  const low = h("span", {});
  const high = h("span", {});
  const picked = h("p", { id: "picked", class: "picked" });
  const title = h("p", { id: "sample-title", class: "lead" });
  const facts = h("p", { id: "sample-facts", class: "quiet" });
  const none = h("p", { id: "samples-none", class: "quiet" }, "This network gives a single answer: there are no samples.");
  const choice = h("div", { id: "sample-choice" },
    h("label", { class: "field wide" }, "Order ", orders), h("div", { class: "slider" }, previous, h("div", { class: "track" }, slider, ticks), next),
    h("div", { class: "ends quiet" }, low, high), picked, title, facts);
  const table = h("table", { id: "volumes" });
  $("samples").replaceChildren(h("h2", { id: "samples-title" }, "Samples"), none, choice, table);

  function showTicks(state, data) {
    const current = data.samples[state.sample]?.cluster;
    ticks.replaceChildren(...run.map((sample) => {
      const { cluster } = data.samples[sample];
      return h("i", { "data-sample": sample, class: cluster === current ? "same" : "", style: { background: clusterColour(cluster ?? 0) } });
    }));
    ticks.hidden = data.clusters.length < 2 || run.length > 200;
  }

  function showTable(state, data, edited) {
    const here = volumes(state, data, edited);
    const name = { sample: `Sample ${state.sample + 1}`, answer: "Single answer", edit: "Edit" }[state.overlay] ?? data.readers[Number(state.overlay?.slice(7))]?.name ?? "Shown";
    const answer = state.overlay === "answer" ? null : data.answer;
    const unit = unitName(data.unit);
    const cell = (value) => h("td", {}, `${number(value)} ${unit}`);
    table.hidden = !here && !answer;
    table.replaceChildren(
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, data.spatial_dims === 3 ? "Volume" : "Area"), here && h("th", { scope: "col" }, name), answer && h("th", { scope: "col" }, "Single answer"))),
      h("tbody", {}, ...data.structures.map((structure, index) =>
        h("tr", { "data-structure": index }, h("th", { scope: "row" }, structure.name), here && cell(here[index]), answer && cell(answer.volumes[index])))));
  }

  return {
    render({ state, data, edited, run: list }) {
      $("samples").hidden = !data;
      if (!data) return;
      run = list;
      const count = data.samples.length;
      none.hidden = count > 0;
      choice.hidden = !count;
      showTable(state, data, edited);
      if (!count) return;
      options(orders, data.orders.map(({ id, name }) => [id, name]), state.order);
      const place = run.indexOf(state.sample);
      const { weight, log_likelihood: likelihood, distance, cluster } = data.samples[state.sample];
      slider.max = run.length - 1;
      slider.value = place;
      slider.disabled = run.length < 2;
      slider.setAttribute("aria-valuetext", `sample ${state.sample + 1}, place ${place + 1} of ${run.length}`);
      const at = state.overlay === "sample";
      previous.disabled = at && place === 0;
      next.disabled = at && place === run.length - 1;
      [low.textContent, high.textContent] = ends(state.order, run, data);
      showTicks(state, data);
      picked.hidden = state.bar === null;
      if (state.bar !== null) {
        picked.replaceChildren(`Picked: ${run.length} of ${count} `, h("button", { type: "button", id: "clear-picked", onclick: () => set({ bar: null }) }, "Clear"));
      }
      title.replaceChildren(h("strong", {}, `Sample ${state.sample + 1}`), ` of ${count} · place ${place + 1} of ${run.length}${at ? "" : " (not shown now)"}`);
      const uniform = data.samples.every((sample) => Math.abs(sample.weight - data.samples[0].weight) < 1e-6);
      const words = [];
      if (!uniform) words.push(`weight ${number(weight)}`);
      if (Number.isFinite(likelihood)) words.push(`log-likelihood ${number(likelihood)}`);
      if (Number.isFinite(distance)) words.push(`distance ${number(distance)}`);
      if (data.clusters[cluster]) words.push(`cluster ${cluster + 1} (${percent(data.clusters[cluster].share)})`);
      facts.textContent = words.join(" · ");
      const live = at ? `Sample ${state.sample + 1}, place ${place + 1} of ${run.length}` : "";
      if ($("live").textContent !== live) $("live").textContent = live;
    },
  };
}
