// SPDX-License-Identifier: Apache-2.0
// What stands around the picture: choices above it; slices, legend and the cross's place below it.

import { $, fill, h, number, options } from "./dom.js";
import { PLANES, overlays } from "./state.js";
import { HEAT } from "./viewer.js";

const AXES = { axial: [2], coronal: [1], sagittal: [0], multi: [2, 1, 0], render: [] };
const AXIS_NAMES = ["sagittal", "coronal", "axial"];

export function makeControls({ set, viewer, report }) {
  let now = null; // what was rendered last
  let sliders = [];
  let key = "";

  for (const [id, name] of [["overlay", "overlay"], ["channel", "channel"], ["plane", "plane"], ["sides", "sides"], ["fill", "fill"]]) {
    $(id).addEventListener("change", (event) => set({ [name]: event.target.value, ...(id === "channel" ? { window: null } : {}) }));
  }
  $("opacity").addEventListener("input", (event) => set({ opacity: Number(event.target.value) }));
  const typed = () => {
    const width = $("window-width").valueAsNumber;
    const level = $("window-level").valueAsNumber;
    if (!(width > 0) || !Number.isFinite(level)) report(new Error("The window needs a width above 0 and a level."));
    else set({ window: [level - width / 2, level + width / 2] });
  };
  $("window-width").addEventListener("change", typed);
  $("window-level").addEventListener("change", typed);
  $("window-reset").addEventListener("click", () => set({ window: null }));

  function move(axis, place) {
    const voxel = viewer.voxel();
    voxel[axis] = place;
    viewer.setVoxel(voxel);
    viewer.draw();
    viewer.scene.createOnLocationChange();
  }

  function makeSliders(state, data) {
    const wanted = data.spatial_dims === 3 && viewer.available ? AXES[state.plane] : [];
    const next = JSON.stringify([data.id, wanted, data.shape]);
    if (next === key) return;
    key = next;
    sliders = wanted.map((axis) => {
      const output = h("output", {});
      const input = h("input", {
        type: "range", min: 0, max: data.shape[axis] - 1, step: 1, "data-axis": axis, "aria-label": `${AXIS_NAMES[axis]} slice`,
        oninput: (event) => move(axis, Number(event.target.value)),
      });
      return { axis, input, output, element: h("label", {}, `${wanted.length > 1 ? AXIS_NAMES[axis] : "Slice"} `, input, output) };
    });
    $("slices").replaceChildren(...sliders.map(({ element }) => element));
    $("slices").hidden = !sliders.length;
    if (viewer.base) place(viewer.voxel());
  }

  function place(voxel) {
    for (const { axis, input, output } of sliders) {
      input.value = voxel[axis];
      output.textContent = `${voxel[axis] + 1} of ${now.data.shape[axis]}`;
    }
  }

  function legend(state, data) {
    const map = data.maps.find((entry) => entry.id === state.overlay);
    if (state.overlay === "none") return [];
    if (map) {
      const bar = h("span", { class: "heat", role: "img", "aria-label": `Colours from 0 to ${number(map.maximum)}`, style: { background: `linear-gradient(to right, ${HEAT.join(", ")})` } });
      return [h("span", {}, map.name), h("span", { class: "heatbar", id: "colour-bar" }, "0", bar, number(map.maximum))];
    }
    return data.class_names.map((name, index) => index > 0 && h("span", { class: "key", "data-class": index }, h("i", { style: { background: data.colours[index] } }), name)).filter(Boolean);
  }

  return {
    render({ state, data }) {
      now = { state, data };
      $("controls").hidden = !data;
      if (!data) {
        $("legend").replaceChildren();
        $("slices").hidden = true;
        $("cursor").textContent = "";
        key = "";
        sliders = [];
        return;
      }
      const is3D = data.spatial_dims === 3;
      const map = data.maps.some((entry) => entry.id === state.overlay);
      options($("overlay"), overlays(data).filter(([id]) => id !== "edit" || data.edit), state.overlay);
      options($("channel"), data.channels.map((name) => [name, name]), state.channel);
      $("channel-field").hidden = !data.channels.length;
      $("plane-field").hidden = !is3D;
      $("sides-field").hidden = !is3D;
      $("sides").value = state.sides;
      $("plane").value = PLANES.includes(state.plane) ? state.plane : "axial";
      $("fill").value = state.fill;
      $("fill").disabled = map || state.overlay === "none";
      $("opacity").value = state.opacity;
      $("opacity").disabled = state.overlay === "none";
      $("window-field").hidden = !data.channels.length;
      $("window-field").disabled = state.channel === "colour" || !viewer.available;
      makeSliders(state, data);
      $("legend").replaceChildren(...legend(state, data));
      if (!data.channels.length) $("legend").append(h("span", { class: "quiet", id: "no-image" }, "No image was saved with these predictions."));
    },

    window(range, none) {
      const show = (id, value) => fill($(id), none ? "" : Number(value.toPrecision(4)));
      show("window-width", range[1] - range[0]);
      show("window-level", (range[0] + range[1]) / 2);
    },

    cursor(voxel, layer) {
      const { state, data } = now ?? {};
      if (!data) return;
      place(voxel);
      const words = [`Voxel ${voxel.slice(0, data.spatial_dims).map((value) => value).join(", ")}`];
      const value = viewer.value(voxel);
      if (value !== null && state.channel) words.push(`${state.channel} ${number(value)}`);
      if (layer) {
        const [width, height] = [data.shape[0], data.shape[1]];
        const here = layer.img[voxel[0] + width * (voxel[1] + height * voxel[2])];
        words.push(layer.kind === "labels" ? (data.class_names[here] ?? `class ${here}`) : number(here));
      }
      $("cursor").textContent = words.join(" · ");
    },

    slice(by) {
      if (!sliders.length || !viewer.base) return;
      const { axis, input } = sliders[0];
      move(axis, Math.min(Math.max(viewer.voxel()[axis] + by, 0), Number(input.max)));
    },
  };
}
