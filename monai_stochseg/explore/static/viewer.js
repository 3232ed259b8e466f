// SPDX-License-Identifier: Apache-2.0
// The picture: one image and one overlay in NiiVue; flips replace the overlay's voxels in place.

import { FLOAT32, UINT8, plainHeader, zeros } from "./nifti.js";
import { outline } from "./outline.js";
import { heatTable, labelTable } from "./paint.js";
import { makeScene } from "./scene.js";

const PLANES = { axial: 0, coronal: 1, sagittal: 2, multi: 3, render: 4 };
const WINDOWING = 9;
const PAN = 3;
const CROSS = 8;
const CROSS_PIXELS = 1.5;

// Of the colour map of uncertainty: dark purple to pale yellow, readable by the colour-blind.
export const HEAT = ["#3b0f70", "#8c2981", "#de4968", "#fe9f6d", "#fcfdbf"];

const channels = (colour) => [1, 3, 5].map((start) => Number.parseInt(colour.slice(start, start + 2), 16));

function hasWebGL2() {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl2"));
  } catch {
    return false;
  }
}

export class Viewer {
  available = false;
  base = null;
  baseKey = null;
  overlay = null;
  shown = null; // what the overlay shows now

  async start(canvas, { moved, windowed, lost }) {
    if (typeof niivue === "undefined" || !hasWebGL2()) return;
    try {
      this.scene = makeScene({
        logLevel: "silent", dragAndDropEnabled: false, sliceType: PLANES.axial, show3Dcrosshair: true, multiplanarShowRender: 1, multiplanarPadPixels: 12,
        crosshairColor: [0.94, 0.89, 0.26, 0.8], crosshairWidthUnit: "percent", crosshairGap: 4, fontColor: [0.8, 0.8, 0.8, 1], isColorbar: false, showAllOrientationMarkers: true, loadingText: "",
      });
      await this.scene.attachToCanvas(canvas);
    } catch {
      return;
    }
    const rgb = HEAT.map(channels);
    this.scene.addColormap("heat", {
      R: rgb.map((c) => c[0]), G: rgb.map((c) => c[1]), B: rgb.map((c) => c[2]), A: rgb.map((_, index) => (index ? 255 : 0)),
      I: rgb.map((_, index) => Math.round((255 * index) / (rgb.length - 1))),
    });
    this.scene.setMouseEventConfig({ leftButton: { primary: CROSS, withShift: PAN }, rightButton: WINDOWING, centerButton: PAN });
    this.scene.onLocationChange = () => this.base && moved(this.voxel());
    const asked = () => this.base && windowed(this.window());
    canvas.addEventListener("mouseup", (event) => event.button === 2 && asked());
    canvas.addEventListener("dblclick", asked);
    canvas.addEventListener("touchend", asked);
    canvas.addEventListener("webglcontextlost", lost);
    this.available = true;
  }

  // The grid's header comes with the image, or with any map, or from the shape alone.
  async setBase(key, { buffer, header, shape, is2D, oriented, colour }, old) {
    const blank = !buffer;
    const data = buffer ?? zeros(header ?? plainHeader(shape), UINT8);
    const base = await niivue.NVImage.loadFromUrl({ url: data, name: "image.nii", colormap: "gray", colorbarVisible: false });
    if (old()) return;
    if (blank) Object.assign(base, { cal_min: 0, cal_max: 1 });
    this.robust = [base.cal_min, base.cal_max];
    const keep = this.base && this.overlay && JSON.stringify(this.base.hdr.dims) === JSON.stringify(base.hdr.dims);
    const { scene } = this;
    this.base = base;
    this.baseKey = key;
    this.header = data.slice(0, 352);
    this.colour = colour || blank;
    if (!keep) {
      this.overlay = null;
      this.shown = null;
    }
    scene.opts.isOrientationTextVisible = oriented;
    scene.opts.show3Dcrosshair = !is2D;
    scene.volumes = keep ? [base, this.overlay] : [base];
    scene.back = base;
    scene.overlays = scene.volumes.slice(1);
    if (keep) scene.refreshLayers(base, 0);
    else scene.updateGLVolume();
  }

  clear() {
    if (!this.available) return;
    this.base = this.baseKey = this.overlay = this.shown = null;
  }

  // layer: {key, kind: "labels" | "map", img}; look: {colours, maximum, fill, opacity, plane}
  async setOverlay(layer, look) {
    if (!this.base) return;
    const edges = layer?.kind === "labels" && look.fill === "outline" ? look.plane : "";
    const opacity = layer ? look.opacity : 0;
    const shown = JSON.stringify([layer?.key, edges, opacity]);
    if (shown === this.shown) return;
    const { scene, base } = this;
    if (!layer && !this.overlay) return;
    if (layer) {
      const size = base.hdr.dims[1] * base.hdr.dims[2] * base.hdr.dims[3];
      if (layer.img.length !== size) throw new Error("The overlay does not lie on the image's grid.");
      if (this.overlay?.kind !== layer.kind) await this.makeOverlay(layer.kind, look);
      if (this.base !== base) return;
      this.overlay.img = edges ? outline(layer.img, base.hdr.dims.slice(1, 4), edges) : layer.img;
      if (layer.kind === "map") Object.assign(this.overlay, { cal_min: 0.15 * look.maximum, cal_max: look.maximum });
    }
    this.overlay.opacity = opacity;
    this.overlay.table = this.overlay.kind === "labels" ? labelTable(look.colours.map(channels), opacity) : heatTable(HEAT.map(channels), look.maximum, opacity);
    this.shown = shown;
    scene.sharpLabels = this.overlay.kind === "labels";
    scene.refreshLayers(this.overlay, 1);
  }

  async makeOverlay(kind, { colours }) {
    const { scene, base } = this;
    const url = zeros(this.header, kind === "labels" ? UINT8 : FLOAT32);
    const overlay = await niivue.NVImage.loadFromUrl({ url, name: "overlay.nii", colormap: kind === "labels" ? "gray" : "heat", colorbarVisible: false });
    if (this.base !== base) return;
    overlay.kind = kind;
    if (kind === "labels") {
      const rgb = colours.map(channels);
      overlay.setColormapLabel({
        R: rgb.map((c) => c[0]), G: rgb.map((c) => c[1]), B: rgb.map((c) => c[2]), A: rgb.map((_, index) => (index ? 255 : 0)),
        I: rgb.map((_, index) => index),
      });
    } else {
      overlay.colormapType = 1; // below cal_min ever more transparent
    }
    this.overlay = overlay;
    scene.volumes = [base, overlay];
    scene.overlays = [overlay];
    scene.refreshColormaps();
  }

  setPlane(plane) {
    // The cross is a solid in NiiVue: about 1.5 pixels wide whatever the size of the picture.
    const { clientWidth, clientHeight } = this.scene.canvas;
    const size = Math.min(clientWidth, clientHeight) / (plane === "multi" ? 2 : 1);
    const width = Math.round((100 * CROSS_PIXELS * 10) / Math.max(size, 100)) / 10;
    if (this.scene.opts.crosshairWidth !== width) this.scene.setCrosshairWidth(width);
    if (this.scene.opts.sliceType !== PLANES[plane]) this.scene.setSliceType(PLANES[plane]);
  }

  // Whether the patient's right is on the left, as radiologists look at a patient.
  setSides(radiological) {
    if (this.scene.opts.isRadiologicalConvention !== radiological) this.scene.setRadiologicalConvention(radiological);
  }

  setWindow(window) {
    const [low, high] = window ?? this.robust;
    if (this.colour || (this.base.cal_min === low && this.base.cal_max === high)) return;
    Object.assign(this.base, { cal_min: low, cal_max: high });
    this.scene.refreshLayers(this.base, 0);
  }

  window = () => (this.colour ? null : [this.base.cal_min, this.base.cal_max]);

  voxel() {
    const mm = this.scene.frac2mm(this.scene.scene.crosshairPos, 0, true);
    const dims = this.base.hdr.dims;
    return Array.from(this.base.mm2vox(mm), (value, axis) => Math.min(Math.max(Math.round(value), 0), dims[axis + 1] - 1));
  }

  setVoxel(voxel) {
    const affine = this.base.hdr.affine;
    const mm = affine.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
    this.scene.scene.crosshairPos = this.scene.mm2frac(mm, 0, true);
  }

  value(voxel) {
    return this.colour ? null : this.base.getValue(...voxel);
  }

  draw() {
    this.scene.drawScene();
  }
}
