// SPDX-License-Identifier: Apache-2.0
// The page's state: what it holds, its form in the link's hash, and what of it a case allows.

export const initial = {
  case: null, overlay: null, sample: null, order: null, structure: 0, bar: null, channel: null, plane: "axial",
  sides: "radiological", fill: "filled", opacity: 0.6, window: null, focus: null, edit: null, hide: false,
};

// What belongs to one case and not to the next.
export const ofCase = { sample: null, bar: null, window: null, focus: null, edit: null };

export const PLANES = ["axial", "coronal", "sagittal", "multi", "render"];

export const overlayId = (state) => (state.overlay === "sample" ? `sample-${state.sample}` : state.overlay);

export function toHash(state) {
  const query = new URLSearchParams();
  const put = (name, value) => value !== null && value !== undefined && query.set(name, String(value));
  if (state.case === null) return state.hide ? "#hide=1" : "";
  put("case", state.case);
  put("overlay", state.overlay);
  put("sample", state.sample);
  put("order", state.order);
  if (state.structure) put("structure", state.structure);
  put("bar", state.bar);
  put("channel", state.channel);
  put("view", state.plane);
  if (state.sides !== initial.sides) put("sides", state.sides);
  if (state.fill !== initial.fill) put("labels", state.fill);
  if (state.opacity !== initial.opacity) put("opacity", state.opacity);
  put("window", state.window?.map((value) => Number(value.toPrecision(6))).join(","));
  put("at", state.focus?.join(","));
  if (state.edit) put("edit", JSON.stringify(state.edit));
  if (state.hide) put("hide", 1);
  return `#${query}`;
}

export function fromHash(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const whole = (name) => (/^\d+$/.test(query.get(name) ?? "") ? Number(query.get(name)) : null);
  const numbers = (name, count) => {
    const values = (query.get(name) ?? "").split(",").map(Number);
    return query.get(name) && values.length === count && values.every(Number.isFinite) ? values : null;
  };
  const ordered = (pair) => (pair && pair[0] < pair[1] ? pair : null);
  const opacity = Number.parseFloat(query.get("opacity"));
  let edit = null;
  try {
    edit = JSON.parse(query.get("edit"));
  } catch {
    // A damaged link: without the edit.
  }
  return {
    ...initial,
    case: whole("case"),
    overlay: query.get("overlay"),
    sample: whole("sample"),
    order: query.get("order"),
    structure: whole("structure") ?? 0,
    bar: whole("bar"),
    channel: query.get("channel"),
    plane: PLANES.includes(query.get("view")) ? query.get("view") : initial.plane,
    sides: query.get("sides") === "neurological" ? "neurological" : initial.sides,
    fill: query.get("labels") === "outline" ? "outline" : "filled",
    opacity: opacity >= 0 && opacity <= 1 ? opacity : initial.opacity,
    window: ordered(numbers("window", 2)),
    focus: numbers("at", 3),
    edit: edit && typeof edit === "object" ? edit : null,
    hide: query.get("hide") === "1",
  };
}

// The samples that the slider runs over: those of the picked bar, in the chosen order.
export function running(state, data) {
  const all = data.orders.find((order) => order.id === state.order)?.samples ?? data.samples.map((_, index) => index);
  if (state.bar === null) return all;
  const picked = new Set(data.histograms[state.structure].samples[state.bar]);
  return all.filter((sample) => picked.has(sample));
}

export function overlays(data) {
  const entries = [["none", "none"]];
  if (data.answer) entries.push(["answer", "single answer"]);
  data.readers.forEach((reader, index) => entries.push([`reader-${index}`, reader.name]));
  if (data.samples.length) entries.push(["sample", "sample"]);
  data.maps.forEach((map) => entries.push([map.id, map.name]));
  if (data.edit) entries.push(["edit", "edit"]);
  return entries;
}

// The volume of each structure of what is shown, or null where there is none.
export function volumes(state, data, edited) {
  if (state.overlay === "sample") return data.samples[state.sample]?.volumes ?? null;
  if (state.overlay === "answer") return data.answer?.volumes ?? null;
  if (state.overlay === "edit") return edited?.volumes ?? null;
  const reader = /^reader-(\d+)$/.exec(state.overlay ?? "");
  return reader ? (data.readers[Number(reader[1])]?.volumes ?? null) : null;
}

// The state with all that this case does not have replaced by what it has.
export function fit(state, data) {
  const fitted = { ...state };
  const count = data.samples.length;
  if (!data.channels.includes(fitted.channel)) {
    fitted.channel = data.channels.includes("colour") ? "colour" : (data.channels[0] ?? null);
  }
  if (data.spatial_dims === 2) fitted.plane = "axial";
  if (!data.orders.some((order) => order.id === fitted.order)) fitted.order = data.orders[0]?.id ?? null;
  if (!(fitted.structure < data.structures.length)) fitted.structure = 0;
  if (!data.histograms[fitted.structure]?.samples[fitted.bar]?.length) fitted.bar = null;
  const ids = overlays(data).map(([id]) => id);
  if (!ids.includes(fitted.overlay)) {
    fitted.overlay = ["sample", "answer", "reader-0"].find((id) => ids.includes(id)) ?? "none";
  }
  const run = running(fitted, data);
  if (!count) fitted.sample = null;
  else if (!run.includes(fitted.sample)) fitted.sample = run[0];
  if (!data.edit) fitted.edit = null;
  const shape = [...data.shape, 1, 1].slice(0, 3);
  if (!fitted.focus?.every((value, axis) => value >= 0 && value < shape[axis])) fitted.focus = null;
  return fitted;
}
