// SPDX-License-Identifier: Apache-2.0
// Colours voxels by a table and puts them into a texture, some slices at a time.

const VOXELS_AT_ONCE = 2 ** 21;
const HEAT_STEPS = 1024;
const FAINT = 0.15; // of the maximum: below it a map fades away

let scratch = new Uint32Array(0);

const rgba = ([r, g, b], alpha) => ((Math.round(255 * alpha) << 24) | (b << 16) | (g << 8) | r) >>> 0;

// A table: {colours, low, scale}: the voxel's colour is colours[(value - low) * scale], kept inside.

export function imageTable(volume, lut) {
  const { scl_slope: slope, scl_inter: inter } = volume.hdr;
  const { cal_min: low, cal_max: high } = volume;
  const colours = new Uint32Array(256);
  new Uint8Array(colours.buffer).set(lut.subarray(0, 1024));
  return { colours, low: (low - inter) / slope, scale: (256 * slope) / Math.max(high - low, 1e-5) };
}

export function labelTable(rgb, opacity) {
  const colours = new Uint32Array(256);
  rgb.forEach((colour, index) => index && (colours[index] = rgba(colour, opacity)));
  return { colours, low: 0, scale: 1 };
}

// Stops are spread evenly from 0 to the maximum.
export function heatTable(stops, maximum, opacity) {
  const colours = new Uint32Array(HEAT_STEPS);
  for (let step = 1; step < HEAT_STEPS; step++) {
    const value = step / (HEAT_STEPS - 1);
    const place = value * (stops.length - 1);
    const left = Math.min(Math.floor(place), stops.length - 2);
    const colour = [0, 1, 2].map((part) => Math.round(stops[left][part] + (place - left) * (stops[left + 1][part] - stops[left][part])));
    colours[step] = rgba(colour, opacity * Math.min(value / FAINT, 1) ** 2);
  }
  return { colours, low: 0, scale: HEAT_STEPS / maximum };
}

export function paint(gl, [unit, texture], { img, hdr }, { colours, low, scale }) {
  const [, width, height, depth] = hdr.dims;
  const slice = width * height;
  const slices = Math.max(1, Math.min(depth, Math.floor(VOXELS_AT_ONCE / slice)));
  if (scratch.length !== slice * slices) scratch = new Uint32Array(slice * slices);
  const bytes = new Uint8Array(scratch.buffer);
  const last = colours.length - 1;
  const direct = low === 0 && scale === 1 && img instanceof Uint8Array;
  gl.activeTexture(unit);
  gl.bindTexture(gl.TEXTURE_3D, texture);
  for (let first = 0; first < depth; first += slices) {
    const count = Math.min(slices, depth - first);
    const voxels = img.subarray(first * slice, (first + count) * slice);
    if (direct) {
      for (let index = 0; index < voxels.length; index++) scratch[index] = colours[voxels[index]];
    } else {
      for (let index = 0; index < voxels.length; index++) {
        const place = (voxels[index] - low) * scale;
        scratch[index] = colours[place >= last ? last : place > 0 ? place | 0 : 0];
      }
    }
    gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, first, width, height, count, gl.RGBA, gl.UNSIGNED_BYTE, bytes.subarray(0, 4 * voxels.length));
  }
}
