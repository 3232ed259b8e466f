// SPDX-License-Identifier: Apache-2.0
// Reads the little of NIfTI-1 that the page needs, and makes volumes on the grid of another.

const HEADER = 348;
const OFFSET = 352;
export const UINT8 = 2;
export const FLOAT32 = 16;

// A header for a grid of which nothing but its shape is known.
export function plainHeader(shape) {
  const view = new DataView(new ArrayBuffer(OFFSET));
  view.setInt32(0, HEADER, true);
  [3, ...shape, 1, 1, 1, 1].forEach((value, axis) => view.setInt16(40 + 2 * axis, value, true));
  for (let axis = 0; axis < 4; axis++) view.setFloat32(76 + 4 * axis, 1, true);
  view.setInt16(254, 1, true);
  for (let row = 0; row < 3; row++) view.setFloat32(280 + 16 * row + 4 * row, 1, true);
  [110, 43, 49, 0].forEach((byte, index) => view.setUint8(344 + index, byte));
  return view.buffer;
}

// A volume of zeros on the grid of `header` (the beginning of a NIfTI-1 file).
export function zeros(header, type) {
  const from = new DataView(header);
  const shape = [0, 1, 2].map((axis) => from.getInt16(42 + 2 * axis, true));
  const bytes = type === FLOAT32 ? 4 : 1;
  const buffer = new ArrayBuffer(OFFSET + bytes * shape[0] * shape[1] * shape[2]);
  new Uint8Array(buffer).set(new Uint8Array(header, 0, HEADER));
  const view = new DataView(buffer);
  [3, ...shape, 1, 1, 1, 1].forEach((value, axis) => view.setInt16(40 + 2 * axis, value, true));
  view.setInt16(68, 0, true); // no intent: a label map's colours come from the page
  view.setInt16(70, type, true);
  view.setInt16(72, 8 * bytes, true);
  view.setFloat32(108, OFFSET, true);
  view.setFloat32(112, 1, true);
  view.setFloat32(116, 0, true);
  view.setFloat32(124, 1, true); // shown from 0 to 1 until the page says more
  view.setFloat32(128, 0, true);
  return buffer;
}

export function floats(buffer) {
  const view = new DataView(buffer);
  if (view.getInt32(0, true) !== HEADER || view.getInt16(70, true) !== FLOAT32) {
    throw new Error("The map has a form that the page does not know.");
  }
  return new Float32Array(buffer.slice(view.getFloat32(108, true)));
}
