// SPDX-License-Identifier: Apache-2.0
// The report: the samples of each case in still pictures, with the page's own panels beside them.

import { makeClusters } from "./clusters.js";
import { $, h, number, options } from "./dom.js";
import { makeHistogram } from "./histogram.js";
import { makeSamples } from "./samples.js";
import { fit, initial, ofCase, overlayId, overlays, running } from "./state.js";
import { startTheme } from "./theme.js";

const content = JSON.parse($("content").textContent);
let state = { ...initial };
let data = null;
let pictures = []; // of each plane: {image, overlay}

const page = { set, step };
const parts = [makeSamples(page), makeHistogram(page), makeClusters(page)];

function set(patch) {
  if ("case" in patch && patch.case !== data?.id) {
    data = content.cases.find((entry) => entry.id === patch.case);
    state = { ...state, ...ofCase };
    showPlanes();
  }
  state = fit({ ...state, ...patch }, data);
  render();
}

function step(by) {
  const run = running(state, data);
  const place = run.indexOf(state.sample) + (state.overlay === "sample" ? by : 0);
  set({ overlay: "sample", sample: run[Math.min(Math.max(place, 0), run.length - 1)] });
}

function showPlanes() {
  pictures = data.planes.map(() => ({ image: h("img", { alt: "" }), overlay: h("img", { alt: "" }) }));
  $("planes").replaceChildren(...data.planes.map(({ name, size, pixels }, index) => {
    const ratio = `${pixels[0] * size[0]} / ${pixels[1] * size[1]}`;
    const { image, overlay } = pictures[index];
    return h("figure", { "data-plane": name }, h("div", { class: "layers", style: { aspectRatio: ratio } }, image, overlay), h("figcaption", {}, data.planes.length > 1 ? name : ""));
  }));
}

function picture(element, address, words) {
  element.hidden = !address;
  if (address) element.src = address;
  element.alt = words;
}

function legend() {
  const map = data.maps.find((entry) => entry.id === state.overlay);
  if (map) return [h("span", {}, `${map.name}, from 0 (dark) to ${number(map.maximum)} (bright)`)];
  return data.class_names.slice(1).map((name, index) => h("span", { class: "key" }, h("i", { style: { background: data.colours[index + 1] } }), name));
}

function render() {
  const layer = overlayId(state);
  document.body.dataset.loaded = "yes";
  document.body.dataset.overlay = layer;
  $("case-name").textContent = data.name;
  $("simulated").hidden = !data.simulated;
  options($("overlay"), overlays(data), state.overlay);
  options($("channel"), data.channels.map((name) => [name, name]), state.channel);
  $("channel-field").hidden = !data.channels.length;
  data.planes.forEach((plane, index) => {
    picture(pictures[index].image, plane.channels[data.channels.indexOf(state.channel)], `${plane.name}, ${state.channel}`);
    picture(pictures[index].overlay, plane.layers[layer], layer ?? "");
    pictures[index].overlay.style.opacity = state.opacity;
  });
  $("legend").replaceChildren(...legend());
  const missing = layer?.startsWith("sample-") && !data.planes[0].layers[layer];
  $("left-out").hidden = !missing;
  $("left-out").textContent = `The report has pictures of the first ${data.drawn_samples} samples alone.`;
  for (const button of $("case-list").querySelectorAll("button")) {
    if (Number(button.dataset.caseId) === data.id) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  for (const part of parts) part.render({ state, data, edited: null, run: running(state, data) });
}

startTheme();
$("source").textContent = content.title;
$("notice").textContent = content.notice;
$("case-list").replaceChildren(...content.cases.map(({ id, name }) => h("li", {}, h("button", { type: "button", "data-case-id": id, title: name, onclick: () => set({ case: id }) }, name))));
$("failed").replaceChildren(...content.failed.map(({ error }) => h("li", {}, error)));
for (const name of ["overlay", "channel"]) $(name).addEventListener("change", (event) => set({ [name]: event.target.value }));
$("opacity").addEventListener("input", (event) => set({ opacity: Number(event.target.value) }));
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select") || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "ArrowRight") step(1);
  else if (event.key === "ArrowLeft") step(-1);
});
set({ case: content.cases[0].id });
