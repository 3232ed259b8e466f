// SPDX-License-Identifier: Apache-2.0
// NiiVue with changes: volumes are coloured by the CPU, no gradient of the image, no lost textures, sharp labels.

import { imageTable, paint } from "./paint.js";

const GRADIENT_UNIT = 33992; // the texture unit of NiiVue's gradient
const COLOURS = [128, 2304]; // NIfTI's types RGB24 and RGBA32

// A function, since `niivue` is there only once its script has run.
export function makeScene(options) {
  class Scene extends niivue.Niivue {
    sharpLabels = true;

    // NiiVue computes the gradient of the image each time that it or its window changes. Only lit rendering, which the
    // page does not use, reads it, and without a GPU it takes most of the time.
    async init() {
      await super.init();
      const shader = this.blurShader;
      const use = shader.use.bind(shader);
      shader.use = (gl) => {
        use(gl);
        gl.drawArrays = () => {};
      };
      return this;
    }

    // NiiVue colours a volume slice by slice in a shader. Without a GPU that takes a second for 240 x 240 x 155 voxels,
    // and the CPU needs some 50 ms; so the CPU does it where the voxels lie in the order of the texture.
    refreshLayers(volume, layer) {
      const plain = layer < 2 && this.isPlain(volume);
      if (layer === 1) {
        if (plain && this.painted === this.overlayTexture && this.paintedFor === volume) {
          this.paintLayer(volume, layer);
          return;
        }
        this.gl.deleteTexture(this.overlayTexture);
        this.overlayTexture = null;
      }
      try {
        if (plain) this.gl.drawArrays = () => {};
        super.refreshLayers(volume, layer);
      } finally {
        delete this.gl.drawArrays;
      }
      if (!plain) return;
      this.paintLayer(volume, layer);
      if (layer === 1) {
        this.painted = this.overlayTexture;
        this.paintedFor = volume;
      }
    }

    isPlain(volume) {
      const { dims, datatypeCode } = volume.hdr;
      return String(volume.permRAS) === "1,2,3" && !COLOURS.includes(datatypeCode) && Math.max(...dims.slice(1, 4)) <= this.uiData.max3D
        && [1, 2, 3].every((axis) => dims[axis] === this.volumes[0].hdr.dims[axis]) && (volume === this.volumes[0] || volume.table);
    }

    paintLayer(volume, layer) {
      const table = layer === 0 ? imageTable(volume, this.colormap(volume.colormap)) : volume.table;
      paint(this.gl, layer === 0 ? [this.gl.TEXTURE0, this.volumeTexture] : [this.gl.TEXTURE2, this.overlayTexture], volume, table);
    }

    rgbaTex(texture, unit, dims, isInit = false) {
      return super.rgbaTex(texture, unit, dims, isInit && unit !== GRADIENT_UNIT);
    }

    updateInterpolation(layer, isForceLinear = false) {
      super.updateInterpolation(layer, isForceLinear);
      if (layer === 0 || isForceLinear || !this.sharpLabels) return;
      const { gl } = this;
      gl.texParameteri(gl.TEXTURE_3D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_3D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    }
  }
  return new Scene(options);
}
