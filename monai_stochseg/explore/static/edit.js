// SPDX-License-Identifier: Apache-2.0
// The edit panel: what is chosen by hand instead of drawn, by the kind of the network.

import { $, h, number, percent } from "./dom.js";

const ones = (count) => Array(count).fill(1);
const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);
const tenth = (value) => Math.round(10 * value) / 10;
const finite = (values, count) => Array.isArray(values) && values.length === count && values.every(Number.isFinite);
const seed = (value) => Number.isInteger(value) && value >= 0;

export function defaultSettings({ edit, samples }, state) {
  switch (edit.kind) {
    case "ssn":
      return { sample: state.sample ?? 0, temperature: 1, class_scale: ones(edit.classes.length), rank_scale: ones(edit.rank) };
    case "latent":
      return { axes: [0, Math.min(1, edit.dims - 1)], values: [0, 0] };
    case "experts":
      return { expert: 0, seed: null };
    case "code":
      return { seeds: [0, 1], position: 0 };
    default:
      return samples.length ? {} : null;
  }
}

export function validSettings(settings, { edit, samples }) {
  if (!settings) return false;
  switch (edit.kind) {
    case "ssn":
      return seed(settings.sample) && settings.sample < samples.length && Number.isFinite(settings.temperature)
        && finite(settings.class_scale, edit.classes.length) && finite(settings.rank_scale, edit.rank);
    case "latent":
      return finite(settings.axes, 2) && settings.axes.every((axis) => seed(axis) && axis < edit.dims) && finite(settings.values, 2);
    case "experts":
      return seed(settings.expert) && settings.expert < edit.probabilities.length && (settings.seed === null || seed(settings.seed));
    case "code":
      return finite(settings.seeds, 2) && settings.seeds.every(seed) && settings.position >= 0 && settings.position <= 1;
    default:
      return false;
  }
}

// Each kind: (data, change) -> [elements, show(settings)]; `change` takes what is new in the settings.

function slider(id, name, [low, high], changed) {
  const output = h("output", {});
  const input = h("input", { type: "range", id, min: low, max: high, step: 0.1, oninput: (event) => changed(Number(event.target.value)) });
  return {
    element: h("label", { class: "scale" }, h("span", {}, name), input, output),
    show(value) {
      input.value = value;
      output.textContent = value.toFixed(1).replace("-", "−");
    },
  };
}

function ssn(data, change) {
  const { classes, rank, range } = data.edit;
  let now = null;
  const sample = h("select", { id: "edit-sample", onchange: (event) => change({ sample: Number(event.target.value) }) },
    ...data.samples.map((_, index) => h("option", { value: index }, `sample ${index + 1}`)));
  const temperature = slider("edit-temperature", "One sample, scaled", range, (value) => change({ temperature: value }));
  const list = (key, names) => names.map((name, index) =>
    slider(`edit-${key.replace("_scale", "")}-${index}`, name, range, (value) => change({ [key]: now[key].with(index, value) })));
  const class_scale = list("class_scale", classes);
  const rank_scale = list("rank_scale", Array.from({ length: rank }, (_, index) => `rank ${index + 1}`));
  const elements = [
    h("p", { class: "quiet" }, "Scales how far a sample lies from the mean. 1 is the sample itself, 0 is the single answer."),
    h("label", { class: "field wide" }, "Sample ", sample), temperature.element,
    h("details", { open: true }, h("summary", {}, "Each class"), ...class_scale.map(({ element }) => element)),
    h("details", {}, h("summary", {}, "Each rank"), ...rank_scale.map(({ element }) => element)),
    h("div", { class: "buttons" }, h("button", { type: "button", id: "edit-reset", onclick: () => change({ temperature: 1, class_scale: ones(classes.length), rank_scale: ones(rank) }) }, "Reset to 1")),
  ];
  return [elements, (settings) => {
    now = settings;
    sample.value = settings.sample;
    temperature.show(settings.temperature);
    class_scale.forEach((one, index) => one.show(settings.class_scale[index]));
    rank_scale.forEach((one, index) => one.show(settings.rank_scale[index]));
  }];
}

function latent(data, change) {
  const { dims, range } = data.edit;
  let now = null;
  const axis = (place) => h("select", {
    id: `edit-axis-${place}`,
    onchange: (event) => change({ axes: now.axes.with(place, Number(event.target.value)), values: now.values.with(place, 0) }),
  }, ...Array.from({ length: dims }, (_, index) => h("option", { value: index }, `axis ${index + 1}`)));
  const axes = [axis(0), axis(1)];
  const dot = h("i", { class: "plane-dot" });
  const plane = h("div", { id: "edit-plane", class: "plane", role: "slider", tabindex: 0, "aria-label": "Point in the plane of the two axes", "aria-valuemin": range[0], "aria-valuemax": range[1] }, h("i", { class: "plane-x" }), h("i", { class: "plane-y" }), dot);
  const output = h("output", { id: "edit-values" });
  const put = (event) => {
    const box = plane.getBoundingClientRect();
    const span = range[1] - range[0];
    change({ values: [range[0] + (span * (event.clientX - box.left)) / box.width, range[1] - (span * (event.clientY - box.top)) / box.height].map((value) => tenth(clamp(value, range))) });
  };
  plane.addEventListener("pointerdown", (event) => {
    plane.setPointerCapture(event.pointerId);
    plane.focus();
    put(event);
    event.preventDefault();
  });
  plane.addEventListener("pointermove", (event) => plane.hasPointerCapture(event.pointerId) && put(event));
  plane.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
    if (event.key === "Home") change({ values: [0, 0] });
    else if (step) change({ values: now.values.map((value, index) => tenth(clamp(value + step[index], range))) });
    else return;
    event.preventDefault();
  });
  const elements = [
    h("p", { class: "quiet" }, "A point of the latent space, in standard deviations of the prior from its mean. Click, drag, or use the arrow keys."),
    h("div", { class: "pair" }, h("label", { class: "field" }, "Across ", axes[0]), h("label", { class: "field" }, "Up ", axes[1])), plane, output,
    h("div", { class: "buttons" }, h("button", { type: "button", id: "edit-reset", onclick: () => change({ values: [0, 0] }) }, "Back to the mean")),
  ];
  return [elements, (settings) => {
    now = settings;
    axes.forEach((select, place) => {
      select.value = settings.axes[place];
      for (const option of select.options) option.disabled = dims > 1 && Number(option.value) === settings.axes[1 - place];
    });
    const [x, y] = settings.values;
    const share = (value) => (100 * (value - range[0])) / (range[1] - range[0]);
    Object.assign(dot.style, { left: `${share(x)}%`, bottom: `${share(y)}%` });
    const text = settings.values.map((value, place) => `axis ${settings.axes[place] + 1}: ${value.toFixed(1).replace("-", "−")}`).join(", ");
    output.textContent = text;
    plane.setAttribute("aria-valuenow", x);
    plane.setAttribute("aria-valuetext", text);
  }];
}

function experts(data, change) {
  let now = null;
  const buttons = data.edit.probabilities.map((probability, index) =>
    h("button", { type: "button", "data-expert": index, onclick: () => change({ expert: index, seed: null }) },
      h("span", { class: "row" }, h("span", { class: "grow" }, `expert ${index + 1}`), h("span", { class: "quiet" }, percent(probability))),
      h("span", { class: "share" }, h("i", { style: { width: `${100 * probability}%` } }))));
  const output = h("output", { id: "edit-seed" });
  const elements = [
    h("p", { class: "quiet" }, "The experts of the mixture and their probabilities. A click shows the mean of one."),
    h("ul", { class: "rows" }, ...buttons.map((button) => h("li", {}, button))),
    h("div", { class: "buttons" }, h("button", { type: "button", id: "edit-draw", onclick: () => change({ seed: now.seed === null ? 0 : now.seed + 1 }) }, "Draw another"),
      h("button", { type: "button", id: "edit-mean", onclick: () => change({ seed: null }) }, "Show the mean"), output),
  ];
  return [elements, (settings, shown) => {
    now = settings;
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", shown && index === settings.expert));
    output.textContent = settings.seed === null ? "mean" : `draw ${settings.seed + 1}`;
  }];
}

function code(data, change) {
  let now = null;
  const output = h("output", {});
  const position = h("input", { type: "range", id: "edit-position", min: 0, max: 1, step: 0.05, oninput: (event) => change({ position: Number(event.target.value) }) });
  const fields = [0, 1].map((place) => h("input", {
    type: "number", id: `edit-seed-${place}`, min: 0, step: 1,
    onchange: (event) => (seed(event.target.valueAsNumber) ? change({ seeds: now.seeds.with(place, event.target.valueAsNumber) }) : (event.target.value = now.seeds[place])),
  }));
  const elements = [
    h("p", { class: "quiet" }, "Between two codes: 0 is the first, 1 is the second. A number draws a code."),
    h("div", { class: "pair" }, h("label", { class: "field" }, "First code ", fields[0]), h("label", { class: "field" }, "Second code ", fields[1])),
    h("label", { class: "scale" }, h("span", {}, "Position"), position, output),
  ];
  return [elements, (settings) => {
    now = settings;
    fields.forEach((field, place) => field !== document.activeElement && (field.value = settings.seeds[place]));
    position.value = settings.position;
    output.textContent = settings.position.toFixed(2);
  }];
}

const KINDS = { ssn, latent, experts, code };

export function makeEdit({ set }) {
  const message = h("p", { id: "edit-message", class: "quiet" });
  const body = h("div", { id: "edit-body" });
  const state_ = h("p", { id: "edit-volumes", class: "lead" });
  const show = h("button", { type: "button", id: "edit-show", onclick: () => set({ overlay: "edit" }) }, "Show this edit");
  $("edit").replaceChildren(h("h2", { id: "edit-title" }, "Edit"), message, body, show, state_);
  let built = null;
  let update = null;

  return {
    render({ state, data, edited }) {
      const kind = KINDS[data?.edit?.kind];
      $("edit").hidden = !kind && !data?.edit_message;
      message.hidden = Boolean(kind);
      message.textContent = data?.edit_message ?? "";
      body.hidden = !kind;
      if (!kind) {
        built = null;
        show.hidden = state_.hidden = true;
        return;
      }
      const shown = state.overlay === "edit";
      const settings = state.edit ?? defaultSettings(data, state);
      if (built !== data) {
        built = data;
        const change = (patch) => set({ overlay: "edit", edit: { ...update.settings, ...patch } });
        const [elements, refresh] = kind(data, change);
        update = { refresh };
        body.replaceChildren(...elements);
      }
      update.settings = settings;
      update.refresh(settings, shown);
      show.hidden = shown;
      const values = shown && edited?.volumes;
      state_.hidden = !values;
      if (values) state_.textContent = data.structures.map(({ name }, index) => `${name}: ${number(values[index])} ${data.unit === "mm2" ? "mm²" : data.unit}`).join(" · ");
    },
  };
}
