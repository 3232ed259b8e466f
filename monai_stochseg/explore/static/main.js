// SPDX-License-Identifier: Apache-2.0
// Joins the parts: an event changes the state, the state is drawn; the newest selection wins.

import { Cache, Slot, getCase, getCases, getEdit, getImage, getLabels, getMap } from "./api.js";
import { makeCases } from "./cases.js";
import { makeClusters } from "./clusters.js";
import { makeControls } from "./controls.js";
import { $ } from "./dom.js";
import { defaultSettings, makeEdit, validSettings } from "./edit.js";
import { makeExport } from "./export.js";
import { makeHistogram } from "./histogram.js";
import { listen } from "./keys.js";
import { floats } from "./nifti.js";
import { makeSamples } from "./samples.js";
import { fit, fromHash, ofCase, overlayId, running, toHash } from "./state.js";
import { startTheme } from "./theme.js";
import { Viewer } from "./viewer.js";

const KEPT_BYTES = 96 * 2 ** 20;

const viewer = new Viewer();
const cache = new Cache(KEPT_BYTES);
const slots = { list: new Slot(), case: new Slot(), image: new Slot(), layer: new Slot(), next: new Slot(), edit: new Slot() };

let state = fromHash(location.hash);
let list = { cases: [], hide_names: false };
let data = null; // the case of the state, once it is there
let edited = null; // {key, img, volumes}: the newest edit
let shown = null; // the layer on the picture
let turn = 0; // of the newest selection
let age = 0; // grows when the list is read again: what was read before is old
let started = false;
let noPicture = "This browser has no WebGL2, so there is no picture. All else works.";

// ---------------------------------------------------------------- names

const hidden = () => state.hide || list.hide_names;

function nameOf(id) {
  const entry = list.cases.find((each) => each.id === id);
  return hidden() || !entry ? `case ${id + 1}` : entry.name; // as the server counts them
}

// A server's line may name a case; where the server hides names, it names none.
const scrub = (text) => (hidden() && !list.hide_names ? "This cannot be shown. Show names to see why." : text);

function report(error) {
  if (error.name === "AbortError") return;
  $("banner").hidden = false;
  $("banner-text").dataset.raw = error.message;
  $("banner-text").textContent = scrub(error.message);
  document.body.dataset.failed = Number(document.body.dataset.failed) + 1;
}

function clearBanner() {
  $("banner").hidden = true;
}

// ---------------------------------------------------------------- state

function set(patch) {
  const other = "case" in patch && patch.case !== state.case;
  state = { ...state, ...(other ? ofCase : {}), ...patch };
  if (other && state.overlay === "edit") state.overlay = null;
  if (other) data = null;
  settle();
  const names = Object.keys(patch).every((key) => key === "hide");
  if (!names) clearBanner();
  render();
  if (!names) draw();
}

function settle() {
  if (data) {
    state = fit(state, data);
    if (data.edit) {
      if (!validSettings(state.edit, data)) state.edit = null;
      if (state.overlay === "edit" && !state.edit) state.edit = defaultSettings(data, state);
    }
  }
  writeHash();
}

function writeHash() {
  const hash = toHash({ ...state, hide: state.hide && !list.hide_names });
  if (hash !== location.hash) history.replaceState(null, "", hash || location.pathname);
}

// Moves of the cross are many and change nothing but the link and the line below the picture.
let moving = 0;
function moved(voxel) {
  state.focus = voxel;
  controls.cursor(voxel, shown);
  clearTimeout(moving);
  moving = setTimeout(writeHash, 200);
}

function step(by) {
  if (!data?.samples.length) return;
  const run = running(state, data);
  const place = run.indexOf(state.sample);
  const next = state.overlay === "sample" ? Math.min(Math.max(place + by, 0), run.length - 1) : place;
  set({ overlay: "sample", sample: run[next] });
}

function stepCase(by) {
  const place = list.cases.findIndex((entry) => entry.id === state.case);
  const next = list.cases[place < 0 ? 0 : place + by];
  if (!next) return;
  set({ case: next.id });
  cases.reveal(next.id);
}

function cycle(ids) {
  if (ids.length) set({ overlay: ids[(ids.indexOf(state.overlay) + 1) % ids.length] });
}

// ---------------------------------------------------------------- draw

const page = { set, step, stepCase, nameOf, hidden, report, viewer, scrub };
const cases = makeCases(page, reload);
const controls = makeControls(page);
const parts = [cases, controls, makeSamples(page), makeHistogram(page), makeClusters(page), makeEdit(page), makeExport(page)];

function render() {
  const name = state.case === null ? "" : nameOf(state.case);
  document.title = name ? `${name} – Explorer of samples` : "Explorer of samples";
  $("case-name").textContent = name || "No case is chosen";
  $("source").textContent = hidden() ? "" : (list.title ?? "");
  if (list.notice) $("notice").textContent = list.notice;
  $("simulated").hidden = !data?.simulated;
  $("hide-names").checked = hidden();
  $("hide-names").disabled = Boolean(list.hide_names);
  if (!$("banner").hidden) $("banner-text").textContent = scrub($("banner-text").dataset.raw);
  document.body.dataset.case = state.case ?? "";
  document.body.dataset.loaded = data ? "yes" : "no";
  for (const part of parts) part.render({ state, data, list, edited, run: data ? running(state, data) : [] });
}

function busy(on) {
  $("busy").hidden = !on;
  $("viewer").setAttribute("aria-busy", on);
  // A picture that waits for its voxels fades; one that follows a dragged slider does not.
  $("stage").classList.toggle("old", on && !(state.overlay === "edit" && shown && shown === edited));
}

async function layerOf(id, signal) {
  const key = `${age}/${data.id}/${id}`;
  const kept = cache.get(key);
  if (kept) return kept;
  const map = data.maps.some((entry) => entry.id === id);
  const number = data.id;
  const img = map ? floats(await getMap(number, id, signal)) : await getLabels(number, id, signal);
  const layer = { key, kind: map ? "map" : "labels", img };
  cache.put(key, layer);
  return layer;
}

// The layer of the state; a request that the look-ahead has begun is awaited, not repeated.
function askLayer() {
  const id = overlayId(state);
  const key = `${age}/${data.id}/${id}`;
  if (slots.next.key === key) return slots.next.promise;
  slots.next.drop();
  return slots.layer.get(key, (signal) => layerOf(id, signal));
}

// Edits while a slider is dragged: one under way, the newest settings next.
async function askEdit() {
  const key = `${age}/${data.id}/${JSON.stringify(state.edit)}`;
  if (edited?.key === key) return edited;
  if (slots.edit.under) {
    try {
      await slots.edit.promise;
    } catch {
      // Told by the turn that began it.
    }
    return null;
  }
  const { edit } = state;
  slots.edit.under = true;
  try {
    const answer = await slots.edit.get(key, (signal) => getEdit(data.id, edit, signal));
    edited = { key, kind: "labels", ...answer };
    await paintEdit();
    return edited;
  } finally {
    slots.edit.under = false;
    slots.edit.key = null;
  }
}

// Shows an edit also when newer settings wait, so that a drag is seen while it lasts.
async function paintEdit() {
  if (state.overlay !== "edit" || !data || !edited.key.startsWith(`${age}/${data.id}/`)) return;
  render();
  if (!viewer.base) return;
  await viewer.setOverlay(edited, look());
  shown = edited;
  viewer.draw();
}

function look() {
  const map = data.maps.find((entry) => entry.id === state.overlay);
  return { colours: data.colours, maximum: map?.maximum || 1, fill: state.fill, opacity: state.opacity, plane: state.plane };
}

function askImage() {
  const { channel } = state;
  const number = data.id;
  return slots.image.get(`${age}/${number}/${channel}`, async (signal) => {
    if (channel !== null) return { buffer: await getImage(number, data.channels.indexOf(channel), signal) };
    // Without an image any map gives the grid.
    const id = data.answer ? "answer" : data.readers.length ? "reader-0" : data.samples.length ? "sample-0" : null;
    const shape = [...data.shape, 1].slice(0, 3);
    return id ? { header: (await getMap(number, id, signal)).slice(0, 352), shape } : { shape };
  });
}

function stageMessage(text) {
  $("stage-message").hidden = !text;
  $("stage-message").textContent = text ?? "";
}

async function draw() {
  if (!started || state.case === null) return;
  const mine = ++turn;
  const old = () => mine !== turn;
  busy(true);
  try {
    if (!data) {
      viewer.clear();
      $("stage").dataset.picture = "no";
      edited = shown = null;
      for (const name of ["image", "layer", "next", "edit"]) slots[name].drop();
      const { case: id } = state;
      const answer = await slots.case.get(`${age}/${id}`, (signal) => getCase(id, signal));
      if (old()) return;
      data = answer;
      settle();
      render();
    }
    if (!viewer.available) stageMessage(noPicture);
    if (viewer.available) await drawPicture(old);
    else if (state.overlay === "edit") await drawEdit(old);
    if (old()) return;
    busy(false);
    document.body.dataset.overlay = overlayId(state);
    document.body.dataset.ready = Number(document.body.dataset.ready) + 1;
    lookAhead();
  } catch (error) {
    if (old() || error.name === "AbortError") return;
    busy(false);
    if (!data) stageMessage("This case could not be read.");
    report(error);
  }
}

async function drawEdit(old) {
  let layer = null;
  while (!old() && !layer) layer = await askEdit();
  return layer;
}

async function drawPicture(old) {
  const asked = !["none", "edit"].includes(state.overlay);
  if (!asked) for (const name of ["layer", "next"]) slots[name].drop();
  const wanted = asked ? askLayer() : state.overlay === "edit" ? drawEdit(old) : null;
  wanted?.catch(() => {}); // told when it is awaited
  if (state.overlay !== "edit") slots.edit.drop();

  let failure = null;
  const is2D = data.spatial_dims === 2;
  const key = `${age}/${data.id}/${state.channel}`;
  if (viewer.baseKey !== key) {
    const first = !viewer.base;
    let image;
    try {
      image = await askImage();
    } catch (error) {
      failure = error;
      image = { shape: [...data.shape, 1].slice(0, 3) };
    }
    if (old()) return;
    const oriented = !is2D && data.oriented !== false; // the letters of the directions would be guesses
    await viewer.setBase(key, { ...image, is2D, oriented, colour: state.channel === "colour" }, old);
    if (old()) return;
    if (failure) viewer.baseKey = null; // to be asked for again
    if (first) {
      stageMessage(null);
      viewer.setVoxel(state.focus ?? data.focus ?? data.shape.map((length) => Math.floor(length / 2)));
    }
    viewer.setPlane(state.plane);
    viewer.setSides(!is2D && state.sides === "radiological");
    viewer.setWindow(state.window);
    viewer.draw();
    $("stage").dataset.picture = "yes";
  }
  viewer.setPlane(state.plane);
  viewer.setSides(!is2D && state.sides === "radiological");
  viewer.setWindow(state.window);
  controls.window(state.window ?? viewer.robust, viewer.colour);
  let layer = null;
  try {
    layer = await wanted;
  } catch (error) {
    failure ??= error;
  }
  if (old()) return;
  // A layer that failed leaves none: never an older one under a new name.
  await viewer.setOverlay(layer, look());
  if (old()) return;
  shown = layer;
  viewer.draw();
  controls.cursor(viewer.voxel(), shown);
  if (failure) throw failure;
}

function lookAhead() {
  if (!viewer.available || state.overlay !== "sample") return;
  const run = running(state, data);
  const next = run[run.indexOf(state.sample) + 1];
  const key = `${age}/${data.id}/sample-${next}`;
  if (next === undefined || cache.get(key)) return;
  slots.next.get(key, (signal) => layerOf(`sample-${next}`, signal)).catch(() => {});
}

// ---------------------------------------------------------------- list and start

async function reload() {
  const number = age + 1;
  try {
    list = await slots.list.get(`list-${number}`, getCases);
  } catch (error) {
    report(error);
    return;
  }
  age = number;
  cache.clear();
  data = null;
  clearBanner();
  if (state.case === null || !list.cases.some((entry) => entry.id === state.case)) {
    if (state.case !== null && list.cases.length) report(new Error("The case of the link is not in the list."));
    state = { ...state, ...ofCase, case: list.cases[0]?.id ?? null };
  }
  writeHash();
  render();
  if (state.case === null) stageMessage(list.message ?? "There is no case.");
  await draw();
}

async function start() {
  startTheme();
  $("banner-close").addEventListener("click", clearBanner);
  $("hide-names").addEventListener("change", (event) => set({ hide: event.target.checked }));
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("viewer").focus();
  });
  window.addEventListener("hashchange", () => {
    const other = fromHash(location.hash);
    if (other.case !== state.case) data = null;
    set({ ...other, case: other.case ?? state.case });
  });
  listen({ ...page, cycle, controls, get: () => ({ state, data, list }) });
  const reading = slots.list.get("list-1", getCases);
  reading.catch(() => {});
  await viewer.start($("canvas"), {
    moved,
    windowed: (window) => window && set({ window }),
    lost: () => {
      viewer.available = false;
      noPicture = "The browser has lost the picture. Load the page again.";
      stageMessage(noPicture);
    },
  });
  if (!viewer.available) {
    $("canvas-box").hidden = true;
    $("stage").classList.add("off");
    stageMessage(noPicture);
  }
  started = true;
  await reload();
}

start();
