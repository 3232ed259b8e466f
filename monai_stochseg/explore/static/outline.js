// SPDX-License-Identifier: Apache-2.0
// Keeps of a label map only the voxels at the edge of their class, as seen in the chosen plane.

const AXES = { axial: [0, 1], coronal: [0, 2], sagittal: [1, 2], multi: [0, 1, 2], render: [0, 1, 2] };

export function outline(labels, shape, plane) {
  const edges = new Uint8Array(labels.length);
  const steps = [1, shape[0], shape[0] * shape[1]];
  const axes = AXES[plane].filter((axis) => shape[axis] > 1);
  for (let index = 0; index < labels.length; index++) {
    const label = labels[index];
    if (label === 0) continue;
    for (const axis of axes) {
      const step = steps[axis];
      const place = Math.floor(index / step) % shape[axis];
      if (place === 0 || place === shape[axis] - 1 || labels[index - step] !== label || labels[index + step] !== label) {
        edges[index] = label;
        break;
      }
    }
  }
  return edges;
}
