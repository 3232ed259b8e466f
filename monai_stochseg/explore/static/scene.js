// SPDX-License-Identifier: Apache-2.0
// NiiVue with three changes: no gradient of the image, no lost textures, and sharp edges of labels.

const GRADIENT_UNIT = 33992; // the texture unit of NiiVue's gradient

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

    refreshLayers(volume, layer) {
      if (layer === 1 && this.overlayTexture) {
        this.gl.deleteTexture(this.overlayTexture);
        this.overlayTexture = null;
      }
      try {
        super.refreshLayers(volume, layer);
      } finally {
        delete this.gl.drawArrays;
      }
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
